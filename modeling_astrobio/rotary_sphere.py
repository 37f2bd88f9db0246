"""Rotary positions on a latitude-longitude grid (after Su et al. 2021, arXiv:2104.09864).

A pair of numbers of a query or key is turned by a multiple of its latitude or longitude. Multiples of the longitude
are whole, so that a turn round the globe changes nothing: attention depends on differences of longitude on the circle,
and a rolled field gives rolled attention.

Shape suffixes: N places, T tokens, H heads, D width of a head.
"""

from typing import NamedTuple

import torch


__all__ = ["SphereRotations", "sphere_rotations"]


class SphereRotations(NamedTuple):
    """Cosine and sine of what each pair of each place is turned by, each of shape (N, D / 2), float64 when made."""

    cosine: torch.Tensor
    sine: torch.Tensor

    def turn(self, states: torch.Tensor) -> torch.Tensor:
        """Return queries or keys, shape (B, H, T, D), turned; T is a multiple of N, the places one after another."""
        repeats = states.shape[2] // len(self.cosine)
        cosine, sine = (part.repeat(repeats, 1).to(states.dtype) for part in self)
        first, second = states.chunk(2, dim=-1)
        return torch.cat((first * cosine - second * sine, second * cosine + first * sine), dim=-1)


def sphere_rotations(
    latitude_rad: torch.Tensor, longitude_rad: torch.Tensor, head_dim: int, num_columns: int
) -> SphereRotations:
    """Return the rotations of places, row by row.

    The slowest pair turns once round the globe, the fastest by half a turn from a column to the next.

    Args:
        latitude_rad: Of the rows, shape (Y,), float64.
        longitude_rad: Of the columns, shape (X,), float64.
        head_dim: A multiple of 4: half the pairs are turned by longitude, half by latitude.
        num_columns: Of the whole ring, of which the places may be a part.
    """
    pairs = head_dim // 4
    steps = torch.arange(pairs, dtype=torch.float64, device=latitude_rad.device) / max(pairs - 1, 1)
    multiples = float(max(num_columns // 2, 1)) ** steps
    by_longitude = (longitude_rad[:, None] * multiples.round()).expand(len(latitude_rad), -1, -1)
    by_latitude = (latitude_rad[:, None] * multiples)[:, None].expand(-1, len(longitude_rad), -1)
    angles = torch.cat((by_longitude, by_latitude), dim=-1).flatten(0, 1)
    return SphereRotations(angles.cos(), angles.sin())
