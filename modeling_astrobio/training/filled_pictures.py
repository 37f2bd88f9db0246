"""A picture of a state that was filled in: what is true, what was left to read, and what came of it."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import torch
from matplotlib.figure import Figure

from .climate_maps import ClimateMaps, with_unit
from .datacube_data import ClimateTrajectory


__all__ = ["draw_filled"]


def draw_filled(
    names: Sequence[str],
    truth: torch.Tensor,
    read: torch.Tensor,
    filled: torch.Tensor,
    climate: ClimateTrajectory,
    path: Path,
) -> None:
    """Draw maps of fields, a row for each: true, left to read, filled in, and by how much that is off.

    Args:
        names: Of the fields, C.
        truth: Shape (C, Y, X).
        read: Likewise, NaN where a value was hidden or is missing.
        filled: Likewise.
        climate: On whose grid they are.
        path: Of the picture.
    """
    matplotlib.use("agg")
    figure = Figure(figsize=(18, 2.6 * len(names)), layout="constrained")
    maps = ClimateMaps(figure, climate.latitude_deg, climate.longitude_deg)
    panels = figure.subplots(len(names), 4, squeeze=False)
    for row, name in enumerate(with_unit(name, climate.units) for name in names):
        off = (filled[row] - truth[row]).masked_fill(read[row].isfinite(), torch.nan)
        greatest = off.abs().nan_to_num().max()
        maps.draw(panels[row][0], truth[row], truth[row], f"{name}, truth")
        maps.draw(panels[row][1], read[row], truth[row], f"{name}, left to read")
        maps.draw(panels[row][2], filled[row], truth[row], f"{name}, filled in")
        maps.draw(panels[row][3], off, torch.stack((-greatest, greatest)), f"{name}, filled in less truth")
    figure.savefig(path, dpi=90)
