"""Molecules as graphs: what RDKit reads, one row a molecule, nothing dropped in silence."""

import csv
import gzip
import itertools
import os
from pathlib import Path

import datasets
import numpy as np
import pytest

from data_scripts.harness.errors import BuildError
from data_scripts.harness.hub_folder import write_hub_folder
from modeling_astrobio.training.loading.array_cells import TableCells


pytest.importorskip("rdkit", reason="the extra chem is not installed")
from rdkit import Chem
from rdkit.Chem import Descriptors, rdMolDescriptors

from data_scripts.chemistry import molecule_graph
from data_scripts.chemistry.molecule_files import read_entries
from data_scripts.derived.molecules import MOLECULES_CARD, MOLECULES_FEATURES, build_molecules
from data_scripts.splits import SPLIT_NAMES, split_of


SAMPLES = Path(os.environ.get("ASTROBIO_GRAPH_SAMPLES", Path(__file__).parents[3] / "shared" / "graph_samples"))
needs_samples = pytest.mark.skipif(
    not (SAMPLES / "molecules").is_dir(),
    reason=f"{SAMPLES}/molecules is absent (ASTROBIO_GRAPH_SAMPLES names another folder)",
)
# Stereo, isotopes, charges, radicals, rings, salts, and what is aromatic.
SMILES = (
    "CCO",
    "C",
    "[13CH4]",
    "C[C@H](N)C(=O)[O-]",
    "C/C=C\\C",
    "c1ccc2[nH]ccc2c1",
    "C[C]([NH])OC=O",
    "[Na+].[Cl-]",
    "O=C([O-])c1ccccc1O",
    "N#Cc1ccncc1",
    "F[B-](F)(F)F",
    "FS(F)(F)(F)(F)F",
    "O=[N+]([O-])C12CC1C2",
)


def folder_of(tmp_path, **files):
    folder = tmp_path / "lists"
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        name = name.replace("__", ".")
        (folder / name).write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return {"molecules": folder}


def rows_of(splits, names=SPLIT_NAMES):
    return [row for name in names for row in splits[name]]


def naive_graph(smiles):
    """Atoms and bonds, one at a time, from RDKit's own reading of the SMILES."""
    mol = Chem.MolFromSmiles(smiles)
    rows = []
    for atom in mol.GetAtoms():
        rows.append(
            {
                "atom_atomic_number": atom.GetAtomicNum(),
                "atom_formal_charge": atom.GetFormalCharge(),
                "atom_explicit_hydrogens": atom.GetNumExplicitHs(),
                "atom_implicit_hydrogens": atom.GetTotalNumHs() - atom.GetNumExplicitHs(),
                "atom_degree": len(atom.GetNeighbors()),
                "atom_radical_electrons": atom.GetNumRadicalElectrons(),
                "atom_isotope": atom.GetIsotope(),
                "atom_aromatic": atom.GetIsAromatic(),
                "atom_in_ring": any(atom.GetIdx() in ring for ring in mol.GetRingInfo().AtomRings()),
                "atom_hybridization": molecule_graph.HYBRIDIZATIONS.index(str(atom.GetHybridization())),
                "atom_chirality": molecule_graph.CHIRALITIES.index(str(atom.GetChiralTag())),
            }
        )
    bonds = {
        (bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()): (
            molecule_graph.BOND_TYPES.index(str(bond.GetBondType())),
            bond.GetIsConjugated(),
            any(bond.GetIdx() in ring for ring in mol.GetRingInfo().BondRings()),
            molecule_graph.BOND_STEREOS.index(str(bond.GetStereo())),
        )
        for bond in mol.GetBonds()
    }
    return mol, rows, bonds


def assert_is_its_smiles(row):
    mol, atoms, bonds = naive_graph(row["smiles"])
    for name in molecule_graph.ATOM_FEATURES:
        assert row[name] == [atom[name] for atom in atoms], (row["smiles"], name)
    edges = np.reshape(row["edge_index"], row["edge_index_shape"])
    features = zip(*(row[name] for name in molecule_graph.BOND_FEATURES), strict=True)
    assert dict(zip(map(tuple, edges.T.tolist()), features, strict=True)) == bonds
    assert row["object_id"] == Chem.MolToInchiKey(mol)[:14]
    assert row["molar_mass_g_mol"] == pytest.approx(Descriptors.MolWt(mol), abs=1e-9)
    assert row["crippen_log_p"] == pytest.approx(Descriptors.MolLogP(mol), abs=1e-9)
    assert row["tpsa_a2"] == pytest.approx(rdMolDescriptors.CalcTPSA(mol), abs=1e-9)
    assert row["fragment_count"] == row["smiles"].count(".") + 1


