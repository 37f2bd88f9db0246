"""Text from built folders: no star on two sides, every row with its origin, and a model trains on it."""

import hashlib
import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from datasets import load_dataset
from real_tables import SAMPLES
from text_rows import made_up_cells, write_table

from data_scripts import __main__ as command_line
from data_scripts.derived import source_rows
from data_scripts.derived.astro_text import (
    ASTRO_TEXT_CARD,
    ASTRO_TEXT_FEATURES,
    ASTRO_TEXT_SOURCES,
    NEAR_DUPLICATE,
    build_astro_text,
    make_astro_text,
)
from data_scripts.derived.near_duplicates import near_duplicates
from data_scripts.derived.object_identity import (
    OBJECT_IDENTITY_CARD,
    OBJECT_IDENTITY_SOURCES,
    build_object_identity,
)
from data_scripts.harness.errors import BuildError
from data_scripts.harness.hub_folder import write_hub_folder
from data_scripts.registry import ARCHIVES, archive_named
from data_scripts.splits import SPLIT_NAMES, split_of


ROOT = Path(__file__).resolve().parents[2]
STARS = 61
FIRST_KEPID = 910000100


def columns(source, config):
    return [column.name for column in archive_named(source).table(config).columns]


def star_rows():
    """One star a row, under another name in each table; every third has a planet with a name of its own."""
    cumulative, planets, tois = [], [], []
    for number in range(STARS):
        kepid, host = FIRST_KEPID + 7 * number, f"Kepler-{70000 + 11 * number}"
        cells = dict.fromkeys(columns("nasa_exoplanet_archive", "cumulative"))
        cells |= {
            "kepid": kepid,
            "kepoi_name": f"K{30000 + number}.01",
            "kepler_name": f"{host} b" if number % 3 == 0 else None,
            "koi_disposition": "CONFIRMED" if number % 3 == 0 else "FALSE POSITIVE",
            "koi_period": 1.5 + number,
            "koi_depth": 100.25 + 13 * number,
            "koi_steff": 4000.0 + 31 * number,
            "koi_comment": f"on the period of Kepler-{70000 + 11 * ((number * 7 + 3) % STARS // 3 * 3)} b, twice",
            "ra": 280 + 0.1 * number,
            "dec": 40.0,
        }
        cumulative.append(cells)
        if number % 3 == 0:
            cells = dict.fromkeys(columns("nasa_exoplanet_archive", "pscomppars"))
            cells |= {"pl_name": f"{host} b", "hostname": host, "pl_orbper": 1.5 + number, "pl_rade": 1.25 + number}
            planets.append(cells | {"tic_id": f"TIC {880000000 + number}", "st_teff": 4000.5 + number})
        cells = dict.fromkeys(columns("tess", "toi"))
        cells |= {"TIC": 880000000 + number, "Full TOI ID": f"{50000 + number}.01", "TMag Value": 8 + number / 8}
        cells |= {"TIC Right Ascension": 280 + 0.1 * number, "TIC Declination": 40.0}
        tois.append(cells)
    return cumulative, planets, tois


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("built")
    cumulative, planets, tois = star_rows()
    archive = folder / "nasa_exoplanet_archive"
    write_table(archive, "nasa_exoplanet_archive", "cumulative", cumulative)
    write_table(archive, "nasa_exoplanet_archive", "pscomppars", planets)
    write_table(folder / "tess", "tess", "toi", tois)
    proteins = []
    for number in range(37):
        cells = made_up_cells(archive_named("uniprotkb").table("entries"), number)
        species = f"Testia species{'abcdefghijklmnopqrstuvwxyz'[number % 26]}"
        cells |= {"species": species, "organism_name": species, "organism_id": 9000000 + number % 26}
        cells |= {"lineage": ["Bacteria", "Testiales", "Testia"], "sequence": "MKT" * (20 + number)}
        proteins.append(cells)
    write_table(folder / "uniprotkb", "uniprotkb", "entries", proteins)
    found = {source: folder / source for source in ("nasa_exoplanet_archive", "tess", "uniprotkb")}
    identity = write_hub_folder(build_object_identity(found), OBJECT_IDENTITY_CARD, folder / "object_identity")
    return found | {"object_identity": identity}


@pytest.fixture(scope="module")
def made(folders):
    return make_astro_text(folders)


def whole_text(row):
    return row["text"] or "\n".join(message["content"] for message in row["messages"])


def test_the_sources_are_all_archives():
    assert set(ASTRO_TEXT_SOURCES) == {*ARCHIVES, "object_identity"}
    assert len(ARCHIVES) == 14
    assert set(ASTRO_TEXT_CARD.columns) == set(ASTRO_TEXT_FEATURES)


