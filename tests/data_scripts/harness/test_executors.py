"""Pages read by other processes or on a cluster: in order, and the same bytes as in this process."""

import importlib.util
import itertools
import shutil

import made_up
import pytest
from built_folders import ENVIRONMENT, build, bytes_of
from loopback import Loopback

from data_scripts.harness.errors import BadBodyError, BuildError
from data_scripts.harness.executors import _in_order, read_pages
from data_scripts.harness.parse_cache import ParseCache
from data_scripts.harness.snapshot import Snapshot


BOTH = ("stars", "curves")


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    folder = tmp_path_factory.mktemp("first")
    with Loopback(made_up.answer) as server:
        build(folder, server, configs=BOTH)
    return folder


def test_answers_are_taken_no_further_ahead_than_needed():
    taken = []

    def answers():
        for number in range(20):
            taken.append(number)
            yield number

    pages = _in_order(lambda answer: answer, lambda job: job * 10, answers(), 4)
    assert list(itertools.islice(pages, 3)) == [0, 10, 20]
    assert taken == list(range(3 + 4 - 1))
    assert list(pages) == [10 * number for number in range(3, 20)]
    assert list(_in_order(lambda answer: answer, lambda job: job, iter(()), 4)) == []


def test_a_body_that_cannot_be_read_comes_as_its_error(first, tmp_path):
    snapshot = Snapshot(first / "store" / "made_up")
    bodies = [path for path in snapshot.folder.glob("bodies/??/*") if b'"total"' in path.read_bytes()]
    request = next(iter(made_up.STARS.first(made_up.selection_of("north"))))
    answers = [made_up.answer_from(request, path) for path in bodies[:3]]
    broken = tmp_path / "broken"
    broken.write_bytes(b'{"rows": 7}')
    answers.insert(1, made_up.answer_from(request, broken))
    cache = ParseCache(tmp_path / "parsed", 1 << 30)
    for processes in (1, 2):
        pages = list(read_pages(made_up.ARCHIVE, "stars", answers, cache, processes=processes, engine="processes"))
        assert [isinstance(page, BadBodyError) for page in pages] == [False, True, False, False]
        assert "the parser failed with TypeError" in str(pages[1])
        assert [page.sha256 for page in pages if not isinstance(page, BadBodyError)] == [
            answer.sha256 for answer in answers if answer.path != broken
        ]


@pytest.mark.slow
@pytest.mark.parametrize(("engine", "module"), [("ray", "ray"), ("dask", "distributed")])
def test_a_cluster_gives_the_same_bytes(first, tmp_path, engine, module, monkeypatch):
    pytest.importorskip(module, reason=f"{module} is not installed; the extra {engine} brings it")
    monkeypatch.setenv("PYTHONPATH", ENVIRONMENT["PYTHONPATH"])
    shutil.copytree(first / "store", tmp_path / "store")
    shutil.rmtree(tmp_path / "store" / "parsed")
    build(tmp_path, None, configs=BOTH, engine=engine, processes=2)
    assert bytes_of(tmp_path / "out") == bytes_of(first / "out")


@pytest.mark.parametrize(("engine", "module"), [("ray", "ray"), ("dask", "distributed")])
def test_an_engine_that_is_absent_is_named(first, tmp_path, engine, module):
    if importlib.util.find_spec(module) is not None:
        pytest.skip(f"{module} is installed")
    shutil.copytree(first / "store", tmp_path / "store")
    with pytest.raises(
        BuildError, match=rf"engine {engine} needs the package .*Install modeling_astrobio\[{engine}\]"
    ):
        build(tmp_path, None, engine=engine)
