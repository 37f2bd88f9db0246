"""Only measurements of transits and stars reach the data set, and no star is in two splits."""

import re

import numpy as np
import pyarrow as pa
import pytest
from datasets import load_dataset
from real_tables import real_table, write_built

from data_scripts.derived.koi_disposition import (
    KOI_DISPOSITION_CARD,
    KOI_DISPOSITION_FEATURES,
    MEASURED_COLUMNS,
    build_koi_disposition,
    koi_disposition_of,
)
from data_scripts.derived.object_identity import OBJECT_IDENTITY_CARD, build_object_identity, identity_of_tables
from data_scripts.harness.errors import BuildError
from data_scripts.harness.hub_folder import write_hub_folder
from data_scripts.identifiers import parse_identifier
from data_scripts.splits import split_of


# What the archive's documentation calls disposition, vetting, name or number of a candidate, and where it is counted.
VERDICT = re.compile(r"disp|score|fpflag|vet_|comment|deliv|name|kepid|count|plnt_num|prov|quarters|dicco|dikco|fwm")


def made_up_rows(count=37):
    rng = np.random.default_rng(2)
    dispositions = ["CONFIRMED", "FALSE POSITIVE", "CANDIDATE"]
    return pa.table(
        {
            "kepid": pa.array([1000 + row // 2 for row in range(count)], pa.int64()),
            "kepoi_name": [f"K{row // 2 + 1:05d}.{row % 2 + 1:02d}" for row in range(count)],
            "kepler_name": [
                f"Kepler-{9000 + row // 2} b" if row % 3 == 0 and row % 2 == 0 else None for row in range(count)
            ],
            "koi_disposition": [dispositions[row % 3] for row in range(count)],
            **{column: rng.normal(size=count) for column in MEASURED_COLUMNS},
            "koi_score": rng.uniform(size=count),
            "koi_fpflag_nt": rng.integers(0, 2, count),
            "koi_something_new": rng.uniform(size=count),
            "ra": 290 + np.arange(count) // 2 * 0.01,
            "dec": np.full(count, 44.0),
            "source": ["nasa_exoplanet_archive"] * count,
            "source_release": [""] * count,
            "source_sha256": ["ab" * 32] * count,
            "object_id": ["kic"] * count,
        }
    )


def all_rows(splits):
    return pa.concat_tables([rows.data.table for rows in splits.values()]).sort_by("row_id")


def test_no_column_outside_the_whitelist_is_published():
    assert not [column for column in MEASURED_COLUMNS if VERDICT.search(column)]
    others = set(KOI_DISPOSITION_FEATURES) - set(MEASURED_COLUMNS)
    assert others == {"row_id", "star_id", "koi_disposition", "source", "source_release", "source_sha256"}
    assert set(KOI_DISPOSITION_CARD.columns) == set(KOI_DISPOSITION_FEATURES)


def test_no_value_outside_the_whitelist_reaches_the_data_set():
    rows = made_up_rows()
    identity = identity_of_tables({"nasa_exoplanet_archive.cumulative": rows})
    expected = all_rows(koi_disposition_of(rows, identity))
    read = {*MEASURED_COLUMNS, "kepid", "kepoi_name", "kepler_name", "koi_disposition"}
    read |= {"source", "source_release", "source_sha256"}
    rng = np.random.default_rng(3)
    for column in set(rows.column_names) - read:
        place = rows.schema.get_field_index(column)
        rows = rows.set_column(place, column, rows[column].take(pa.array(rng.permutation(rows.num_rows))))
    assert all_rows(koi_disposition_of(rows, identity)).equals(expected)
    # Names tell of the verdict: a star that is called Kepler has a planet.
    published = {str(value) for column in expected.columns for value in column.to_pylist()}
    assert not [value for value in published if re.search(r"kepler|kic|koi|K0|^10\d\d$", value)]


def test_measured_values_and_labels_are_the_archives():
    rows = made_up_rows()
    splits = koi_disposition_of(rows, identity_of_tables({"nasa_exoplanet_archive.cumulative": rows}))
    published = all_rows(splits)
    kept = [row for row in rows.to_pylist() if row["koi_disposition"] != "CANDIDATE"]
    assert published.num_rows == len(kept) == 25
    by_period = {row["koi_period"]: row for row in published.to_pylist()}
    for row in kept:
        found = by_period[row["koi_period"]]
        for column in (*MEASURED_COLUMNS, "koi_disposition", "source", "source_sha256"):
            assert found[column] == row[column]


def test_objects_of_one_star_share_the_split_of_its_name():
    rows = made_up_rows(301)
    identity = identity_of_tables({"nasa_exoplanet_archive.cumulative": rows})
    splits = koi_disposition_of(rows, identity)
    kepids = {row["koi_period"]: row["kepid"] for row in rows.to_pylist()}
    for split, part in splits.items():
        assert len(part) > 0
        for period in part["koi_period"]:
            star = identity.canonical([parse_identifier(kepids[period], "kepid")])
            assert split_of(star) == split
    star_ids = [set(part["star_id"]) for part in splits.values()]
    assert sum(map(len, star_ids)) == len(set().union(*star_ids))


def test_transits_of_another_star_are_in_one_split():
    rows = made_up_rows(301)
    rng = np.random.default_rng(5)
    # Every seventh star has the transits of a binary, seen a whole number of periods earlier or later.
    stars = np.array(rows["kepid"].to_pylist())
    shared = stars % 7 == 0
    periods, epochs = rng.uniform(1, 300, len(stars)), rng.uniform(130, 200, len(stars))
    periods[shared] = 2.5 * (1 + rng.uniform(-1e-5, 1e-5, shared.sum()))
    epochs[shared] = 131.0 + 2.5 * rng.integers(0, 9, shared.sum())
    # The period alone may agree by chance.
    periods[stars % 7 == 1], epochs[stars % 7 == 1] = 2.5, 132.0
    for column, values in (("koi_period", periods), ("koi_time0bk", epochs)):
        rows = rows.set_column(rows.schema.get_field_index(column), column, pa.array(values))
    splits = koi_disposition_of(rows, identity_of_tables({"nasa_exoplanet_archive.cumulative": rows}))
    seen = {
        split: {
            round(epoch % 2.5, 1)
            for period, epoch in zip(part["koi_period"], part["koi_time0bk"], strict=True)
            if abs(period - 2.5) < 1e-3
        }
        for split, part in splits.items()
    }
    assert seen == {"train": set(), "validation": set(), "test": {1.0, 2.0}}
    kept = sum(map(len, splits.values()))
    used = sum(label != "CANDIDATE" for label in rows["koi_disposition"].to_pylist())
    assert 0 < used - kept < shared.sum() + (stars % 7 == 1).sum()
    assert "Removed because" in splits["train"].info.description


def test_seed_orders_rows_and_nothing_else():
    rows = made_up_rows(101)
    identity = identity_of_tables({"nasa_exoplanet_archive.cumulative": rows})
    one, same, other = (koi_disposition_of(rows, identity, seed) for seed in (0, 0, 1))
    assert one["train"]["row_id"] == same["train"]["row_id"]
    assert list(one["train"]["row_id"]) != list(other["train"]["row_id"])
    assert all_rows(one).equals(all_rows(other))


def test_builds_from_folders(tmp_path):
    nasa = write_built(tmp_path / "nasa", "cumulative", made_up_rows(101))
    identity = build_object_identity({"nasa_exoplanet_archive": nasa})
    inputs = {
        "nasa_exoplanet_archive": nasa,
        "object_identity": write_hub_folder(identity, OBJECT_IDENTITY_CARD, tmp_path / "identity"),
    }
    folders = [
        write_hub_folder(build_koi_disposition(inputs), KOI_DISPOSITION_CARD, tmp_path / name) for name in ("a", "b")
    ]
    for path in sorted(folders[0].rglob("*.*")):
        assert path.read_bytes() == (folders[1] / path.relative_to(folders[0])).read_bytes(), path
    loaded = load_dataset(str(folders[0]), cache_dir=str(tmp_path / "cache"))
    assert loaded["train"].features == KOI_DISPOSITION_FEATURES
    assert sum(map(len, loaded.values())) == 68


def test_star_without_identity_is_refused():
    rows = made_up_rows()
    identity = identity_of_tables({"nasa_exoplanet_archive.cumulative": rows.slice(4)})
    with pytest.raises(
        BuildError, match=r"must know every kepid of cumulative; got a table without 2 of them, 1000, 1001"
    ):
        koi_disposition_of(rows, identity)


def test_unknown_disposition_is_refused():
    rows = made_up_rows(3)
    place = rows.schema.get_field_index("koi_disposition")
    rows = rows.set_column(place, "koi_disposition", pa.array(["CONFIRMED", "PLANET", None]))
    with pytest.raises(BuildError, match=r"koi_disposition must be one of CONFIRMED, .*; got None, PLANET"):
        koi_disposition_of(rows, identity_of_tables({"nasa_exoplanet_archive.cumulative": rows}))


def test_folders_that_lack_something_are_refused(tmp_path):
    nasa = write_built(tmp_path / "nasa", "cumulative", made_up_rows().drop_columns(["koi_depth", "koi_srad"]))
    with pytest.raises(BuildError, match="from-folder must name nasa_exoplanet_archive and object_identity; got none"):
        build_koi_disposition({})
    inputs = {"nasa_exoplanet_archive": nasa, "object_identity": tmp_path}
    with pytest.raises(BuildError, match="must have the columns koi_depth, koi_srad; got a table without them"):
        build_koi_disposition(inputs)
    other = write_built(tmp_path / "other", "pscomppars", made_up_rows())
    with pytest.raises(BuildError, match=r"must hold the configuration cumulative; got .* with pscomppars"):
        build_koi_disposition(inputs | {"nasa_exoplanet_archive": other})


def tree_accuracy(values, planet, depth):
    """Share of rows that a tree on one column gets right, each cut the best one by Gini impurity; NaN sorts first."""
    order = np.argsort(np.nan_to_num(values, nan=-np.inf), kind="stable")
    values, planet = np.nan_to_num(values, nan=-np.inf)[order], planet[order]
    right = max(planet.sum(), (~planet).sum())
    cuts = np.flatnonzero(values[1:] != values[:-1]) + 1
    if depth == 0 or not len(cuts):
        return right / len(planet)
    left_ones, left = np.cumsum(planet)[cuts - 1], cuts
    right_ones, rest = planet.sum() - left_ones, len(planet) - cuts
    impurity = left_ones * (1 - left_ones / left) + right_ones * (1 - right_ones / rest)
    cut = cuts[np.argmin(impurity)]
    parts = [
        tree_accuracy(values[part], planet[part], depth - 1) * len(planet[part])
        for part in (slice(cut), slice(cut, None))
    ]
    return sum(parts) / len(planet)


def test_no_single_recorded_column_gives_the_verdict_away():
    table = real_table("nasa_exoplanet_archive", "cumulative", "koi_cumulative_2019-01-20.csv.gz")
    rows = all_rows(koi_disposition_of(table, identity_of_tables({"nasa_exoplanet_archive.cumulative": table})))
    planet = np.array(rows["koi_disposition"].to_pylist()) == "CONFIRMED"
    # 7 % of 5724 rows have the transits of a star of another split.
    assert rows.num_rows == 5327
    accuracies = {
        column: tree_accuracy(rows[column].to_numpy().astype(float), planet, depth=3) for column in MEASURED_COLUMNS
    }
    assert max(accuracies.values()) < 0.85, max(accuracies, key=accuracies.get)
    # Ids and the order of rows are no help at all.
    for opaque in (
        np.array([int(row, 16) for row in rows["row_id"].to_pylist()], dtype=float),
        np.array([int(star, 16) for star in rows["star_id"].to_pylist()], dtype=float),
        np.arange(rows.num_rows, dtype=float),
    ):
        assert tree_accuracy(opaque, planet, depth=3) < (~planet).mean() + 0.02
    # The columns left out would: this is what the test above would look like.
    verdicts = table.filter(pa.compute.is_in(table["koi_disposition"], pa.array(["CONFIRMED", "FALSE POSITIVE"])))
    confirmed = np.array(verdicts["koi_disposition"].to_pylist()) == "CONFIRMED"
    assert tree_accuracy(verdicts["koi_score"].to_numpy().astype(float), confirmed, depth=3) > 0.95
    assert tree_accuracy(verdicts["kepler_name"].is_valid().to_numpy().astype(float), confirmed, depth=3) > 0.999
