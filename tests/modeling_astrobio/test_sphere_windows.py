"""Windows on the sphere against indices written out, and rotations against their definition."""

import itertools
import math

import pytest
import torch

from modeling_astrobio.rotary_sphere import sphere_rotations
from modeling_astrobio.sphere_grid import pad_sphere, sphere_grid
from modeling_astrobio.sphere_windows import continue_rows, sphere_windows


def naive_windows(states, windows):
    """Place by place: which row and column each token of each window comes from."""
    batch, levels, height, width, _ = states.shape
    total = height + windows.rows_before + windows.rows_after
    found = []
    for item, level, top, left in itertools.product(
        range(batch), range(levels), range(0, total, windows.rows), range(0, width, windows.columns)
    ):
        tokens = []
        for row, column in itertools.product(range(windows.rows), range(windows.columns)):
            y, x = top + row - windows.rows_before, (left + column + windows.shift) % width
            if y < 0:
                y, x = -1 - y, (x + width // 2) % width
            elif y >= height:
                y, x = 2 * height - 1 - y, (x + width // 2) % width
            tokens.append(states[item, level, y, x])
        found.append(torch.stack(tokens))
    return torch.stack(found)


@pytest.mark.parametrize("is_shifted", [False, True])
@pytest.mark.parametrize("shape", [(2, 3, 8, 12, 5), (1, 2, 7, 10, 3), (1, 1, 3, 22, 2), (2, 1, 1, 2, 4)])
def test_windows_are_those_written_out_and_merge_back(shape, is_shifted):
    states = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    windows = sphere_windows(*shape[2:4], (4, 6), is_shifted)
    cut = windows.split(states)
    assert torch.equal(cut, naive_windows(states, windows))
    assert torch.equal(windows.merge(cut, states.shape), states)
    assert is_shifted is False or shape[2] <= 4 or windows.rows_before == 2


def test_columns_of_a_window_divide_the_ring():
    for width in range(1, 60):
        windows = sphere_windows(9, width, (4, 8), is_shifted=True)
        assert width % windows.columns == 0
        assert windows.columns <= 8 or windows.columns == width
    assert sphere_windows(9, 31, (4, 8), is_shifted=True).shift == 0


def test_rows_continue_as_scalars_of_pad_sphere():
    grid = sphere_grid(torch.linspace(75, -75, 6), torch.arange(8) * 45.0)
    states = torch.randn(2, 3, 6, 8, 4)
    expected = pad_sphere(states.movedim(-1, 2), grid, rows=3, columns=0).movedim(2, -1)
    assert torch.equal(continue_rows(states, 3, 3), expected)
    assert torch.equal(continue_rows(states, 1, 0), expected[:, :, 2:9])


def test_scores_depend_on_differences_of_longitude_on_the_circle():
    columns, head_dim = 10, 16
    meridians = torch.arange(columns, dtype=torch.float64) * (2 * math.pi / columns)
    rotations = sphere_rotations(torch.zeros(1, dtype=torch.float64), meridians, head_dim, columns)
    query, key = torch.randn(2, head_dim, generator=torch.Generator().manual_seed(0))
    turned_query, turned_key = (rotations.turn(each.expand(1, 1, columns, -1))[0, 0] for each in (query, key))
    scores = turned_query @ turned_key.T
    for shift in range(columns):
        torch.testing.assert_close(scores.roll((shift, shift), (0, 1)), scores, rtol=0, atol=1e-5)
    # Neighbours and antipodes are told apart.
    assert scores[0].unique().numel() == columns
    torch.testing.assert_close(scores[0, 0], query @ key, rtol=0, atol=1e-5)


def test_a_window_turns_as_a_part_of_the_grid():
    latitude = torch.linspace(1.2, -1.2, 6, dtype=torch.float64)
    longitude = torch.arange(12, dtype=torch.float64) * (2 * math.pi / 12)
    whole = sphere_rotations(latitude, longitude, 12, 12)
    spacing = latitude[1] - latitude[0]
    part = sphere_rotations(torch.arange(2, dtype=torch.float64) * spacing, longitude[:4], 12, 12)
    states = torch.randn(1, 1, 6, 12, 12)
    query, key = states, states.flip(-1)
    cut = (slice(None), slice(None), slice(2, 4), slice(4, 8))
    in_grid = [whole.turn(each.flatten(2, 3)).view(1, 1, 6, 12, 12)[cut].flatten(2, 3) for each in (query, key)]
    in_window = [part.turn(each[cut].flatten(2, 3)) for each in (query, key)]
    scores = [query @ key.mT for query, key in (in_grid, in_window)]
    torch.testing.assert_close(*scores, rtol=0, atol=1e-4)
