"""Weights are areas, means are integrals, and padding continues what is smooth on the sphere."""

import itertools
import math

import numpy as np
import pytest
import torch

from modeling_astrobio.sphere_grid import area_mean, pad_sphere, sphere_grid


def longitudes(columns, first=0.0):
    return first + torch.arange(columns, dtype=torch.float64) * 360.0 / columns


def latitudes(kind, rows):
    if kind == "gaussian":
        return torch.rad2deg(torch.arcsin(torch.from_numpy(np.polynomial.legendre.leggauss(rows)[0].copy())))
    if kind == "poles":
        return torch.linspace(-90, 90, rows, dtype=torch.float64)
    half = 90.0 / rows
    return torch.linspace(-90 + half, 90 - half, rows, dtype=torch.float64)


KINDS = ("gaussian", "poles", "centres")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rows", [2, 7, 32, 37])
@pytest.mark.parametrize("falls", [False, True])
def test_weights_sum_to_one_and_turn_round_with_the_rows(kind, rows, falls):
    latitude = latitudes(kind, rows)
    one = sphere_grid(latitude.flip(0) if falls else latitude, longitudes(13))
    assert one.cell_weights.dtype == torch.float64
    assert one.cell_weights.shape == (rows, 13)
    assert one.cell_weights.sum().item() == pytest.approx(1.0, abs=1e-14)
    assert one.cell_weights.min() > 0
    assert (one.has_first_pole, one.has_last_pole) == (kind == "poles",) * 2
    other = sphere_grid(latitude if falls else latitude.flip(0), longitudes(13, -180.0))
    torch.testing.assert_close(one.cell_weights, other.cell_weights.flip(0), rtol=1e-13, atol=0)


def test_rows_have_the_areas_between_their_bounds():
    # Bounds of seven rows with poles: +-75, +-45, +-15 degrees; the outer rows are caps of 15 degrees.
    grid = sphere_grid(latitudes("poles", 7), longitudes(4))
    assert grid.kind == "bounds"
    sines = [math.sin(math.radians(edge)) for edge in (-90, -75, -45, -15, 15, 45, 75, 90)]
    areas = torch.tensor([(high - low) / 2 for low, high in itertools.pairwise(sines)])
    torch.testing.assert_close(grid.row_weights, areas.double(), rtol=1e-6, atol=0)
    cap = (1 - math.cos(math.radians(15.0))) / 2
    assert grid.row_weights[0].item() == pytest.approx(cap, rel=1e-13)
    # As float32 sums up steps of 0.7 degrees.
    rounded = sphere_grid(torch.tensor([-90.00001, -45.0, 0.0, 45.0, 89.99998]), longitudes(4))
    assert (rounded.has_first_pole, rounded.has_last_pole) == (True, True)
    # One row on one pole only.
    half = sphere_grid(torch.tensor([-90.0, -30.0, 30.0]), longitudes(4))
    assert (half.has_first_pole, half.has_last_pole) == (True, False)
    assert half.row_weights.tolist() == pytest.approx([(1 - math.sin(math.pi / 3)) / 2, math.sqrt(3) / 4, 0.5])


def test_gaussian_weights_integrate_polynomials_of_the_sine_exactly():
    rows = 11
    latitude = latitudes("gaussian", rows)
    grid = sphere_grid(latitude.float(), longitudes(3))
    assert grid.kind == "gaussian"
    sine = torch.sin(torch.deg2rad(latitude))[:, None].expand(-1, 3)
    for power in range(2 * rows):
        exact = 0.0 if power % 2 else 1 / (power + 1)
        assert area_mean(sine**power, grid.cell_weights).item() == pytest.approx(exact, abs=1e-14)
    # Two thousandths of a degree off, the rows are not Gauss's.
    assert sphere_grid(latitude + 0.002, longitudes(3)).kind == "bounds"
    # Rows of T21 as a model writes them.
    assert sphere_grid(latitudes("gaussian", 32).float().flip(0), longitudes(64)).kind == "gaussian"


