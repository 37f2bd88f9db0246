"""What is hidden of a state, for a model to fill in: patches of the globe, whole variables, or single values.

Shape suffixes: V variables on levels, S at the surface, T states read, L levels, Y latitudes, X longitudes.
"""

from collections.abc import Mapping, Sequence

import torch


__all__ = ["HIDDEN_KINDS", "hidden_batch", "hidden_masks"]

HIDDEN_KINDS = ("patches", "variables", "values")
"""`patches` hides all variables at all levels of square blocks of cells, `variables` whole variables, and `values`
those of single variables, levels and cells."""

Masks = tuple[torch.Tensor | None, torch.Tensor | None]


def _chosen(number: int, share: float, generator: torch.Generator | None) -> torch.Tensor:
    """Which of several are hidden, bool: as many as the share says, but neither none nor all."""
    count = min(max(round(share * number), 1), number - 1)
    marks = torch.zeros(number, dtype=torch.bool)
    marks[torch.randperm(number, generator=generator)[:count]] = True
    return marks


def hidden_masks(
    kind: str,
    share: float,
    patch_cells: int,
    level_shape: Sequence[int] | None,
    surface_shape: Sequence[int] | None,
    generator: torch.Generator | None = None,
) -> Masks:
    """Return what is hidden of one state, True where it is: shapes (V, L, Y, X) and (S, Y, X), or `None`.

    Args:
        kind: Of `HIDDEN_KINDS`.
        share: How much is hidden, above 0 and below 1; at least one block or variable, and never all.
        patch_cells: Rows and columns of a block.
        level_shape: V, L, Y, X, or `None` where there are no variables on levels.
        surface_shape: S, Y, X, likewise.
        generator: Of the random numbers; `None` is torch's own.

    Raises:
        ValueError: If there is only one block or variable, which cannot be hidden.
    """
    shapes = [None if shape is None else tuple(shape) for shape in (level_shape, surface_shape)]
    rows, columns = next(shape for shape in shapes if shape is not None)[-2:]
    if kind == "values":
        found = [None if shape is None else torch.rand(shape, generator=generator) < share for shape in shapes]
        return found[0], found[1]
    if kind == "patches":
        high, wide = -(-rows // patch_cells), -(-columns // patch_cells)
        if high * wide < 2:
            raise ValueError(
                f"patch_cells must leave more than one patch of {rows} rows and {columns} columns; got {patch_cells}."
            )
        blocks = _chosen(high * wide, share, generator).view(high, wide)
        cells = blocks.repeat_interleave(patch_cells, 0).repeat_interleave(patch_cells, 1)[:rows, :columns]
        found = [None if shape is None else cells.expand(shape) for shape in shapes]
        return found[0], found[1]
    numbers = [0 if shape is None else shape[0] for shape in shapes]
    if sum(numbers) < 2:
        raise ValueError("variables must be at least 2 for a whole one to be hidden; got 1.")
    marks = _chosen(sum(numbers), share, generator).split(numbers)
    found = [
        None if shape is None else each.view(-1, *(1,) * (len(shape) - 1)).expand(shape)
        for each, shape in zip(marks, shapes, strict=True)
    ]
    return found[0], found[1]


def hidden_batch(
    batch: dict[str, torch.Tensor],
    shares: Mapping[str, float],
    patch_cells: int,
    generator: torch.Generator | None = None,
) -> dict[str, torch.Tensor]:
    """Return the arguments of `AstroDatacubeForMaskedReconstruction.forward`: labels, and what is left to read.

    Args:
        batch: With `level_fields`, shape (B, V, T, L, Y, X), `surface_fields`, (B, S, T, Y, X), or both. Of a row the
            same is hidden in all T states; labels are those of the last.
        shares: How much each kind of `HIDDEN_KINDS` hides; of those above 0, one is drawn for each row, evenly.
        patch_cells: See `hidden_masks`.
        generator: As there.
    """
    kinds = [kind for kind in HIDDEN_KINDS if shares.get(kind, 0) > 0]
    names = ("level_fields", "surface_fields")
    shapes = [None if name not in batch else (batch[name].shape[1], *batch[name].shape[3:]) for name in names]
    number = len(batch["planet"])
    drawn = torch.randint(len(kinds), (number,), generator=generator).tolist()
    masks = [
        hidden_masks(kinds[place], shares[kinds[place]], patch_cells, shapes[0], shapes[1], generator)
        for place in drawn
    ]
    found = {name: value for name, value in batch.items() if name != "lead_time_s"}
    for place, name in enumerate(names):
        if name in batch:
            fields = batch[name]
            hidden = torch.stack([mask[place] for mask in masks]).to(fields.device)  # type: ignore[misc]
            found[name] = fields.masked_fill(hidden[:, :, None], torch.nan)
            found[name.replace("fields", "labels")] = fields[:, :, -1]
    return found
