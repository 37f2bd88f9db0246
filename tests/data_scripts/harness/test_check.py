"""One small question to each archive: what is said where it answers, refuses, changes or is silent."""

import dataclasses

import made_up
import pytest
from loopback import Fault, Loopback
from replay import Reply

from data_scripts.harness.check import check_archives


TOKEN = {"MADE_UP_TOKEN": "token.Zq71"}


def check(server, environment=None, archive=made_up.ARCHIVE):
    [result] = check_archives([archive], environment or {}, mirrors=server.mirrors, attempts=2, timeout_seconds=0.5)
    return result


def test_an_archive_that_answers_as_expected():
    with Loopback(made_up.answer) as server:
        result = check(server)
        assert [each.asked.query["region"] for each in server.served] == [["south"]]
    assert result.passed
    assert (result.reachable, result.schema, result.detail) == (True, "as expected", "")
    assert result.credentials == "MADE_UP_TOKEN, MADE_UP_KEY, MADE_UP_EMAIL not set"


def test_it_asks_until_it_sees_a_row():
    archive = dataclasses.replace(made_up.ARCHIVE, probe=("curves", {}))
    with Loopback(made_up.answer) as server:
        assert check(server, archive=archive).passed
        assert [each.asked.path for each in server.served] == ["/index", "/curve"]


def test_credentials():
    def guarded(asked):
        right = asked.headers.get("authorization") == f"Bearer {TOKEN['MADE_UP_TOKEN']}"
        return made_up.answer(asked) if right else Reply(401, body=b"not you")

    with Loopback(guarded) as server:
        assert check(server, TOKEN).credentials == (
            "MADE_UP_TOKEN sent, not refused; MADE_UP_KEY, MADE_UP_EMAIL not set"
        )
        wrong = check(server, {"MADE_UP_TOKEN": "another.Zq72"})
    assert (wrong.passed, wrong.reachable, wrong.schema) == (False, True, "not seen")
    assert wrong.credentials == "MADE_UP_TOKEN sent; MADE_UP_KEY, MADE_UP_EMAIL not set, refused"
    assert "401" in wrong.detail
    assert "Zq72" not in repr(wrong)
    without = dataclasses.replace(made_up.ARCHIVE, credentials=())
    with Loopback(made_up.answer) as server:
        assert check(server, archive=without).credentials == "none needed"


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (
            Reply(
                body=b'{"total": 1, "unit": "kg", "rows": [{"star": "a", "mass": 1.5, "planets": 0, "note": ""}]}\n'
            ),
            "kg",
        ),
        (Reply(body=b'{"total": 1, "rows": [{"star": "a"}], "unit": ""}\n'), "mass"),
        (Reply(body=b"<html><body>Sorry</body></html>"), "HTML"),
        (Reply(body=b'{"error": "no such table"}\n'), "no such table"),
        (Reply(body=b"[]\n"), "parser failed"),
        (Reply(body=b'{"total": 0, "rows": [], "unit": "Msun", "next": null}\n'), "no row"),
    ],
)
def test_an_archive_that_answers_something_else(reply, reason):
    with Loopback(lambda asked: reply) as server:
        result = check(server)
    assert (result.passed, result.reachable, result.schema) == (False, True, "not as expected")
    assert reason in result.detail


def test_an_archive_that_is_not_there():
    with Loopback(made_up.answer) as server:
        pass
    result = check(server)
    assert (result.passed, result.reachable, result.schema) == (False, False, "not seen")
    assert "the connection failed" in result.detail
    for fault in ("500", "slow drip"):
        with Loopback(made_up.answer, fault=Fault(fault, times=None)) as server:
            result = check(server)
        assert (result.reachable, result.schema) == (False, "not seen")
    with Loopback(lambda asked: Reply(404, body=b"moved away")) as server:
        result = check(server)
    assert (result.passed, result.reachable, result.schema) == (False, True, "not seen")


def test_one_archives_trouble_does_not_hide_the_others():
    def fail(selection):
        raise RuntimeError("bug")

    broken = dataclasses.replace(
        made_up.ARCHIVE, name="broken", tables=(dataclasses.replace(made_up.STARS, first=fail),)
    )
    silent = dataclasses.replace(made_up.ARCHIVE, name="silent", probe=("moons", {}))
    with Loopback(made_up.answer) as server:
        results = check_archives([broken, made_up.ARCHIVE, silent], {}, mirrors=server.mirrors)
    assert [result.passed for result in results] == [False, True, False]
    assert results[0].detail == "RuntimeError: bug"
    assert "config must be one of stars, curves for silent; got 'moons'" in results[2].detail
