"""The command line writes folders that load_dataset opens."""

import dataclasses

import pytest
from datasets import Dataset, DatasetDict, load_dataset

from data_scripts.__main__ import main
from data_scripts.derived.embedded_planets import EMBEDDED_PLANETS_CARD, build_embedded_planets
from data_scripts.harness import hub_folder
from data_scripts.harness.hub_folder import write_hub_folder
from data_scripts.registry import ARCHIVES, BUILDERS, builder_named


SMALL_CARD = dataclasses.replace(EMBEDDED_PLANETS_CARD, columns={"kind": "a word"})
SMALL = DatasetDict(
    {"train": Dataset.from_dict({"kind": ["a", "b", "a"]}), "test": Dataset.from_dict({"kind": ["b"]})}
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("hub") / "planets"
    assert main(["build", "embedded_planets", "--out", str(out)]) == 0
    return out


def test_round_trip(folder, tmp_path):
    built = build_embedded_planets()
    loaded = load_dataset(str(folder), cache_dir=str(tmp_path))
    assert list(loaded) == ["train", "validation", "test"]
    for split in built:
        assert loaded[split].features == built[split].features
        assert loaded[split].to_list() == built[split].to_list()


def test_configuration_has_the_builders_name(folder, tmp_path):
    loaded = load_dataset(str(folder), "embedded_planets", split="test", cache_dir=str(tmp_path))
    assert len(loaded) == len(build_embedded_planets()["test"])


def test_a_split_without_rows_does_not_hinder_the_others(tmp_path):
    splits = DatasetDict({**SMALL, "validation": SMALL["train"].select([])})
    out = write_hub_folder(splits, SMALL_CARD, tmp_path / "out")
    loaded = load_dataset(str(out), cache_dir=str(tmp_path / "cache"))
    assert {split: len(rows) for split, rows in loaded.items()} == {"train": 3, "test": 1}
    assert "| validation | 0 |" in (out / "README.md").read_text(encoding="utf-8")


def test_streaming(folder, tmp_path):
    streamed = load_dataset(str(folder), split="validation", streaming=True, cache_dir=str(tmp_path))
    assert list(streamed) == build_embedded_planets()["validation"].to_list()


def test_card_states_source_licence_and_computed_counts(folder):
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "10.26133/NEA13" in card
    assert "This research has made use of the NASA Exoplanet Archive" in card
    assert "license: other" in card
    for split, rows in build_embedded_planets().items():
        assert f"| {split} | {len(rows)} |" in card


def test_same_seed_same_bytes(folder, tmp_path):
    assert main(["build", "embedded_planets", "--out", str(tmp_path / "again")]) == 0
    for path in folder.rglob("*"):
        if path.is_file():
            assert (tmp_path / "again" / path.relative_to(folder)).read_bytes() == path.read_bytes()


def test_list_names_every_data_set(capsys):
    assert main(["list"]) == 0
    names = [line.split(":")[0] for line in capsys.readouterr().out.splitlines() if not line.startswith(" ")]
    assert names == sorted([*BUILDERS, *ARCHIVES])


def test_folder_with_content_is_refused_and_kept(tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(
        FileExistsError, match=r"out_dir must be a new or an empty folder; got .* Choose another folder"
    ):
        write_hub_folder(SMALL, SMALL_CARD, tmp_path)
    assert main(["build", "embedded_planets", "--out", str(tmp_path)]) == 2
    assert str(tmp_path) in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_empty_folder_is_used(tmp_path):
    (tmp_path / "new").mkdir()
    assert write_hub_folder(SMALL, SMALL_CARD, tmp_path / "new") == tmp_path / "new"
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["README.md", "data"]


def test_a_failure_leaves_nothing(tmp_path, monkeypatch):
    def fail(*arguments, **options):
        raise OSError("disk full")

    monkeypatch.setattr(hub_folder, "write_split", fail)
    with pytest.raises(OSError, match="disk full"):
        write_hub_folder(SMALL, SMALL_CARD, tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


def test_counts_without_a_column_to_count_by(tmp_path):
    card = dataclasses.replace(SMALL_CARD, count_by=None)
    write_hub_folder(SMALL, card, tmp_path / "new")
    assert "| train | 3 |" in (tmp_path / "new" / "README.md").read_text(encoding="utf-8")


def test_card_must_describe_the_columns(tmp_path):
    with pytest.raises(ValueError, match=r"card.columns must describe the columns \['kind'\] of split train; got"):
        write_hub_folder(SMALL, EMBEDDED_PLANETS_CARD, tmp_path / "new")


def test_unknown_data_set_is_refused(tmp_path, capsys):
    with pytest.raises(ValueError, match=r"name must be one of .*embedded_planets.*; got 'moons'"):
        builder_named("moons")
    assert main(["build", "moons", "--out", str(tmp_path / "new")]) == 2
    assert "got 'moons'" in capsys.readouterr().err
