"""Enumerated molecules: all that the rules admit, each once, with the values that RDKit computes anew."""

from collections import Counter

import pytest

from data_scripts.splits import SPLIT_NAMES, split_of


pytest.importorskip("rdkit", reason="the extra chem is not installed")
from rdkit import Chem
from rdkit.Chem import Crippen, Descriptors, rdMolDescriptors

from data_scripts.chemistry.astrochemistry_molecules import ASTROCHEMISTRY_MOLECULES
from data_scripts.chemistry.molecule_enumeration import UNSTABLE, enumerate_molecules, is_stable
from data_scripts.derived import embedded_molecules
from data_scripts.derived.embedded_molecules import (
    EMBEDDED_MOLECULES_CARD,
    EMBEDDED_MOLECULES_FEATURES,
    build_embedded_molecules,
)


# Numbers of constitutional isomers, from 1 carbon: OEIS A000602 and A000598.
ALKANES = [1, 1, 1, 2, 3, 5]
ALKYL_GROUPS = [1, 1, 2, 4, 8]
# Ones that do not last, one for each name in `UNSTABLE`.
EXAMPLES = {
    "cumulated double bonds": "C=C=C",
    "triple bond in a ring": "C1CCCC#CCC1",
    "double bond at a ring of three": "C1C=C1",
    "two double bonds in a ring of four": "C1=CC=C1",
    "aromatic ring of other than five or six atoms": "c1cccccc1=O",
    "two heteroatoms beside each other in a ring of three or four": "C1CNN1",
    "peroxide": "COOC",
    "fluorine on a heteroatom": "CNF",
    "nitrogen with oxygen, but in an oxime or an aromatic ring": "CNO",
    "nitrogen with nitrogen, but in a hydrazone or an aromatic ring": "CNNC",
    "two heteroatoms beside each other in an aromatic ring, both without a double bond": "O=c1cc[nH][nH]1",
    "azo or nitroso group": "CN=NC",
    "chain of three heteroatoms outside an aromatic ring": "C=NNN",
    "imine without a group on nitrogen, but in an amidine": "CC=N",
    "imine of an aromatic ring, a tautomer of its amine": "N=c1cc[nH]cc1",
    "enol": "C=CO",
    "enamine with hydrogen on nitrogen": "C=CN",
    "hemiacetal, aminal or geminal diol": "CC(O)OC",
    "fluorine beside oxygen or nitrogen on a saturated carbon": "FCOC",
    "orthoester or orthoamide": "COC(OC)OC",
    "heteroatom on an alkyne": "C#CF",
    "cyanate or cyanogen fluoride": "FC#N",
    "acyl or imidoyl fluoride": "CC(F)=O",
    "carbonic or carbamic acid": "NC(=O)O",
}
LASTING = ("CC=NO", "CC=NN(C)C", "c1ccno1", "c1cn[nH]c1", "CC(=N)N", "Nc1ccncc1", "COC", "COCOC", "CC(F)F", "CNC=O")


def canonical(smiles):
    return Chem.MolToSmiles(Chem.MolFromSmiles(smiles))


@pytest.fixture(scope="module")
def enumerated():
    return enumerate_molecules(6)


