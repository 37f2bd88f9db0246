"""The embedded table: against the archive's table, against physics, and its loader on broken input."""

import csv
import math
from decimal import Decimal
from importlib import resources

import pandas as pd
import pytest

from data_scripts.embedded.planets import load_planets, read_planets
from data_scripts.embedded.select_planets import (
    ARCHIVE_COLUMNS,
    TEXT_COLUMNS,
    main,
    read_pscomppars,
    select_planets,
    selection_steps,
)


TABLE_TEXT = resources.files("data_scripts.embedded").joinpath("planets.csv").read_text(encoding="utf-8")
HEADER, *LINES = TABLE_TEXT.splitlines()


@pytest.fixture(scope="session")
def pscomppars_path(shared_dir):
    return shared_dir / "archive_samples" / "nasa_exoplanet_archive" / "pscomppars_2021-11-04.csv"


@pytest.fixture(scope="session")
def pscomppars(pscomppars_path):
    return read_pscomppars(pscomppars_path)


def table_rows():
    return list(csv.DictReader(TABLE_TEXT.splitlines()))


def test_at_least_200_planets_sorted_and_unique():
    names = [planet.planet_name for planet in load_planets()]
    assert len(names) >= 200
    assert names == sorted(set(names))
    assert len({planet.host_star_name for planet in load_planets()}) >= 200


def test_every_value_is_the_archives(pscomppars_path):
    # Read with the standard library, not with the code under test.
    with pscomppars_path.open(encoding="utf-8") as lines:
        archive = {row["pl_name"]: row for row in csv.DictReader(line for line in lines if not line.startswith("#"))}
    compared = 0
    for row in table_rows():
        theirs = archive[row["planet_name"]]
        for column, archive_column in ARCHIVE_COLUMNS.items():
            if row[column] == "":
                continue
            expected = theirs[archive_column]
            if column in TEXT_COLUMNS:
                assert row[column] == expected, (row["planet_name"], column)
            else:
                sign = -1 if "_uncertainty_minus_" in column else 1
                assert Decimal(row[column]) == sign * Decimal(expected), (row["planet_name"], column)
            compared += 1
    assert compared > 20 * len(archive.keys() & {row["planet_name"] for row in table_rows()}) * 0.9


def test_selected_rows_pass_the_rules_that_read_single_cells(pscomppars_path):
    archive = pd.read_csv(pscomppars_path, comment="#").set_index("pl_name")
    chosen = archive.loc[[row["planet_name"] for row in table_rows()]]
    assert (chosen["pl_controv_flag"] == 0).all()
    assert (chosen["pl_bmassprov"] == "Mass").all()
    for flag in ("pl_orbperlim", "pl_radelim", "pl_bmasselim", "st_tefflim", "st_radlim", "st_masslim"):
        assert (chosen[flag] == 0).all(), flag
    optional = {
        "semi_major_axis_au": "pl_orbsmaxlim",
        "eccentricity_dimensionless": "pl_orbeccenlim",
        "equilibrium_temperature_k": "pl_eqtlim",
        "insolation_earth_flux": "pl_insollim",
        "star_metallicity_fe_h_dex": "st_metlim",
    }
    for row in table_rows():
        for column, flag in optional.items():
            if row[column] != "":
                assert chosen.loc[row["planet_name"], flag] in (0, None) or math.isnan(
                    chosen.loc[row["planet_name"], flag]
                ), (row["planet_name"], column)


def test_selection_reproduces_the_table(pscomppars):
    assert select_planets(pscomppars).to_csv(index=False, lineterminator="\n") == TABLE_TEXT


def test_command_writes_the_same_bytes(pscomppars_path, tmp_path, monkeypatch, capsys):
    out = tmp_path / "planets.csv"
    monkeypatch.setattr("sys.argv", ["select_planets", str(pscomppars_path), str(out)])
    main()
    assert out.read_bytes() == TABLE_TEXT.encode("utf-8")
    assert f"{len(LINES)} planets of" in capsys.readouterr().out


def test_the_physics_rules_exclude_the_contradictory_rows(pscomppars):
    steps = dict(selection_steps(pscomppars))
    (kepler,) = [mask for rule, mask in steps.items() if "Kepler" in rule]
    # Planets of two stars, whose mass in the archive is that of one.
    for name in ("Kepler-34 b", "Kepler-35 b", "Kepler-16 b"):
        assert not kepler[pscomppars["pl_name"] == name].any()
        assert name not in {planet.planet_name for planet in load_planets()}


def test_keplers_third_law():
    planets = [planet for planet in load_planets() if planet.semi_major_axis_au is not None]
    assert len(planets) > 0.9 * len(load_planets())
    for planet in planets:
        period_years = float(planet.orbital_period_days) / 365.25
        axis_au = (float(planet.star_mass_solar_masses) * period_years**2) ** (1 / 3)
        # The selection allows 5 % of the computed axis over the archive's: 1 / 0.95 the other way round.
        assert float(planet.semi_major_axis_au) == pytest.approx(axis_au, rel=0.053), planet.planet_name


