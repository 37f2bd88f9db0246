"""The processor of AstroDatacube: what it reads however it is written, round trips, and wrong climates."""

import numpy as np
import pytest
import torch

from modeling_astrobio import AstroDatacubeModel, AstroDatacubeProcessor
from modeling_astrobio.configuration_astro_datacube import AstroDatacubeConfig


xr = pytest.importorskip("xarray", reason="climates are xarray Datasets")

ROWS, COLUMNS, LEVELS, TIMES = 8, 12, 3, 4
NAMES = {"level_variables": ["ta", "ua"], "surface_variables": ["ps", "ts"], "forcing_variables": ["sg"]}


def climate(seed=0, pressure=False, with_time=True):
    """A globe with everything stated: pressure in hPa on a falling axis of latitude, sigma from the top."""
    rng = np.random.default_rng(seed)
    levels = [200.0, 500.0, 850.0] if pressure else [0.2, 0.5, 0.85]
    level_attributes = (
        {"units": "hPa", "axis": "Z"} if pressure else {"units": "1", "standard_name": "sigma_coordinate", "axis": "Z"}
    )
    coordinates = {
        "time": ("time", np.arange(TIMES) * 6.0, {"units": "hours since 2000-01-01", "axis": "T"}),
        "lev": ("lev", levels, level_attributes),
        "lat": ("lat", np.linspace(78.75, -78.75, ROWS), {"units": "degrees_north", "standard_name": "latitude"}),
        "lon": ("lon", np.arange(COLUMNS) * 30.0, {"units": "degrees_east", "standard_name": "longitude"}),
    }

    def noise(*axes):
        sizes = {"time": TIMES, "lev": LEVELS, "lat": ROWS, "lon": COLUMNS}
        return rng.standard_normal([sizes[axis] for axis in axes]).astype("float32")

    on_levels, surface = ("time", "lev", "lat", "lon"), ("time", "lat", "lon")
    data = xr.Dataset(
        {
            "ta": (on_levels, 250 + 20 * noise(*on_levels), {"units": "K", "long_name": "Temperature"}),
            "ua": (on_levels, 10 * noise(*on_levels), {"units": "m s-1"}),
            "ps": (surface, 98000 + 900 * noise(*surface), {"units": "Pa"}),
            "ts": (surface, 285 + 15 * noise(*surface), {"units": "K"}),
            "sg": (("lat", "lon"), 2000 * noise("lat", "lon") ** 2, {"units": "m2 s-2"}),
            "extra": (surface, noise(*surface), {"units": "1"}),
        },
        coords=coordinates,
        attrs={"title": "a planet", "gravity_m_s2": 12.0},
    )
    return data if with_time else data.isel(time=-1, drop=True)


def processor(**others):
    return AstroDatacubeProcessor(**{**NAMES, **others})


def fitted(**others):
    return processor(**others).fit([climate(1), climate(2)])


def tensors(read):
    return {name: read[name] for name in ("level_fields", "surface_fields", "forcing_fields")}


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-6, atol=1e-6, equal_nan=True)


@pytest.mark.parametrize("time", [-1, 0, 2])
def test_fields_come_back_with_their_names_units_coordinates_and_attributes(time):
    data, reader = climate(), fitted()
    batch = reader(data, time=time)
    assert batch["level_fields"].shape == (1, 2, 1, LEVELS, ROWS, COLUMNS)
    back = reader.decode(batch["level_fields"][0, :, 0], batch["surface_fields"][0, :, 0], like=data)
    expected = data[["ta", "ua", "ps", "ts"]].isel(time=time, drop=True)
    xr.testing.assert_identical(back, expected)


def test_several_states_come_back_on_the_time_axis_that_is_given():
    data, reader = climate(), fitted(num_input_steps=TIMES)
    batch = reader(data)
    level, surface = batch["level_fields"][0], batch["surface_fields"][0]
    back = reader.decode(level, surface, like=data, time=data["time"])
    xr.testing.assert_identical(back, data[["ta", "ua", "ps", "ts"]])
    assert reader.decode(level, surface, like=data)["step"].values.tolist() == [1, 2, 3, 4]


