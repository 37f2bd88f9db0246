"""Files as ExoPlaSim writes them, small and made up, whose fields depend on the planet."""

import json
from pathlib import Path

import numpy as np

from data_scripts.climate.planets import planet_from_exoplasim
from data_scripts.splits import split_of


ROWS, COLUMNS, LEVELS, TIMES = 8, 16, 3, 4
_UNITS = {
    "ta": ("K", "air_temperature"),
    "ua": ("m s-1", "eastward_wind"),
    "va": ("m s-1", "northward_wind"),
    "hus": ("1", "specific_humidity"),
    "ps": ("Pa", "surface_air_pressure"),
    "ts": ("K", "surface_temperature"),
    "pr": ("kg m-2 s-1", "precipitation_flux"),
    "tas": ("K", "air_temperature_2m"),
    "clt": ("1", "cloud_area_fraction"),
    "rst": ("W m-2", "toa_net_downward_shortwave_flux"),
    "rlut": ("W m-2", "toa_net_longwave_flux"),
    "lsm": ("1", "land_binary_mask"),
    "sg": ("m2 s-2", "surface_geopotential"),
}
_ON_LEVELS = ("ta", "ua", "va", "hus")


def write_planets(folder: Path, train: int, validation: int, test: int) -> Path:
    """Write so many planets of each split, drawn until there are enough."""
    xarray = __import__("xarray")
    folder.mkdir(parents=True, exist_ok=True)
    missing = {"train": train, "validation": validation, "test": test}
    sines, _ = np.polynomial.legendre.leggauss(ROWS)
    latitude = np.degrees(np.arcsin(sines))[::-1]
    number = 0
    while any(missing.values()):
        rng = np.random.default_rng(number)
        number += 1
        settings = {
            "flux": round(rng.uniform(700, 1400), 1),
            "pN2": round(rng.uniform(0.4, 3.0), 2),
            "pCO2": 1e-3,
            "obliquity": 0.0,
            "eccentricity": 0.0,
            "synchronous": bool(rng.random() < 0.4),
            "aquaplanet": bool(rng.random() < 0.7),
        }
        split = split_of(planet_from_exoplasim(settings, "made up").key)
        if not missing[split]:
            continue
        missing[split] -= 1
        sea = settings["aquaplanet"]
        variables = {}
        for place, (name, (unit, standard)) in enumerate(_UNITS.items()):
            dims = ("time", "lev", "lat", "lon") if name in _ON_LEVELS else ("time", "lat", "lon")
            sizes = {"time": TIMES, "lev": LEVELS, "lat": ROWS, "lon": COLUMNS}
            noise = rng.normal(size=[sizes[dim] for dim in dims])
            # Each variable follows the flux, as on the equator more than at the poles.
            values = 10.0 * (place + 1) + settings["flux"] / 100 * np.cos(np.radians(latitude))[:, None] + 0.1 * noise
            if name in ("lsm", "sg"):
                land = (np.arange(COLUMNS) < 5) & (latitude > 0)[:, None] & (not sea)
                values = np.broadcast_to(land.astype(float), noise.shape)
            variables[name] = (dims, values.astype(np.float32), {"units": unit, "standard_name": standard})
        xarray.Dataset(
            variables,
            coords={
                "time": ("time", np.arange(TIMES) * 30.0, {"units": "days", "axis": "T"}),
                "lev": ("lev", [0.2, 0.5, 0.9], {"units": "1", "standard_name": "atmosphere_sigma_coordinate"}),
                "lat": ("lat", latitude, {"units": "degrees_north"}),
                "lon": ("lon", np.arange(COLUMNS) * 360 / COLUMNS, {"units": "degrees_east"}),
            },
            attrs={"settings": json.dumps(settings), "run_name": f"planet-{number:03}"},
        ).to_netcdf(folder / f"planet-{number:03}.nc")
    return folder
