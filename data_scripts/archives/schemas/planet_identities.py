"""Relations within a row of the planet tables.

A composite row takes its values from several publications, so each tolerance leaves room for publications that differ;
rows where one of the values is only a limit are not judged.
"""

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from data_scripts.harness.archive import Identity


__all__ = ["composite_identities", "kepler_identities"]

DAYS_PER_YEAR = 365.25
EARTH_DENSITY_G_CM3 = 5.513
EARTH_MASSES_PER_SUN = 332_946.0
EARTH_MASSES_PER_JUPITER = 317.83
EARTH_RADII_PER_JUPITER = 11.209
EARTH_RADII_PER_SUN = 109.076
# A black planet at the distance where it gets the Earth's insolation, with an albedo of 0.3: 278.5 K times 0.7^(1/4).
EQUILIBRIUM_KELVIN = 254.7

Values = dict[str, np.ndarray]


def composite_identities() -> tuple[Identity, ...]:
    """Relations of the tables ps, pscomppars and k2pandc."""
    return (
        Identity(
            "kepler_third_law",
            _relation(
                ("pl_orbper", "pl_orbsmax", "st_mass"),
                ("pl_bmasse",),
                lambda v: (
                    _kepler_axis(v["pl_orbper"], v["st_mass"] + np.nan_to_num(v["pl_bmasse"]) / EARTH_MASSES_PER_SUN),
                    v["pl_orbsmax"],
                ),
                relative=0.10,
            ),
            "a^3 = (M_star + M_planet) P^2 in AU, solar masses and years (Kepler 1619); within 10 % of a",
        ),
        Identity(
            "radius_units",
            _relation(
                ("pl_rade", "pl_radj"),
                (),
                lambda v: (v["pl_rade"] / EARTH_RADII_PER_JUPITER, v["pl_radj"]),
                relative=0.02,
                absolute=0.0006,
            ),
            "one radius in two units, 11.209 Earth radii to Jupiter's (IAU 2015 B3); within 2 % and the rounding",
        ),
        Identity(
            "mass_units",
            _relation(
                ("pl_bmasse", "pl_bmassj"),
                (),
                lambda v: (v["pl_bmasse"] / EARTH_MASSES_PER_JUPITER, v["pl_bmassj"]),
                relative=0.02,
                absolute=0.0006,
            ),
            "one mass in two units, 317.83 Earth masses to Jupiter's (IAU 2015 B3); within 2 % and the rounding",
        ),
        Identity(
            "density",
            _relation(
                ("pl_dens", "pl_bmasse", "pl_rade"),
                (),
                lambda v: (EARTH_DENSITY_G_CM3 * v["pl_bmasse"] / v["pl_rade"] ** 3, v["pl_dens"]),
                relative=0.25,
                absolute=0.006,
            ),
            "density = 5.513 g/cm3 times mass over radius cubed in Earth's units; within 25 %",
        ),
    )


def kepler_identities() -> tuple[Identity, ...]:
    """Relations of the Kepler Objects of Interest."""
    return (
        Identity(
            "kepler_third_law",
            _relation(
                ("koi_period", "koi_sma", "koi_smass"),
                (),
                lambda v: (_kepler_axis(v["koi_period"], v["koi_smass"]), v["koi_sma"]),
                relative=0.10,
            ),
            "a^3 = M_star P^2 in AU, solar masses and years (Kepler 1619); within 10 % of a",
        ),
        Identity(
            "equilibrium_temperature",
            _relation(
                ("koi_teq", "koi_insol"),
                (),
                lambda v: (EQUILIBRIUM_KELVIN * v["koi_insol"] ** 0.25, v["koi_teq"]),
                relative=0.05,
                absolute=1.0,
            ),
            "T_eq = 254.7 K times the fourth root of the insolation: albedo 0.3, heat spread over the planet, as the "
            "archive defines koi_teq; within 5 % and 1 K",
        ),
        Identity(
            "radius_ratio",
            _relation(
                ("koi_prad", "koi_ror", "koi_srad"),
                (),
                lambda v: (v["koi_ror"] * v["koi_srad"] * EARTH_RADII_PER_SUN, v["koi_prad"]),
                relative=0.10,
                absolute=0.06,
            ),
            "planet radius = ratio times stellar radius, 109.076 Earth radii to the Sun's; within 10 % and rounding",
        ),
    )


def _kepler_axis(period_days: np.ndarray, mass_suns: np.ndarray) -> np.ndarray:
    return np.cbrt(mass_suns * (period_days / DAYS_PER_YEAR) ** 2)


def _relation(
    needed: tuple[str, ...],
    helpful: tuple[str, ...],
    sides: Callable[[Values], tuple[np.ndarray, np.ndarray]],
    relative: float,
    absolute: float = 0.0,
) -> Callable[[pa.Table], pa.BooleanArray]:
    """Return a test of two sides against each other; null where a needed value is absent, zero or a limit."""

    def holds(table: pa.Table) -> pa.BooleanArray:
        values = {name: table.column(name).to_numpy().astype(float) for name in (*needed, *helpful)}
        judged = np.ones(table.num_rows, bool)
        for name in needed:
            judged &= values[name] > 0
            if f"{name}lim" in table.column_names:
                judged &= np.nan_to_num(table.column(f"{name}lim").to_numpy().astype(float)) == 0
        with np.errstate(all="ignore"):
            expected, stated = sides(values)
            close = np.abs(expected - stated) <= relative * np.abs(stated) + absolute
        return pa.array(close, pa.bool_(), mask=~judged)

    return holds
