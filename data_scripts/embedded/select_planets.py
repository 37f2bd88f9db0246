"""Make the embedded table of planets from an export of the NASA Exoplanet Archive's table `pscomppars`.

    python -m data_scripts.embedded.select_planets PSCOMPPARS_CSV OUT_CSV

`README.md` beside this file states the selection rule and the columns.
"""

import argparse
import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd


__all__ = ["ARCHIVE_COLUMNS", "read_pscomppars", "select_planets", "selection_steps"]

# Column of the embedded table -> column of pscomppars. The order is the order of the embedded table.
ARCHIVE_COLUMNS = {
    "planet_name": "pl_name",
    "host_star_name": "hostname",
    "planets_in_system_count": "sy_pnum",
    "discovery_method": "discoverymethod",
    "discovery_year": "disc_year",
    "orbital_period_days": "pl_orbper",
    "semi_major_axis_au": "pl_orbsmax",
    "eccentricity_dimensionless": "pl_orbeccen",
    "planet_radius_earth_radii": "pl_rade",
    "planet_radius_uncertainty_plus_earth_radii": "pl_radeerr1",
    "planet_radius_uncertainty_minus_earth_radii": "pl_radeerr2",
    "planet_mass_earth_masses": "pl_bmasse",
    "planet_mass_uncertainty_plus_earth_masses": "pl_bmasseerr1",
    "planet_mass_uncertainty_minus_earth_masses": "pl_bmasseerr2",
    "equilibrium_temperature_k": "pl_eqt",
    "insolation_earth_flux": "pl_insol",
    "star_spectral_type": "st_spectype",
    "star_effective_temperature_k": "st_teff",
    "star_radius_solar_radii": "st_rad",
    "star_mass_solar_masses": "st_mass",
    "star_metallicity_fe_h_dex": "st_met",
    "distance_pc": "sy_dist",
}
TEXT_COLUMNS = ("planet_name", "host_star_name", "discovery_method", "star_spectral_type")
REQUIRED_ARCHIVE_COLUMNS = (
    *(
        "pl_orbper",
        "pl_orbpererr1",
        "pl_rade",
        "pl_radeerr1",
        "pl_radeerr2",
        "pl_bmasse",
        "pl_bmasseerr1",
        "pl_bmasseerr2",
    ),
    *("st_teff", "st_rad", "st_mass", "sy_dist"),
)
LIMIT_FLAGS = {
    **{"pl_orbper": "pl_orbperlim", "pl_rade": "pl_radelim", "pl_bmasse": "pl_bmasselim"},
    **{"st_teff": "st_tefflim", "st_rad": "st_radlim", "st_mass": "st_masslim"},
    **{"pl_orbsmax": "pl_orbsmaxlim", "pl_orbeccen": "pl_orbeccenlim", "pl_insol": "pl_insollim"},
    **{"pl_eqt": "pl_eqtlim", "st_met": "st_metlim"},
}
RULE_COLUMNS = ("pl_bmassprov", "pl_controv_flag", "pl_orbeccenerr1", "st_metratio", "st_logg", "st_logglim")

# Least value / uncertainty, with the larger of the two uncertainties.
MIN_MASS_SIGNIFICANCE = 3.0
MIN_RADIUS_SIGNIFICANCE = 5.0
MAX_KEPLER_DEVIATION = 0.05
MAX_SURFACE_GRAVITY_DEVIATION_DEX = 0.15
MAX_INSOLATION_DEVIATION = 0.25
MAX_EQUILIBRIUM_TEMPERATURE_DEVIATION = 0.20

JULIAN_YEAR_DAYS = 365.25
SUN_EFFECTIVE_TEMPERATURE_K = 5772.0  # IAU 2015 Resolution B3, nominal
SUN_SURFACE_GRAVITY_LOG10_CM_S2 = float(
    np.log10(1.3271244e20 / 6.957e8**2 * 100)
)  # nominal GM and radius, same source
SUN_RADIUS_AU = 6.957e8 / 149_597_870_700  # IAU 2015 Resolution B3 and IAU 2012 Resolution B2

# One spectral class, optional subclass and luminosity class: ranges, binaries and marked-up cells are left out.
SPECTRAL_TYPE_PATTERN = re.compile(r"[OBAFGKM](\d(\.\d)?)?( ?(I|II|III|IV|V))?")


