"""Builds from files that a person downloaded."""

import dataclasses
import datetime

import made_up
import pytest
from built_folders import build, rows_of
from replay import Asked

from data_scripts.harness.errors import BuildError


def test_downloaded_files(tmp_path):
    def save(name, asked_path, query):
        file = tmp_path / name
        file.write_bytes(made_up.answer(Asked("GET", asked_path, {key: [value] for key, value in query.items()})).body)
        return file

    pages = [save(f"page{page}.txt", "/stars", {"region": "north", "page": str(page)}) for page in (2, 1)]
    curve = save("any name.dat", "/curve", {"id": "3"})
    report = build(tmp_path, None, offline=False, from_files=(pages[0], curve, pages[1], pages[0]))
    names = {row["star"] for row in made_up.stars("north")[:10]}
    assert {row["star"] for row in rows_of(report.folder, "stars")} == names
    assert rows_of(report.folder, "curves") == [row for row in made_up.published_curves() if row["star"] == "Test-3"]
    with pytest.raises(BuildError, match=r"files of made_up .*for stars; got .*any name.dat"):
        build(tmp_path, None, "none", offline=False, configs=("stars",), from_files=(curve,))


def test_downloaded_files_that_cannot_be_used(tmp_path):
    unknown = tmp_path / "letter.txt"
    unknown.write_text("Dear reader\n", encoding="utf-8")
    cut = tmp_path / "cut.json"
    cut.write_text('{"total": 1, "rows": [', encoding="utf-8")
    cases = [
        ((unknown,), {}, r"--from must name files of made_up .* got .*letter.txt, which none of these recognises"),
        ((cut,), {}, r"cut.json must be a whole json file"),
        ((tmp_path / "absent",), {}, r"--from must name files; got .*absent, which is none"),
        ((cut,), {"since": datetime.date(2031, 1, 1)}, "--from must stand without --since"),
    ]
    for files, options, message in cases:
        with pytest.raises(BuildError, match=message):
            build(tmp_path, None, offline=False, from_files=files, **options)


def with_notes(**changes):
    """The archive with a second table that reads the bodies of `stars`."""
    notes = dataclasses.replace(
        made_up.STARS, name="notes", columns=(made_up.STARS.columns[0], made_up.STARS.columns[3])
    )
    notes = dataclasses.replace(notes, **changes)
    return dataclasses.replace(made_up.ARCHIVE, tables=(*made_up.ARCHIVE.tables, notes))


@pytest.mark.parametrize(
    ("default", "configs", "built"),
    [
        (True, (), {"stars", "notes"}),
        (False, (), {"stars"}),
        (True, ("stars",), {"stars"}),
        (False, ("notes",), {"notes"}),
        (False, ("notes", "stars"), {"stars", "notes"}),
    ],
)
def test_a_file_is_for_every_wanted_table_that_recognises_it(tmp_path, default, configs, built):
    file = tmp_path / "page"
    file.write_bytes(made_up.answer(Asked("GET", "/stars", {"region": ["north"], "page": ["1"]})).body)
    report = build(
        tmp_path, None, archive=with_notes(default=default), offline=False, configs=configs, from_files=(file,)
    )
    assert {each.config.name for each in report.quality.tables} == built
    names = {row["star"] for row in made_up.stars("north")[: made_up.PAGE_ROWS]}
    for config in built:
        assert {path.name[:5] for path in (report.folder / config).iterdir()} == {"train", "valid", "test-"}
        if config == "stars":
            assert {row["star"] for row in rows_of(report.folder, "stars")} == names
    assert len(list((tmp_path / "store" / "made_up" / "bodies").glob("??/*"))) == 1


def test_a_table_that_has_no_rows_in_the_file_is_empty(tmp_path):
    stage = dataclasses.replace(made_up.STARS.stages["page"], rows=lambda answer: [])
    file = tmp_path / "page"
    file.write_bytes(made_up.answer(Asked("GET", "/stars", {"region": ["north"], "page": ["1"]})).body)
    archive = with_notes(stages={"page": stage})
    report = build(tmp_path, None, archive=archive, offline=False, from_files=(file,))
    assert {each.config.name: each.table.rows for each in report.quality.tables} == {"stars": 5, "notes": 0}