def test_arrays_are_those_of_the_canonical_smiles(tmp_path):
    rows = rows_of(build_molecules(folder_of(tmp_path, list__txt="\n".join(SMILES))))
    assert len(rows) == len(SMILES)
    for row in rows:
        assert_is_its_smiles(row)
    # By hand.
    ethanol = next(row for row in rows if row["smiles"] == "CCO")
    assert (ethanol["formula"], ethanol["hydrogen_bond_donors"], ethanol["ring_count"]) == ("C2H6O", 1, 0)
    assert ethanol["molar_mass_g_mol"] == pytest.approx(46.069, abs=0.001)
    assert ethanol["tpsa_a2"] == pytest.approx(20.23)
    assert ethanol["murcko_scaffold"] == ""
    assert {row["source_smiles"]: row["net_charge"] for row in rows}["C[C@H](N)C(=O)[O-]"] == -1


def test_how_a_molecule_is_written_does_not_matter(tmp_path):
    written = {
        smiles: [smiles, *Chem.MolToRandomSmilesVect(Chem.MolFromSmiles(smiles), 3, randomSeed=7)] for smiles in SMILES
    }
    builds = []
    for number in range(4):
        text = "\n".join(ways[number] for ways in written.values())
        rows = rows_of(build_molecules(folder_of(tmp_path, list__txt=text)))
        builds.append([{**row, "source_smiles": None, "source_sha256": None} for row in rows])
    assert builds[1:] == builds[:1] * 3
    text = "\n".join(way for ways in written.values() for way in ways)
    splits = build_molecules(folder_of(tmp_path, list__txt=text))
    assert len(rows_of(splits)) == len(SMILES)
    assert set(splits["rejected"]["rejected"]) == {f"the molecule of line {1 + 4 * n} of list.txt" for n in range(13)}


def test_a_cage_is_one_molecule_however_it_is_written(tmp_path):
    # RDKit has two canonical SMILES of each of the first four; those of a line after them are different molecules.
    cages = (
        "COC=N[C@H]1[C@H]2C[C@@H]1C2",
        "C#C[C@H]1[C@]2(C)C[C@@]1(C)C2",
        "C1[C@H]2C[C@@H]1[C@@H]1C[C@H]2C1",
        "N#CC[C@]1(O)[C@@H]2C[C@H]1C2",
    )
    others = ("N/C=N/C", "N/C=N\\C", "C/C=C/[O]", "C/C=C/O", "C[C@H](F)O", "C[C@@H](F)O", "C[C@H](F)[18OH]")
    written = [Chem.MolToRandomSmilesVect(Chem.MolFromSmiles(cage), 8, randomSeed=3) for cage in cages]
    assert all(len({Chem.MolToSmiles(Chem.MolFromSmiles(way)) for way in ways}) == 2 for ways in written)
    splits = build_molecules(folder_of(tmp_path, list__txt="\n".join([*itertools.chain(*written), *others])))
    assert [row["source_line"] for row in sorted(rows_of(splits), key=lambda row: row["source_line"])] == [
        *range(1, 33, 8),
        *range(33, 40),
    ]


def test_what_is_no_molecule_is_kept_with_the_reason(tmp_path):
    bad = {
        "C(F)(F)(F)(F)F": "Explicit valence for atom # 0 C, 5, is greater than permitted",
        "c1cccc1": "Can't kekulize mol.  Unkekulized atoms: 0 1 2 3 4",
        "C1CC": "not SMILES",
        "hello": "not SMILES",
        "C*": "an atom without element (*)",
        "[Fe+200]": "Fe with charge -56 and mass number 0, which cannot be",
        "[40000CH4]": "C with charge 0 and mass number 40000, which cannot be",
        "C" * 10_001: "longer than 10000 characters",
        "[NH3]->[Pt](Cl)(Cl)<-[NH3]": "a molecule that InChI has no name for",
        "OCC": "the molecule of line 1 of list.txt",
        "[CH3:2][CH2:1][OH:7]": "the molecule of line 1 of list.txt",
    }
    splits = build_molecules(folder_of(tmp_path, list__txt="\n".join(["CCO", *bad])))
    assert {row["source_smiles"]: row["rejected"] for row in splits["rejected"]} == bad
    assert splits["rejected"]["source_line"] == list(range(2, 13))
    assert set(splits["rejected"]["atom_degree"]) == {None}
    assert [row["smiles"] for row in rows_of(splits)] == ["CCO"]
    assert rows_of(splits)[0]["rejected"] is None


