"""One run of ExoPlaSim, in the folder that `make_cubes` made for it.

    python -m data_scripts.climate.exoplasim_run FOLDER YEARS NAME

reads FOLDER/settings.json and writes FOLDER/cube.nc.
"""

import fcntl
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import exoplasim
import xarray as xr


ON_LEVELS = ["ta", "ua", "va", "hus", "wap", "hur", "clw", "cl"]
AT_SURFACE = (
    "ts tas ps pr clt prw evap hfss hfls rst rlut rsut rss rls alb sic sit snd lsm sg netz czen".split()  # noqa: SIM905
)
TIMES = 12


@contextmanager
def _alone() -> Iterator[None]:
    """Let one process at a time make a model: the first one compiles it, in the package's own folder."""
    with open(Path(exoplasim.__file__).parent / ".compiling", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main(folder: Path, years: int, name: str) -> None:
    settings = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
    with _alone():
        model = exoplasim.Model(
            workdir=str(folder / "work"),
            modelname=name,
            ncpus=1,
            resolution="T21",
            layers=10,
            precision=8,
            outputtype=".nc",
        )
    model.configure(**settings)
    model.cfgpostprocessor("regular", extension=".nc", variables=ON_LEVELS + AT_SURFACE, times=TIMES)
    model.run(years=years, crashifbroken=True, clean=True)
    last = sorted((folder / "work").glob("MOST.*.nc"))[-1]
    with xr.open_dataset(last, decode_times=False) as data:
        kept = data[[variable for variable in ON_LEVELS + AT_SURFACE if variable in data]].load()
    kept.attrs = {
        "title": f"ExoPlaSim T21L10 general-circulation run: {name}",
        "model": f"ExoPlaSim {version('exoplasim')} (PlaSim), T21, 10 sigma levels",
        "settings": json.dumps(settings, sort_keys=True),
        "averaging": f"{TIMES} equal-length time means over model year {years - 1}, counted from 0; "
        "a year is 360 days of 86,400 s; years before it are spin-up and not kept",
        "years_run": years,
        "run_name": name,
        "vertical_coordinate": "sigma = p/ps (coordinate lev)",
    }
    encoding = {str(variable): {"dtype": "float32", "zlib": True, "complevel": 4} for variable in kept.data_vars}
    kept.to_netcdf(folder / "cube.nc", encoding=encoding)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
