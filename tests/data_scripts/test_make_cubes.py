"""Planets are drawn by number alone; what cannot be run is refused before anything is written."""

import importlib.util
import json

import pytest


pytest.importorskip("xarray", reason="the extra climate is not installed")
pytest.importorskip("cf_xarray", reason="the extra climate is not installed")
import xarray as xr

from data_scripts.climate.make_cubes import draw_settings, main
from data_scripts.climate.planets import planet_from_exoplasim


def test_planets_depend_on_seed_and_number_and_can_be():
    drawn = [draw_settings(seed, number) for seed in (0, 1) for number in range(40)]
    assert drawn == [draw_settings(seed, number) for seed in (0, 1) for number in range(40)]
    planets = [planet_from_exoplasim(settings, "run.nc") for settings in drawn]
    assert len({planet.key for planet in planets}) == len(planets)
    assert {planet.synchronous for planet in planets} == {planet.ocean_planet for planet in planets} == {True, False}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--planets", "0"], "--planets: must be a whole number of at least 1; got '0'"),
        (["--planets", "2", "--years", "0"], "--years: must be a whole number of at least 1; got '0'"),
        (["--planets", "2", "--processes", "none"], "--processes: must be a whole number of at least 1; got 'none'"),
        (["--planets", "2", "--seed=-1"], "--seed: must be a whole number of at least 0; got '-1'"),
        (["--planets", "2", "--set", "mldepth"], "--set: must be NAME=VALUE with a number"),
        (["--planets", "2", "--set", "mldepth=two"], "--set: must be NAME=VALUE with a number"),
    ],
)
def test_what_is_no_number_is_refused(arguments, message, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["--out", str(tmp_path / "runs"), *arguments])
    assert message in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def write_cube(folder, years, **settings):
    attributes = {"years_run": years, "settings": json.dumps(draw_settings(0, 0) | settings)}
    xr.Dataset(attrs=attributes).to_netcdf(folder / "planet-0-0000.nc")


@pytest.mark.parametrize("made_with", [{"years": 3}, {"years": 2, "mldepth": 50.0}])
def test_other_runs_are_not_mixed(made_with, tmp_path, capsys):
    write_cube(tmp_path, **made_with)
    with pytest.raises(SystemExit, match="2"):
        main(["--out", str(tmp_path), "--planets", "1", "--years", "2", "--set", "mldepth=2"])
    assert "--years and --set must be those of planet-0-0000.nc" in capsys.readouterr().err


@pytest.mark.skipif(importlib.util.find_spec("exoplasim") is not None, reason="ExoPlaSim is installed")
def test_without_the_model_no_planet_is_marked_as_failed(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["--out", str(tmp_path / "runs"), "--planets", "1"])
    assert "exoplasim is not installed: pip install" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


@pytest.mark.skipif(importlib.util.find_spec("exoplasim") is None, reason="ExoPlaSim is not installed")
def test_what_is_there_is_not_made_again(tmp_path, capsys):
    write_cube(tmp_path, years=2, mldepth=2)
    (tmp_path / "planet-0-0001.failed.txt").write_text("the model's last words")
    assert main(["--out", str(tmp_path), "--planets", "2", "--set", "mldepth=2"]) == 1
    assert "1 of 2 planets are in" in capsys.readouterr().out