TABLE = """\
Compound ID,measured log solubility in mols per litre,Boiling point [K],weight,SMILES
ethanol,1.10,351.5,46.07,OCC
"benzene, pure",,353.2,78.1,c1ccccc1
water,inf,373.1,18.0,O
short,1.0
methane, NA ,nan,16.0,C
"""


def test_tables_have_properties_with_units(tmp_path):
    splits = build_molecules(
        folder_of(tmp_path, a__csv=TABLE, b__smi__gz="SMILES\n\nC1=CC=CC=C1 ring\nCC\tthe name\n")
    )
    rows = {row["smiles"]: row for row in rows_of(splits)}
    assert set(rows) == {"CCO", "c1ccccc1", "C", "CC"}
    found = {
        smiles: list(zip(row["measured_names"], row["measured_units"], row["measured_values"], strict=True))
        for smiles, row in rows.items()
    }
    assert found["CCO"] == [("log_solubility", "log10(mol/L)", 1.1), ("boiling_point", "K", 351.5)]
    assert found["c1ccccc1"] == [("boiling_point", "K", 353.2)]
    assert found["C"] == found["CC"] == []
    assert (rows["c1ccccc1"]["name"], rows["CC"]["name"], rows["CCO"]["left_out"]) == (
        "benzene, pure",
        "the name",
        ["weight"],
    )
    assert [(row["source_file"], row["source_line"], row["rejected"]) for row in splits["rejected"]] == [
        ("a.csv", 4, "log_solubility must be a finite number; got 'inf'"),
        ("a.csv", 5, "2 cells under 5 columns"),
        ("b.smi.gz", 3, "the molecule of line 3 of a.csv"),
    ]


def test_a_duplicate_gives_its_measurements_to_the_first(tmp_path):
    second = "smiles,log p [1],measured_log_solubility\nCCO,-0.3,2.0\nOCC,-0.4,3.0\n"
    splits = build_molecules(folder_of(tmp_path, a__txt="OCC", b__csv=second))
    (row,) = rows_of(splits)
    assert (row["measured_names"], row["measured_values"]) == (["log_p", "log_solubility"], [-0.3, 2.0])
    # What is rejected keeps its own.
    assert splits["rejected"]["measured_values"] == [[-0.3, 2.0], [-0.4, 3.0]]


def test_variants_of_a_skeleton_are_together(tmp_path):
    variants = ["C[C@H](N)C(=O)O", "C[C@@H](N)C(=O)O", "CC(N)C(=O)O", "[13CH3]C(N)C(=O)O", "CC([NH3+])C(=O)[O-]"]
    tautomers = ["Cc1c[nH]cn1", "Cc1cnc[nH]1"]
    text = "\n".join([*variants, *tautomers, *(f"{'C' * n}O" for n in range(1, 40))])
    splits = build_molecules(folder_of(tmp_path, list__txt=text))
    found = {name: set(splits[name]["object_id"]) for name in SPLIT_NAMES}
    assert all(found.values())
    for name, skeletons in found.items():
        assert {split_of(skeleton) for skeleton in skeletons} == {name}
    of_smiles = {row["source_smiles"]: row["object_id"] for row in rows_of(splits)}
    assert len({of_smiles[smiles] for smiles in variants[:4]}) == 1
    assert len({of_smiles[smiles] for smiles in tautomers}) == 1


def test_the_folder_opens_and_gives_arrays(tmp_path):
    alcohols = ["C" * n + "O" for n in range(2, 80)]
    splits = build_molecules(folder_of(tmp_path, list__txt="\n".join([*SMILES, *alcohols, "C1CC"])))
    folder = write_hub_folder(splits, MOLECULES_CARD, tmp_path / "out")
    loaded = datasets.load_dataset(str(folder), "molecules", cache_dir=str(tmp_path / "cache"))
    assert {name: len(rows) for name, rows in loaded.items()} == {name: len(rows) for name, rows in splits.items()}
    assert loaded["train"].features == MOLECULES_FEATURES
    assert "| rejected | 2 |" in (folder / "README.md").read_text()
    cells = TableCells(loaded["train"].data.table).rows([0])[0]
    assert cells["edge_index"].shape == (2, len(cells["bond_type"]))
    assert cells["atom_atomic_number"].dtype == np.int8
    # The same list gives the same bytes.
    again = write_hub_folder(build_molecules({"molecules": tmp_path / "lists"}), MOLECULES_CARD, tmp_path / "again")
    for path in folder.rglob("*.*"):
        assert path.read_bytes() == (again / path.relative_to(folder)).read_bytes()


