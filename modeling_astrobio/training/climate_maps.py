"""Maps of fields on a panel of a picture, rows and columns where they lie on the globe."""

from collections.abc import Mapping
from typing import Any

import torch
from matplotlib.figure import Figure


__all__ = ["ClimateMaps", "finite_range", "with_unit"]


class ClimateMaps:
    """Draws fields of one grid.

    Args:
        figure: That the panels are of.
        latitude_deg: Of the rows, shape (Y,), in either order.
        longitude_deg: Of the columns, shape (X,), evenly spaced.
    """

    def __init__(self, figure: Figure, latitude_deg: torch.Tensor, longitude_deg: torch.Tensor):
        self.figure = figure
        west = float(longitude_deg[0]) - float(longitude_deg[1] - longitude_deg[0]) / 2
        self.extent = (west, west + 360.0, float(latitude_deg.min()), float(latitude_deg.max()))
        self.origin = "upper" if latitude_deg[0] > latitude_deg[-1] else "lower"

    def draw(self, axes: Any, field: torch.Tensor, like: torch.Tensor, title: str) -> None:
        """Draw a map with its bar of colours.

        Args:
            axes: The panel.
            field: Shape (Y, X); where it is NaN the panel stays white.
            like: Its least and greatest finite values are the ends of the colours.
            title: Above the map.
        """
        low, high = finite_range(like)
        image = axes.imshow(
            field.numpy(), extent=self.extent, origin=self.origin, aspect="auto", vmin=low, vmax=high, cmap="viridis"
        )
        axes.set_title(title, fontsize=9)
        axes.set_xlabel("longitude (degrees)", fontsize=8)
        axes.set_ylabel("latitude (degrees)", fontsize=8)
        self.figure.colorbar(image, ax=axes)


def finite_range(field: torch.Tensor) -> tuple[float, float]:
    """Return the least and the greatest finite value; 0 and 1 where there is none."""
    known = field[field.isfinite()]
    return (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)


def with_unit(name: str, units: Mapping[str, str]) -> str:
    """Return a variable's name with its unit in brackets, where that is known and not 1."""
    unit = units.get(name, "1")
    return name if unit == "1" else f"{name} ({unit})"
