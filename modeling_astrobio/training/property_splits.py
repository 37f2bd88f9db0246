"""Splits of molecules for intervals: rows drawn at random, and rows whose Murcko scaffold training does not have."""

import random
from collections import defaultdict
from collections.abc import Sequence

from rdkit import rdBase
from rdkit.Chem.Scaffolds import MurckoScaffold

from .errors import DataError


__all__ = ["murcko_scaffold", "split_with_scaffolds"]


def murcko_scaffold(smiles: str) -> str:
    """Return the Murcko scaffold without stereo; empty where a molecule has no ring (Bemis and Murcko 1996)."""
    with rdBase.BlockLogs():
        scaffold: str = MurckoScaffold.MurckoScaffoldSmiles(smiles=smiles, includeChirality=False)
    return scaffold


def split_with_scaffolds(
    smiles: Sequence[str], scaffold_test: int, calibration: int, test: int, seed: int = 0
) -> dict[str, list[int]]:
    """Return places of molecules in four parts that share no place.

    `scaffold_test` has whole scaffolds, drawn at random, that no other part has; molecules without a ring are one
    scaffold and stay with the others. `calibration`, `test` and `train` are drawn from what is left, so that
    calibration and test are exchangeable.

    Args:
        smiles: Of all molecules.
        scaffold_test: Least number of molecules of unseen scaffolds.
        calibration: Number of molecules for calibration.
        test: Number of molecules for the test in the distribution of training.
        seed: Of both draws.

    Raises:
        DataError: If that leaves none for training.
    """
    groups: dict[str, list[int]] = defaultdict(list)
    for place, text in enumerate(smiles):
        groups[murcko_scaffold(text)].append(place)
    rng = random.Random(seed)
    names = sorted(groups.keys() - {""})
    rng.shuffle(names)
    apart: list[int] = []
    while names and len(apart) < scaffold_test:
        apart += groups.pop(names.pop())
    rest = sorted(place for places in groups.values() for place in places)
    rng.shuffle(rest)
    if len(apart) < scaffold_test or len(rest) <= calibration + test:
        raise DataError(
            f"{scaffold_test} molecules of unseen scaffolds, {calibration} for calibration and {test} for the test "
            f"must leave some for training; got {len(smiles)} molecules. Ask for fewer."
        )
    return {
        "train": sorted(rest[calibration + test :]),
        "calibration": sorted(rest[:calibration]),
        "test": sorted(rest[calibration : calibration + test]),
        "scaffold_test": sorted(apart),
    }
