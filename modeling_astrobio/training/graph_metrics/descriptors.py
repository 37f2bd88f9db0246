"""Descriptors of molecules, the numbers that the distances of distributions compare."""

from collections.abc import Callable, Sequence

import numpy as np
from rdkit import Chem
from rdkit.Chem import QED, Crippen, Descriptors, GraphDescriptors, rdMolDescriptors

from modeling_astrobio.training.errors import DataError


__all__ = ["DESCRIPTORS", "describe"]

DESCRIPTORS: dict[str, Callable[[Chem.Mol], float]] = {
    "heavy_atoms": Chem.Mol.GetNumHeavyAtoms,
    "heteroatoms": rdMolDescriptors.CalcNumHeteroatoms,
    "molecular_weight": Descriptors.MolWt,  # type: ignore[attr-defined]
    "crippen_log_p": Crippen.MolLogP,  # type: ignore[attr-defined]
    "tpsa": rdMolDescriptors.CalcTPSA,
    "rings": rdMolDescriptors.CalcNumRings,
    "aromatic_rings": rdMolDescriptors.CalcNumAromaticRings,
    "bridgeheads": rdMolDescriptors.CalcNumBridgeheadAtoms,
    "hydrogen_bond_donors": rdMolDescriptors.CalcNumHBD,
    "hydrogen_bond_acceptors": rdMolDescriptors.CalcNumHBA,
    "rotatable_bonds": rdMolDescriptors.CalcNumRotatableBonds,
    "sp3_share": rdMolDescriptors.CalcFractionCSP3,
    "bertz_ct": GraphDescriptors.BertzCT,
    "qed": QED.qed,
}
"""Functions of RDKit by name: weight in g/mol, area in angstrom^2, the others dimensionless."""


def describe(mols: Sequence[Chem.Mol]) -> np.ndarray:
    """Return the descriptors of molecules, shape (N, D), in the order of `DESCRIPTORS`.

    Raises:
        DataError: If one is not finite; the message names the molecule.
    """
    rows = [[of(mol) for of in DESCRIPTORS.values()] for mol in mols]
    table = np.array(rows, dtype=np.float64).reshape(len(rows), len(DESCRIPTORS))
    if not np.isfinite(table).all():
        row, column = np.argwhere(~np.isfinite(table))[0]
        raise DataError(
            f"{list(DESCRIPTORS)[column]} must be finite; got {table[row, column]} of "
            f"{Chem.MolToSmiles(mols[row])}. Remove this molecule."
        )
    return table