def test_every_row_has_text_or_messages_and_its_origin(made):
    kinds = Counter()
    for split, rows in made.splits.items():
        assert rows.features == ASTRO_TEXT_FEATURES
        for row in rows:
            assert (row["text"] is None) == (row["kind"] != "record")
            assert (row["messages"] is None) == (row["kind"] == "record")
            if row["messages"]:
                assert [message["role"] for message in row["messages"]] == ["user", "assistant"]
            archive = archive_named(row["source"].split(":")[0])
            assert row["license"] == (archive.license if archive.license != "other" else archive.license_name)
            assert (row["source_release"], row["source_sha256"]) == ("r1", "ab" * 32)
            assert {split_of(object_id) for object_id in row["object_id"].split("; ")} == {split}
            kinds[row["kind"]] += 1
    assert kinds["record"] == 2 * STARS + STARS // 3 + 1 + 37
    assert set(kinds) == {
        "record",
        "value",
        "comparison",
        "unanswerable",
        "taxonomy",
        "organism",
        "enzyme",
        "function",
    }
    licenses = {row["license"] for rows in made.splits.values() for row in rows}
    assert licenses == {"nasa-exoplanet-archive", "mast-data-use", "cc-by-4.0"}


def names_by_split():
    """Every name of every star, in the split of the star."""
    names = {split: set() for split in SPLIT_NAMES}
    for number in range(STARS):
        host = f"kepler-{70000 + 11 * number}"
        # The label of a star is its host's name if a planet has one.
        label = host if number % 3 == 0 else f"kic {FIRST_KEPID + 7 * number}"
        names[split_of(label)] |= {
            str(FIRST_KEPID + 7 * number),
            f"k{30000 + number}.01",
            str(880000000 + number),
            f"{50000 + number}.01",
            *([host] if number % 3 == 0 else []),
        }
    return names


def test_no_text_names_a_star_of_another_split(made):
    names = names_by_split()
    assert min(map(len, names.values())) > 10
    for split, rows in made.splits.items():
        words = {word for row in rows for word in re.findall(r"[\w.-]*\d[\w.-]*", whole_text(row).casefold())}
        words |= {word.rstrip(".") for word in words}
        assert len(words & names[split]) == len(names[split])
        for other in set(SPLIT_NAMES) - {split}:
            assert not words & names[other]


def test_cells_about_other_stars_are_left_out_and_counted(made):
    texts = [row["text"] for rows in made.splits.values() for row in rows if row["source"].endswith("cumulative")]
    left = sum("twice" in text for text in texts if text)
    assert left + made.cells_left_out == STARS
    assert left > 10
    assert made.cells_left_out > 10


def test_verdicts_of_held_out_stars_stand_in_held_out_texts_alone(made):
    held_out = {name for split in ("validation", "test") for name in names_by_split()[split]}
    verdicts = 0
    for row in made.splits["train"]:
        text = whole_text(row).casefold()
        if "false positive" in text or "confirmed" in text:
            verdicts += 1
            assert not held_out & set(re.findall(r"[\w.-]+", text))
    assert verdicts > 20


def test_the_seed_chooses_texts_and_order_but_no_split(folders, made):
    again, other = make_astro_text(folders).splits, make_astro_text(folders, seed=1).splits
    for split, rows in made.splits.items():
        assert rows.to_list() == again[split].to_list()
        assert rows["object_id"] != other[split]["object_id"]
        assert sorted(map(whole_text, rows)) != sorted(map(whole_text, other[split]))
        records = [
            sorted(row["object_id"] for row in each if row["kind"] == "record") for each in (rows, other[split])
        ]
        assert records[0] == records[1]


def test_no_near_duplicate_is_left(made):
    groups = [list(map(whole_text, made.splits[split])) for split in reversed(SPLIT_NAMES)]
    assert [int(marked.sum()) for marked in near_duplicates(groups, NEAR_DUPLICATE)] == [0, 0, 0]
    assert all(len(set(texts)) == len(texts) for texts in groups)


def test_near_duplicates_of_other_splits_and_repeated_texts_are_removed_and_counted(tmp_path):
    # The frames are told apart by nothing but the number of the file and of the target.
    row = made_up_cells(archive_named("gemini").table("observations"), 0) | {"name": "F", "airmass": 1.5}
    rows = [row | {"filename": f"F{number}.fits", "object": f"TARGET {number}"} for number in range(40)]
    made = make_astro_text({"gemini": write_table(tmp_path / "gemini", "gemini", "observations", rows)})
    assert made.near_duplicates["test"] == 0
    assert made.near_duplicates["train"] > 10
    left = made.splits["train"].filter(lambda row: row["kind"] == "record")
    held_out = [row for split in ("validation", "test") for row in made.splits[split] if row["kind"] == "record"]
    # Those that are left are in the other layout.
    assert len(left) < 32
    assert {row["text"].startswith("Gemini file: F\n") for row in left}.isdisjoint(
        {row["text"].startswith("Gemini file: F\n") for row in held_out}
    )
    groups = [list(map(whole_text, made.splits[split])) for split in reversed(SPLIT_NAMES)]
    assert sum(marked.sum() for marked in near_duplicates(groups, NEAR_DUPLICATE)) == 0


