"""Make the embedded steady climates from files of ExoPlaSim.

    python -m data_scripts.embedded.select_climates FOLDER OUT

FOLDER holds files of `python -m data_scripts.climate.make_cubes --years 1 --set mldepth=2 --set obliquity=0`. Of each
the mean of the last 4 of 12 means over time is kept, on every second level and on cells of two by two, with what the
recipe `steady` reads; the settings, and how far from equilibrium it is, are in the attributes.
"""

import sys
import warnings
from pathlib import Path

import numpy as np
import xarray as xr


__all__ = ["coarse_climate", "main"]

VARIABLES = "ta ua va hus ts tas ps pr clt rst rlut lsm sg".split()  # noqa: SIM905
STATES = 4
# From the least to the greatest of a variable.
_PACKED_VALUES = 2**15 - 2


def coarse_climate(data: xr.Dataset) -> xr.Dataset:
    """Return the mean climate on cells of two by two, weighted by area, and on every second level from the lowest up.

    Args:
        data: A file of `make_cubes`, on an even number of Gaussian latitudes and of longitudes.
    """
    _, weights = np.polynomial.legendre.leggauss(data.sizes["lat"])
    area = xr.DataArray(weights, dims="lat", coords={"lat": data["lat"]})
    mean = data[VARIABLES].isel(time=slice(-STATES, None)).mean("time", keep_attrs=True)
    total = area.coarsen(lat=2).sum()
    cells = {"lat": 2, "lon": 2}
    fields = {
        name: ((field * area).coarsen(cells).sum() / (2 * total)).transpose(*field.dims).assign_attrs(field.attrs)
        for name, field in mean.data_vars.items()
    }
    coarse = xr.Dataset(fields)
    latitude = (data["lat"] * area).coarsen(lat=2).sum() / total
    longitude = data["lon"].coarsen(lon=2).mean()
    residual = float(((mean["rst"] + mean["rlut"]).mean("lon") * area).sum("lat") / area.sum())
    coarse = coarse.assign_coords(
        lat=("lat", latitude.values, data["lat"].attrs),
        lon=("lon", longitude.values, data["lon"].attrs),
    ).expand_dims(time=data["time"][-1:])
    coarse = coarse.isel(lev=slice(-1, None, -2)).sortby("lev")
    coarse["lev"].attrs = data["lev"].attrs
    coarse.attrs = {
        **{name: data.attrs[name] for name in ("title", "model", "settings", "run_name", "vertical_coordinate")},
        "averaging": f"mean of the last {STATES} of {data.attrs['averaging']}",
        "grid": "means of two by two cells of the T21 Gaussian grid, every second of 10 levels",
        "radiation_residual_w_m2": residual,
    }
    return coarse


def _encoding(field: xr.DataArray) -> dict[str, object]:
    low, high = float(field.min()), float(field.max())
    return {
        "dtype": "int16",
        "scale_factor": (high - low) / _PACKED_VALUES or 1.0,
        "add_offset": low,
        "_FillValue": -1,
    }


def main(arguments: list[str]) -> int:
    if len(arguments) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    source, target = map(Path, arguments)
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted(source.glob("*.nc")):
        with xr.open_dataset(path, decode_times=False) as data:
            coarse = coarse_climate(data)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", xr.SerializationWarning)
            # Without the blocks of HDF5, which take more room than such small fields.
            coarse.to_netcdf(
                target / path.name,
                format="NETCDF3_64BIT",
                encoding={name: _encoding(field) for name, field in coarse.data_vars.items()},
            )
        print(path.name, f"{coarse.attrs['radiation_residual_w_m2']:+.1f} W m-2")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
