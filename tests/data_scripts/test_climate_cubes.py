"""Cubes of model output: units and axes as they are, planets apart, nothing turned round in silence."""

import json
import os
from dataclasses import asdict
from pathlib import Path

import datasets
import numpy as np
import pytest

from data_scripts.harness.errors import BuildError


pytest.importorskip("xarray", reason="the extra climate is not installed")
pytest.importorskip("cf_xarray", reason="the extra climate is not installed")
import xarray as xr

from data_scripts.climate.cube_file import read_cube
from data_scripts.climate.planets import EARTH, Planet, planet_from_exoplasim
from data_scripts.derived.climate_cubes import (
    CLIMATE_CUBES_CARD,
    CLIMATE_CUBES_FEATURES,
    build_climate_cubes,
    global_mean,
)
from data_scripts.harness.hub_folder import write_hub_folder


SAMPLES = Path(os.environ.get("ASTROBIO_CLIMATE_SAMPLES", Path(__file__).parents[3] / "shared" / "climate_samples"))
SETTINGS = {"flux": 900.0, "pN2": 0.9, "pCO2": 0.1, "gravity": 8.0, "rotationperiod": 5.0, "synchronous": True}
SIZES = {"time": 3, "lev": 2, "lat": 5, "lon": 7}


def model_output(settings: dict | None = None, seed: int = 0) -> xr.Dataset:
    rng = np.random.default_rng(seed)

    def field(dims: tuple[str, ...], units: str, standard_name: str) -> tuple:
        values = rng.random([SIZES[dim] for dim in dims]).astype(np.float32)
        return dims, values, {"units": units, "standard_name": standard_name}

    on_levels, flat = ("time", "lev", "lat", "lon"), ("time", "lat", "lon")
    return xr.Dataset(
        {
            "temp": field(on_levels, "K", "air_temperature"),
            "u": field(("lat", "lon", "time", "lev"), "m/s", "eastward_wind"),
            "sp": field(flat, "hPa", "surface_air_pressure"),
            "precip": field(flat, "m s-1", "total_precipitation"),
            "mystery": field(flat, "1", "something_else"),
        },
        coords={
            "time": ("time", [15.0, 45.0, 75.0], {"units": "days", "axis": "T"}),
            "lev": ("lev", [0.2, 0.8], {"units": "nondimensional", "standard_name": "sigma_coordinate"}),
            "lat": ("lat", np.linspace(80, -80, 5), {"units": "degrees_north"}),
            "lon": ("lon", np.arange(7) * 360 / 7, {"units": "degrees_east"}),
        },
        attrs={"settings": json.dumps(settings or SETTINGS), "run_name": "made up"},
    )


def written(data: xr.Dataset, folder: Path, name: str = "run.nc") -> Path:
    folder.mkdir(exist_ok=True)
    data.to_netcdf(folder / name)
    return folder / name


def test_values_are_the_files_own_in_named_units(tmp_path):
    data = model_output()
    cube = read_cube(written(data, tmp_path))
    assert (cube.atmosphere.names, cube.atmosphere.units) == (["ta", "ua"], ["K", "m s-1"])
    assert (cube.surface.names, cube.surface.units) == (["ps", "pr"], ["Pa", "kg m-2 s-1"])
    np.testing.assert_array_equal(cube.atmosphere.values[0], data["temp"].values)
    np.testing.assert_array_equal(cube.atmosphere.values[1], data["u"].transpose("time", "lev", "lat", "lon").values)
    np.testing.assert_allclose(cube.surface.values[0], data["sp"].values * 100.0, rtol=1e-6)
    np.testing.assert_allclose(cube.surface.values[1], data["precip"].values * 1000.0, rtol=1e-6)
    assert cube.left_out == ["mystery"]
    assert [said.partition(":")[0] for said in cube.conversions] == ["ps", "pr"]
    # Latitudes fall in the file, so they fall here.
    np.testing.assert_array_equal(cube.latitude_deg, np.linspace(80, -80, 5))
    assert (cube.level_kind, cube.time.tolist(), cube.time_unit) == ("sigma", [15.0, 45.0, 75.0], "days")