@pytest.fixture(scope="module")
def small():
    """The data set with molecules of up to five atoms; the rest of the builder is the same."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embedded_molecules, "MOST_HEAVY_ATOMS", 5)
        return build_embedded_molecules()


def test_each_molecule_stands_once_by_size_under_its_canonical_name(enumerated):
    assert len(set(enumerated)) == len(enumerated) > 3000
    assert [canonical(smiles) for smiles in enumerated] == enumerated
    sizes = [Chem.MolFromSmiles(smiles).GetNumHeavyAtoms() for smiles in enumerated]
    assert sorted(zip(sizes, enumerated, strict=True)) == list(zip(sizes, enumerated, strict=True))
    # A smaller bound cuts the list.
    assert enumerate_molecules(4) == [smiles for smiles, size in zip(enumerated, sizes, strict=True) if size <= 4]
    with pytest.raises(ValueError, match="most_heavy_atoms must be at least 1; got 0"):
        enumerate_molecules(0)


def test_hydrocarbons_of_up_to_four_atoms_are_those_written_out():
    written = """C CC C=C C#C CCC C=CC C#CC C1CC1 CCCC CC(C)C C=CCC CC=CC C=C(C)C C#CCC CC#CC C=CC=C C#CC=C C#CC#C
        C1CCC1 CC1CC1 C1=CCC1"""
    found = [smiles for smiles in enumerate_molecules(4) if not set(smiles) & set("NOFno")]
    assert set(found) == {canonical(smiles) for smiles in written.split()}


def test_isomers_are_as_many_as_counted(enumerated):
    mols = [Chem.MolFromSmiles(smiles) for smiles in enumerated]
    saturated = [
        mol
        for mol in mols
        if not mol.GetRingInfo().NumRings() and all(bond.GetBondTypeAsDouble() == 1 for bond in mol.GetBonds())
    ]
    kinds = Counter()
    for mol in saturated:
        others = [atom for atom in mol.GetAtoms() if atom.GetSymbol() != "C"]
        if not others:
            kinds["alkane", mol.GetNumAtoms()] += 1
        elif len(others) == 1 and others[0].GetDegree() == 1:
            kinds[others[0].GetSymbol(), mol.GetNumAtoms() - 1] += 1
    assert [kinds["alkane", carbons] for carbons in range(1, 7)] == ALKANES
    for element in "NOF":
        assert [kinds[element, carbons] for carbons in range(1, 6)] == ALKYL_GROUPS, element


@pytest.mark.parametrize("name", UNSTABLE)
def test_a_pattern_refuses_its_example(name):
    mol = Chem.MolFromSmiles(EXAMPLES[name])
    assert mol.HasSubstructMatch(Chem.MolFromSmarts(UNSTABLE[name]))
    assert not is_stable(mol)


@pytest.mark.parametrize("smiles", LASTING)
def test_what_lasts_is_kept(smiles, enumerated):
    assert is_stable(Chem.MolFromSmiles(smiles))
    if Chem.MolFromSmiles(smiles).GetNumHeavyAtoms() <= 6:
        assert canonical(smiles) in enumerated


def test_no_enumerated_molecule_has_an_atom_or_ring_that_the_rules_exclude(enumerated):
    assert EXAMPLES.keys() == UNSTABLE.keys()
    unstable = {canonical(smiles) for smiles in EXAMPLES.values()}
    assert not unstable & set(enumerated)
    for smiles in enumerated:
        mol = Chem.MolFromSmiles(smiles)
        assert {atom.GetSymbol() for atom in mol.GetAtoms()} <= set("CNOF")
        assert not any(atom.GetFormalCharge() or atom.GetNumRadicalElectrons() for atom in mol.GetAtoms())
        assert mol.GetRingInfo().NumRings() <= 3
        assert "." not in smiles


@pytest.mark.parametrize("entry", ASTROCHEMISTRY_MOLECULES, ids=lambda entry: entry[0])
def test_the_formula_of_a_molecule_of_astrochemistry_is_that_of_its_structure(entry):
    _, smiles, formula = entry
    mol = Chem.MolFromSmiles(smiles)
    assert rdMolDescriptors.CalcMolFormula(mol) == formula
    assert mol.GetNumHeavyAtoms() <= 16
    assert Chem.GetFormalCharge(mol) == 0
    assert sum(atom.GetNumRadicalElectrons() for atom in mol.GetAtoms()) == 0
    assert len(Chem.GetMolFrags(mol)) == 1


def test_no_molecule_of_astrochemistry_is_listed_twice():
    names, smiles, _ = zip(*ASTROCHEMISTRY_MOLECULES, strict=True)
    assert len(set(names)) == len(names)
    assert [text for text, count in Counter(map(canonical, smiles)).items() if count > 1] == []


def check_rows(splits, smiles_of_all):
    """Every value of every row, computed here by RDKit's own names."""
    assert list(splits) == list(SPLIT_NAMES)
    names = {canonical(smiles): name for name, smiles, _ in ASTROCHEMISTRY_MOLECULES}
    seen: dict[str, str] = {}
    for split, rows in splits.items():
        assert rows.features == EMBEDDED_MOLECULES_FEATURES
        for row in rows:
            mol = Chem.MolFromSmiles(row["smiles"])
            assert row == {
                "smiles": Chem.MolToSmiles(mol),
                "object_id": Chem.MolToInchiKey(mol)[:14],
                "origin": "astrochemistry" if row["smiles"] in names else "enumerated",
                "name": names.get(row["smiles"]),
                "heavy_atom_count": mol.GetNumHeavyAtoms(),
                "formula": rdMolDescriptors.CalcMolFormula(mol),
                "molar_mass_g_mol": Descriptors.MolWt(mol),
                "crippen_log_p": Crippen.MolLogP(mol),
                "tpsa_a2": rdMolDescriptors.CalcTPSA(mol),
                "hydrogen_bond_donors": rdMolDescriptors.CalcNumHBD(mol),
                "hydrogen_bond_acceptors": rdMolDescriptors.CalcNumHBA(mol),
                "ring_count": rdMolDescriptors.CalcNumRings(mol),
            }
            assert row["smiles"] not in seen
            seen[row["smiles"]] = row["object_id"]
            assert split_of(row["object_id"]) == split
    assert seen.keys() == {*names, *smiles_of_all}
    # What InChI holds for one molecule is in one split.
    ids = {split: set(rows["object_id"]) for split, rows in splits.items()}
    assert not ids["train"] & (ids["validation"] | ids["test"])
    assert not ids["validation"] & ids["test"]


def test_rows_have_the_values_that_rdkit_computes(small):
    check_rows(small, enumerate_molecules(5))


def test_the_seed_chooses_the_order_alone(small, monkeypatch):
    monkeypatch.setattr(embedded_molecules, "MOST_HEAVY_ATOMS", 5)
    again, other = build_embedded_molecules(), build_embedded_molecules(seed=1)
    for split in SPLIT_NAMES:
        assert again[split].to_list() == small[split].to_list()
        assert other[split].to_list() != small[split].to_list()
        assert sorted(other[split]["smiles"]) == sorted(small[split]["smiles"])


def test_the_card_says_what_each_column_is():
    assert EMBEDDED_MOLECULES_CARD.columns.keys() == EMBEDDED_MOLECULES_FEATURES.keys()


@pytest.mark.slow
def test_the_whole_data_set():
    check_rows(build_embedded_molecules(), enumerate_molecules(7))
