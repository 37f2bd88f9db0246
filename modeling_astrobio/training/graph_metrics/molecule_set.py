"""A set of molecules and what the metrics read of it, computed once and kept."""

from collections import Counter
from collections.abc import Collection, Sequence
from functools import cached_property

import numpy as np
from rdkit import Chem, rdBase
from rdkit.Chem import AllChem, rdFingerprintGenerator
from rdkit.Chem.Scaffolds import MurckoScaffold

from modeling_astrobio.training.errors import DataError
from modeling_astrobio.training.graph_metrics.descriptors import describe


__all__ = ["MoleculeSet", "canonical_smiles", "radical_kinds"]

# Those of MOSES.
_MORGAN_RADIUS = 2
_MORGAN_BITS = 1024
_COUNT_BITS = 128
_LEAST_SCAFFOLD_RINGS = 2

# Its stubs lack the name.
_cut_brics_bonds = AllChem.FragmentOnBRICSBonds  # type: ignore[attr-defined]

_RadicalKinds = Collection[tuple[int, int, int]]


def radical_kinds(atom_types: Sequence[Sequence[int]]) -> _RadicalKinds:
    """Return atomic number, charge and radical electrons of those of `config.atom_types` that have unpaired ones."""
    return {(kind[0], kind[1], kind[2]) for kind in atom_types if kind[2]}


def canonical_smiles(smiles: str | None, radicals: _RadicalKinds | None = None) -> str | None:
    """Return the canonical SMILES without stereo and isotopes, or None if the text is no valid molecule.

    Valid is what RDKit reads and sanitises, with at least one atom, in one piece, without the atom `*`, and without
    unpaired electrons but those of `radicals`.

    Args:
        smiles: A SMILES; None or an empty text is no molecule.
        radicals: Kinds of atoms whose unpaired electrons are allowed; None allows all.

    Raises:
        DataError: If it is neither a text nor None.
    """
    if smiles is not None and not isinstance(smiles, str):
        raise DataError(f"smiles must be a text or None; got {smiles!r}. Pass what the processor's batch_decode gave.")
    if not smiles:
        return None
    with rdBase.BlockLogs():
        mol = Chem.MolFromSmiles(smiles)
    if mol is None or not mol.GetNumAtoms():
        return None
    for atom in mol.GetAtoms():
        electrons = atom.GetNumRadicalElectrons()
        kind = (atom.GetAtomicNum(), atom.GetFormalCharge(), electrons)
        if not kind[0] or (electrons and radicals is not None and kind not in radicals):
            return None
    if len(Chem.GetMolFrags(mol)) != 1:
        return None
    Chem.RemoveStereochemistry(mol)
    text: str = Chem.MolToSmiles(mol, isomericSmiles=False)
    return text


