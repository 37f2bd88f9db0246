"""What is hidden of a state, and how cells are filled from those about."""

import pytest
import torch

from modeling_astrobio.sphere_grid import sphere_grid
from modeling_astrobio.training.hidden_values import hidden_batch, hidden_masks
from modeling_astrobio.training.sphere_filling import filled_linearly, filled_with_nearest


LEVEL, SURFACE = (2, 3, 7, 13), (3, 7, 13)
GRID = sphere_grid(torch.linspace(81.0, -81.0, 10), torch.arange(12) * 30.0)


def masks(kind, share, seed=0):
    return hidden_masks(kind, share, 3, LEVEL, SURFACE, torch.Generator().manual_seed(seed))


def test_patches_hide_the_same_blocks_of_all_variables():
    level, surface = masks("patches", 0.4)
    assert (level.shape, surface.shape) == (LEVEL, SURFACE)
    cells = surface[0]
    assert (level == cells).all()
    assert (surface == cells).all()
    # 3 x 5 blocks of 3 x 3 cells, the last ones cut off.
    blocks = cells[::3, ::3]
    assert blocks.sum() == 6
    assert torch.equal(blocks.repeat_interleave(3, 0).repeat_interleave(3, 1)[:7, :13], cells)


@pytest.mark.parametrize(("share", "expected"), [(0.01, 1), (0.4, 2), (0.99, 4)])
def test_variables_hide_whole_ones_but_never_none_or_all(share, expected):
    level, surface = masks("variables", share)
    of_variables = torch.cat((level.flatten(1), surface.flatten(1).repeat(1, 3)))
    assert torch.equal(of_variables.any(1), of_variables.all(1))
    assert of_variables.all(1).sum() == expected


def test_values_are_hidden_one_by_one():
    level, surface = masks("values", 0.3)
    assert level.float().mean() == pytest.approx(0.3, abs=0.05)
    assert not torch.equal(level[0], level[1])
    assert not torch.equal(level[:, 0], level[:, 1])
    assert not torch.equal(surface[0], surface[1])


def test_what_cannot_be_hidden_is_refused():
    with pytest.raises(
        ValueError, match="patch_cells must leave more than one patch of 7 rows and 13 columns; got 13"
    ):
        hidden_masks("patches", 0.5, 13, LEVEL, None)
    with pytest.raises(ValueError, match="variables must be at least 2 for a whole one to be hidden; got 1"):
        hidden_masks("variables", 0.5, 3, None, (1, 7, 13))


def test_a_batch_keeps_its_labels_and_hides_the_same_in_all_states():
    batch = {
        "level_fields": torch.rand(4, 2, 3, 5, 7, 13),
        "surface_fields": torch.rand(4, 3, 3, 7, 13),
        "planet": torch.rand(4, 2),
        "lead_time_s": torch.rand(4),
    }
    torch.manual_seed(0)
    found = hidden_batch(batch, {"patches": 0.5, "values": 0.5}, 3)
    assert "lead_time_s" not in found
    for name in ("level", "surface"):
        fields = batch[f"{name}_fields"]
        assert torch.equal(found[f"{name}_labels"], fields[:, :, -1])
        left = found[f"{name}_fields"].isfinite()
        assert torch.equal(found[f"{name}_fields"][left], fields[left])
        assert (left == left[:, :, :1]).all()
        assert not left.flatten(1).all(1).any()
    # Of four rows both kinds are drawn with this seed: patches hide all variables alike.
    alike = [bool((row.isfinite() == row[:1].isfinite()).all()) for row in found["surface_fields"]]
    assert sorted(set(alike)) == [False, True]


def test_the_nearest_cell_is_that_along_a_great_circle():
    field = torch.full((1, 10, 12), torch.nan)
    # Across the north pole it is nearer than along the row.
    field[0, 0, 6], field[0, 3, 0] = 1.0, 2.0
    filled = filled_with_nearest(field, GRID)
    assert filled[0, 0, 0] == 1.0
    assert filled[0, 2, 0] == 2.0
    assert filled.isfinite().all()
    assert filled_with_nearest(torch.full((1, 10, 12), torch.nan), GRID).isnan().all()


def test_linear_filling_is_exact_of_what_is_linear_along_rows_or_columns():
    rows = GRID.latitude_deg.float()[:, None].expand(10, 12)
    field = rows.clone()
    field[3:5] = torch.nan
    torch.testing.assert_close(filled_linearly(field[None], GRID)[0], rows)
    # Round the circle, with one row known only at two places: a third of the way from 4 to 1, past the last column.
    ring = torch.full((1, 10, 12), torch.nan)
    ring[0, 5, 10], ring[0, 5, 1] = 4.0, 1.0
    filled = filled_linearly(ring, GRID)[0, 5]
    torch.testing.assert_close(filled[[10, 11, 0, 1]], torch.tensor([4.0, 3.0, 2.0, 1.0]))


def test_what_is_known_stays_and_a_cell_without_neighbours_on_its_lines_has_the_nearest():
    field = torch.full((1, 10, 12), torch.nan)
    field[0, 2, 3], field[0, 7, 8] = 5.0, 7.0
    filled = filled_linearly(field, GRID)
    assert (filled[0, 2, 3], filled[0, 7, 8]) == (5.0, 7.0)
    assert filled[0, 1, 2] == 5.0
    assert filled[0, 8, 9] == 7.0