REWRITTEN = {
    "axes in another order": lambda data: data.transpose("lon", "lev", "time", "lat"),
    "longitudes from -180": lambda data: data.assign_coords(lon=(data["lon"] + 180) % 360 - 180).sortby("lon"),
    "longitudes from 180, unsorted": lambda data: data.roll(lon=5, roll_coords=True),
    "latitudes from the south": lambda data: data.isel(lat=slice(None, None, -1)),
    "levels from the ground": lambda data: data.isel(lev=slice(None, None, -1)),
    "names in full": lambda data: data.rename(lat="latitude", lon="longitude", lev="level"),
    "temperature in Celsius": lambda data: data.assign(ts=(data["ts"] - 273.15).assign_attrs(units="degC")),
    "pressure in hPa": lambda data: data.assign(ps=(data["ps"] / 100).assign_attrs(units="hPa")),
    "float64": lambda data: data.astype("float64", keep_attrs=True),
    "fill values": lambda data: data.fillna(1e20),
    "stated fill values": lambda data: data.assign(
        ts=data["ts"].fillna(-999.0).assign_attrs(_FillValue=-999.0, units="K")
    ),
}


@pytest.mark.parametrize("rewritten", REWRITTEN)
def test_a_climate_is_the_same_however_it_is_written(rewritten):
    data, reader = climate(), fitted()
    data["ts"][:, 2:4, 5] = np.nan
    other = REWRITTEN[rewritten](data)
    expected, found = reader(data), reader(other)
    if "south" in rewritten:
        expected = {name: value.flip(-2) for name, value in tensors(expected).items()}
    if "180" in rewritten:
        # Another meridian comes first.
        shift = int(
            np.argmin(np.abs((np.asarray(expected["longitude_deg"][0]) - float(found["longitude_deg"][0, 0])) % 360))
        )
        expected = {name: value.roll(-shift, -1) for name, value in tensors(expected).items()}
    rtol = 1e-6 if "Celsius" not in rewritten else 1e-5
    for name, value in tensors(expected).items():
        torch.testing.assert_close(found[name], value, rtol=rtol, atol=1e-6, equal_nan=True)
    assert torch.equal(found["levels"], reader(data)["levels"])
    last = found["level_fields"][0, :, 0], found["surface_fields"][0, :, 0]
    back = reader.decode(*last, like=other)
    time = "time"
    for name in ("ta", "ua", "ps"):
        xr.testing.assert_allclose(back[name], other[name].isel({time: -1}, drop=True), rtol=1e-6)
        assert back[name].attrs == other[name].attrs


def test_pressures_are_relative_to_the_surface_of_the_planet():
    reader = processor()
    found = reader(climate(pressure=True), planet={"surface_pressure_pa": 50_000.0})
    torch.testing.assert_close(found["levels"], torch.tensor([[0.4, 1.0, 1.7]], dtype=torch.float64))
    with pytest.raises(
        ValueError, match=r"planet of climate 0 must give surface_pressure_pa where levels are pressures"
    ):
        reader(climate(pressure=True))


def test_what_is_not_there_is_missing():
    reader = processor(num_input_steps=3)
    data = climate().drop_vars(["ua", "sg"])
    found = reader(data, time=1)
    assert found["level_fields"][:, 1].isnan().all()
    assert found["forcing_fields"].isnan().all()
    # One state lies before the first of the file.
    assert found["level_fields"][:, 0, 0].isnan().all()
    assert found["level_fields"][:, 0, 1:].isfinite().all()
    single = reader(climate(with_time=False))
    assert single["surface_fields"][:, :, :2].isnan().all()
    assert single["surface_fields"][:, :, 2].isfinite().all()


