"""Make cubes of model output by running ExoPlaSim over planets drawn at random.

    pip install 'setuptools<81' exoplasim netCDF4        # and a Fortran compiler: apt-get install gfortran
    python -m data_scripts.climate.make_cubes --out runs --planets 32 --years 2
    python -m data_scripts build climate_cubes --from-folder cubes=runs --out climate_cubes

A run of T21 with 10 levels takes 4 to 8 minutes for a year of 360 days on a core. Each planet is one process and one
file, `planet-SEED-NUMBER.nc`, with every setting in its attributes. A file that is there is not made again, so the
same command goes on after a stop; a larger `--planets` adds planets and leaves the others as they are. A planet whose
run failed is noted in `planet-SEED-NUMBER.failed.txt` with the model's last words, and left out until that is removed.

`--set NAME=VALUE` gives a setting of `configure` to every planet in place of what is drawn. Steady climates
within one model year: `--years 1 --set mldepth=2 --set obliquity=0`, a sea that follows the air within weeks, without
seasons.
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from data_scripts.harness.errors import BuildError


__all__ = ["draw_settings", "main", "make_cube"]

# The whole range in which the model was seen to run: fluxes W m-2, pressures bar, radius Earth's, days.
_FLUX = (700.0, 1450.0)
_N2 = (0.4, 3.2)
_CO2 = (1e-5, 0.06)
_RADIUS = (0.8, 1.3)
_GRAVITY = (7.0, 13.0)
_ROTATION = (0.5, 32.0)
_COOL_STAR, _WARM_STAR = (2600.0, 4000.0), (5000.0, 6500.0)
_SYNCHRONOUS_SHARE = 0.4


def draw_settings(seed: int, number: int) -> dict[str, Any]:
    """Return the arguments of ExoPlaSim's `configure` for one planet; they depend on nothing but these two numbers."""
    rng = np.random.default_rng((seed, number))

    def between(bounds: tuple[float, float]) -> float:
        return float(f"{rng.uniform(*bounds):.4g}")

    def decades(bounds: tuple[float, float]) -> float:
        return float(f"{np.exp(rng.uniform(*np.log(bounds))):.4g}")

    settings: dict[str, Any] = {
        "flux": between(_FLUX),
        "pN2": decades(_N2),
        "pCO2": decades(_CO2),
        "radius": between(_RADIUS),
        "gravity": between(_GRAVITY),
        "rotationperiod": decades(_ROTATION),
        "eccentricity": 0.0,
        "fixedorbit": True,
        "ozone": False,
        "mldepth": 10.0,
        "aquaplanet": bool(rng.random() < 0.7),
        "physicsfilter": "gp|exp|sp",
        "snapshots": 720,
        "timestep": 30.0,
    }
    if rng.random() < _SYNCHRONOUS_SHARE:
        return settings | {"synchronous": True, "obliquity": 0.0, "startemp": between(_COOL_STAR)}
    return settings | {"synchronous": False, "obliquity": between((0.0, 45.0)), "startemp": between(_WARM_STAR)}


def make_cube(settings: dict[str, Any], years: int, target: Path) -> None:
    """Run the model in a process of its own; the file appears whole or not at all.

    Raises:
        BuildError: If the model ended badly; the message ends with its last words.
    """
    with tempfile.TemporaryDirectory(prefix=".exoplasim-", dir=target.parent) as folder:
        work = Path(folder)
        (work / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
        command = [sys.executable, "-m", "data_scripts.climate.exoplasim_run", str(work), str(years), target.stem]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", env=environment, check=False)
        made = work / "cube.nc"
        if done.returncode != 0 or not made.is_file():
            raise BuildError(
                f"{target.stem} failed with status {done.returncode}: {(done.stderr or done.stdout)[-2000:]}"
            )
        made.replace(target)


def _made_as(path: Path) -> tuple[int, dict[str, Any]]:
    """Return the years and the settings of a file made before."""
    with xr.open_dataset(path, decode_times=False) as data:
        return int(data.attrs["years_run"]), json.loads(data.attrs["settings"])


def _setting(text: str) -> tuple[str, Any]:
    """Read `NAME=VALUE`; the value is JSON."""
    name, equals, value = text.partition("=")
    try:
        if name and equals:
            return name, json.loads(value)
    except json.JSONDecodeError:
        pass
    raise argparse.ArgumentTypeError(f"must be NAME=VALUE with a number, true, false or a quoted string; got {text!r}")


def _at_least(least: int) -> Callable[[str], int]:
    """Return a reader of whole numbers that refuses smaller ones."""

    def read(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"must be a whole number of at least {least}; got {text!r}")
        return int(text)

    return read


def main(arguments: list[str] | None = None) -> int:
    """Run the command; the status is 1 if a planet failed, 2 if none can be made."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the files")
    parser.add_argument("--planets", type=_at_least(1), required=True, help="how many there shall be in the end")
    parser.add_argument("--years", type=_at_least(1), default=2, help="model years; means of the last one are kept")
    parser.add_argument("--seed", type=_at_least(0), default=0, help="another seed, other planets")
    parser.add_argument("--processes", type=_at_least(1), default=1, help="runs at one time, each on one core")
    parser.add_argument(
        "--set", type=_setting, action="append", default=[], help="a setting of every planet: mldepth=2"
    )
    parsed = parser.parse_args(arguments)
    common = dict(parsed.set)

    def settings_of(number: int) -> dict[str, Any]:
        return draw_settings(parsed.seed, number) | common

    for path in sorted(parsed.out.glob(f"planet-{parsed.seed}-*.nc")):
        years, settings = _made_as(path)
        if (years, settings) != (parsed.years, settings_of(int(path.stem.rsplit("-", 1)[1]))):
            parser.error(f"--years and --set must be those of {path.name}; choose another folder, or remove that file")
    if importlib.util.find_spec("exoplasim") is None:
        parser.error("exoplasim is not installed: pip install 'setuptools<81' exoplasim netCDF4")
    parsed.out.mkdir(parents=True, exist_ok=True)

    def make(number: int) -> bool:
        target = parsed.out / f"planet-{parsed.seed}-{number:04}.nc"
        failed = target.with_suffix(".failed.txt")
        if target.is_file() or failed.is_file():
            return target.is_file()
        try:
            make_cube(settings_of(number), parsed.years, target)
        except BuildError as error:
            failed.write_text(str(error) + "\n", encoding="utf-8")
            print(f"error: {str(error).splitlines()[0]}", file=sys.stderr)
            return False
        print(target.name, flush=True)
        return True

    with ThreadPoolExecutor(parsed.processes) as pool:
        made = list(pool.map(make, range(parsed.planets)))
    print(f"{sum(made)} of {len(made)} planets are in {parsed.out}")
    return 0 if all(made) else 1


if __name__ == "__main__":
    sys.exit(main())