def test_means_are_of_float64_whatever_the_dtype():
    grid = sphere_grid(latitudes("centres", 37), longitudes(64))
    field = torch.full((2, 3, 37, 64), 101325.0, dtype=torch.float32)
    mean = area_mean(field, grid.cell_weights)
    assert mean.shape == (2, 3)
    assert mean.dtype == torch.float64
    torch.testing.assert_close(mean, torch.full((2, 3), 101325.0, dtype=torch.float64), rtol=1e-14, atol=0)
    noise = torch.randn(5, 37, 64, generator=torch.Generator().manual_seed(0))
    written_out = sum(
        noise[:, row, column].double() * grid.cell_weights[row, column] for row in range(37) for column in range(64)
    )
    torch.testing.assert_close(area_mean(noise, grid.cell_weights), written_out, rtol=0, atol=1e-15)


# A scalar that is smooth on the sphere, and the wind of a rotation about a tilted axis, in metres and seconds of a
# sphere of radius 1: u = w . north-like parts, by the cross product of axis and place.
AXIS = torch.tensor([0.6, -0.5, 0.62], dtype=torch.float64)


def on_sphere(latitude_deg, longitude_deg):
    """Scalar, eastward and northward wind at every (latitude, longitude); latitudes within +-90."""
    phi, lam = torch.deg2rad(latitude_deg)[:, None], torch.deg2rad(longitude_deg)[None, :]
    x, y, z = phi.cos() * lam.cos(), phi.cos() * lam.sin(), phi.sin() + 0 * lam
    scalar = torch.exp(0.7 * x - 0.4 * y + 0.9 * z) + x * y * z
    wind = torch.linalg.cross(AXIS.expand(*x.shape, 3), torch.stack([x, y, z], -1))
    zero = torch.zeros_like(x)
    east = torch.stack([-lam.sin() + zero, lam.cos() + zero, zero], -1)
    north = torch.stack([-phi.sin() * lam.cos(), -phi.sin() * lam.sin(), phi.cos() + zero], -1)
    return torch.stack([scalar, (wind * east).sum(-1), (wind * north).sum(-1)])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("falls", [False, True])
@pytest.mark.parametrize("first", [0.0, -180.0])
def test_padding_has_the_analytic_values_beyond_the_pole(kind, falls, first):
    rows, columns, beyond, beside = 9, 14, 4, 3
    latitude = latitudes(kind, rows)
    latitude = latitude.flip(0) if falls else latitude
    longitude = longitudes(columns, first)
    grid = sphere_grid(latitude, longitude)
    padded = pad_sphere(
        on_sphere(latitude, longitude), grid, beyond, beside, is_vector=torch.tensor([False, True, True])
    )
    assert padded.shape == (3, rows + 2 * beyond, columns + 2 * beside)
    # The meridian goes on: past the pole the latitude is 180 - latitude, which is a place with its own east.
    first_row, last_row = int(grid.has_first_pole), rows - int(grid.has_last_pole)
    north, south = 180.0 - latitude, -180.0 - latitude
    ends = (north, south) if falls else (south, north)
    before = ends[0][first_row : first_row + beyond].flip(0)
    after = ends[1][last_row - beyond : last_row].flip(0)
    along = torch.cat([before, latitude, after])
    assert ((along.diff() > 0).all() or (along.diff() < 0).all()).item()
    around = longitude[0] + torch.arange(-beside, columns + beside, dtype=torch.float64) * 360.0 / columns
    # Latitudes beyond 90 in these formulas go over the pole, east and north with them.
    torch.testing.assert_close(padded, on_sphere(along, around), rtol=0, atol=1e-13)