def test_a_model_that_reads_no_state_is_given_none():
    found = processor(num_input_steps=0)(climate())
    assert "level_fields" not in found
    assert "surface_fields" not in found
    assert_same(
        {"forcing_fields": found["forcing_fields"]}, {"forcing_fields": processor()(climate())["forcing_fields"]}
    )


def test_planets_are_those_given_or_of_the_attributes():
    reader = processor()
    place = reader.planet_parameters.index("gravity_m_s2")
    assert reader(climate())["planet"][0, place] == 12.0
    found = reader([climate(), climate()], planet=[{"gravity_m_s2": 3.7}, {"synchronous": True}])["planet"]
    assert found[:, place].tolist() == pytest.approx([3.7, 12.0])
    assert found[1, reader.planet_parameters.index("synchronous")] == 1.0
    assert found.isnan().sum() == 2 * len(reader.planet_parameters) - 3


def test_statistics_are_area_means_of_the_training_data():
    reader = fitted()
    weights = np.cos(np.deg2rad(climate()["lat"]))
    both = xr.concat([climate(1), climate(2)], "planet")
    mean = both["ta"].weighted(weights).mean(("planet", "time", "lat", "lon"))
    spread = both["ta"].weighted(weights).std(("planet", "time", "lat", "lon"))
    found = reader.statistics["variables"]["ta"]
    # Rows of cells have (sin upper - sin lower) / 2; the cosine is near that.
    np.testing.assert_allclose(found["mean"], mean, rtol=2e-3)
    np.testing.assert_allclose(found["scale"], spread, rtol=2e-2)
    change = both["ps"].diff("time")
    rms = float(np.sqrt((change**2).weighted(weights).mean()))
    assert reader.statistics["variables"]["ps"]["difference_scale"] == pytest.approx(rms, rel=2e-2)
    assert reader.statistics["variables"]["ua"]["mean"] == [0.0, 0.0, 0.0]
    assert reader.statistics["levels"] == [0.2, 0.5, 0.85]
    assert reader.units["ps"] == "Pa"


def test_statistics_at_levels_where_a_variable_is_not_known_are_those_about():
    first, second = climate(1), climate(2).assign_coords(lev=("lev", [0.3, 0.51, 0.95], climate()["lev"].attrs))
    first["ta"][:, 2] = np.nan
    second = second.drop_vars(["ta"])
    reader = processor().fit([first, second])
    # 0.5 and 0.51 are one level.
    assert reader.statistics["levels"] == pytest.approx([0.2, 0.3, 0.505, 0.85, 0.95])
    mean = reader.statistics["variables"]["ta"]["mean"]
    assert mean[2] == mean[3] == mean[4]
    assert min(mean[0], mean[2]) < mean[1] < max(mean[0], mean[2])
    with pytest.raises(ValueError, match="ta must have a value at some level of the training data"):
        processor().fit([second])


def test_a_constant_field_is_read_and_gives_no_division_by_nothing():
    data = climate()
    data["ts"] = xr.full_like(data["ts"], 288.0)
    reader = processor().fit([data])
    assert reader.statistics["variables"]["ts"] == {
        "mean": pytest.approx(288.0),
        "scale": 1.0,
        "difference_scale": 1.0,
    }
    assert (reader(data)["surface_fields"][:, 1] == 288.0).all()


def test_the_processor_is_saved_with_its_statistics(tmp_path):
    reader = fitted(num_input_steps=2)
    reader.save_pretrained(tmp_path)
    again = AstroDatacubeProcessor.from_pretrained(tmp_path)
    assert again.statistics == reader.statistics
    assert again.units == reader.units
    assert_same(tensors(again(climate())), tensors(reader(climate())))
    config = AstroDatacubeConfig.from_preset("tiny", **NAMES, num_input_steps=2)
    config.statistics = reader.statistics
    assert AstroDatacubeProcessor.from_config(config).statistics == reader.statistics


def nothing_known(data):
    level = ("lev", [0.5], {"units": "1", "standard_name": "sigma_coordinate"})
    return data[["extra"]].expand_dims(lev=[0.5]).assign_coords(lev=level)


