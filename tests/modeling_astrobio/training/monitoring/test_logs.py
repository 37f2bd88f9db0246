"""A run's log: rotating files in UTC without secrets, and a console, coloured on terminals, that spares the bar."""

import contextlib
import logging
import os
import re
import sys
import time
import warnings

import pytest
from tqdm import tqdm

from modeling_astrobio.training.monitoring.alerts import Alerts
from modeling_astrobio.training.monitoring.logs import run_logging
from modeling_astrobio.training.monitoring.secrets import find_leaks
from modeling_astrobio.training.monitoring.settings import MonitorSection


COLOUR = "\x1b["
CANARY = "canary-canary/77"
logger = logging.getLogger("modeling_astrobio.training.tests")


@pytest.fixture(autouse=True)
def plain(monkeypatch):
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)


def log_of(run_dir, name: str = "run.log") -> str:
    return (run_dir / "logs" / name).read_text(encoding="utf-8")


def test_lines_have_utc_time_level_and_logger(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Kathmandu")
    time.tzset()
    before = time.time()
    try:
        with run_logging(tmp_path, 0):
            logger.info("naïve %d", 7)
            logger.debug("not this")
        stamp, rest = log_of(tmp_path).split(" ", 1)
        monkeypatch.setenv("TZ", "UTC")
        time.tzset()
        assert before - 1 <= time.mktime(time.strptime(stamp, "%Y-%m-%dT%H:%M:%SZ")) <= time.time()
    finally:
        monkeypatch.undo()
        time.tzset()
    assert rest == "INFO modeling_astrobio.training.tests: naïve 7\n"
    captured = capsys.readouterr()
    assert captured.out == ""
    assert re.fullmatch(r"\d\d:\d\d:\d\d INFO naïve 7\n", captured.err)


def test_other_ranks_have_their_file_and_a_quiet_console(tmp_path, capsys):
    with run_logging(tmp_path, 0), run_logging(tmp_path, 3):
        logger.info("only in the file")
        logger.warning("in both")
    assert "only in the file" in log_of(tmp_path, "run-rank3.log")
    assert log_of(tmp_path) == ""
    console = capsys.readouterr().err
    assert "only in the file" not in console
    assert console.count("in both") == 1


def test_text_that_is_not_unicode_is_written(tmp_path, capsys):
    with run_logging(tmp_path, 0):
        logger.info("file %s", os.fsdecode(b"caf\xe9"))
    assert "file caf\\udce9\n" in log_of(tmp_path)
    assert "lost" not in capsys.readouterr().err


def test_a_resumed_run_goes_on_in_its_file(tmp_path):
    for word in ("first", "second"):
        with run_logging(tmp_path, 0):
            logger.info(word)
    assert [line.split()[-1] for line in log_of(tmp_path).splitlines()] == ["first", "second"]


def test_warnings_of_libraries_come_once(tmp_path, capsys):
    import accelerate.logging
    import transformers.utils.logging as transformers_logging

    with run_logging(tmp_path, 0):
        transformers_logging.get_logger("transformers.trainer").warning("of transformers")
        accelerate.logging.get_logger("accelerate.tests").logger.warning("of accelerate")
        warnings.warn("of Python", stacklevel=1)
        logging.getLogger("transformers.trainer").info("too little")
    console = capsys.readouterr().err
    for text in ("of transformers", "of accelerate", "UserWarning: of Python"):
        assert log_of(tmp_path).count(text) == 1
        assert console.count(text) == 1
    assert "too little" not in console + log_of(tmp_path)


def state() -> list:
    names = ("modeling_astrobio", "transformers", "accelerate", "datasets", "py.warnings")
    loggers = [logging.getLogger(name) for name in names]
    return [warnings.showwarning, *((one.handlers[:], one.propagate, one.level) for one in loggers)]


def test_everything_is_restored(tmp_path):
    before = state()
    with run_logging(tmp_path, 0):
        assert state() != before
    assert state() == before
    with pytest.raises(KeyError, match="step"), run_logging(tmp_path, 0):
        raise KeyError("step")
    assert state() == before


def test_what_ends_the_run_is_in_the_file(tmp_path, capsys):
    with pytest.raises(ValueError, match="loss is NaN"), run_logging(tmp_path, 0):
        raise ValueError("loss is NaN")
    assert "ERROR modeling_astrobio: the run ended with ValueError" in log_of(tmp_path)
    assert "test_logs.py" in log_of(tmp_path)
    assert log_of(tmp_path).endswith("ValueError: loss is NaN\n")
    assert capsys.readouterr().err == ""


def test_files_rotate_and_five_old_ones_are_kept(tmp_path):
    with run_logging(tmp_path, 0, max_bytes=700):
        for number in range(100):
            logger.info("line %03d", number)
    files = sorted((tmp_path / "logs").iterdir())
    assert [path.name for path in files] == ["run.log", *(f"run.log.{number}" for number in range(1, 6))]
    assert all(0 < path.stat().st_size <= 700 for path in files)
    kept = [int(line[-3:]) for path in (*files[:0:-1], files[0]) for line in path.read_text().splitlines()]
    assert kept == list(range(kept[0], 100))
    assert len(kept) > 20


def test_no_secret_in_any_channel(tmp_path, monkeypatch, capsys):
    """Through messages, arguments, exceptions, stacks, warnings, other libraries, broken calls, and alerts."""
    monkeypatch.setenv("CANARY_TOKEN", CANARY)
    run_dir = tmp_path / "run"
    with contextlib.suppress(RuntimeError), run_logging(run_dir, 0):
        logger.info("message " + CANARY)
        logger.info("argument %s %r", CANARY, {"key": CANARY})
        logger.info("a broken call %d with " + CANARY, CANARY)
        logger.info("another %s %s", CANARY)
        logger.info(CANARY, stack_info=True)
        logging.getLogger("transformers").warning(CANARY)
        warnings.warn(CANARY, stacklevel=1)
        try:
            raise OSError(CANARY)
        except OSError:
            logger.exception("an exception")
        alerts = Alerts.for_run(run_dir, MonitorSection(), is_main=True)
        alerts.send("disk", CANARY, f"see https://host/?key={CANARY.replace('/', '%2F')}", 7)
        alerts.close()
        raise RuntimeError(CANARY)
    captured = capsys.readouterr()
    text = log_of(run_dir)
    assert CANARY not in captured.err + captured.out + text
    assert "canary" not in text
    assert text.count("***") >= 12
    assert captured.err.count("***") >= 10
    assert "'a broken call %d with ***' % ('***',)" in text
    assert '"title": "***", "text": "see https://host/?key=***"' in (run_dir / "alerts.jsonl").read_text()
    assert find_leaks(tmp_path) == []
    (run_dir / "logs" / "other.log").write_text(CANARY)
    assert find_leaks(tmp_path) == [(run_dir / "logs" / "other.log", "CANARY_TOKEN")]


def test_disk_that_is_full_stops_neither_run_nor_hides_the_secret(tmp_path, monkeypatch, capsys):
    if not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full")
    monkeypatch.setenv("CANARY_TOKEN", CANARY)
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "run.log").symlink_to("/dev/full")
    with run_logging(tmp_path, 0, max_bytes=0):
        logger.warning("goes on %s", CANARY)
        logger.warning("and on")
    console = capsys.readouterr().err
    assert "WARNING goes on ***\n" in console
    assert "WARNING and on\n" in console
    assert console.count("run.log cannot be written, lines are lost: [Errno 28] No space left on device") == 1
    assert "Traceback" not in console
    assert CANARY not in console


