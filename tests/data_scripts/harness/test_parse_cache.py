"""Parsed pages on disk: what was stored is read back, and never what another parser or schema made."""

import dataclasses
import os

import made_up
import pyarrow as pa
import pytest
from replay import Asked

from data_scripts.harness import parse_cache
from data_scripts.harness.archive import Answer, Request
from data_scripts.harness.disk_cache import cache_bytes
from data_scripts.harness.errors import BadBodyError, BuildError
from data_scripts.harness.links import read_links
from data_scripts.harness.pages import read_page
from data_scripts.harness.parse_cache import ParseCache


def answer_of(folder, page=1, body=None, **changes):
    if body is None:
        body = made_up.answer(Asked("GET", "/stars", {"region": ["north"], "page": [str(page)]})).body
    path = folder / f"body{page}"
    path.write_bytes(body)
    request = Request(f"{made_up.ORIGIN}/stars", "page", (("page", str(page)),), release="r7")
    return dataclasses.replace(Answer(request, path, f"{page:064d}", 200, {}, "2031-01-02T03:04:05Z"), **changes)


def files_of(cache):
    return sorted(path for path in cache.folder.glob("??/*"))


def test_a_page_comes_back_as_it_was(tmp_path):
    cache = ParseCache(tmp_path / "parsed", 1 << 30)
    body = b'{"total": 2, "unit": "Msun", "next": null, "rows": [%s]}' % b", ".join(
        b'{"star": %s, "mass": %s, "planets": 1, "note": null}' % each
        for each in ((b'"\xc3\xa9"', b"0.5"), (b'"b"', b"-1"), (b"null", b"1"))
    )
    for answer in (answer_of(tmp_path), answer_of(tmp_path, 2, body)):
        parsed = read_page(made_up.STARS, answer, "made_up")
        stored = cache.read(made_up.STARS, answer, "made_up")
        answer.path.unlink()
        loaded = cache.read(made_up.STARS, answer, "made_up")
        for page in (stored, loaded):
            assert page == parsed
            assert page.good.schema.equals(parsed.good.schema, check_metadata=True)
            page.good.validate(full=True)
    assert parsed.rejected.num_rows == 2
    assert len(files_of(cache)) == 2


def test_lists_come_back_as_they_were(tmp_path):
    cache = ParseCache(tmp_path / "parsed", 1 << 30)
    body = made_up.answer(Asked("GET", "/curve", {"id": ["3"]})).body
    (tmp_path / "body").write_bytes(body)
    answer = Answer(Request("https://archive.test/curve", "curve"), tmp_path / "body", "0" * 64, 200, {}, "2031")
    assert cache.read(made_up.CURVES_TABLE, answer, "made_up") == cache.read(made_up.CURVES_TABLE, answer, "made_up")
    [row] = cache.read(made_up.CURVES_TABLE, answer, "made_up").good.to_pylist()
    assert (row["star"], len(row["flux"]), row["flux"][-3:]) == ("Test-3", made_up.SAMPLES, [None] * 3)


def _same_rows(answer):
    return made_up.STARS.stages["page"].rows(answer)


def test_whatever_can_change_a_page_makes_it_another(tmp_path, monkeypatch):
    cache = ParseCache(tmp_path / "parsed", 1 << 30)
    answer = answer_of(tmp_path)
    cache.read(made_up.STARS, answer, "made_up")
    heavier = dataclasses.replace(made_up.STARS.columns[1], maximum=1.0)
    stage = dataclasses.replace(made_up.STARS.stages["page"], rows=_same_rows)
    cases = [
        (made_up.STARS, dataclasses.replace(answer, sha256="1" * 64), "made_up"),
        (made_up.STARS, dataclasses.replace(answer, retrieved_at="2032-01-02T03:04:05Z"), "made_up"),
        (
            made_up.STARS,
            dataclasses.replace(answer, request=dataclasses.replace(answer.request, release="r8")),
            "made_up",
        ),
        (
            made_up.STARS,
            dataclasses.replace(answer, request=dataclasses.replace(answer.request, context=(("region", "x"),))),
            "made_up",
        ),
        (made_up.STARS, answer, "another"),
        (dataclasses.replace(made_up.STARS, name="other"), answer, "made_up"),
        (dataclasses.replace(made_up.STARS, key=("star", "planets")), answer, "made_up"),
        (dataclasses.replace(made_up.STARS, columns=(made_up.STARS.columns[0], heavier)), answer, "made_up"),
        (dataclasses.replace(made_up.STARS, stages={"page": stage}), answer, "made_up"),
    ]
    for number, (table, changed, source) in enumerate(cases, start=2):
        assert cache.read(table, changed, source) == read_page(table, changed, source)
        assert len(files_of(cache)) == number
    monkeypatch.setattr(parse_cache, "_code_of_package", lambda: "another version")
    monkeypatch.setattr(parse_cache, "_digests", {})
    cache.read(made_up.STARS, answer, "made_up")
    assert len(files_of(cache)) == len(cases) + 2


def test_a_body_that_cannot_be_read_leaves_nothing(tmp_path):
    cache = ParseCache(tmp_path / "parsed", 1 << 30)
    body = b'{"total": 1, "unit": "kg", "rows": [{"star": "a", "mass": 1, "planets": 0, "note": ""}], "next": null}'
    with pytest.raises(BadBodyError, match="must be in Msun"):
        cache.read(made_up.STARS, answer_of(tmp_path, 1, body), "made_up")
    assert files_of(cache) == []


