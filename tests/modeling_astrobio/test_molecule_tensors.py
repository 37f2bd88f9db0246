"""Molecules as arrays: the same however they are written, right by hand, and back as the same molecule."""

import gzip
import math
import random
import time
from dataclasses import fields

import numpy as np
import pytest
import torch
from graph_vae_models import SMILES, tiny_config
from rdkit import Chem

from modeling_astrobio.graph_features import DEFAULT_ATOM_TYPES, MOTIF_TYPES, NODE_FEATURES
from modeling_astrobio.graph_record import GraphError, GraphRecord, collate_graphs
from modeling_astrobio.molecule_decoder import MoleculeDecoder
from modeling_astrobio.molecule_tensors import canonical_molecule, molecule_of, molecule_record


LARGER = {
    "aspirin": "CC(=O)Oc1ccccc1C(=O)O",
    "caffeine": "Cn1cnc2c1c(=O)n(C)c(=O)n2C",
    "cubane": "C12C3C4C1C5C2C3C45",
    "azulene": "c1ccc2cccc-2cc1",
    "penicillin": "CC1(C)S[C@@H]2[C@H](NC(=O)Cc3ccccc3)C(=O)N2[C@H]1C(=O)O",
    "testosterone": "C[C@]12CC[C@H]3[C@@H](CCC4=CC(=O)CC[C@]34C)[C@@H]1CC[C@@H]2O",
    "atp": "Nc1ncnc2c1ncn2[C@@H]1O[C@H](COP(=O)(O)OP(=O)(O)OP(=O)(O)O)[C@@H](O)[C@H]1O",
    "glycine zwitterion": "[NH3+]CC(=O)[O-]",
    "stilbene": "C(=C/c1ccccc1)\\c1ccccc1",
    "nitro": "O=[N+]([O-])c1ccccc1",
    "radical": "[O]N1C(C)(C)CCCC1(C)C",
    "ylide": "C=[N+]=[N-]",
}


def record(molecule, max_nodes: int = 40) -> GraphRecord:
    return molecule_record(molecule, DEFAULT_ATOM_TYPES, max_nodes)


def assert_equal(found: GraphRecord, expected: GraphRecord, message: str) -> None:
    for field in fields(GraphRecord):
        first, second = getattr(found, field.name), getattr(expected, field.name)
        assert first.dtype == second.dtype
        np.testing.assert_array_equal(first, second, err_msg=f"{message}: {field.name}")


def spellings(smiles: str, seed: int):
    """The molecule in other words: atoms in other orders, all hydrogens, Kekule bonds, stereo, isotopes, atom maps."""
    molecule = Chem.MolFromSmiles(smiles)
    hydrogens = Chem.AddHs(molecule)
    kekule = Chem.Mol(molecule)
    Chem.Kekulize(kekule, clearAromaticFlags=True)
    for each in range(4):
        yield from Chem.MolToRandomSmilesVect(molecule, 2, randomSeed=seed + each)
        yield from Chem.MolToRandomSmilesVect(hydrogens, 1, randomSeed=seed + each)
        yield from Chem.MolToRandomSmilesVect(molecule, 1, randomSeed=seed + each, allHsExplicit=True)
        yield from Chem.MolToRandomSmilesVect(molecule, 1, randomSeed=seed + each, kekuleSmiles=True)
    yield Chem.MolToSmiles(molecule, isomericSmiles=False)
    yield Chem.MolToSmiles(molecule, allBondsExplicit=True)
    order = list(range(molecule.GetNumAtoms()))
    random.Random(seed).shuffle(order)
    yield Chem.RenumberAtoms(molecule, order)
    yield Chem.RenumberAtoms(kekule, order)
    yield hydrogens
    labelled = Chem.Mol(molecule)
    for atom in labelled.GetAtoms():
        atom.SetAtomMapNum(atom.GetIdx() + 1)
    labelled.GetAtomWithIdx(0).SetIsotope(13)
    yield labelled
    yield Chem.MolToSmiles(labelled)


@pytest.mark.parametrize("smiles", [*SMILES, *LARGER.values()])
def test_every_spelling_gives_the_same_arrays(smiles):
    expected = record(smiles)
    for number, other in enumerate(spellings(smiles, seed=7)):
        before = Chem.MolToSmiles(other) if isinstance(other, Chem.Mol) else None
        assert_equal(record(other), expected, f"spelling {number} of {smiles}, {other}")
        # What is given is left as it was.
        assert before is None or Chem.MolToSmiles(other) == before


def test_stereo_isomers_are_alike():
    assert_equal(record("F/C=C/F"), record("F/C=C\\F"), "difluoroethene")
    assert_equal(record("N[C@@H](C)C(=O)O"), record("N[C@H](C)C(=O)O"), "alanine")