class MoleculeSet:
    """Molecules by their canonical SMILES without stereo, and their features.

    Attributes:
        smiles: The valid ones, equal ones as often as they came.
        size: How many were given, invalid ones too.
    """

    def __init__(self, smiles: Sequence[str], size: int):
        self.smiles = list(smiles)
        self.size = size

    @classmethod
    def generated(
        cls, samples: "Sequence[str | None] | MoleculeSet", atom_types: Sequence[Sequence[int]] = ()
    ) -> "MoleculeSet":
        """Read samples, of which any may be invalid.

        Args:
            samples: SMILES; None or an empty text for what is no molecule. A set that was read is returned as it is.
            atom_types: `config.atom_types`; unpaired electrons of other kinds of atoms are invalid; by default all
                are.

        Raises:
            DataError: If there is no sample.
        """
        if isinstance(samples, MoleculeSet):
            return samples
        radicals = radical_kinds(atom_types)
        read = [canonical_smiles(sample, radicals) for sample in samples]
        if not read:
            raise DataError("samples must hold at least one entry; got none. Draw samples first.")
        return cls([smiles for smiles in read if smiles is not None], len(read))

    @classmethod
    def known(cls, molecules: "Sequence[str] | MoleculeSet", name: str) -> "MoleculeSet":
        """Read a set to compare with, of which all must be valid; a set that was read is returned as it is.

        Raises:
            DataError: If it is empty, or one is no molecule; the message has `name` and the place.
        """
        if isinstance(molecules, MoleculeSet):
            return molecules
        read = [canonical_smiles(molecule) for molecule in molecules]
        if not read:
            raise DataError(f"{name} must hold at least one molecule; got none. Pass SMILES.")
        valid = [smiles for smiles in read if smiles is not None]
        if len(valid) < len(read):
            place = read.index(None)
            raise DataError(
                f"{name} must hold molecules in one piece; got {molecules[place]!r} at {place}. Remove it."
            )
        return cls(valid, len(read))

    def require(self, least: int, metric: str, name: str) -> None:
        """Refuse a set with too few valid molecules for a metric.

        Raises:
            DataError: If there are fewer than `least`.
        """
        if len(self.smiles) < least:
            raise DataError(
                f"{metric} needs {name} with at least {least} valid molecules; got {len(self.smiles)} of {self.size}. "
                "Pass more, or leave this metric out."
            )

    def take(self, places: np.ndarray) -> "MoleculeSet":
        """Return the molecules at some places, with what was computed of them."""
        taken = MoleculeSet([self.smiles[place] for place in places], len(places))
        for name in ("descriptors", "fingerprints", "morgan_counts", "fragments", "scaffolds"):
            if name in self.__dict__:
                values = self.__dict__[name]
                taken.__dict__[name] = (
                    values[places] if isinstance(values, np.ndarray) else [values[place] for place in places]
                )
        return taken

    @cached_property
    def mols(self) -> list[Chem.Mol]:
        """The molecules as RDKit has them."""
        with rdBase.BlockLogs():
            mols = [Chem.MolFromSmiles(smiles) for smiles in self.smiles]
        for smiles, mol in zip(self.smiles, mols, strict=True):
            if mol is None:
                raise DataError(f"smiles must read back; RDKit does not read its own {smiles}. Remove this molecule.")
        return mols

    @cached_property
    def descriptors(self) -> np.ndarray:
        """Those of `descriptors.DESCRIPTORS`, shape (N, D), float64."""
        return describe(self.mols)

    @cached_property
    def fingerprints(self) -> np.ndarray:
        """Morgan bits of radius 2, shape (N, 1024), uint8, 0 or 1."""
        generator = rdFingerprintGenerator.GetMorganGenerator(radius=_MORGAN_RADIUS, fpSize=_MORGAN_BITS)
        rows = [generator.GetFingerprintAsNumPy(mol) for mol in self.mols]
        return np.array(rows, dtype=np.uint8).reshape(len(rows), _MORGAN_BITS)

    @cached_property
    def morgan_counts(self) -> np.ndarray:
        """How often each Morgan environment of radius 2 occurs, folded to shape (N, 128), uint32."""
        generator = rdFingerprintGenerator.GetMorganGenerator(radius=_MORGAN_RADIUS, fpSize=_COUNT_BITS)
        rows = [generator.GetCountFingerprintAsNumPy(mol) for mol in self.mols]
        return np.array(rows, dtype=np.uint32).reshape(len(rows), _COUNT_BITS)

    @cached_property
    def fragments(self) -> list[Counter[str]]:
        """BRICS fragments of each molecule and how often it has them; one without BRICS bonds is its own fragment."""
        return [Counter(Chem.MolToSmiles(_cut_brics_bonds(mol)).split(".")) for mol in self.mols]

    @cached_property
    def scaffolds(self) -> list[str | None]:
        """Murcko scaffold of each molecule; None below two rings, as in the code of MOSES."""
        scaffolds = [MurckoScaffold.GetScaffoldForMol(mol) for mol in self.mols]
        return [
            Chem.MolToSmiles(scaffold) if scaffold.GetRingInfo().NumRings() >= _LEAST_SCAFFOLD_RINGS else None
            for scaffold in scaffolds
        ]
