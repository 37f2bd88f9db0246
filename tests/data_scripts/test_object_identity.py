"""A star that is held out of one data set is held out of all, in made-up and in recorded tables."""

import itertools

import numpy as np
import pyarrow as pa
import pytest
from datasets import load_dataset
from real_tables import real_table, write_built

from data_scripts.derived.object_identity import (
    OBJECT_IDENTITY_CARD,
    OBJECT_IDENTITY_FEATURES,
    build_object_identity,
    identity_of_tables,
)
from data_scripts.embedded.planets import load_planets
from data_scripts.harness.errors import BuildError
from data_scripts.harness.hub_folder import write_hub_folder
from data_scripts.identifier_columns import SKY_COLUMN, names_objects
from data_scripts.identifiers import parse_identifier
from data_scripts.identity import IdentityTable, split_rows
from data_scripts.splits import SPLIT_NAMES, split_of


# Table to columns that name the star, its position, and the recorded file.
REAL = {
    ("nasa_exoplanet_archive", "pscomppars"): (
        ("hostname", "tic_id", "hip_name", "hd_name"),
        ("ra", "dec"),
        "pscomppars_2021-11-04.csv",
    ),
    ("nasa_exoplanet_archive", "cumulative"): (("kepid",), ("ra", "dec"), "koi_cumulative_2019-01-20.csv.gz"),
    ("nasa_exoplanet_archive", "toi"): (("tid",), ("ra", "dec"), "toi_expect_0.txt"),
    ("nasa_exoplanet_archive", "k2candidates"): (("epic_name",), ("ra", "dec"), "k2candidates_expect_0.txt"),
    ("tess", "toi"): (("TIC",), ("TIC Right Ascension", "TIC Declination"), "TOI_list_2021-10-13.csv"),
    ("planet_hunters", "candidates"): (("TIC ID",), ("RA", "Dec"), "PHT_candidates_info.csv"),
    ("exoplanets_org", "planets"): (("STAR", "KEPID"), None, "exoplanet_orbit_database.csv"),
    ("kepler_k2", "koi_dr25"): (("kepid",), ("ra", "dec"), "q1_q17_dr25_koi_expect_0.txt"),
}


@pytest.fixture(scope="module")
def real():
    tables = {f"{source}.{config}": real_table(source, config, entry[2]) for (source, config), entry in REAL.items()}
    return tables, identity_of_tables(tables)


def objects_and_positions(real):
    tables, identity = real
    for (source, config), (objects, position, _) in REAL.items():
        table = tables[f"{source}.{config}"]
        object_ids, splits = split_rows(table, objects, identity)
        yield f"{source}.{config}", table, object_ids, splits, position


def test_recorded_rows_that_share_a_name_share_the_split(real):
    splits_of: dict[object, set[str]] = {}
    shared = 0
    for _, table, _, splits, _ in objects_and_positions(real):
        for column in filter(names_objects, table.column_names):
            for cell, split in zip(table[column].to_pylist(), splits, strict=True):
                alias = parse_identifier(cell, column)
                if alias is not None:
                    shared += alias in splits_of
                    splits_of.setdefault(alias, set()).add(split)
    assert shared > 10_000
    assert [alias for alias, splits in splits_of.items() if len(splits) > 1] == []


def test_recorded_rows_at_one_place_share_the_split(real):
    placed = []
    for name, table, object_ids, splits, position in objects_and_positions(real):
        if position:
            ra, dec = (table[column].to_numpy() for column in position)
            placed.append((name, ra, dec, object_ids, splits))
    pairs = 0
    for (_, ra, dec, ids, splits), (_, other_ra, other_dec, other_ids, other_splits) in itertools.product(
        placed, repeat=2
    ):
        order = np.argsort(other_dec)
        low, high = (np.searchsorted(other_dec[order], dec + offset / 3600) for offset in (-2, 2))
        for row, (start, end) in enumerate(zip(low, high, strict=True)):
            others = order[start:end]
            apart = np.hypot((other_ra[others] - ra[row]) * np.cos(np.radians(dec[row])), other_dec[others] - dec[row])
            for other in others[apart * 3600 < 2]:
                pairs += 1
                assert (ids[row], splits[row]) == (other_ids[other], other_splits[other])
    assert pairs > 15_000


def test_recorded_objects_of_interest_are_found_under_their_planets_name(real):
    tables, identity = real
    hosts = {identity.canonical([parse_identifier(planet.host_star_name, "hostname")]) for planet in load_planets()}
    objects_of_interest, _ = split_rows(tables["nasa_exoplanet_archive.cumulative"], ("kepid",), identity)
    # Most Kepler stars of the embedded table; by number alone none would be found.
    assert len(hosts & set(objects_of_interest)) > 50
    kepler_90 = [parse_identifier("Kepler-90 b", "kepler_name")]
    assert identity.canonical(kepler_90) == "koi-351"


def test_embedded_planets_keep_their_split(real):
    _, identity = real
    for planet in load_planets():
        star = identity.canonical([parse_identifier(planet.host_star_name, "host_star_name")])
        assert split_of(star) == split_of(planet.host_star_name)


def test_recorded_tables_contradict_each_other_seldom(real):
    _, identity = real
    objects = set(identity.rows["object_id"].to_pylist())
    assert len(identity.conflicts) < 0.005 * len(objects)
    assert not [conflict for conflict in identity.conflicts if conflict.reason.startswith("set aside")]