def test_repeated_texts_are_removed_and_counted(tmp_path):
    rows = star_rows()[2]
    made = make_astro_text({"tess": write_table(tmp_path / "tess", "tess", "toi", rows + rows)})
    assert sum(made.repeated.values()) > 10
    records = 0
    for part in made.splits.values():
        assert len({whole_text(row) for row in part}) == len(part)
        records += sum(row["kind"] == "record" for row in part)
    # Records that are repeated in the other layout stay.
    assert STARS < records < 2 * STARS


def test_card_says_how_many_rows_were_left_out(folders, tmp_path):
    made = make_astro_text(folders)
    card = (write_hub_folder(build_astro_text(folders), ASTRO_TEXT_CARD, tmp_path / "out") / "README.md").read_text()
    near, repeated = (
        ", ".join(f"{counts[split]:,} of {split}" for split in SPLIT_NAMES)
        for counts in (made.near_duplicates, made.repeated)
    )
    assert f"Removed as near duplicates of another split: {near}." in card
    assert f"Removed as repetitions: {repeated}." in card
    assert f"name a star of another split: {made.cells_left_out:,}." in card


def test_most_rows_are_chosen_by_their_key(tmp_path, monkeypatch):
    rows = star_rows()[2]
    chosen = {}
    for order in (1, -1):
        folder = write_table(tmp_path / str(order), "tess", "toi", rows[::order])
        monkeypatch.setattr(source_rows, "MOST_ROWS_PER_TABLE", 41)
        splits = build_astro_text({"tess": folder})
        chosen[order] = {split: each.to_list() for split, each in splits.items()}
        records = [row["object_id"] for each in splits.values() for row in each if row["kind"] == "record"]
        assert len(set(records)) == 41
    assert chosen[1] == chosen[-1]


def test_one_table_needs_no_identity_and_more_do(folders):
    alone = {"uniprotkb": folders["uniprotkb"]}
    assert {row["source"] for row in build_astro_text(alone)["train"]} == {"uniprotkb:entries"}
    without = {name: folder for name, folder in folders.items() if name != "object_identity"}
    with pytest.raises(BuildError, match="must name object_identity where there is more than one table; got 4 tables"):
        build_astro_text(without)


def test_an_identity_of_other_tables_is_refused(folders, tmp_path):
    identity = build_object_identity({"tess": folders["tess"]})
    folder = write_hub_folder(identity, OBJECT_IDENTITY_CARD, tmp_path / "identity")
    with pytest.raises(BuildError, match="must know every object of cumulative of nasa_exoplanet_archive"):
        build_astro_text(folders | {"object_identity": folder})


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "must name at least one archive, of ensembl_genomes, .*; got none"),
        ({"object_identity": Path("absent")}, "must name at least one archive, .*; got object_identity"),
        ({"simbad": Path("absent")}, "must name at least one archive, .*; got simbad"),
        ({"tess": Path("absent")}, "must name a folder that .* wrote .*; got absent"),
    ],
)
def test_inputs_that_cannot_be_used(inputs, message):
    with pytest.raises(BuildError, match=message):
        build_astro_text(inputs)


def test_a_folder_of_another_version_is_refused(tmp_path):
    folder = write_table(tmp_path / "tess", "tess", "toi", star_rows()[2])
    for path in folder.glob("toi/*.parquet"):
        pq.write_table(pq.read_table(path).drop_columns(["TMag Value"]), path)
    with pytest.raises(BuildError, match=r"toi in .* must have the columns TMag Value; got a table without them"):
        build_astro_text({"tess": folder})


def test_rows_that_are_all_held_out_are_refused(tmp_path):
    rows = [row for row in star_rows()[2] if split_of(f"tic {row['TIC']}") == "test"]
    folder = write_table(tmp_path / "tess", "tess", "toi", rows)
    with pytest.raises(BuildError, match="must hold rows whose objects are in train; got none"):
        build_astro_text({"tess": folder})


def test_the_folder_opens_streaming_or_not(made, tmp_path):
    folder = write_hub_folder(made.splits, ASTRO_TEXT_CARD, tmp_path / "text")
    opened = load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
    streamed = load_dataset(str(folder), streaming=True)
    for split, rows in made.splits.items():
        assert opened[split].to_list() == list(streamed[split]) == rows.to_list()
    header = yaml.safe_load((folder / "README.md").read_text(encoding="utf-8").split("---")[1])
    assert header["configs"][0]["config_name"] == "astro_text"


