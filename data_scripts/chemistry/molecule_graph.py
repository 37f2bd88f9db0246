"""A molecule as a graph of heavy atoms, with features of atoms and bonds and properties computed from them."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rdkit import Chem, rdBase
from rdkit.Chem import Descriptors, rdMolDescriptors
from rdkit.Chem.Scaffolds import MurckoScaffold


__all__ = [
    "ATOM_FEATURES",
    "BOND_FEATURES",
    "BOND_STEREOS",
    "BOND_TYPES",
    "CHIRALITIES",
    "COMPUTED_PROPERTIES",
    "HYBRIDIZATIONS",
    "MoleculeError",
    "inchikey_of",
    "molecule_cells",
    "molecule_key",
    "parse_smiles",
]

# A code of a feature is the place in these; what RDKit has beyond them is the last.
HYBRIDIZATIONS = ("UNSPECIFIED", "S", "SP", "SP2", "SP3", "SP2D", "SP3D", "SP3D2", "OTHER")
CHIRALITIES = ("CHI_UNSPECIFIED", "CHI_TETRAHEDRAL_CW", "CHI_TETRAHEDRAL_CCW", "CHI_OTHER")
BOND_TYPES = ("OTHER", "SINGLE", "DOUBLE", "TRIPLE", "AROMATIC", "DATIVE")
BOND_STEREOS = ("STEREONONE", "STEREOANY", "STEREOZ", "STEREOE", "OTHER")


# InChI names molecules of up to 1,023 atoms; RDKit takes minutes for a text of a hundred thousand characters.
_LONGEST_SMILES = 10_000
_MOST_CHARGE = 9
_HEAVIEST_ISOTOPE = 400


def _codes(names: tuple[str, ...], all_names: dict[str, Any], other: str) -> dict[Any, int]:
    return {value: names.index(name if name in names else other) for name, value in all_names.items()}


_HYBRIDIZATION_CODES = _codes(HYBRIDIZATIONS, Chem.HybridizationType.names, "OTHER")
_CHIRALITY_CODES = _codes(CHIRALITIES, Chem.ChiralType.names, "CHI_OTHER")
_BOND_TYPE_CODES = _codes(BOND_TYPES, Chem.BondType.names, "OTHER")
_BOND_STEREO_CODES = _codes(BOND_STEREOS, Chem.BondStereo.names, "OTHER")


@dataclass(frozen=True)
class _Feature:
    of: Callable[[Any], int | float | bool | str]
    dtype: str
    description: str


def _code_text(names: tuple[str, ...]) -> str:
    return ", ".join(f"{code} {name.removeprefix('CHI_').removeprefix('STEREO')}" for code, name in enumerate(names))


ATOM_FEATURES = {
    "atom_atomic_number": _Feature(Chem.Atom.GetAtomicNum, "int8", "atomic number"),
    "atom_formal_charge": _Feature(Chem.Atom.GetFormalCharge, "int8", "formal charge, elementary charges"),
    "atom_explicit_hydrogens": _Feature(Chem.Atom.GetNumExplicitHs, "int8", "hydrogens written in brackets, count"),
    "atom_implicit_hydrogens": _Feature(Chem.Atom.GetNumImplicitHs, "int8", "hydrogens that the valence adds, count"),
    "atom_degree": _Feature(Chem.Atom.GetDegree, "int8", "bonds to atoms of the graph, count"),
    "atom_radical_electrons": _Feature(Chem.Atom.GetNumRadicalElectrons, "int8", "unpaired electrons, count"),
    "atom_isotope": _Feature(Chem.Atom.GetIsotope, "int16", "mass number; 0 where the SMILES states none"),
    "atom_aromatic": _Feature(Chem.Atom.GetIsAromatic, "bool", "whether the atom is aromatic"),
    "atom_in_ring": _Feature(Chem.Atom.IsInRing, "bool", "whether the atom is in a ring"),
    "atom_hybridization": _Feature(
        lambda atom: _HYBRIDIZATION_CODES[atom.GetHybridization()],
        "int8",
        f"hybridization: {_code_text(HYBRIDIZATIONS)}",
    ),
    "atom_chirality": _Feature(
        lambda atom: _CHIRALITY_CODES[atom.GetChiralTag()],
        "int8",
        f"chirality, in the order of the bonds of the atom: {_code_text(CHIRALITIES)}",
    ),
}
BOND_FEATURES = {
    "bond_type": _Feature(
        lambda bond: _BOND_TYPE_CODES[bond.GetBondType()], "int8", f"type: {_code_text(BOND_TYPES)}"
    ),
    "bond_conjugated": _Feature(Chem.Bond.GetIsConjugated, "bool", "whether the bond is conjugated"),
    "bond_in_ring": _Feature(Chem.Bond.IsInRing, "bool", "whether the bond is in a ring"),
    "bond_stereo": _Feature(
        lambda bond: _BOND_STEREO_CODES[bond.GetStereo()], "int8", f"stereo: {_code_text(BOND_STEREOS)}"
    ),
}
COMPUTED_PROPERTIES = {
    "formula": _Feature(rdMolDescriptors.CalcMolFormula, "string", "molecular formula, Hill order"),
    "net_charge": _Feature(Chem.GetFormalCharge, "int16", "sum of the formal charges, elementary charges"),
    "molar_mass_g_mol": _Feature(
        Descriptors.MolWt,  # type: ignore[attr-defined]
        "float64",
        "molar mass, with the mean isotopes where none is stated, g/mol",
    ),
    "monoisotopic_mass_u": _Feature(
        rdMolDescriptors.CalcExactMolWt, "float64", "mass of the most abundant isotopes, u"
    ),
    "crippen_log_p": _Feature(
        lambda mol: rdMolDescriptors.CalcCrippenDescriptors(mol)[0],
        "float64",
        "octanol-water partition by Wildman and Crippen 1999, log10, dimensionless",
    ),
    "tpsa_a2": _Feature(
        rdMolDescriptors.CalcTPSA, "float64", "topological polar surface area by Ertl 2000 (N and O), angstrom^2"
    ),
    "hydrogen_bond_donors": _Feature(rdMolDescriptors.CalcNumHBD, "int16", "hydrogen-bond donors, count"),
    "hydrogen_bond_acceptors": _Feature(rdMolDescriptors.CalcNumHBA, "int16", "hydrogen-bond acceptors, count"),
    "rotatable_bonds": _Feature(rdMolDescriptors.CalcNumRotatableBonds, "int16", "rotatable bonds, count"),
    "ring_count": _Feature(rdMolDescriptors.CalcNumRings, "int16", "rings of the smallest set, count"),
    "aromatic_ring_count": _Feature(rdMolDescriptors.CalcNumAromaticRings, "int16", "aromatic rings, count"),
    "sp3_carbon_share": _Feature(
        rdMolDescriptors.CalcFractionCSP3, "float64", "share of carbons that are sp3, 0 to 1"
    ),
    "fragment_count": _Feature(lambda mol: len(Chem.GetMolFrags(mol)), "int16", "parts without a bond between them"),
}


class MoleculeError(ValueError):
    """A text that is not the SMILES of a molecule; the message says why."""


def parse_smiles(smiles: str) -> tuple[Chem.Mol, str]:
    """Read a molecule.

    Returns:
        The molecule, its atoms in the order of its canonical SMILES, and that: with stereo and isotopes, without the
        numbers of an atom mapping.

    Raises:
        MoleculeError: If the text is not SMILES, has no atom, an impossible valence, or an atom that cannot be.
    """
    if len(smiles) > _LONGEST_SMILES:
        raise MoleculeError(f"longer than {_LONGEST_SMILES} characters")
    with rdBase.BlockLogs():
        given = Chem.MolFromSmiles(smiles)
        if given is None:
            raise MoleculeError(_problem(smiles))
        if not given.GetNumAtoms():
            raise MoleculeError("no atom")
        for atom in given.GetAtoms():
            _check_atom(atom)
            atom.SetAtomMapNum(0)
        canonical = Chem.MolToSmiles(given)
        mol = Chem.MolFromSmiles(canonical)
    if mol is None:
        raise MoleculeError(f"its canonical SMILES {canonical} does not parse")
    return mol, canonical


def _check_atom(atom: Chem.Atom) -> None:
    number, charge, isotope = atom.GetAtomicNum(), atom.GetFormalCharge(), atom.GetIsotope()
    if number == 0:
        raise MoleculeError("an atom without element (*)")
    # RDKit keeps a charge in a byte: +200 would come back as -56.
    if not -_MOST_CHARGE <= charge <= min(number, _MOST_CHARGE) or isotope > _HEAVIEST_ISOTOPE:
        raise MoleculeError(f"{atom.GetSymbol()} with charge {charge} and mass number {isotope}, which cannot be")


def inchikey_of(mol: Chem.Mol) -> str:
    """Return the InChIKey.

    Raises:
        MoleculeError: If InChI cannot name the molecule.
    """
    with rdBase.BlockLogs():
        key: str = Chem.MolToInchiKey(mol)
    if not key:
        raise MoleculeError("a molecule that InChI has no name for")
    return key


def molecule_key(mol: Chem.Mol, smiles: str) -> str:
    """Return a text that is equal for all spellings of a molecule, and for no other molecule.

    RDKit writes a cage whose centres mirror each other in more than one way. InChI does not, but it knows tautomers
    and radicals as one: what has stereo is named by the SMILES without it, and by InChI with fixed hydrogens.

    Args:
        mol: The molecule.
        smiles: Its canonical SMILES.
    """
    if not set(smiles) & set("@/\\"):
        return smiles
    with rdBase.BlockLogs():
        return f"{Chem.MolToSmiles(mol, isomericSmiles=False)} {Chem.MolToInchi(mol, options='/FixedH')}"


def molecule_cells(mol: Chem.Mol) -> dict[str, Any]:
    """Return the graph and the computed properties of a molecule, by column.

    Bonds stand once each in `edge_index`, shape (2, B), flattened; atoms count from 0 in the order of the molecule.
    """
    atoms, bonds = list(mol.GetAtoms()), list(mol.GetBonds())
    return {
        **{name: [feature.of(atom) for atom in atoms] for name, feature in ATOM_FEATURES.items()},
        "edge_index": [
            *(bond.GetBeginAtomIdx() for bond in bonds),
            *(bond.GetEndAtomIdx() for bond in bonds),
        ],
        "edge_index_shape": [2, len(bonds)],
        **{name: [feature.of(bond) for bond in bonds] for name, feature in BOND_FEATURES.items()},
        **{name: feature.of(mol) for name, feature in COMPUTED_PROPERTIES.items()},
        "murcko_scaffold": MurckoScaffold.MurckoScaffoldSmiles(mol=mol),
    }


def _problem(smiles: str) -> str:
    unchecked = Chem.MolFromSmiles(smiles, sanitize=False)
    problems = [] if unchecked is None else [problem.Message() for problem in Chem.DetectChemistryProblems(unchecked)]
    return "; ".join(dict.fromkeys(itertools.islice(problems, 3))) or "not SMILES"
