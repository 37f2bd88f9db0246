"""The data set `embedded_molecules`: small molecules enumerated by rule, and molecules of astrochemistry."""

import random
from typing import Any

from datasets import Dataset, DatasetDict, Features, Value

from data_scripts.chemistry.astrochemistry_molecules import ASTROCHEMISTRY_MOLECULES
from data_scripts.chemistry.molecule_enumeration import UNSTABLE, enumerate_molecules
from data_scripts.chemistry.molecule_graph import COMPUTED_PROPERTIES, inchikey_of, parse_smiles
from data_scripts.harness.hub_folder import DatasetCard
from data_scripts.splits import SPLIT_NAMES, split_of


__all__ = ["EMBEDDED_MOLECULES_CARD", "EMBEDDED_MOLECULES_FEATURES", "build_embedded_molecules"]

MOST_HEAVY_ATOMS = 7
_PROPERTIES = (
    *("formula", "molar_mass_g_mol", "crippen_log_p", "tpsa_a2"),
    *("hydrogen_bond_donors", "hydrogen_bond_acceptors", "ring_count"),
)

EMBEDDED_MOLECULES_FEATURES = Features(
    {
        "smiles": Value("string"),
        "object_id": Value("string"),
        "origin": Value("string"),
        "name": Value("string"),
        "heavy_atom_count": Value("int16"),
        **{name: Value(COMPUTED_PROPERTIES[name].dtype) for name in _PROPERTIES},
    }
)

EMBEDDED_MOLECULES_CARD = DatasetCard(
    name="embedded_molecules",
    pretty_name="Embedded molecules: enumerated, and of astrochemistry",
    summary=(
        f"Molecules of up to {MOST_HEAVY_ATOMS} atoms of carbon, nitrogen, oxygen and fluorine, enumerated by rules "
        f"of valence and stability, and {len(ASTROCHEMISTRY_MOLECULES)} molecules of astrochemistry and of prebiotic "
        "interest. Nothing is copied from another data set."
    ),
    columns={
        "smiles": "canonical SMILES of RDKit, without stereo",
        "object_id": "first block of the InChIKey, by which molecules are split",
        "origin": "`enumerated` or `astrochemistry`; the second where both hold",
        "name": "name of a molecule of astrochemistry; null in enumerated ones",
        "heavy_atom_count": "atoms that are not hydrogen, count",
        **{name: COMPUTED_PROPERTIES[name].description for name in _PROPERTIES},
    },
    source="Made by the builder: enumeration by rule, and a list written by hand from the structures.",
    method=(
        "Connected graphs of at most three rings grow by an atom and the rings that it closes; bonds are made double "
        "or triple and atoms replaced in all ways that valence allows, after the way of GDB (Fink and Reymond 2007). "
        "Rings of three or four that share a bond with another ring, or an atom with another such ring, are left out, "
        "and so are double bonds at bridgeheads and: " + "; ".join(UNSTABLE) + ". Each molecule stands once, in "
        "random order of its split (80/10/10 by SHA-256 of `object_id`); tautomers that InChI knows as one are in one "
        "split."
    ),
    limits=(
        "The rules are simple: some molecules here would not last, and many that exist are left out, charged ones and "
        "radicals among them. Enumeration gives each graph one row, so that large molecules outnumber small ones and "
        "frequencies say nothing about abundance in nature. The list of astrochemistry does not say which molecules "
        "have been detected in space. Molecules of one scaffold are in different splits."
    ),
    license="apache-2.0",
    license_name="apache-2.0",
    license_link="https://www.apache.org/licenses/LICENSE-2.0",
    license_note="The molecules are made by this package and are under its licence.",
    citation=(
        "@article{fink2007gdb11,\n"
        "  author  = {Fink, Tobias and Reymond, Jean-Louis},\n"
        "  title   = {Virtual Exploration of the Chemical Universe up to 11 Atoms of {C}, {N}, {O}, {F}},\n"
        "  journal = {Journal of Chemical Information and Modeling},\n"
        "  volume  = {47}, pages = {342--353}, year = {2007}, doi = {10.1021/ci600423u}\n"
        "}\n"
        "@article{mcguire2022census,\n"
        "  author  = {McGuire, Brett A.},\n"
        "  title   = {2021 Census of Interstellar, Circumstellar, Extragalactic, Protoplanetary Disk, and "
        "Exoplanetary Molecules},\n"
        "  journal = {The Astrophysical Journal Supplement Series},\n"
        "  volume  = {259}, pages = {30}, year = {2022}, doi = {10.3847/1538-4365/ac2a48}\n"
        "}"
    ),
    count_by="origin",
)


def build_embedded_molecules(seed: int = 0) -> DatasetDict:
    """Build the data set by rule; needs neither network nor other files, and about half a minute of one core.

    Args:
        seed: Chooses the order of the rows. The molecules and the splits do not depend on it.

    Returns:
        Splits `train`, `validation` and `test` with `EMBEDDED_MOLECULES_FEATURES`.
    """
    names = {parse_smiles(smiles)[1]: name for name, smiles, _ in ASTROCHEMISTRY_MOLECULES}
    rows: dict[str, list[dict[str, Any]]] = {split: [] for split in SPLIT_NAMES}
    for smiles in dict.fromkeys([*names, *enumerate_molecules(MOST_HEAVY_ATOMS)]):
        row = _row(smiles, names.get(smiles))
        rows[split_of(row["object_id"])].append(row)
    for split, of_split in rows.items():
        random.Random(f"embedded_molecules:{seed}:{split}").shuffle(of_split)
    return DatasetDict(
        {split: Dataset.from_list(of_split, EMBEDDED_MOLECULES_FEATURES) for split, of_split in rows.items()}
    )


def _row(smiles: str, name: str | None) -> dict[str, Any]:
    mol, canonical = parse_smiles(smiles)
    return {
        "smiles": canonical,
        "object_id": inchikey_of(mol)[:14],
        "origin": "enumerated" if name is None else "astrochemistry",
        "name": name,
        "heavy_atom_count": mol.GetNumHeavyAtoms(),
        **{property: COMPUTED_PROPERTIES[property].of(mol) for property in _PROPERTIES},
    }