def read_pscomppars(path: str | Path) -> pd.DataFrame:
    """Read an export of `pscomppars` with every cell as the text that the archive wrote.

    Args:
        path: CSV file as the archive exports it, with or without its `#` header.

    Raises:
        FileNotFoundError: If there is no such file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"path must name a CSV export of pscomppars; got {path}, which is not a file. "
            "Export the table at https://exoplanetarchive.ipac.caltech.edu."
        )
    header_lines = 0
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            if not line.startswith("#"):
                break
            header_lines += 1
    return pd.read_csv(path, skiprows=header_lines, dtype=str, keep_default_na=False, encoding="utf-8")


def selection_steps(pscomppars: pd.DataFrame) -> list[tuple[str, pd.Series]]:
    """Return the rules in order, each as a sentence and a mask that is true where the row passes.

    Args:
        pscomppars: Table with text cells, as `read_pscomppars` returns it.
    """
    number = _numbers(pscomppars)
    period_years = number("pl_orbper") / JULIAN_YEAR_DAYS
    kepler_axis_au = (number("st_mass") * period_years**2) ** (1 / 3)
    kepler_deviation = (kepler_axis_au / _measured(pscomppars, "pl_orbsmax") - 1).abs()
    gravity = SUN_SURFACE_GRAVITY_LOG10_CM_S2 + np.log10(number("st_mass") / number("st_rad") ** 2)
    gravity_deviation_dex = (gravity - number("st_logg").where(pscomppars["st_logglim"] == "0")).abs()
    present = pd.Series(True, index=pscomppars.index)
    unlimited = pd.Series(True, index=pscomppars.index)
    for column in REQUIRED_ARCHIVE_COLUMNS:
        present &= number(column).notna()
        if column in LIMIT_FLAGS:
            unlimited &= pscomppars[LIMIT_FLAGS[column]] == "0"
    mass_significance = number("pl_bmasse") / np.maximum(number("pl_bmasseerr1"), -number("pl_bmasseerr2"))
    radius_significance = number("pl_rade") / np.maximum(number("pl_radeerr1"), -number("pl_radeerr2"))
    return [
        ("the planet is not marked controversial", pscomppars["pl_controv_flag"] == "0"),
        ("the mass is a measured true mass (pl_bmassprov is 'Mass')", pscomppars["pl_bmassprov"] == "Mass"),
        ("every required cell is present", present),
        ("no required cell is a limit", unlimited),
        ("the mass is at least 3 times its uncertainty", mass_significance >= MIN_MASS_SIGNIFICANCE),
        ("the radius is at least 5 times its uncertainty", radius_significance >= MIN_RADIUS_SIGNIFICANCE),
        (
            "the semi-major axis, if present, agrees with Kepler's third law to 5 %",
            ~(kepler_deviation > MAX_KEPLER_DEVIATION),
        ),
        (
            "the star's log g, if present, agrees with its mass and radius to 0.15 dex",
            ~(gravity_deviation_dex > MAX_SURFACE_GRAVITY_DEVIATION_DEX),
        ),
    ]


def select_planets(pscomppars: pd.DataFrame) -> pd.DataFrame:
    """Select and rename the rows and columns of the embedded table.

    Numbers are the archive's, with the zeros dropped that pad each column to a fixed number of decimals; the two
    lower uncertainties lose their minus sign. No digit is rounded.

    Args:
        pscomppars: Table with text cells, as `read_pscomppars` returns it.

    Returns:
        Text cells, columns `ARCHIVE_COLUMNS`, sorted by `planet_name`; an empty cell is a null.

    Raises:
        ValueError: If a column is missing, a cell is not text, a planet occurs twice, or no planet passes.
    """
    wanted = {*ARCHIVE_COLUMNS.values(), *LIMIT_FLAGS.values(), *RULE_COLUMNS}
    missing = sorted(wanted - set(pscomppars.columns))
    if missing:
        raise ValueError(
            f"pscomppars must have all {len(wanted)} columns that the selection reads; got none named "
            f"{', '.join(missing)}. Export the table with all columns."
        )
    untyped = sorted(column for column in wanted if not pscomppars[column].map(type).eq(str).all())
    if untyped:
        raise ValueError(
            f"pscomppars must hold text cells so that no digit changes; got other types in {', '.join(untyped)}. "
            "Read the file with read_pscomppars."
        )
    passed = pd.Series(True, index=pscomppars.index)
    for _, mask in selection_steps(pscomppars):
        passed &= mask
    selected = _blank_optional_cells(pscomppars[passed])
    if selected.empty:
        raise ValueError(
            f"pscomppars must hold at least one planet that passes the selection; got {len(pscomppars)} rows and none "
            "passes. Check that the export is the whole table."
        )
    if not selected["pl_name"].is_unique:
        twice = sorted(set(selected.loc[selected["pl_name"].duplicated(), "pl_name"]))
        raise ValueError(
            f"pscomppars must have one row per planet; got several for {', '.join(twice)}. "
            "Export pscomppars, not the table ps."
        )
    table = pd.DataFrame({ours: selected[theirs] for ours, theirs in ARCHIVE_COLUMNS.items()})
    for column in table.columns:
        if column not in TEXT_COLUMNS:
            table[column] = table[column].map(_shortest_decimal)
        if "_uncertainty_minus_" in column:
            table[column] = table[column].str.removeprefix("-")
    # Plain code point order: it does not depend on a locale.
    return table.sort_values("planet_name", kind="stable").reset_index(drop=True)


def _blank_optional_cells(selected: pd.DataFrame) -> pd.DataFrame:
    """Empty the optional cells that are limits, assumptions, or contradict their own row."""
    selected = selected.copy()
    number = _numbers(selected)
    for column, flag in LIMIT_FLAGS.items():
        if column not in REQUIRED_ARCHIVE_COLUMNS:
            selected.loc[(selected[flag] != "0") & (selected[flag] != ""), column] = ""
    # An eccentricity without uncertainty is an assumption of the fit, most often a circular orbit.
    selected.loc[selected["pl_orbeccenerr1"] == "", "pl_orbeccen"] = ""
    selected.loc[selected["st_metratio"] != "[Fe/H]", "st_met"] = ""
    plain_type = selected["st_spectype"].map(lambda cell: SPECTRAL_TYPE_PATTERN.fullmatch(cell) is not None)
    selected.loc[~plain_type, "st_spectype"] = ""

    axis_au = (number("st_mass") * (number("pl_orbper") / JULIAN_YEAR_DAYS) ** 2) ** (1 / 3)
    temperature_ratio = number("st_teff") / SUN_EFFECTIVE_TEMPERATURE_K
    insolation = number("st_rad") ** 2 * temperature_ratio**4 / axis_au**2
    contradicts = ~((number("pl_insol") / insolation - 1).abs() <= MAX_INSOLATION_DEVIATION)
    selected.loc[contradicts, "pl_insol"] = ""
    # Zero albedo and heat spread over the whole planet; other choices move the value by less than the tolerance.
    equilibrium_k = number("st_teff") * np.sqrt(number("st_rad") * SUN_RADIUS_AU / (2 * axis_au))
    contradicts = ~((number("pl_eqt") / equilibrium_k - 1).abs() <= MAX_EQUILIBRIUM_TEMPERATURE_DEVIATION)
    selected.loc[contradicts, "pl_eqt"] = ""
    return selected


def _numbers(table: pd.DataFrame) -> Callable[[str], pd.Series]:
    """Return a function from column name to its numbers, null where the cell is empty."""
    return lambda column: pd.to_numeric(table[column].replace("", None)).astype(float)


def _measured(table: pd.DataFrame, column: str) -> pd.Series:
    """Return the numbers of a column, null where the cell is a limit."""
    return _numbers(table)(column).where(table[LIMIT_FLAGS[column]].isin(["0", ""]))


def _shortest_decimal(cell: str) -> str:
    """Drop the padding zeros of a number: `5131.00` becomes `5131`, the value is the same."""
    if cell == "":
        return ""
    text = format(Decimal(cell).normalize(), "f")
    return "0" if text == "-0" else text


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the embedded table of planets from an export of pscomppars.")
    parser.add_argument("pscomppars_csv", type=Path, help="CSV export of the archive's table pscomppars")
    parser.add_argument("out_csv", type=Path, help="file to write")
    arguments = parser.parse_args()
    pscomppars = read_pscomppars(arguments.pscomppars_csv)
    table = select_planets(pscomppars)
    print(f"{len(pscomppars):5d} rows in the export")
    passed = pd.Series(True, index=pscomppars.index)
    for rule, mask in selection_steps(pscomppars):
        passed &= mask
        print(f"{int(passed.sum()):5d} rows left where {rule}")
    # Bytes, so that line ends are the same on every system.
    arguments.out_csv.write_bytes(table.to_csv(index=False, lineterminator="\n").encode("utf-8"))
    print(f"{len(table):5d} planets of {table['host_star_name'].nunique()} stars written to {arguments.out_csv}")


if __name__ == "__main__":
    main()
