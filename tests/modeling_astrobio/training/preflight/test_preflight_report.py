"""Outcomes, their table, and what may pass."""

import json

import pytest

from modeling_astrobio.training.errors import DataError
from modeling_astrobio.training.preflight.outcome import (
    FAIL,
    NOT_TESTED,
    PASS,
    NotTestable,
    failed,
    guarded,
    not_tested,
    passed,
)
from modeling_astrobio.training.preflight.report import Line, Report


def raising(error: BaseException):
    def check():
        raise error

    return check


def test_what_a_check_raises_decides_its_status():
    assert guarded(lambda: passed("well", figure=3)).to_dict() == {
        "status": PASS,
        "text": "well",
        "evidence": {"figure": 3},
    }
    assert guarded(raising(NotTestable("no GPU"))).status == NOT_TESTED
    wrong = guarded(raising(DataError("data.text_column must be\n a column; got 'x'.")))
    assert (wrong.status, wrong.text) == (FAIL, "data.text_column must be a column; got 'x'.")
    crashed = guarded(raising(ZeroDivisionError("by nothing")))
    assert crashed.status == FAIL
    assert "it ended in ZeroDivisionError: by nothing (test_preflight_report.py:" in crashed.text
    assert "raise error" in crashed.evidence["traceback"]
    with pytest.raises(KeyboardInterrupt):
        guarded(raising(KeyboardInterrupt()))


@pytest.mark.parametrize(
    ("outcomes", "is_finished", "status"),
    [
        ([passed("a"), not_tested("b")], True, PASS),
        ([passed("a"), failed("b")], True, FAIL),
        ([not_tested("b")], True, NOT_TESTED),
        ([], True, NOT_TESTED),
        ([passed("a")], False, FAIL),
    ],
)
def test_status_of_all(outcomes, is_finished, status):
    report = Report("python recipes/preflight.py tiny", "0" * 64, is_finished=is_finished)
    report.lines += [Line(f"group.{index}", "title", outcome, 0.1) for index, outcome in enumerate(outcomes)]
    assert report.status == status


def test_report_is_written_without_secrets_and_with_the_signoff_last(tmp_path, monkeypatch):
    monkeypatch.setenv("SOME_SERVICE_TOKEN", "abcdefgh-12345678")
    report = Report("python recipes/preflight.py tiny", "0" * 64, is_finished=True)
    outcome = failed("a | b: abcdefgh-12345678", path=tmp_path, values={"x": ["abcdefgh-12345678", 1.5, None]})
    report.lines.append(Line("group.check", "a title", outcome, 1.25))
    report.signoff = ["first", "last"]
    report.write(tmp_path)
    content = json.loads((tmp_path / "preflight.json").read_text(encoding="utf-8"))
    assert content["counts"] == {PASS: 0, FAIL: 1, NOT_TESTED: 0}
    (check,) = content["checks"]
    assert check["evidence"]["values"] == {"x": ["***", 1.5, None]}
    assert check["seconds"] == 1.25
    markdown = (tmp_path / "preflight.md").read_text(encoding="utf-8")
    assert "| FAIL | a title | `group.check` | a \\| b: *** | 1.2 |" in markdown
    assert markdown.endswith("## Sign-off\n\n- [ ] first\n- [ ] last\n")
    assert "***" in report.lines[0].console()
    for path in tmp_path.iterdir():
        assert "abcdefgh" not in path.read_text(encoding="utf-8")
