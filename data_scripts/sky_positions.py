"""Stars of several tables that stand at one place in the sky."""

import numpy as np


__all__ = ["SAME_STAR_ARCSEC", "sky_groups"]

# A pixel of Kepler; those of TESS have 21 arcsec. Catalogues place a star within an arcsecond, and proper motion adds
# to that; two stars nearer than this share their light, so that a split must not part them anyway.
SAME_STAR_ARCSEC = 4.0


def sky_groups(
    right_ascension_deg: np.ndarray, declination_deg: np.ndarray, radius_arcsec: float = SAME_STAR_ARCSEC
) -> list[str | None]:
    """Group positions that are linked by steps of at most a radius.

    Args:
        right_ascension_deg: Right ascensions, shape (N,), degrees.
        declination_deg: Declinations, shape (N,), degrees.
        radius_arcsec: Longest step, arcsec.

    Returns:
        For each of the N positions the least one of its group as text, `ra dec` in degrees; None where a coordinate
        is no number or the declination is beyond a pole. The grouping does not depend on the order of positions.
    """
    ra = np.asarray(right_ascension_deg, dtype=np.float64)
    dec = np.asarray(declination_deg, dtype=np.float64)
    usable = np.isfinite(ra) & (np.abs(dec) <= 90)
    places, inverse = np.unique(np.stack([ra[usable] % 360, dec[usable]], axis=1), axis=0, return_inverse=True)
    texts = [f"{ra_deg:.7f} {dec_deg:+.7f}" for ra_deg, dec_deg in places[_first_of_group(places, radius_arcsec)]]
    groups: list[str | None] = [None] * len(ra)
    for row, place in zip(np.flatnonzero(usable), inverse.reshape(-1), strict=True):
        groups[row] = texts[place]
    return groups


def _first_of_group(places: np.ndarray, radius_arcsec: float) -> np.ndarray:
    """Return for each of N sorted places, shape (N, 2), degrees, the index of the first one of its group."""
    angles = np.radians(places)
    vectors = np.stack(
        [
            np.cos(angles[:, 1]) * np.cos(angles[:, 0]),
            np.cos(angles[:, 1]) * np.sin(angles[:, 0]),
            np.sin(angles[:, 1]),
        ],
        axis=1,
    )
    radius = np.radians(radius_arcsec / 3600)
    # The chord is shorter than the arc, so the order along one axis finds every neighbour.
    order = np.argsort(vectors[:, 2], kind="stable")
    along = vectors[order, 2]
    ends = np.searchsorted(along, along + radius, side="right")
    firsts = np.arange(len(places))

    def first_of(index: int) -> int:
        while firsts[index] != index:
            firsts[index] = firsts[firsts[index]]
            index = firsts[index]
        return index

    for position, end in enumerate(ends):
        here, others = order[position], order[position + 1 : end]
        near = others[np.linalg.norm(vectors[others] - vectors[here], axis=1) <= 2 * np.sin(radius / 2)]
        for other in near:
            one, two = sorted((first_of(here), first_of(other)))
            firsts[two] = one
    return np.array([first_of(index) for index in range(len(places))], dtype=np.int64)