def made_up_inputs(tmp_path):
    planets = pa.table(
        {
            "pl_name": ["Test-1 b", "Test-2 b", "Test-3 b"],
            "hostname": ["Test-1", "Test-2", "Test-3"],
            "ra": [10.0, 20.0, 359.9999],
            "dec": [1.0, 2.0, 3.0],
        }
    )
    candidates = pa.table(
        {
            "TIC": [1, 2, 3, 4],
            "TIC Right Ascension": [10.0005, 200.0, 0.0001, 40.0],
            "TIC Declination": [1.0005, 2.0, 3.0, 4.0],
            "TIC Right Ascension 2015.5": [10.01, 20.0002, None, None],
            "TIC Declination 2015.5": [1.0, 2.0002, None, None],
        }
    )
    hours = pa.field("RA", pa.float64(), metadata={"unit": "hourangle"})
    old = pa.table(
        [[20.0 / 15], [2.0], ["HD 77"]], schema=pa.schema([hours, ("DEC", pa.float64()), ("STAR", pa.string())])
    )
    return {
        "nasa_exoplanet_archive": write_built(tmp_path / "nasa", "pscomppars", planets),
        "tess": write_built(tmp_path / "tess", "toi", candidates),
        "exoplanets_org": write_built(tmp_path / "old", "planets", old),
    }


def test_folder_of_made_up_archives(tmp_path):
    inputs = made_up_inputs(tmp_path)
    splits = build_object_identity(inputs)
    folder = write_hub_folder(splits, OBJECT_IDENTITY_CARD, tmp_path / "identity")
    again = write_hub_folder(build_object_identity(inputs), OBJECT_IDENTITY_CARD, tmp_path / "again")
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            assert path.read_bytes() == (again / path.relative_to(folder)).read_bytes(), path
    loaded = load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
    assert set(loaded) == set(SPLIT_NAMES)
    assert loaded["train"].features == OBJECT_IDENTITY_FEATURES
    for split in SPLIT_NAMES:
        assert all(split_of(object_id) == split for object_id in loaded[split]["object_id"])

    identity = IdentityTable.load(folder)
    stars = [identity.canonical([parse_identifier(tic, "tic")]) for tic in (1, 2, 3, 4)]
    # By the first position, by the second, across right ascension 0 (0.7 arcsec), and alone.
    assert stars == ["test-1", "test-2", "test-3", "tic 4"]
    assert identity.canonical([parse_identifier("HD 77", "STAR")]) == "test-2"
    rows = {(row["kind"], row["value"]): row for row in identity.rows.to_pylist()}
    assert rows["tic", "1"]["named_in"] == ["tess.toi.TIC"]
    assert [row["named_in"] for key, row in rows.items() if key[0] == "sky" and row["object_id"] == "test-1"] == [
        [f"nasa_exoplanet_archive.pscomppars.{SKY_COLUMN}", f"tess.toi.{SKY_COLUMN}"],
        [f"tess.toi.{SKY_COLUMN}"],
    ]


def test_neighbours_in_a_dense_catalogue_are_not_joined():
    stars = pa.table({"ID": ["1", "2"], "ra": [10.0, 10.0], "dec": [1.0, 1.0001], "KIC": ["5", None]})
    identity = identity_of_tables({"tess.tic": stars})
    assert identity.canonical([parse_identifier(1, "TIC")]) == "kic 5"
    assert identity.canonical([parse_identifier(2, "TIC")]) == "tic 2"
    joined = identity_of_tables({"tess.toi": stars})
    assert joined.canonical([parse_identifier(2, "TIC")]) == "kic 5"


def test_species_of_gtdb_is_that_of_its_representative():
    genomes = pa.table(
        {
            "gtdb_representative": ["t", "f", "f", "t"],
            "ncbi_species_taxid": ["562", "562", "621", "621"],
            "ncbi_taxid": ["511145", "562", "300268", "621"],
            "ncbi_organism_name": [
                "Escherichia coli K-12",
                "Escherichia coli",
                "Shigella boydii Sb227",
                "Shigella boydii",
            ],
            "gtdb_taxonomy": ["s__Escherichia coli", "s__Shigella one", "s__Escherichia coli", "s__Shigella one"],
        }
    )
    for table in (genomes, genomes.set_column(0, "gtdb_representative", pa.array([True, False, False, True]))):
        identity = identity_of_tables({"gtdb.metadata": table})

        def species(cell, column, identity=identity):
            return identity.canonical([parse_identifier(cell, column)])

        # Genomes of both species are filed under the other one's name, which must not make them one.
        assert species("s__Escherichia coli", "gtdb_taxonomy") == "taxon 562"
        assert species("s__Shigella one", "gtdb_taxonomy") == "taxon 621"
        assert species("511145", "taxid") == species("Escherichia coli", "organism") == "taxon 562"
        assert species("300268", "taxid") == "taxon 621"


@pytest.mark.parametrize("inputs", [{}, {"gemini": "folder"}])
def test_other_sources_are_refused(inputs):
    with pytest.raises(BuildError, match="from-folder must name at least one of nasa_exoplanet_archive"):
        build_object_identity(inputs)


def test_unusable_folders_and_seeds_are_refused(tmp_path):
    with pytest.raises(BuildError, match="which has no configuration"):
        build_object_identity({"tess": tmp_path})
    with pytest.raises(BuildError, match="seed must be 0"):
        build_object_identity({"tess": tmp_path}, seed=1)
    write_built(tmp_path / "tess", "sectors", pa.table({"sector": [1]}))
    with pytest.raises(BuildError, match="must hold tables that name stars or species"):
        build_object_identity({"tess": tmp_path / "tess"})
