"""A folder that appears whole or not at all: after errors, after a kill, and with two processes at once."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest
from built_folders import ENVIRONMENT

from data_scripts.harness.errors import BuildError
from data_scripts.harness.new_folder import new_folder, refuse_used_folder


WRITE = """
import sys, time
from data_scripts.harness.new_folder import new_folder

with new_folder(sys.argv[1]) as folder:
    (folder / "half").write_bytes(b"x")
    (folder / "within").mkdir()
    (folder / "within" / "more").write_bytes(b"y")
    print("writing", flush=True)
    time.sleep(60)
"""


def test_it_appears_whole(tmp_path):
    out = tmp_path / "a" / "out"
    with new_folder(out) as folder:
        (folder / "file").write_bytes(b"x")
        assert not out.exists()
    assert (out / "file").read_bytes() == b"x"
    assert [path.name for path in out.parent.iterdir()] == ["out"]
    with pytest.raises(FileExistsError, match=r"must be a new or an empty folder; got .*out, which has content"):
        new_folder(out).__enter__()


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_leaves_nothing(tmp_path, error):
    (tmp_path / "out").mkdir()

    def write_and_stop():
        with new_folder(tmp_path / "out") as folder:
            (folder / "file").write_bytes(b"x")
            raise error("stop")

    with pytest.raises(error, match="stop"):
        write_and_stop()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert refuse_used_folder(tmp_path / "out") == tmp_path / "out"


def test_what_a_killed_process_left_is_removed_and_what_a_live_one_writes_is_not(tmp_path):
    out = tmp_path / "out"
    with subprocess.Popen(
        [sys.executable, "-c", WRITE, str(out)], env=ENVIRONMENT, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout.readline() == "writing\n"
            with pytest.raises(BuildError, match=r"one process at a time; got .*out, which another is making"):
                new_folder(out).__enter__()
            assert (tmp_path / ".out.partial" / "within" / "more").read_bytes() == b"y"
            with new_folder(tmp_path / "other"):
                pass
        finally:
            process.send_signal(signal.SIGKILL)
    assert (tmp_path / ".out.partial").exists()
    with new_folder(out) as folder:
        assert list(folder.iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "out"]


def _write(out, number, until):
    time.sleep(max(0.0, until - time.time()))
    try:
        with new_folder(out) as folder:
            (folder / "number").write_text(str(number))
            (folder / "process").write_text(str(os.getpid()))
    except (BuildError, FileExistsError):
        os._exit(3)


def test_of_many_processes_one_makes_it(tmp_path):
    context = multiprocessing.get_context("fork")
    for attempt in range(20):
        out = tmp_path / str(attempt)
        until = time.time() + 0.03
        processes = [context.Process(target=_write, args=(out, number, until)) for number in range(4)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        [winner] = [number for number, process in enumerate(processes) if process.exitcode == 0]
        assert {process.exitcode for process in processes} == {0, 3}
        assert (out / "number").read_text() == str(winner)
        assert (out / "process").read_text() == str(processes[winner].pid)
    assert len(list(tmp_path.iterdir())) == 20