def train(folder, out, *arguments):
    """Train the tiny recipe for its six steps; returns the result."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "recipes" / "train_llm.py"), "tiny", "device=cpu", "cpu_threads=1"]
    command += [f"data.dataset_name={folder}", f"output_dir={out}", *arguments]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    return json.loads((out / "result.json").read_text(encoding="utf-8"))


def assert_learned(result, folder):
    assert result["status"] == "finished"
    assert result["data"]["name"] == str(folder)
    models = result["evaluation"]["models"]
    assert models["trained"]["documents"]["perplexity"] < 0.9 * models["untrained"]["documents"]["perplexity"]


@pytest.mark.slow
def test_a_model_trains_on_it(made, tmp_path):
    folder = write_hub_folder(made.splits, ASTRO_TEXT_CARD, tmp_path / "text")
    result = train(folder, tmp_path / "run")
    assert_learned(result, folder)


def sample_files(source):
    """Recorded files that a table of the source reads."""
    found = []
    for path in sorted((SAMPLES / source).glob("*")):
        head = path.read_bytes()[:65536]
        for table in archive_named(source).tables:
            stage = table.recognise(path.name, head)
            if stage is not None and table.stages[stage].rows is not None:
                found.append((table.name, path))
                break
    return found


def build_samples(sources, folder, monkeypatch):
    """Build sources from recorded files on the command line; returns the folders."""
    monkeypatch.setenv("ASTROBIO_STORE", str(folder / "store"))
    built = {}
    for source in sources:
        files = sample_files(source)
        if files:
            tables = [word for name in dict.fromkeys(name for name, _ in files) for word in ("--config", name)]
            paths = [str(path) for _, path in files]
            out = str(folder / source)
            arguments = ["build", source, "--out", out, *tables, "--allow-below-gate", "--from", *paths]
            assert command_line.main(arguments) == 0
            built[source] = Path(out)
    named = {source: built[source] for source in OBJECT_IDENTITY_SOURCES if source in built}
    identity = write_hub_folder(build_object_identity(named), OBJECT_IDENTITY_CARD, folder / "object_identity")
    return built | {"object_identity": identity}


needs_samples = pytest.mark.skipif(
    not SAMPLES.is_dir(), reason=f"no recorded answers in {SAMPLES} (ASTROBIO_SAMPLES names another folder)"
)


@needs_samples
def test_recorded_answers_of_small_archives_become_text(tmp_path, monkeypatch):
    sources = ("ensembl_genomes", "gemini", "gtdb", "jwst_mast", "kepler_k2", "ncbi_genbank", "uniprotkb")
    made = make_astro_text(build_samples(sources, tmp_path, monkeypatch))
    found = {row["source"].split(":")[0] for rows in made.splits.values() for row in rows}
    assert found == set(sources)
    files = [path for source in sources for _, path in sample_files(source)]
    bodies = {hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    for split, rows in made.splits.items():
        for row in rows:
            assert {split_of(object_id) for object_id in row["object_id"].split("; ")} == {split}
            assert set(row["source_sha256"].split("; ")) <= bodies
            assert not re.search(r"\b(None|NaT)\b", row["text"] or "")


@needs_samples
@pytest.mark.slow
def test_a_model_trains_on_text_of_all_recorded_answers(tmp_path, monkeypatch, capsys):
    made = make_astro_text(build_samples(sorted(ARCHIVES), tmp_path, monkeypatch))
    rows, words = Counter(), Counter()
    for split, part in made.splits.items():
        for row in part:
            key = (row["source"].split(":")[0], split)
            rows[key] += 1
            words[key] += len(whole_text(row).split())
    with capsys.disabled():
        for source, split in sorted(rows):
            print(f"{source:24} {split:10} {rows[source, split]:7,} rows {words[source, split]:10,} words")
        print(f"removed as near duplicates: {made.near_duplicates}, as repeated: {made.repeated}")
    # No answers of Keck are recorded.
    assert {source for source, _ in rows} == set(ARCHIVES) - {"keck_koa"}
    assert min(len(made.splits[split]) for split in SPLIT_NAMES) > 1000
    groups = [list(map(whole_text, made.splits[split])) for split in reversed(SPLIT_NAMES)]
    assert sum(marked.sum() for marked in near_duplicates(groups, NEAR_DUPLICATE)) == 0
    folder = write_hub_folder(made.splits, ASTRO_TEXT_CARD, tmp_path / "text")
    assert_learned(train(folder, tmp_path / "run"), folder)