def test_the_planet_is_read_from_the_settings():
    planet = planet_from_exoplasim(SETTINGS, "run.nc")
    assert planet.dry_surface_pressure_pa == pytest.approx(1e5)
    assert planet.co2_partial_pressure_pa == pytest.approx(1e4)
    assert planet.dry_air_molar_mass_g_mol == pytest.approx(0.9 * 28.014 + 0.1 * 44.009)
    assert (planet.gravity_m_s2, planet.rotation_period_days, planet.synchronous) == (8.0, 5.0, True)
    # What a run does not set is ExoPlaSim's default.
    assert planet.obliquity_deg == 23.441
    with pytest.raises(BuildError, match="must give partial pressures such as pN2 and pCO2"):
        planet_from_exoplasim({"flux": 900.0}, "run.nc")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda d: d["temp"].attrs.update(units="kg"),
            "temp of run.nc must be in a unit of the dimension of K; got 'kg'",
        ),
        (lambda d: d["temp"].attrs.update(units="bananas"), "units of temp of run.nc must be units as CF writes them"),
        (lambda d: d["temp"].values.__setitem__((0, 0, 0, 0), np.inf), "temp of run.nc must be finite or missing"),
        (lambda d: d["temp"].attrs.update(units="deg K"), "units of temp of run.nc must have no angle; got 'deg K'"),
        (lambda d: d["lev"].attrs.update(units="km"), "lev of run.nc must be a pressure, or sigma from 0 to 1"),
        (
            lambda d: d["lev"].attrs.update(standard_name="atmosphere_hybrid_sigma_pressure_coordinate"),
            "lev of run.nc must be a pressure, or sigma .* got atmosphere_hybrid_sigma_pressure_coordinate",
        ),
        (lambda d: [d["lev"].attrs.clear(), d["lev"].attrs.update(axis="Z")], "lev of run.nc .* in 'no unit'"),
        (lambda d: d["lev"].attrs.update(units="deg"), "units of lev of run.nc must have no angle"),
        (lambda d: d["lat"].attrs.update(units="radians"), "lat of run.nc must be in degrees .* in 'radians'"),
        (lambda d: d["time"].values.__setitem__(1, np.nan), "time of run.nc must be finite numbers that rise or fall"),
        (lambda d: d["time"].values.__setitem__(1, 75.0), "time of run.nc must be finite numbers that rise or fall"),
        (lambda d: d["lev"].values.__setitem__(1, np.nan), "lev of run.nc must be finite numbers that rise or fall"),
        (lambda d: d.update({"sp": d["sp"].astype(float) * 1e38}), "sp of run.nc must be finite .* or too large ones"),
        (lambda d: d.attrs.update(settings="{"), "settings of run.nc must be a JSON object"),
        (
            lambda d: d.attrs.update(settings='{"pN2": -1}'),
            "pN2 in the settings of run.nc must be a number of at least 0",
        ),
        (lambda d: d.attrs.update(settings='{"pN2": 1, "pXe": 1}'), "such as pN2 and pCO2, .* got pXe"),
        (
            lambda d: d.attrs.update(settings='{"pN2": 1, "pressure": 2}'),
            "pressure in the settings .* sum of the gases, 1",
        ),
        (lambda d: d.attrs.update(settings='{"pN2": 1, "eccentricity": 2}'), "eccentricity in the settings of run.nc"),
        (lambda d: d["u"].attrs.update(standard_name="air_temperature"), r"must hold ta \(air_temperature\) once"),
        (lambda d: d.attrs.pop("settings"), "must say which planet it is of"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, change, message):
    data = model_output()
    change(data)
    with pytest.raises(BuildError, match=message):
        read_cube(written(data, tmp_path))


def test_an_axis_that_is_not_there_is_named(tmp_path):
    data = model_output().rename({"lat": "row"})
    data["row"].attrs.clear()
    with pytest.raises(BuildError, match=r"run\.nc must have a coordinate for its Y axis \(lat, latitude, y"):
        read_cube(written(data, tmp_path))
    with pytest.raises(BuildError, match=r"lon of run\.nc must be finite numbers that rise or fall"):
        read_cube(written(model_output().isel(lon=[0, 2, 1, 3, 4, 5, 6]), tmp_path))
    (tmp_path / "text.nc").write_text("no NetCDF")
    with pytest.raises(BuildError, match=r"text\.nc must be a NetCDF file or a Zarr store"):
        read_cube(tmp_path / "text.nc")