def qm9(shared_dir, count: int) -> list[str]:
    with gzip.open(shared_dir / "graph_samples/molecules/qm9_smiles.txt.gz", "rt") as lines:
        return [line.strip() for _, line in zip(range(count), lines, strict=False)]


def test_molecules_of_qm9_are_read_likely_and_come_back(shared_dir):
    config = tiny_config(max_nodes=9)
    smiles = qm9(shared_dir, 1000)
    records = [molecule_record(each, config.atom_types, 9) for each in smiles]
    batch = collate_graphs(records)
    graphs = {name: batch[name] for name in ("node_types", "edge_index", "edge_types")}
    torch.manual_seed(0)
    decoder = MoleculeDecoder(config)
    with torch.no_grad():
        likelihood = decoder(torch.randn(len(records), 2, config.hidden_size), **graphs).log_likelihood
    assert likelihood.isfinite().all()
    for each, *arrays in zip(smiles, *(value.tolist() for value in graphs.values()), strict=True):
        expected = Chem.MolFromSmiles(each)
        Chem.RemoveStereochemistry(expected)
        assert Chem.MolToSmiles(molecule_of(*arrays, config.atom_types)) == Chem.MolToSmiles(expected)


def test_spellings_of_qm9_are_alike(shared_dir):
    for each in qm9(shared_dir, 1000)[::17]:
        expected = record(each)
        for other in Chem.MolToRandomSmilesVect(Chem.MolFromSmiles(each), 3, randomSeed=1):
            assert_equal(record(other), expected, f"{each} as {other}")


@pytest.mark.parametrize("smiles", [*SMILES, *LARGER.values()])
def test_order_is_breadth_first_from_an_atom_of_least_degree(smiles):
    found = record(smiles)
    later, earlier = found.edge_index
    assert (later > earlier).all()
    pairs = list(zip(later, earlier, strict=True))
    assert pairs == sorted(set(pairs))
    degree = np.bincount(found.edge_index.ravel(), minlength=found.size)
    assert degree[0] == degree.min()
    # The first earlier neighbour never goes back from one atom to the next.
    first = [min(earlier[later == atom]) for atom in range(1, found.size)]
    assert first == sorted(first)
    for parent in set(first):
        children = [atom for atom in range(1, found.size) if first[atom - 1] == parent]
        assert [degree[atom] for atom in children] == sorted(degree[atom] for atom in children)


def feature(found: GraphRecord, name: str) -> list[float]:
    return found.node_features[:, NODE_FEATURES.index(name)].tolist()


def motifs(found: GraphRecord) -> list[tuple[str, int]]:
    return sorted(
        (MOTIF_TYPES[code], int(inside.sum()))
        for code, inside in zip(found.motif_types, found.motif_nodes, strict=True)
    )


@pytest.mark.parametrize(
    ("smiles", "expected"),
    [
        ("c1ccccc1", [("ring_system_6", 6)]),
        ("C1CC1", [("ring_system_small", 3)]),
        ("C1CCC1", [("ring_system_small", 4)]),
        ("C1CCCC1", [("ring_system_5", 5)]),
        ("C1CCCCCC1", [("ring_system_7_or_more", 7)]),
        ("c1ccc2ccccc2c1", [("fused_ring_system", 10)]),
        ("C1CC12CNC2", [("fused_ring_system", 6)]),
        ("CCO", [("acyclic_fragment", 3)]),
        # BRICS cuts the ester and both bonds of the ring to carbonyls and oxygen: acetyl, oxygen, ring, carboxyl.
        (
            "CC(=O)Oc1ccccc1C(=O)O",
            [("acyclic_fragment", 1), ("acyclic_fragment", 3), ("acyclic_fragment", 3), ("ring_system_6", 6)],
        ),
        # Toluene is not cut: the ring, and the whole.
        ("Cc1ccccc1", [("mixed_fragment", 7), ("ring_system_6", 6)]),
        ("c1ccccc1-c1ccccc1", [("ring_system_6", 6), ("ring_system_6", 6)]),
        ("[NH3+]CC(=O)[O-]", [("acyclic_fragment", 5)]),
        ("C", [("acyclic_fragment", 1)]),
    ],
)
def test_motifs_counted_by_hand(smiles, expected):
    assert motifs(record(smiles)) == expected


def test_numbers_of_bonds():
    assert record("c1ccccc1").edge_features.ravel() == pytest.approx([math.log(2.5)] * 6)
    found = record("C=CC#N")
    orders = dict.fromkeys((1, 2, 3), 0)
    for code, number in zip(found.edge_types.tolist(), found.edge_features.ravel().tolist(), strict=True):
        assert number == pytest.approx(math.log(1 + code))
        orders[code] += 1
    assert orders == {1: 1, 2: 1, 3: 1}