def test_what_is_wrong_with_a_file_is_named(tmp_path):
    with pytest.raises(BuildError, match="from-folder must name molecules; got lists"):
        build_molecules({"lists": tmp_path})
    with pytest.raises(BuildError, match=r"molecules must be a folder with \.csv, \.smi, \.txt"):
        build_molecules({"molecules": tmp_path})
    for name, body, message in (
        ("a.csv", b"name,structure\nx,C\n", "a.csv must have one column smiles; got name, structure"),
        ("a.csv", b"", "a.csv must have one column smiles; got no header"),
        ("a.txt", b"C\n\xff\xfe\n", "a.txt must be a text in UTF-8, whole"),
        ("a.txt.gz", gzip.compress(b"CCO\n" * 999)[:-9], r"a.txt.gz must be a text in UTF-8, whole"),
        ("a.txt.gz", b"CCO\n", "a.txt.gz must be a text in UTF-8, whole"),
        ("a.txt", b"one\ntwo\n", "molecules must hold SMILES; got 2 lines .*: not SMILES; not SMILES"),
        ("a.txt", b"", "molecules must hold SMILES; got 0 lines"),
    ):
        (tmp_path / "bad").mkdir(exist_ok=True)
        (tmp_path / "bad" / name).write_bytes(body)
        with pytest.raises(BuildError, match=message):
            build_molecules({"molecules": tmp_path / "bad"})
        (tmp_path / "bad" / name).unlink()


def linked(tmp_path, *names):
    folder = tmp_path / "samples"
    folder.mkdir()
    for name in names:
        os.symlink(SAMPLES / "molecules" / name, folder / name)
    return {"molecules": folder}


@needs_samples
def test_real_solubilities(tmp_path):
    splits = build_molecules(linked(tmp_path, "esol_excerpt.csv"))
    rows = rows_of(splits)
    assert (len(rows), len(splits["rejected"])) == (72, 0)
    with (SAMPLES / "molecules" / "esol_excerpt.csv").open() as table:
        weights = {line["smiles"]: line["molecular_weight"] for line in csv.DictReader(table)}
    for row in rows:
        assert_is_its_smiles(row)
        assert row["molar_mass_g_mol"] == pytest.approx(float(weights[row["source_smiles"]]), abs=0.02)
        assert (row["measured_names"], row["measured_units"]) == (["log_solubility"], ["log10(mol/L)"])


@needs_samples
def test_real_molecules_of_qm9(tmp_path):
    with gzip.open(SAMPLES / "molecules" / "qm9_smiles.txt.gz", "rt") as text:
        smiles = [line.strip() for line, _ in zip(text, range(300), strict=False)]
    splits = build_molecules(folder_of(tmp_path, qm9__txt="\n".join(smiles)))
    assert (len(rows_of(splits)), len(splits["rejected"])) == (300, 0)
    for row in rows_of(splits):
        assert_is_its_smiles(row)


@needs_samples
@pytest.mark.slow
def test_all_molecules_of_qm9(tmp_path):
    splits = build_molecules(linked(tmp_path, "qm9_smiles.txt.gz"))
    sizes = {name: len(rows) for name, rows in splits.items()}
    assert (sum(sizes.values()), sizes["rejected"]) == (100_000, 0)
    assert sizes["train"] / 100_000 == pytest.approx(0.8, abs=0.01)
    smiles = [smiles for name in SPLIT_NAMES for smiles in splits[name]["smiles"]]
    assert len(set(smiles)) == 100_000


def test_lines_are_counted_as_an_editor_does(tmp_path):
    folder = folder_of(tmp_path, a__csv='smiles,name\nC,"two\nlines"\nCC,b\n')["molecules"]
    assert [(entry.smiles, entry.line) for entry in read_entries(folder / "a.csv")] == [("C", 3), ("CC", 4)]