def test_missing_values_stay_missing_and_planets_may_stand_beside(tmp_path):
    data = model_output()
    del data.attrs["settings"]
    data["temp"].values[1, 0, 2, 3] = np.nan
    (tmp_path / "planet.json").write_text(json.dumps(asdict(EARTH)))
    cube = read_cube(written(data, tmp_path))
    assert cube.planet == EARTH
    assert np.argwhere(np.isnan(cube.atmosphere.values)).tolist() == [[0, 1, 0, 2, 3]]
    (tmp_path / "planet.json").write_text(json.dumps({**asdict(EARTH), "gravity_m_s2": "9.8"}))
    with pytest.raises(BuildError, match=r"gravity_m_s2 in planet\.json must be a number above 0; got '9\.8'"):
        read_cube(tmp_path / "run.nc")
    with pytest.raises(BuildError, match=r"missing \['gravity_m_s2'\], unknown \['gravity'\]"):
        Planet.from_mapping(
            {("gravity" if name == "gravity_m_s2" else name): value for name, value in asdict(EARTH).items()}, "x"
        )


@pytest.mark.parametrize("value", [float("nan"), True, 0, -1.0, None])
def test_a_planet_that_cannot_be_is_refused(value):
    with pytest.raises(BuildError, match=r"radius_m in planet\.json must be a number above 0"):
        Planet.from_mapping({**asdict(EARTH), "radius_m": value}, "planet.json")
    with pytest.raises(BuildError, match=r"synchronous in planet\.json must be a boolean; got None"):
        Planet.from_mapping({**asdict(EARTH), "synchronous": None}, "planet.json")


def test_a_file_may_have_a_planet_of_its_own(tmp_path):
    data = model_output()
    del data.attrs["settings"]
    other = {**asdict(EARTH), "gravity_m_s2": 3.7}
    (tmp_path / "planet.json").write_text(json.dumps(asdict(EARTH)))
    (tmp_path / "mars.planet.json").write_text(json.dumps(other))
    assert read_cube(written(data, tmp_path)).planet == EARTH
    assert read_cube(written(data, tmp_path, "mars.nc")).planet == Planet(**other)


def test_fluxes_count_downward_and_calendars_are_kept(tmp_path):
    data = model_output()
    data["up"] = data["sp"].copy()
    data["up"].attrs = {"units": "W m-2", "standard_name": "surface_upward_latent_heat_flux"}
    data["time"].attrs.update(units="days since 2000-01-01", calendar="360_day")
    data["rh"] = data["temp"].copy()
    data["rh"].attrs = {"units": "1", "standard_name": "relative_humidity"}
    of_exoplasim = read_cube(written(data, tmp_path))
    assert of_exoplasim.calendar == "360_day"
    # ExoPlaSim counts downward under any name, and writes per cent under the unit 1.
    np.testing.assert_array_equal(of_exoplasim.surface.values[-1], data["up"].values)
    np.testing.assert_array_equal(of_exoplasim.atmosphere.values[-1], data["rh"].values)
    del data.attrs["settings"]
    (tmp_path / "planet.json").write_text(json.dumps(asdict(EARTH)))
    cube = read_cube(written(data, tmp_path, "other.nc"))
    np.testing.assert_array_equal(cube.surface.values[-1], -data["up"].values)
    np.testing.assert_allclose(cube.atmosphere.values[-1], data["rh"].values * 100, rtol=1e-6)
    assert cube.atmosphere.units[-1] == of_exoplasim.atmosphere.units[-1] == "%"
    assert "hfls: sign of surface_upward_latent_heat_flux turned, positive downward" in cube.conversions
    assert "hur: ExoPlaSim states 1 and writes %" in of_exoplasim.conversions


def test_zarr_and_netcdf_give_the_same(tmp_path):
    pytest.importorskip("zarr", reason="zarr is not installed")
    data = model_output()
    data.to_zarr(tmp_path / "run.zarr", consolidated=False, zarr_format=2)
    one, other = read_cube(written(data, tmp_path)), read_cube(tmp_path / "run.zarr")
    np.testing.assert_array_equal(one.atmosphere.values, other.atmosphere.values)
    np.testing.assert_array_equal(one.surface.values, other.surface.values)