def test_features_of_benzene():
    found = record("c1ccccc1")
    assert feature(found, "log_count_C") == pytest.approx([math.log(2)] * 6)
    assert feature(found, "log_count_H") == pytest.approx([math.log(2)] * 6)
    assert feature(found, "aromatic") == feature(found, "in_ring") == [1.0] * 6
    known = ("log_count_C", "log_count_H", "aromatic", "in_ring")
    rest = [name for name in NODE_FEATURES if name not in known and not name.startswith("place_")]
    assert not any(any(feature(found, name)) for name in rest)
    # Kekule bonds: three double ones, of which no two meet.
    assert sorted(found.edge_types.tolist()) == [1, 1, 1, 2, 2, 2]
    assert sorted(found.edge_index[:, found.edge_types == 2].ravel().tolist()) == list(range(6))


@pytest.mark.parametrize("smiles", ["C", "CCO", LARGER["atp"]])
def test_places_in_the_order_of_drawing_are_waves(smiles):
    found = record(smiles)
    waves = [name for name in NODE_FEATURES if name.startswith("place_")]
    assert len(waves) == 12
    for name in waves:
        _, wave, number = name.split("_")
        expected = [getattr(math, wave)(place / 128 ** (int(number) / 6)) for place in range(found.size)]
        assert feature(found, name) == pytest.approx(expected, abs=1e-6)


def test_features_of_glycine_as_a_zwitterion():
    found = record("[NH3+]CC(=O)[O-]")
    kinds = [DEFAULT_ATOM_TYPES[code - 1] for code in found.node_types]
    assert sorted(kinds) == sorted([(7, 1, 0, 4), (6, 0, 0, 4), (6, 0, 0, 4), (8, 0, 0, 2), (8, -1, 0, 1)])
    nitrogen, anion = kinds.index((7, 1, 0, 4)), kinds.index((8, -1, 0, 1))
    charges = feature(found, "signed_log_charge")
    assert charges[nitrogen] == pytest.approx(math.log(2))
    assert charges[anion] == pytest.approx(-math.log(2))
    assert sum(map(abs, charges)) == pytest.approx(2 * math.log(2))
    hydrogens = feature(found, "log_count_H")
    assert hydrogens[nitrogen] == pytest.approx(math.log(4))
    assert sorted(hydrogens)[:3] == [0, 0, 0]
    assert not any(feature(found, "in_ring"))


def test_features_of_radicals_and_of_elements_without_a_place():
    assert sorted(feature(record("C[CH2]"), "radical_electrons")) == [0, 1]
    found = molecule_record("C[Ge]", [*DEFAULT_ATOM_TYPES, (32, 0, 3, 1)], 40)
    germanium = found.node_types.tolist().index(len(DEFAULT_ATOM_TYPES) + 1)
    assert feature(found, "log_count_other")[germanium] == pytest.approx(math.log(2))
    assert feature(found, "radical_electrons")[germanium] == 3


@pytest.mark.parametrize("smiles", [*SMILES, *LARGER.values()])
def test_features_add_up_to_the_formula(smiles):
    found, molecule = record(smiles), Chem.AddHs(Chem.MolFromSmiles(smiles))
    for element in ("H", "C", "N", "O", "P", "S", "F", "Cl", "Br", "I", "B", "Si"):
        count = sum(round(math.expm1(value)) for value in feature(found, f"log_count_{element}"))
        assert count == sum(atom.GetSymbol() == element for atom in molecule.GetAtoms())
    fresh = Chem.MolFromSmiles(smiles)
    assert sum(feature(found, "aromatic")) == sum(atom.GetIsAromatic() for atom in fresh.GetAtoms())
    assert sum(feature(found, "in_ring")) == sum(atom.IsInRing() for atom in fresh.GetAtoms())
    assert found.edge_types.sum() == sum(bond.GetBondTypeAsDouble() for bond in kekulised(fresh).GetBonds())


def kekulised(molecule: Chem.Mol) -> Chem.Mol:
    molecule = Chem.Mol(molecule)
    Chem.Kekulize(molecule, clearAromaticFlags=True)
    return molecule