def test_insolation_and_equilibrium_temperature_agree_with_star_and_orbit():
    for planet in load_planets():
        axis_au = (float(planet.star_mass_solar_masses) * (float(planet.orbital_period_days) / 365.25) ** 2) ** (1 / 3)
        luminosity = (
            float(planet.star_radius_solar_radii) ** 2 * (float(planet.star_effective_temperature_k) / 5772) ** 4
        )
        if planet.insolation_earth_flux is not None:
            assert float(planet.insolation_earth_flux) == pytest.approx(luminosity / axis_au**2, rel=0.26)
        if planet.equilibrium_temperature_k is not None:
            # 278.3 K is the equilibrium temperature at 1 au from the Sun with zero albedo.
            expected = 278.3 * luminosity**0.25 / axis_au**0.5
            assert float(planet.equilibrium_temperature_k) == pytest.approx(expected, rel=0.21), planet.planet_name


def test_mass_and_radius_are_measured():
    for planet in load_planets():
        for quantity, least in (("mass_{}earth_masses", 3), ("radius_{}earth_radii", 5)):
            value = getattr(planet, "planet_" + quantity.format(""))
            for side in ("plus", "minus"):
                uncertainty = getattr(planet, "planet_" + quantity.format(f"uncertainty_{side}_"))
                assert 0 < least * uncertainty <= value


def test_known_planet():
    (planet,) = [planet for planet in load_planets() if planet.planet_name == "HD 209458 b"]
    assert planet.host_star_name == "HD 209458"
    assert float(planet.orbital_period_days) == pytest.approx(3.5247, abs=1e-3)
    assert float(planet.planet_mass_earth_masses) == pytest.approx(0.7 * 317.8, rel=0.1)


def test_empty_cells_are_none():
    assert any(planet.insolation_earth_flux is None for planet in load_planets())
    assert any(planet.star_spectral_type is None for planet in load_planets())


@pytest.mark.parametrize(
    ("column", "cell", "message"),
    [
        ("planet_mass_earth_masses", "", "planet_mass_earth_masses must not be empty"),
        ("planet_mass_earth_masses", "heavy", "planet_mass_earth_masses must be a decimal number; got 'heavy'"),
        ("planet_mass_earth_masses", "NaN", "planet_mass_earth_masses must be a decimal number; got 'NaN'"),
        ("distance_pc", "-3", "distance_pc must be between 1 and 20000; got -3"),
        ("eccentricity_dimensionless", "1.2", "eccentricity_dimensionless must be between 0 and 0.999; got 1.2"),
        ("discovery_year", "2010.5", "discovery_year must be a whole number; got 2010.5"),
    ],
)
def test_a_broken_cell_is_named(column, cell, message):
    cells = dict(zip(HEADER.split(","), LINES[6].split(","), strict=True)) | {column: cell}
    with pytest.raises(ValueError, match=message):
        read_planets(f"{HEADER}\n{','.join(cells.values())}\n", "broken.csv")


def test_wrong_columns_are_refused():
    with pytest.raises(ValueError, match=r"broken.csv must have the columns .* got \['a', 'b'\]"):
        read_planets("a,b\n1,2\n", "broken.csv")


@pytest.mark.parametrize("line", [f"{LINES[0]},7", LINES[0].rsplit(",", 1)[0]])
def test_a_row_with_too_many_or_too_few_cells_is_refused(line):
    with pytest.raises(ValueError, match=r"broken.csv line 2 must have 22 cells; got 2[13]"):
        read_planets(f"{HEADER}\n{line}\n", "broken.csv")


@pytest.mark.parametrize("lines", [(LINES[1], LINES[0]), (LINES[0], LINES[0])])
def test_unsorted_and_repeated_planets_are_refused(lines):
    with pytest.raises(ValueError, match="every planet_name once, in ascending order"):
        read_planets("\n".join((HEADER, *lines)) + "\n", "broken.csv")


def test_selection_refuses_a_table_without_the_needed_columns():
    with pytest.raises(ValueError, match=r"pscomppars must have all \d+ columns .* hostname"):
        select_planets(pd.DataFrame({"pl_name": ["x"]}))


def test_selection_refuses_numbers_that_lost_their_digits(pscomppars):
    table = pscomppars.head(30).copy()
    table["pl_orbper"] = pd.to_numeric(table["pl_orbper"].replace("", None))
    with pytest.raises(
        ValueError, match="must hold text cells so that no digit changes; got other types in pl_orbper"
    ):
        select_planets(table)


def test_selection_refuses_a_planet_with_two_rows(pscomppars):
    with pytest.raises(ValueError, match=r"one row per planet; got several for .*HD 209458 b"):
        select_planets(pd.concat([pscomppars, pscomppars], ignore_index=True))


def test_selection_refuses_a_table_where_nothing_passes(pscomppars):
    with pytest.raises(ValueError, match="at least one planet that passes the selection"):
        select_planets(pscomppars[pscomppars["pl_bmassprov"] != "Mass"])


def test_missing_export_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="path must name a CSV export of pscomppars"):
        read_pscomppars(tmp_path / "absent.csv")