@pytest.mark.parametrize("damage", ["empty", "cut", "zeros", "flipped"])
def test_a_damaged_page_is_parsed_again(tmp_path, damage, caplog):
    cache = ParseCache(tmp_path / "parsed", 1 << 30)
    answer = answer_of(tmp_path)
    page = cache.read(made_up.STARS, answer, "made_up")
    [file] = files_of(cache)
    content = file.read_bytes()
    flipped = content.replace(b"Test-north 3", b"Test-north 4")
    damaged = {"empty": b"", "cut": content[:-1], "zeros": bytes(len(content)), "flipped": flipped}[damage]
    file.write_bytes(damaged)
    assert cache.read(made_up.STARS, answer, "made_up") == page
    assert file.read_bytes() == content
    assert "is damaged; it is made again" in caplog.text


def test_the_pages_not_used_for_longest_make_room(tmp_path):
    cache = ParseCache(tmp_path / "parsed", 1 << 30)
    answers = [answer_of(tmp_path, page) for page in range(1, 6)]
    files = []
    for place, answer in enumerate(answers):
        cache.read(made_up.STARS, answer, "made_up")
        [file] = set(files_of(cache)) - set(files)
        files.append(file)
        os.utime(file, (1000 + place, 1000 + place))
    # It is used again.
    cache.read(made_up.STARS, answers[0], "made_up")
    unfinished = files[0].with_name("killed.new")
    unfinished.write_bytes(b"x" * 1000)
    fresh = files[0].with_name("being written.new")
    fresh.write_bytes(b"x" * 1000)
    os.utime(unfinished, (1000, 1000))
    small = ParseCache(cache.folder, 2 * max(file.stat().st_size for file in files))
    small.trim()
    assert set(files_of(cache)) == {files[0], files[4], fresh}
    assert sum(file.stat().st_size for file in (files[0], files[4])) <= small.most_bytes


def test_it_stays_bounded_while_it_is_written(tmp_path):
    one = ParseCache(tmp_path / "one", 1 << 30)
    one.read(made_up.STARS, answer_of(tmp_path), "made_up")
    size = files_of(one)[0].stat().st_size
    cache = ParseCache(tmp_path / "parsed", 3 * size + size // 2)
    for page in (1, 2, 3, 4, 1, 2, 3, 4):
        cache.read(made_up.STARS, answer_of(tmp_path, page), "made_up")
        assert sum(file.stat().st_size for file in files_of(cache)) <= cache.most_bytes
    assert len(files_of(cache)) == 3


def test_a_page_larger_than_the_cache_is_not_stored(tmp_path):
    cache = ParseCache(tmp_path / "parsed", 100)
    answer = answer_of(tmp_path)
    assert cache.read(made_up.STARS, answer, "made_up") == read_page(made_up.STARS, answer, "made_up")
    assert files_of(cache) == []


def test_size_from_the_environment():
    assert cache_bytes({}) == 20 << 30
    assert cache_bytes({"ASTROBIO_CACHE_GIB": "0.5"}) == 1 << 29
    for text in ("many", "-1", "nan", "inf", ""):
        with pytest.raises(
            BuildError, match=f"ASTROBIO_CACHE_GIB must be a number of GiB, 0 for no cache; got '{text}'"
        ):
            cache_bytes({"ASTROBIO_CACHE_GIB": text})


def test_a_loaded_page_outlives_its_file(tmp_path):
    """Another process may remove the file while this one still reads the page."""
    cache = ParseCache(tmp_path / "parsed", 1 << 30)
    answer = answer_of(tmp_path)
    cache.read(made_up.STARS, answer, "made_up")
    page = cache.read(made_up.STARS, answer, "made_up")
    ParseCache(cache.folder, 0).trim()
    assert files_of(cache) == []
    assert page.good.select(["star"]).to_pylist() == [{"star": row["star"]} for row in made_up.stars("north")[:5]]
    assert isinstance(page.good, pa.Table)


def test_links_are_read_once(tmp_path, monkeypatch):
    cache = ParseCache(tmp_path / "parsed", 1 << 30)
    monkeypatch.setattr(parse_cache, "SMALL_BYTES", 0)
    asked = []

    def follow(answer):
        asked.append(answer)
        form = Request(
            "https://archive.test/é", "page", (("a", "b"),), "POST", b"\x00\xff", "x/y", None, "r8", (("c", "d"),)
        )
        return [form, Request("https://archive.test/", "page")]

    stage = dataclasses.replace(made_up.STARS.stages["page"], follow=follow, total=lambda answer: 7)
    table = dataclasses.replace(made_up.STARS, stages={"page": stage})
    answer = answer_of(tmp_path)
    first = cache.links(table, answer, "made_up")
    assert cache.links(table, answer, "made_up") == first == read_links(table, answer)
    assert len(asked) == 2
    assert (first.total, first.requests) == (7, tuple(follow(answer)))
    # The request is part of what a body leads to.
    other = dataclasses.replace(answer, request=dataclasses.replace(answer.request, method="POST", body=b"1"))
    cache.links(table, other, "made_up")
    assert len(asked) == 4


def test_links_of_small_bodies_are_not_kept(tmp_path):
    cache = ParseCache(tmp_path / "parsed", 1 << 30)
    links = cache.links(made_up.STARS, made_up.answer_from(made_up_request(), answer_of(tmp_path).path), "made_up")
    assert links.total == made_up.REGIONS["north"]
    assert [request.params[1] for request in links.requests] == [("page", "2")]
    assert files_of(cache) == []


def made_up_request():
    return next(iter(made_up.STARS.first(made_up.selection_of("north"))))
