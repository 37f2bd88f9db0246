"""Pin a weighted total of a field, and keep it pinned when the field is rounded to the dtype that it is stored in.

Shape suffixes: B batch; all other axes are summed over.
"""

import torch


__all__ = ["per_item", "scale_to_total", "store_dtype", "store_with_total", "total_resolution", "weighted_total"]

# Sums in float64 are known to about here, relative.
_SUM_ROUNDING = 1e-14


def store_dtype(field: torch.Tensor) -> torch.dtype:
    """Return the dtype that a corrected field is stored in: its own, at least float32."""
    return torch.promote_types(field.dtype, torch.float32)


def per_item(values: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Return values of shape (B,) in float64 so that they broadcast with a field of shape (B, ...)."""
    return values.to(like.device, torch.float64).view(-1, *(1,) * (like.ndim - 1))


def weighted_total(field: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Return the sum of weight times field over all axes but the first, in float64, shape (B,).

    Args:
        field: Shape (B, ...).
        weight: float64, broadcasts with it.
    """
    return (field.double() * weight).flatten(1).sum(1)


def _steps(stored: torch.Tensor, towards: torch.Tensor) -> torch.Tensor:
    """Return the distance to the next number of the dtype in a direction, float64."""
    return (torch.nextafter(stored, towards.to(stored.dtype)).double() - stored.double()).abs()


def total_resolution(field: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Return what one value's last digit changes in the total, at most, and twice that: shape (B,), float64.

    A total that is off by no more cannot be set right by stored values: it is as good as pinned.
    """
    with torch.no_grad():
        stored = field.detach().to(store_dtype(field))
        gains = _steps(stored, torch.full_like(stored, torch.inf)) * weight.detach().abs()
        return 2.0 * gains.flatten(1).amax(1) + _SUM_ROUNDING * weighted_total(stored.abs(), weight.abs()).detach()


def store_with_total(
    wide: torch.Tensor, dtype: torch.dtype, weight: torch.Tensor, target: torch.Tensor
) -> torch.Tensor:
    """Round a float64 field so that the total of the rounded values is the target.

    Rounding to nearest leaves the total off by up to half a digit of every value if all err to one side, as they do
    where a correction is smaller than that. So values are then moved on to the next number of the dtype, those first
    that rounding had moved farthest the other way, until the total is off by less than one such step. No value ends
    farther than 1.5 steps from what it was. Values that are 0 stay 0, and no value changes its sign. Gradients are
    those of the field: rounding has none.

    Args:
        wide: Shape (B, ...), float64, finite, with the total `target` up to rounding.
        dtype: To store in; float64 is returned as it is.
        weight: float64, broadcasts with it; values of weight 0 are not moved.
        target: Shape (B,), float64.

    Returns:
        Shape (B, ...), of `dtype`.
    """
    stored = wide.to(dtype)
    if dtype == torch.float64:
        return stored
    with torch.no_grad():
        flat, lost = stored.detach().flatten(1), (wide.detach() - stored.detach().double()).flatten(1)
        weights = weight.detach().expand_as(wide).flatten(1)
        missing = target.detach().to(wide.device) - weighted_total(flat, weights)
        direction = torch.where(weights < 0, -1.0, 1.0) * missing.sign()[:, None]
        step = _steps(flat, direction * torch.inf)
        gain = weights.abs() * step
        rank = torch.where((flat == 0) | (gain == 0), -torch.inf, lost * direction / step)
        order = rank.argsort(1, descending=True)
        sorted_gain = gain.gather(1, order)
        can_move = rank.gather(1, order) > -torch.inf
        reached = torch.where(can_move, sorted_gain, 0.0).cumsum(1)
        is_wanted = (missing.abs() > total_resolution(flat, weights))[:, None]
        moves = torch.zeros_like(can_move).scatter(
            1, order, can_move & (reached <= missing.abs()[:, None]) & is_wanted
        )
        moved = torch.where(moves, torch.nextafter(flat, (direction * torch.inf).to(dtype)), flat).view_as(stored)
    return stored + (moved - stored.detach()) if stored.requires_grad else moved


def scale_to_total(
    field: torch.Tensor, weight: torch.Tensor, target: torch.Tensor, *, exact_store: bool = True
) -> torch.Tensor:
    """Multiply a field that is 0 or more so that its weighted total is the target.

    A factor keeps zeros, signs, and the gradients of the logarithm. An item whose total is as good as pinned, see
    `total_resolution`, is returned bit for bit. An item whose total is 0 gets the same value everywhere.

    Args:
        field: Shape (B, ...), any dtype; finite where the weight is not 0.
        weight: float64, broadcasts with it, 0 or more.
        target: Shape (B,), float64; below 0 it counts as 0, which leaves a residual.
        exact_store: Whether rounding is made up for, see `store_with_total`; worth leaving out in training.

    Returns:
        Shape (B, ...), of at least float32.
    """
    dtype = store_dtype(field)
    total = weighted_total(field, weight)
    wanted = target.to(field.device).clamp(min=0.0)
    is_pinned = per_item((wanted - total).abs().detach() <= total_resolution(field, weight), field).bool()
    is_empty = total <= 0
    even = wanted / weight.expand(field.shape).flatten(1).sum(1)
    factor = wanted / torch.where(is_empty, 1.0, total)
    is_even = per_item(is_empty, field).bool() & (weight > 0)
    wide = torch.where(is_even, per_item(even, field), field.double() * per_item(factor, field))
    stored = store_with_total(wide, dtype, weight, wanted) if exact_store else wide.to(dtype)
    return torch.where(is_pinned, field.to(dtype), stored)
