"""Molecules to train a generator on, and two sets that are held out."""

import dataclasses
import gzip
import random
from pathlib import Path

from rdkit import Chem

from modeling_astrobio.graph_features import DEFAULT_ATOM_TYPES
from modeling_astrobio.training.errors import DataError
from modeling_astrobio.training.graph_metrics.molecule_set import canonical_smiles


__all__ = ["Molecules"]

# The same for all seeds of training, so that rows can be compared.
_SPLIT_SEED = 0


@dataclasses.dataclass(frozen=True)
class Molecules:
    """What every row of a comparison shares: disjoint sets of canonical SMILES without stereo."""

    training: list[str]
    held_out: list[str]
    reference: list[str]
    atom_types: list[list[int]]

    @classmethod
    def read(cls, path: Path, held_out: int) -> "Molecules":
        """Read a file and hold out two sets of a size; atom types are those of the training set."""
        with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as lines:
            read = [canonical_smiles(line.strip()) for line in lines]
        different = [smiles for smiles in dict.fromkeys(read) if smiles is not None]
        if len(different) <= 2 * held_out:
            raise DataError(
                f"--smiles must name a file of more than {2 * held_out} different molecules, twice as many as are "
                f"held out; got {len(different)}. Lower --samples."
            )
        random.Random(_SPLIT_SEED).shuffle(different)
        training = different[2 * held_out :]
        kinds = {kind for smiles in training for kind in _atom_kinds(smiles)}
        atom_types = [list(kind) for kind in DEFAULT_ATOM_TYPES if kind in kinds]
        return cls(training, different[:held_out], different[held_out : 2 * held_out], atom_types)


def _atom_kinds(smiles: str) -> set[tuple[int, int, int, int]]:
    """Return the atom types of a molecule, as of `AstroGraphVAEConfig.atom_types`."""
    return {
        (atom.GetAtomicNum(), atom.GetFormalCharge(), atom.GetNumRadicalElectrons(), atom.GetTotalValence())
        for atom in Chem.MolFromSmiles(smiles).GetAtoms()
    }
