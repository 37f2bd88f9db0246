"""Windows on a latitude-longitude feature grid: circular in longitude, going on across the poles, with no masks.

A window that begins before the first row holds rows of the opposite meridians, as the sphere does there: they are read
as keys and values, and what is computed for them is thrown away.

Shape suffixes: B batch, C levels, Y rows, X columns, D width, W windows, R rows and Q columns of a window.
"""

from typing import NamedTuple

import torch


__all__ = ["SphereWindows", "continue_around", "continue_rows", "sphere_windows"]


class SphereWindows(NamedTuple):
    """How a grid is cut, made by `sphere_windows`.

    Attributes:
        rows: Of a window.
        columns: Of a window; they divide the grid's.
        rows_before: Rows continued before the first.
        rows_after: Rows continued after the last.
        shift: Columns that the grid is turned by.
    """

    rows: int
    columns: int
    rows_before: int
    rows_after: int
    shift: int

    def split(self, states: torch.Tensor) -> torch.Tensor:
        """Return the tokens of each window, shape (B * C * W, R * Q, D), of states (B, C, Y, X, D)."""
        if self.shift:
            states = states.roll(-self.shift, dims=3)
        states = continue_rows(states, self.rows_before, self.rows_after)
        batch, levels, height, width, size = states.shape
        cut = states.view(
            batch * levels, height // self.rows, self.rows, width // self.columns, self.columns, size
        ).transpose(2, 3)
        return cut.reshape(-1, self.rows * self.columns, size)

    def merge(self, windows: torch.Tensor, shape: torch.Size) -> torch.Tensor:
        """Return the states of shape (B, C, Y, X, D) whose windows these are; continued rows are left out."""
        batch, levels, height, width, size = shape
        padded = height + self.rows_before + self.rows_after
        cut = windows.view(
            batch * levels, padded // self.rows, width // self.columns, self.rows, self.columns, size
        ).transpose(2, 3)
        states = cut.reshape(batch, levels, padded, width, size)
        states = states[:, :, self.rows_before : self.rows_before + height]
        return states.roll(self.shift, dims=3) if self.shift else states


def continue_rows(states: torch.Tensor, before: int, after: int) -> torch.Tensor:
    """Continue a feature grid across the poles, shape (B, C, Y + before + after, X, D).

    Features have no sign that turns with the directions, unlike winds in `sphere_grid.pad_sphere`.

    Args:
        states: Shape (B, C, Y, X, D), rows between the poles.
        before: Rows to add before the first, at most Y.
        after: Rows to add after the last, at most Y.
    """
    if not before and not after:
        return states
    half, last = states.shape[3] // 2, states.shape[2] - after
    north, south = (rows.flip(2).roll(half, dims=3) for rows in (states[:, :, :before], states[:, :, last:]))
    return torch.cat((north, states, south), dim=2)


def continue_around(states: torch.Tensor, reach: int) -> torch.Tensor:
    """Continue a feature grid by `reach` rows across the poles and as many columns round the globe, on all sides."""
    padded, width = continue_rows(states, reach, reach), states.shape[3]
    return torch.cat((padded[:, :, :, width - reach :], padded, padded[:, :, :, :reach]), dim=3)


def _columns(width: int, most: int) -> int:
    """Return the largest divisor of the width that is at most `most`; if there is none but 1, the whole ring."""
    fitting = max(each for each in range(1, min(most, width) + 1) if width % each == 0)
    return width if fitting == 1 else fitting


def sphere_windows(height: int, width: int, most: tuple[int, int], is_shifted: bool) -> SphereWindows:
    """Cut a grid into windows.

    Args:
        height: Rows of the grid.
        width: Columns of the grid.
        most: Rows and columns of a window, at most.
        is_shifted: Whether windows begin half a window further on, so that they join what others part.
    """
    rows, columns = min(most[0], height), _columns(width, most[1])
    before = rows // 2 if is_shifted and rows < height else 0
    return SphereWindows(
        rows=rows,
        columns=columns,
        rows_before=before,
        rows_after=-(height + before) % rows,
        shift=columns // 2 if is_shifted and columns < width else 0,
    )