def test_winds_without_their_sign_do_not_continue():
    latitude, longitude = latitudes("centres", 9), longitudes(14)
    grid, wind = sphere_grid(latitude, longitude), on_sphere(latitudes("centres", 9), longitudes(14))[1:]
    right, wrong = (pad_sphere(wind, grid, 1, 0, is_vector=sign)[:, 0] for sign in (True, False))
    torch.testing.assert_close(right, -wrong, rtol=0, atol=0)
    assert (right - wind[:, 0]).abs().max() < 0.5 * (wrong - wind[:, 0]).abs().max()


def test_gradients_of_padding():
    grid = sphere_grid(latitudes("poles", 5), longitudes(6))
    field = torch.randn(2, 5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    signs = torch.tensor([True, False])
    assert torch.autograd.gradcheck(lambda x: pad_sphere(x, grid, 3, 2, is_vector=signs), field)
    # Rows on a pole are there once.
    (gradient,) = torch.autograd.grad(pad_sphere(field, grid, 4, 0).sum(), field)
    assert gradient[:, 0].unique().tolist() == [2.0]
    assert gradient[:, 2].unique().tolist() == [3.0]


def test_padding_nothing_is_the_field_and_odd_circles_go_round_without_poles():
    grid = sphere_grid(latitudes("centres", 7), longitudes(13))
    field = torch.arange(7 * 13.0).view(1, 7, 13).to(torch.bfloat16)
    assert pad_sphere(field, grid, 0, 0) is field
    padded = pad_sphere(field, grid, 0, 13)
    assert padded.dtype == torch.bfloat16
    assert torch.equal(padded, field.repeat(1, 1, 3))


@pytest.mark.parametrize(
    ("rows", "columns", "width", "said"),
    [
        (1, 0, 13, "longitude must have an even number.*got 13. Regrid the longitude axis"),
        (8, 0, 14, "rows must be from 0 to 7"),
        (0, 15, 14, "columns from 0 to 14"),
    ],
)
def test_padding_that_cannot_be_is_refused(rows, columns, width, said):
    grid = sphere_grid(latitudes("centres", 7), longitudes(width))
    with pytest.raises(ValueError, match=said):
        pad_sphere(torch.zeros(7, width), grid, rows, columns)


def test_a_row_on_the_pole_leaves_one_row_less_to_add():
    with pytest.raises(ValueError, match="rows must be from 0 to 6"):
        pad_sphere(torch.zeros(7, 14), sphere_grid(latitudes("poles", 7), longitudes(14)), 7, 0)


def test_swapped_axes_are_refused():
    grid = sphere_grid(latitudes("centres", 7), longitudes(14))
    for function in (lambda x: area_mean(x, grid.cell_weights), lambda x: pad_sphere(x, grid, 1, 1)):
        with pytest.raises(ValueError, match=r"last axes \(latitude, longitude\).*Transpose it"):
            function(torch.zeros(14, 7))


@pytest.mark.parametrize(
    ("latitude", "longitude", "said"),
    [
        (torch.tensor([0.0, 40.0, 20.0]), longitudes(4), "latitude_deg must rise or fall.*Sort the latitude axis"),
        (torch.tensor([0.0, 100.0]), longitudes(4), "latitude_deg must rise or fall within -90 to 90"),
        (latitudes("poles", 5), longitudes(4).flip(0), "longitude_deg must rise in even steps"),
        (latitudes("poles", 5), torch.linspace(0, 360, 5), "without a meridian.*drop a repeated meridian"),
        (latitudes("poles", 5), torch.linspace(10, 40, 5), "regrid a region to the globe"),
        (torch.tensor([float("nan"), 1.0]), longitudes(4), "latitude_deg must be finite.*NaN"),
        (torch.zeros(3, 3), longitudes(4), r"latitude_deg must be finite numbers of shape \(n,\)"),
    ],
)
def test_axes_that_are_no_globe_are_refused(latitude, longitude, said):
    with pytest.raises(ValueError, match=said):
        sphere_grid(latitude, longitude)