@pytest.mark.parametrize("rows", [9, 32])
def test_global_means_weigh_by_area(rows):
    gaussian = np.degrees(np.arcsin(np.polynomial.legendre.leggauss(rows)[0]))
    regular = np.linspace(90, -90, rows)
    for latitude in (gaussian, gaussian[::-1], regular, regular[::-1]):
        sines = np.sin(np.radians(latitude))[:, None]
        assert global_mean(np.ones((2, rows, 4)), latitude) == pytest.approx(1.0)
        # The mean of sin^2 over a sphere is one third: exact on a Gaussian grid, near on others.
        error = abs(global_mean(np.broadcast_to(sines**2, (rows, 4)), latitude) - 1 / 3)
        assert error < (1e-12 if latitude is not regular and abs(latitude[0]) < 90 else 0.01)


def test_the_folder_opens_and_planets_are_apart(tmp_path):
    for number in range(6):
        # Two years of each planet.
        settings = {**SETTINGS, "flux": 800.0 + 50 * (number // 2)}
        written(model_output(settings, seed=number), tmp_path / "runs", f"run{number}.nc")
    splits = build_climate_cubes({"cubes": tmp_path / "runs"})
    assert sum(len(rows) for rows in splits.values()) == 6
    planets = {split: set(rows["object_id"]) for split, rows in splits.items()}
    assert sum(len(found) for found in planets.values()) == 3
    folder = write_hub_folder(splits, CLIMATE_CUBES_CARD, tmp_path / "out")
    # Splits without rows are not there.
    parts = datasets.load_dataset(str(folder), "climate_cubes", cache_dir=str(tmp_path / "cache"))
    loaded = datasets.concatenate_datasets(list(parts.values()))
    assert loaded.features == CLIMATE_CUBES_FEATURES
    row = next(row for row in loaded if row["stellar_flux_w_m2"] == 850.0)
    assert np.reshape(row["atmosphere"], row["atmosphere_shape"]).shape == (2, 3, 2, 5, 7)
    assert row["top_of_atmosphere_imbalance_w_m2"] is None
    assert set(CLIMATE_CUBES_CARD.columns) == set(CLIMATE_CUBES_FEATURES)


def test_a_file_that_changed_is_read_again_and_copies_are_refused(tmp_path):
    path = written(model_output(seed=1), tmp_path / "runs")
    first = build_climate_cubes({"cubes": tmp_path / "runs"})
    path.unlink()
    written(model_output(seed=2), tmp_path / "runs")
    second = build_climate_cubes({"cubes": tmp_path / "runs"})
    values = [next(rows[0]["surface"] for rows in splits.values() if len(rows)) for splits in (first, second)]
    assert values[0] != values[1]
    (tmp_path / "runs" / "twin.nc").write_bytes((tmp_path / "runs" / "run.nc").read_bytes())
    with pytest.raises(BuildError, match=r"twin\.nc must be another cube than run\.nc"):
        build_climate_cubes({"cubes": tmp_path / "runs"})
    with pytest.raises(BuildError, match="cubes must be a folder with"):
        build_climate_cubes({"cubes": tmp_path / "nothing"})


@pytest.mark.skipif(not SAMPLES.is_dir(), reason=f"{SAMPLES.name} is not there")
def test_real_output_of_exoplasim_and_of_a_reanalysis(tmp_path):
    year = read_cube(SAMPLES / "exoplasim" / "earthlike_modern.nc")
    assert year.atmosphere.values.shape == (8, 12, 10, 32, 64)
    fluxes = dict(zip(year.surface.names, year.surface.values, strict=True))
    # As the provenance of the file has it: 285.5 K, and -0.2 W m-2 at the top.
    assert global_mean(fluxes["ts"], year.latitude_deg) == pytest.approx(285.5, abs=0.05)
    assert global_mean(fluxes["rst"] + fluxes["rlut"], year.latitude_deg) == pytest.approx(-0.2, abs=0.05)
    assert 95_000 < global_mean(fluxes["ps"], year.latitude_deg) < 101_000
    (tmp_path / "planet.json").write_text(json.dumps(asdict(EARTH)))
    os.symlink(SAMPLES / "eraint_uvz.nc", tmp_path / "eraint_uvz.nc")
    reanalysis = read_cube(tmp_path / "eraint_uvz.nc")
    assert (reanalysis.level_kind, reanalysis.levels.tolist()) == ("pressure", [20000.0, 50000.0, 85000.0])
    assert reanalysis.atmosphere.names == ["ua", "va", "phi"]
    assert reanalysis.surface.names == []
