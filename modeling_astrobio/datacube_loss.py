"""Errors and means of climate fields, weighted by area.

Shape suffixes: B batch, V variables, L levels, S variables at the surface, Y latitudes, X longitudes.
"""

import torch


__all__ = ["area_weighted_squared_error", "known_mean", "mean_of_known"]


def area_weighted_squared_error(
    predicted: torch.Tensor, label: torch.Tensor, scale: torch.Tensor, cell_weights: torch.Tensor
) -> torch.Tensor:
    """Return the mean of ((predicted - label) / scale)^2 over area, of each variable, shape (B, V) or (B, V, L).

    Args:
        predicted: Shape (B, V, Y, X) or (B, V, L, Y, X).
        label: As `predicted`, NaN where there is none.
        scale: Broadcasts with the axes before (Y, X).
        cell_weights: Shape (Y, X).

    Returns:
        float32 or wider; 0 where a field has no label at all.
    """
    known = label.isfinite()
    weights = cell_weights.to(predicted.device, torch.float32) * known
    error = torch.where(known, (predicted - label) / scale[..., None, None], 0.0)
    total = weights.sum((-2, -1))
    return (weights * error.square()).sum((-2, -1)) / torch.where(total > 0, total, 1.0)


def known_mean(fields: torch.Tensor, cell_weights: torch.Tensor) -> torch.Tensor:
    """Return the mean over area of what is known of each field, in every cell of it; NaN where nothing is.

    Args:
        fields: Shape (..., Y, X), NaN where a value is missing.
        cell_weights: Shape (Y, X).
    """
    known = fields.isfinite()
    weights = cell_weights.to(fields.device, torch.float64) * known
    mean = (weights * fields.nan_to_num()).sum((-2, -1), keepdim=True) / weights.sum((-2, -1), keepdim=True)
    return mean.to(fields.dtype).expand(fields.shape)


def mean_of_known(errors: list[torch.Tensor], labels: list[torch.Tensor]) -> torch.Tensor:
    """Return the mean of errors of variables and levels that have any label, a scalar.

    Args:
        errors: Each of shape (B, V) or (B, V, L).
        labels: Of each, with two more axes.
    """
    total = sum(error.sum() for error in errors)
    number = sum(label.isfinite().flatten(-2).any(-1).sum() for label in labels)
    return total / torch.clamp(torch.as_tensor(number), min=1)
