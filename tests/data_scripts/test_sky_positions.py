"""Positions that belong together are found, across the poles and the zero of right ascension too."""

import numpy as np
import pytest

from data_scripts.sky_positions import sky_groups


def naive_groups(ra, dec, radius_arcsec):
    """Group by comparing every pair until nothing changes."""
    groups = list(range(len(ra)))
    vectors = np.stack(
        [
            np.cos(np.radians(dec)) * np.cos(np.radians(ra)),
            np.cos(np.radians(dec)) * np.sin(np.radians(ra)),
            np.sin(np.radians(dec)),
        ],
        axis=1,
    )
    cosine = np.clip(vectors @ vectors.T, -1, 1)
    chord = np.sqrt(np.maximum(0, 2 - 2 * cosine))
    near = chord <= 2 * np.sin(np.radians(radius_arcsec / 3600) / 2)
    for one, other in np.argwhere(near):
        old, new = groups[other], groups[one]
        groups = [new if group == old else group for group in groups]
    return groups


@pytest.mark.parametrize("seed", range(3))
def test_groups_are_those_of_the_naive_search(seed):
    rng = np.random.default_rng(seed)
    # A crowded patch, of which some lie across right ascension 0, and stars about a pole.
    ra = np.concatenate([rng.uniform(-0.03, 0.03, 97) % 360, rng.uniform(0, 360, 41)])
    dec = np.concatenate([rng.uniform(-0.03, 0.03, 97), 90 - rng.uniform(0, 0.02, 41)])
    found, expected = sky_groups(ra, dec, 20.0), naive_groups(ra, dec, 20.0)
    assert 20 < len(set(expected)) < 120
    pairs = {(one, other) for one, other in zip(found, expected, strict=True)}
    assert len(pairs) == len(set(found)) == len(set(expected))


def test_order_does_not_matter():
    rng = np.random.default_rng(7)
    ra, dec = rng.uniform(10, 10.02, 53), rng.uniform(-0.01, 0.01, 53)
    groups = sky_groups(ra, dec)
    order = rng.permutation(53)
    assert sky_groups(ra[order], dec[order]) == [groups[row] for row in order]


def test_stars_a_pixel_apart_are_one_and_farther_ones_are_not():
    arcsec = 1 / 3600
    groups = sky_groups(np.array([290.0, 290.0, 290.0]), np.array([44.0, 44.0 + 3.9 * arcsec, 44.0 + 8.1 * arcsec]))
    assert groups[0] == groups[1] == "290.0000000 +44.0000000"
    assert groups[2] != groups[1]


def test_unusable_positions_have_no_group():
    groups = sky_groups(np.array([np.nan, np.inf, 10.0, 10.0]), np.array([1.0, 1.0, 90.5, np.nan]))
    assert groups == [None] * 4
    assert sky_groups(np.empty(0), np.empty(0)) == []