def console_of(run_dir, terminal: bool) -> str:
    """Log beside a bar in a process whose standard streams are a pseudo-terminal or a pipe; returns what came out."""
    if terminal:
        pty = pytest.importorskip("pty", reason="needs pseudo-terminals")
        import termios

        process, reader = pty.fork()
        if process == 0:
            termios.tcsetwinsize(2, (24, 100))  # a bar is drawn where there is room
    else:
        if not hasattr(os, "fork"):
            pytest.skip("needs fork")
        reader, writer = os.pipe()
        process = os.fork()
        if process == 0:
            os.dup2(writer, 2)
        os.close(writer)
    if process == 0:
        try:
            sys.stderr = os.fdopen(2, "w", buffering=1, encoding="utf-8")
            _log_beside_a_bar(run_dir)
            sys.stderr.flush()
        finally:
            # Without the test session's own end.
            os._exit(0)
    output = b""
    # Linux says by an error that the other end of a terminal is closed.
    with contextlib.suppress(OSError):
        while chunk := os.read(reader, 65536):
            output += chunk
    os.close(reader)
    os.waitpid(process, 0)
    return output.decode()


def _log_beside_a_bar(run_dir) -> None:
    with run_logging(run_dir, 0), tqdm(total=7, desc="training", mininterval=0) as bar:
        for step in range(7):
            bar.update()
            logger.warning("message %d", step)
            logging.getLogger("transformers.tests").warning("library %d", step)


def message_parts(console: str) -> list[str]:
    """Split what a terminal got where the cursor goes to a line's beginning; returns the parts with messages."""
    parts = re.split(r"[\r\n]+", console.replace("\x1b[A", "\r"))
    return [part for part in parts if "message" in part or "library" in part]


def test_terminal_gets_colours_and_whole_lines_beside_the_bar(tmp_path):
    console = console_of(tmp_path, terminal=True)
    parts = message_parts(console)
    expected = [f"{word} {step}" for step in range(7) for word in ("message", "library")]
    assert [re.sub(r"\x1b\[[\d;]*m", "", part)[9:] for part in parts] == [f"WARNING {text}" for text in expected]
    assert all(COLOUR in part for part in parts)
    assert "training: 100%" in console
    assert COLOUR not in log_of(tmp_path)


@pytest.mark.parametrize(
    ("terminal", "environ", "coloured"),
    [(True, {"NO_COLOR": "1"}, False), (False, {}, False), (False, {"FORCE_COLOR": "1"}, True)],
)
def test_colours_elsewhere(tmp_path, monkeypatch, terminal, environ, coloured):
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    parts = message_parts(console_of(tmp_path, terminal))
    assert len(parts) == 14
    assert all((COLOUR in part) == coloured for part in parts)


def test_line_costs_less_than_a_millisecond(tmp_path):
    with run_logging(tmp_path, 1):
        best = float("inf")
        for _ in range(20):
            begin = time.perf_counter()
            for step in range(50):
                logger.info("step %d", step)
            best = min(best, time.perf_counter() - begin)
    assert best / 50 < 1e-3
