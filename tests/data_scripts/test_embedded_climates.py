"""The embedded climates are what they are said to be, and coarse means of finer ones."""

import json

import numpy as np
import pytest


pytest.importorskip("xarray", reason="the extra climate is not installed")

import xarray as xr

from data_scripts.climate.make_cubes import draw_settings
from data_scripts.embedded.climates import EMBEDDED_CLIMATES
from data_scripts.embedded.select_climates import STATES, VARIABLES, coarse_climate, main


FILES = sorted(EMBEDDED_CLIMATES.glob("*.nc"))


def test_settings_are_those_that_the_command_draws():
    assert len(FILES) >= 15
    for path in FILES:
        with xr.open_dataset(path, decode_times=False) as data:
            settings = json.loads(data.attrs["settings"])
            _, seed, number = path.stem.split("-")
            assert settings == draw_settings(int(seed), int(number)) | {"mldepth": 2, "obliquity": 0}
            assert set(data.data_vars) == set(VARIABLES)
            assert all(np.isfinite(data[name]).all() for name in VARIABLES)
            assert np.isfinite(data.attrs["radiation_residual_w_m2"])
        assert path.stat().st_size < 50_000


def fine_file(folder):
    """A file as `make_cubes` writes it, of 8 rows, made up."""
    rng = np.random.default_rng(0)
    sines, _ = np.polynomial.legendre.leggauss(8)
    sizes = {"time": 12, "lev": 10, "lat": 8, "lon": 16}
    fields = {}
    for name in VARIABLES:
        dims = tuple(sizes) if name in ("ta", "ua", "va", "hus") else ("time", "lat", "lon")
        fields[name] = (dims, rng.normal(size=[sizes[dim] for dim in dims]).astype(np.float32), {"units": "K"})
    data = xr.Dataset(
        fields,
        coords={
            "time": np.arange(12.0),
            "lev": ("lev", np.linspace(0.05, 0.95, 10), {"units": "1"}),
            "lat": ("lat", np.degrees(np.arcsin(sines))[::-1], {"units": "degrees_north"}),
            "lon": ("lon", np.arange(16) * 22.5, {"units": "degrees_east"}),
        },
        attrs={
            **dict.fromkeys(("title", "model", "run_name", "vertical_coordinate"), "x"),
            "settings": "{}",
            "averaging": "12 means",
        },
    )
    folder.mkdir()
    data.to_netcdf(folder / "planet-0-0000.nc")
    return data


def test_means_over_the_globe_stay_as_they_are(tmp_path):
    data = fine_file(tmp_path / "fine")
    coarse = coarse_climate(data)
    assert dict(coarse.sizes) == {"time": 1, "lev": 5, "lat": 4, "lon": 8}
    assert coarse["lev"].values.tolist() == pytest.approx(data["lev"].values[1::2].tolist())
    _, weights = np.polynomial.legendre.leggauss(8)
    wide = weights.reshape(4, 2).sum(1)
    for name in ("ta", "rst"):
        fine = data[name].values[-STATES:].mean(0)
        if name == "ta":
            fine = fine[1::2]
        whole = (fine.mean(-1) * weights).sum(-1) / 2
        assert np.allclose((coarse[name].values[0].mean(-1) * wide).sum(-1) / 2, whole, atol=1e-6)
        naive = (fine.reshape(*fine.shape[:-2], 4, 2, 8, 2).mean(-1) * weights.reshape(4, 2, 1)).sum(-2) / wide[
            :, None
        ]
        assert np.allclose(coarse[name].values[0], naive, atol=1e-6)
    expected = ((data["rst"] + data["rlut"]).values[-STATES:].mean((0, 2)) * weights).sum() / 2
    assert coarse.attrs["radiation_residual_w_m2"] == pytest.approx(expected, abs=1e-6)


def test_the_command_packs_what_it_keeps(tmp_path, capsys):
    data = fine_file(tmp_path / "fine")
    assert main([str(tmp_path / "fine"), str(tmp_path / "coarse")]) == 0
    with xr.open_dataset(tmp_path / "coarse" / "planet-0-0000.nc", decode_times=False) as found:
        wanted = coarse_climate(data)["ta"]
        assert np.abs(found["ta"] - wanted).max() <= (wanted.max() - wanted.min()) / 2**15
        assert found["ta"].attrs["units"] == "K"
    assert main([]) == 2
    assert "FOLDER OUT" in capsys.readouterr().err