@pytest.mark.parametrize(
    ("smiles", "message"),
    [
        ("", "at least one atom; got ''"),
        ("C(", r"the SMILES 'C\(' does not parse: it is no SMILES"),
        ("CN(C)(C)(C)C", "does not parse: Explicit valence for atom # 1 N, 5, is greater than permitted"),
        ("c1cccc1", "'c1cccc1' does not parse: Can't kekulize mol"),
        ("n1cccc1", "does not parse: Can't kekulize mol"),
        ("CC CO", "a SMILES must have no spaces; got 'CC CO'"),
        ("[Na+].[Cl-]", r"in one piece; \[Cl-\].\[Na\+\] is in 2. Pass each on its own"),
        ("[Fe]", r"\[Fe\] has Fe with charge 0, 0 radical electrons and valence 0. Add \[26, 0, 0, 0\]"),
        ("C[Hg]C", "has Hg with charge 0, 0 radical electrons and valence 2"),
        ("[H][H]", r"\[H\]\[H\] has H with charge 0, 0 radical electrons and valence 1"),
        ("[H+]", r"\[H\+\] has H with charge 1"),
        ("C*", r"has \* with charge 0, 0 radical electrons and valence 1"),
        ("[C]C", "has C with charge 0, 3 radical electrons and valence 1"),
        ("[O-][Cl+3]([O-])([O-])[O-]", "has Cl with charge 3, 0 radical electrons and valence 4"),
        ("C->[Fe]", "single, double or triple; .* has one of type DATIVE"),
        ("C$C", "has one of type QUADRUPLE"),
        ("C~C", "has one of type UNSPECIFIED"),
        ("C:C", "has one of type AROMATIC"),
        ("N[Pt](N)(Cl)Cl", "has Pt with charge 0"),
        ("C" * 41, "at most 40 atoms; '" + "C" * 41 + "' has 41"),
        ("C" * 5000, r"at most 40 atoms; 'C{100}'\.\.\. has 5000$"),
        ("c1ccccc1" * 700, "at most 40 atoms; .* has 4200$"),
        ("(" * 5000, r"'\({100}'\.\.\. does not parse"),
    ],
)
def test_what_is_no_molecule_of_the_kind_is_refused_at_once(smiles, message):
    start = time.perf_counter()
    with pytest.raises(GraphError, match=message):
        record(smiles)
    assert time.perf_counter() - start < 5


@pytest.mark.parametrize(
    ("molecule", "message"),
    [
        (Chem.Mol(), "at least one atom; got an RDKit molecule"),
        (Chem.MolFromSmiles("c1cccc1", sanitize=False), "no canonical SMILES: Can't kekulize mol"),
        (Chem.MolFromSmiles("CN(C)(C)(C)C", sanitize=False), "no canonical SMILES: Explicit valence"),
        (Chem.MolFromSmiles("C" * 41), "at most 40 atoms; an RDKit molecule has 41"),
    ],
)
def test_rdkit_molecules_that_are_none_are_refused(molecule, message):
    with pytest.raises(GraphError, match=message):
        record(molecule)


def test_dative_bond_of_a_molecule_is_refused():
    molecule = Chem.RWMol(Chem.MolFromSmiles("N.B"))
    molecule.AddBond(0, 1, Chem.BondType.DATIVE)
    molecule.UpdatePropertyCache(strict=False)
    with pytest.raises(GraphError, match="has one of type DATIVE"):
        record(molecule.GetMol())


def test_hydrogen_molecule_is_read_where_the_atom_types_have_it():
    found = molecule_record("[H][H]", [(1, 0, 0, 1)], 2)
    assert (found.node_types.tolist(), found.edge_types.tolist()) == ([1, 1], [1])
    with pytest.raises(GraphError, match=r"at most 1 atoms; \[H\]\[H\] has 2"):
        molecule_record("[H][H]", [(1, 0, 0, 1)], 1)


@pytest.mark.parametrize(
    ("node_types", "edge_index", "edge_types"),
    [
        ([0, 0], [[], []], []),
        # Five bonds of a carbon, a quadruple bond, an edge of a network, a bond twice, a bond to itself or to padding.
        ([3, 3, 3], [[1, 2], [0, 0]], [3, 2]),
        ([3, 3], [[1], [0]], [4]),
        ([21, 21], [[1], [0]], [4]),
        ([24, 24], [[1], [0]], [5]),
        ([3, 3], [[1, 0], [0, 1]], [1, 1]),
        ([3, 3], [[1], [1]], [1]),
        ([3, 0], [[1], [0]], [1]),
        # A compound.
        ([3, 31], [[1], [0]], [1]),
    ],
)
def test_graph_that_is_no_molecule_is_none(node_types, edge_index, edge_types):
    assert len(DEFAULT_ATOM_TYPES) == 30
    assert molecule_of(node_types, edge_index, edge_types, DEFAULT_ATOM_TYPES) is None


def test_padding_and_gaps_are_left_out():
    found = molecule_of([0, 3, 0, 13, 0], [[3, 0], [1, 0]], [1, 0], DEFAULT_ATOM_TYPES)
    assert Chem.MolToSmiles(found) == "CO"


@pytest.mark.parametrize("smiles", [*SMILES, *LARGER.values()])
def test_arrays_give_back_the_molecule(smiles):
    found = record(smiles)
    back = molecule_of(
        found.node_types.tolist(), found.edge_index.tolist(), found.edge_types.tolist(), DEFAULT_ATOM_TYPES
    )
    assert Chem.MolToSmiles(back) == Chem.MolToSmiles(canonical_molecule(smiles))
    assert_equal(record(back), found, smiles)