def in_radians(data):
    stated = {"units": "radian", "standard_name": "latitude"}
    return data.assign_coords(lat=("lat", np.deg2rad(data["lat"].values), stated))


def a_meridian_twice(data):
    longitude = ("lon", np.arange(COLUMNS + 1) * 30.0, data["lon"].attrs)
    return data.isel(lon=[*range(COLUMNS), 0]).assign_coords(lon=longitude)


WRONG = [
    (lambda data: data["ta"], "climate 0 must be an xarray.Dataset; got DataArray"),
    (nothing_known, "climate 0 must hold a variable that the model knows, of ta"),
    (lambda data: data.drop_vars(["lev"]), "climate 0 must have a coordinate for its Z axis"),
    (lambda data: data.assign_coords(lev=("lev", [1.0, 2.0, 3.0])), "lev of climate 0 must be a pressure, or sigma"),
    (lambda data: data.expand_dims(member=2), "ta of climate 0 must have the axes lev, lat, lon, and time or none"),
    (lambda data: data.isel(lon=slice(0, 5)), "longitude_deg must rise in even steps"),
    (in_radians, "lat of climate 0 must be in degrees"),
    (a_meridian_twice, "no meridian twice"),
    (
        lambda data: data.isel(lat=[0, 3, 1, 2, 4, 5, 6, 7]),
        "lat of climate 0 must be finite numbers that rise or fall",
    ),
    (
        lambda data: data.assign(ps=data["ps"].assign_attrs(units="K")),
        "ps of climate 0 must be in a unit of the dimension of 'Pa'; got 'K'",
    ),
    (lambda data: data.assign(ts=(data["ts"] * 1e5).assign_attrs(units="")), "ts of climate 0 must be in K, about 28"),
]


@pytest.mark.parametrize(("change", "match"), WRONG)
def test_wrong_climates_are_refused(change, match):
    reader, data = fitted(), change(climate())
    model = AstroDatacubeModel(AstroDatacubeConfig.from_preset("tiny", **NAMES))

    def run():
        return model(**reader(data))

    with pytest.raises(ValueError, match=match):
        run()


def test_wrong_arguments_are_refused():
    reader = fitted()
    with pytest.raises(ValueError, match="return_tensors must be 'pt'; got 'np'"):
        reader(climate(), return_tensors="np")
    with pytest.raises(ValueError, match="time must be a place of the 4 on the axis time; got 4"):
        reader(climate(), time=4)
    with pytest.raises(ValueError, match=r"planet of climate 0 must be of the parameters .*; got gravity"):
        reader(climate(), planet={"gravity": 9.0})
    with pytest.raises(ValueError, match="gravity_m_s2 of the planet of climate 0 must be a number; got None"):
        reader(climate(), planet={"gravity_m_s2": None})
    with pytest.raises(ValueError, match=r"surface_pressure_pa of the planet of climate 0 must be above 0; got 0\.0"):
        reader(climate(pressure=True), planet={"surface_pressure_pa": 0})
    with pytest.raises(ValueError, match="planets must be one for each climate, 1; got 2"):
        processor().fit([climate()], planets=[{}, {}])
    with pytest.raises(ValueError, match="planet must be one for each climate, 2; got 1"):
        reader([climate(), climate()], planet=[{}])
    with pytest.raises(ValueError, match=r"levels must be as many in all climates of a batch; got \[3, 2\]"):
        reader([climate(), climate().isel(lev=[0, 1])])
    with pytest.raises(ValueError, match="climates must hold at least one Dataset; got none"):
        reader([])
    with pytest.raises(ValueError, match=r"surface_fields must have shape \(2, 8, 12\)"):
        reader.decode(surface_fields=torch.zeros(2, 8, 11), like=climate())
    other = climate().assign(ps=climate()["ps"].assign_attrs(units="hPa"))
    with pytest.raises(ValueError, match="ps of climate 1 must be in 'Pa', as of those before; got 'hPa'"):
        processor().fit([climate(), other])
