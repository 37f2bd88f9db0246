"""Properties of molecules that RDKit computes, in families of what is akin, and tables of them.

Areas are in angstrom^2, weights in g/mol, charges in elementary charges, the others dimensionless.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from rdkit import Chem, rdBase
from rdkit.Chem import Descriptors, rdPartialCharges

from .errors import DataError


__all__ = ["FUNCTIONAL_GROUPS", "PROPERTIES", "PROPERTY_FAMILIES", "compute_properties"]

# Roles of groups in a molecule, as patterns of RDKit's `Fragments`: how many a molecule has.
FUNCTIONAL_GROUPS = (
    *("fr_Al_OH", "fr_C_O", "fr_NH0", "fr_NH1", "fr_NH2", "fr_aldehyde", "fr_amide", "fr_bicyclic", "fr_epoxide"),
    *("fr_ether", "fr_ketone", "fr_methoxy", "fr_nitrile", "fr_term_acetylene"),
)
_NAMES: dict[str, tuple[str, ...]] = {
    "composition": (
        *("MolWt", "HeavyAtomCount", "NumValenceElectrons", "NumHeteroatoms", "NOCount", "FractionCSP3"),
        "FpDensityMorgan1",
    ),
    "lipophilicity": (
        *("MolLogP", "MolMR", "LabuteASA", "SlogP_VSA2", "SlogP_VSA4", "SlogP_VSA5", "SMR_VSA1", "SMR_VSA3"),
        *("SMR_VSA5", "SMR_VSA7"),
    ),
    "polarity": ("TPSA", "NumHAcceptors", "NumHDonors", "NHOHCount"),
    "rings": (
        *("RingCount", "NumAliphaticRings", "NumSaturatedRings", "NumAromaticRings", "NumHeterocycles"),
        *("NumAliphaticCarbocycles", "NumAtomStereoCenters"),
    ),
    "flexibility": ("NumRotatableBonds",),
    "functional_groups": FUNCTIONAL_GROUPS,
    "charges": (
        *("MaxPartialCharge", "MinPartialCharge", "partial_charge_std", "PEOE_VSA1", "PEOE_VSA7", "PEOE_VSA8"),
        "PEOE_VSA9",
    ),
    "topology": ("BalabanJ", "BertzCT", "AvgIpc", "Chi1", "Chi2n", "Chi3n", "HallKierAlpha", "Kappa1", "Kappa2"),
    "electrotopology": ("MaxEStateIndex", "MinEStateIndex", "EState_VSA3", "EState_VSA8", "VSA_EState7"),
    "burden_eigenvalues": ("BCUT2D_MWHI", "BCUT2D_MWLOW", "BCUT2D_CHGHI", "BCUT2D_LOGPLOW", "BCUT2D_MRHI"),
    "druglikeness": ("qed",),
}


def _partial_charge_std(mol: Chem.Mol) -> float:
    """Standard deviation of the Gasteiger charges of the heavy atoms (Gasteiger and Marsili 1980)."""
    rdPartialCharges.ComputeGasteigerCharges(mol)
    return float(np.std([atom.GetDoubleProp("_GasteigerCharge") for atom in mol.GetAtoms()]))


_FUNCTIONS: dict[str, Callable[[Chem.Mol], float]] = {
    **dict(Descriptors._descList),  # type: ignore[attr-defined]
    "partial_charge_std": _partial_charge_std,
}
PROPERTY_FAMILIES: dict[str, dict[str, Callable[[Chem.Mol], float]]] = {
    family: {name: _FUNCTIONS[name] for name in names} for family, names in _NAMES.items()
}
PROPERTIES = {name: of for family in PROPERTY_FAMILIES.values() for name, of in family.items()}
"""Function of each property, by the name of RDKit's descriptor."""


def compute_properties(
    smiles: Sequence[str], names: Sequence[str], properties: Mapping[str, Callable[[Chem.Mol], float]] = PROPERTIES
) -> np.ndarray:
    """Return properties of molecules, shape (N, P), float64; NaN where one is not defined or not finite.

    Args:
        smiles: Of N molecules.
        names: Of P properties.
        properties: How each is computed.

    Raises:
        DataError: If a property is unknown, or RDKit does not read a molecule.
    """
    unknown = sorted(set(names) - set(properties))
    if unknown:
        raise DataError(f"names must be of {sorted(properties)}; got {unknown}.")
    table = np.full((len(smiles), len(names)), np.nan)
    with rdBase.BlockLogs():
        for row, text in enumerate(smiles):
            mol = Chem.MolFromSmiles(text)
            if mol is None:
                raise DataError(f"smiles must be molecules that RDKit reads; got {text!r} at {row}. Remove it.")
            # Those that depend on stereo would ask for what a graph does not hold.
            Chem.RemoveStereochemistry(mol)
            table[row] = [properties[name](mol) for name in names]
    table[~np.isfinite(table)] = np.nan
    return table
