"""Pipelines: what is declared, in which order it runs, what is skipped, and what a failure leaves."""

import json
import os
import re
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml

from modeling_astrobio.training.checkpoints import write_whole
from modeling_astrobio.training.errors import DataError, RecipeError, RunFolderError
from modeling_astrobio.training.stage_process import StageProcess, end_leftover, is_held, try_lock
from modeling_astrobio.training.stage_runner import INTERRUPTED, STATE_NAME, StageRunner
from modeling_astrobio.training.stages import load_pipeline


needs_locks = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no process groups and no flock")

# Each stage notes that it ran, with its arguments, and writes its output.
PROGRAM = """
import os, pathlib, sys
name, output, *rest = sys.argv[1:]
out = pathlib.Path(output)
with open("ran.txt", "a") as file:
    file.write(" ".join([name, *rest]) + "\\n")
print("this is", name, os.environ.get("GREETING", ""))
out.mkdir(parents=True)
(out / "written").write_text(name)
"""


@pytest.fixture
def root(tmp_path):
    """The folder that commands run in, with the program and an input."""
    (tmp_path / "stage.py").write_text(PROGRAM, encoding="utf-8")
    (tmp_path / "recipe.yaml").write_text("a: 1\n", encoding="utf-8")
    return tmp_path


def entry(name: str, *needs: str, **more) -> dict:
    command = ["{python}", "-S", "stage.py", name, f"{{out}}/{name}"]
    return {"name": name, "command": command, "needs": list(needs), "outputs": [f"{{out}}/{name}"], **more}


def diamond() -> list[dict]:
    """Declared out of order: data, then left and right, then end."""
    return [
        entry("end", "left", "right", inputs=["{out}/left"]),
        entry("left", "data", inputs=["recipe.yaml"]),
        entry("data"),
        entry("right", "data"),
    ]


class Run:
    """A pipeline in a folder, run in this process; `said` is what it told, `ran` what was run."""

    def __init__(self, root: Path, stages: list[dict]):
        self.root = root
        self.said: list[str] = []
        path = root / "made.yaml"
        path.write_text(yaml.safe_dump({"stages": stages}), encoding="utf-8")
        pipeline = load_pipeline(path, root / "out with space", root, root)
        self.runner = StageRunner(pipeline, self.said.append)
        self.out = pipeline.out

    def __call__(self, **choice) -> int:
        (self.root / "ran.txt").unlink(missing_ok=True)
        return self.runner.run(**choice)

    @property
    def ran(self) -> list[str]:
        path = self.root / "ran.txt"
        return path.read_text(encoding="utf-8").splitlines() if path.exists() else []

    @property
    def states(self) -> dict:
        return json.loads((self.out / STATE_NAME).read_text(encoding="utf-8"))["stages"]

    def status(self, name: str) -> str:
        return self.runner.status(self.runner.pipeline.stage(name))


def load(root: Path, stages) -> None:
    path = root / "made.yaml"
    path.write_text(stages if isinstance(stages, str) else yaml.safe_dump({"stages": stages}), encoding="utf-8")
    load_pipeline(path, root / "out", root, root)


MISTAKES = {
    "no stages": ("stages: []", "stages must be a list of at least one stage; got []"),
    "unknown section": ("stages: []\nstage: 1", "unknown key 'stage' of pipeline. Did you mean 'stages'?"),
    "no YAML": ("stages: [", "pipeline made.yaml is not valid YAML"),
    "unknown key": ([entry("a", output=["x"])], "unknown key 'output' of stage 1. Did you mean 'outputs'?"),
    "no name": ([{"command": "true"}], "the name of stage 1 must be letters, digits, '_' and '-'; got None"),
    "name with a path": ([entry("../a")], "must be letters, digits, '_' and '-'; got '../a'"),
    "name twice": ([entry("a"), entry("a")], "names of stages must differ; got 'a' twice"),
    "no command": ([{"name": "a"}], "command of stage 'a' must be a list of texts; got None"),
    "empty command": ([{"name": "a", "command": ""}], "command of stage 'a' must be a program and its arguments"),
    "open quote": ([{"name": "a", "command": "say 'x"}], "of stage 'a' cannot be split into arguments: No closing"),
    "yes": ([entry("a", resume=[True])], "resume of stage 'a' must be a list of texts; got [True]. Quote"),
    "env": ([entry("a", env=["X=1"])], "env of stage 'a' must be a mapping of names to texts; got ['X=1']"),
    "text as a list": ([entry("a", inputs="x")], "inputs of stage 'a' must be a list of texts; got 'x'"),
    "unknown variable": (
        [entry("a", inputs=["{outt}/x"])],
        "of stage 'a' may use {out} and {python}; got {outt}",
    ),
    "unknown need": ([entry("data"), entry("b", "dta")], "'b' needs 'dta', which is no stage. Did you mean 'data'?"),
    "needs itself": ([entry("a", "a")], "got the cycle a -> a"),
    "cycle": ([entry("a", "c"), entry("b", "a"), entry("c", "b")], "got the cycle a -> c -> b -> a"),
    "two writers": ([entry("a"), entry("b", outputs=["{out}/a"])], "'{out}/a' must be an output of one stage"),
    "own output": ([entry("a", inputs=["{out}/a/x"])], "stage 'a' must not have its output '{out}/a/x' as an input"),
    "the whole folder": ([entry("a", outputs=["{out}"])], "outputs of stage 'a' must not be {out} or around it"),
    "need left out": ([entry("a"), entry("b", inputs=["{out}/a/x"])], "which stage 'a' writes: add 'a' to its needs"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_in_the_declaration_are_named(root, mistake):
    stages, message = MISTAKES[mistake]
    with pytest.raises(RecipeError, match=re.escape(message)):
        load(root, stages)


def test_absent_pipeline_and_stage(root):
    with pytest.raises(RecipeError, match=r"pipeline must be a YAML file or one of .*; got 'absent'"):
        load_pipeline("absent", None, root, root)
    run = Run(root, diamond())
    for choice in ({"only": "dat"}, {"again_from": "dat"}):
        with pytest.raises(RecipeError, match=r"a stage must be one of \['data', .*; got 'dat'"):
            run(**choice)


def test_stages_run_after_what_they_need_and_are_skipped_the_next_time(root):
    run = Run(root, diamond())
    assert run() == 0
    assert run.ran[0] == "data"
    assert run.ran[-1] == "end"
    assert sorted(run.ran) == ["data", "end", "left", "right"]
    for name, state in run.states.items():
        assert state["status"] == "finished"
        assert state["exit_status"] == 0
        assert state["started"] <= state["ended"]
        assert state["command"][0] == sys.executable
        assert f"this is {name}" in (run.out / "logs" / f"{name}.log").read_text(encoding="utf-8")
    again = Run(root, diamond())
    assert again() == 0
    assert again.ran == []
    assert [line.split("] ")[1] for line in again.said] == [
        f"{stage.name}: finished before and unchanged, skipped" for stage in again.runner.pipeline.stages
    ]


def change_command(root, stages, out):
    stages[1]["command"].append("--more")


def change_env(root, stages, out):
    stages[1]["env"] = {"GREETING": "hello"}


def change_input(root, stages, out):
    (root / "recipe.yaml").write_text("a: 2\n", encoding="utf-8")


def remove_output(root, stages, out):
    (out / "left" / "written").unlink()
    (out / "left").rmdir()


@pytest.mark.parametrize("change", [change_command, change_env, change_input, remove_output])
def test_a_change_runs_a_stage_and_those_that_need_it_again(root, change):
    stages = diamond()
    run = Run(root, stages)
    assert run() == 0
    (run.out / "end" / "mine").write_text("kept", encoding="utf-8")
    change(root, stages, run.out)
    run = Run(root, stages)
    assert {name for name, reason in run.runner.outlook().items() if reason} == {"left", "end"}
    assert run() == 0
    assert [line.split()[0] for line in run.ran] == ["left", "end"]
    if change is change_env:
        assert "this is left hello" in (run.out / "logs" / "left.log").read_text(encoding="utf-8")
    # What was there is not lost.
    (kept,) = run.out.glob("replaced/end-*/end/mine")
    assert kept.read_text(encoding="utf-8") == "kept"


def test_a_file_that_was_only_touched_changes_nothing(root):
    assert Run(root, diamond())() == 0
    os.utime(root / "recipe.yaml", (1, 1))
    run = Run(root, diamond())
    assert run() == 0
    assert run.ran == []


def test_a_stage_that_fails_stops_all_and_is_where_it_goes_on(root):
    stages = diamond()
    good = stages[1]["command"]
    stages[1]["command"] = ["{python}", "-S", "-c", "print('\\n' * 40 + 'no luck'); raise SystemExit(7)"]
    stages[3]["needs"] = ["left"]
    run = Run(root, stages)
    assert run() == 7
    assert run.ran == ["data"]
    assert run.status("left") == "failed"
    assert run.states["left"]["exit_status"] == 7
    assert run.status("end") == "waiting"
    assert "no luck" in run.said[-2]
    assert run.said[-2].count("\n") < 25
    assert run.said[-1] == f"stage left failed with status 7; its whole output is in {run.out / 'logs' / 'left.log'}"
    stages[1]["command"] = good
    run = Run(root, stages)
    assert run() == 0
    assert run.ran == ["left", "right", "end"]


def test_a_stage_that_a_signal_ends_has_failed(root):
    run = Run(root, [entry("a", command=["{python}", "-S", "-c", "import os; os.kill(os.getpid(), 9)"])])
    assert run() == 128 + 9


def test_a_stage_that_does_not_write_its_output_has_failed(root):
    run = Run(root, [entry("a", outputs=["{out}/a", "{out}/b"]), entry("c", "a")])
    assert run() == 1
    assert f"it ended with status 0 and did not write {run.out / 'b'}" in run.said[-2]
    assert run.status("a") == "failed"


def test_a_program_that_is_not_there(root):
    run = Run(root, [entry("a", command="no-such-program-of-ours")])
    with pytest.raises(RunFolderError, match="'no-such-program-of-ours' must be a program that can be started"):
        run()
    assert run.status("a") == "failed"


def test_a_missing_input_is_named(root):
    (root / "recipe.yaml").unlink()
    run = Run(root, diamond())
    with pytest.raises(DataError, match=r"stage 'left' must have its inputs; got no .*recipe.yaml"):
        run()
    assert run.status("left") == "waiting"


def test_no_shell_reads_a_command(root):
    command = "{python} -S stage.py a {out}/a $HOME ;false '*' && false"
    run = Run(root, [entry("a", command=command)])
    assert run() == 0
    assert run.ran == ["a $HOME ;false * && false"]


def test_only_and_from(root):
    assert Run(root, diamond())() == 0
    run = Run(root, diamond())
    assert run(only="left") == 0
    assert run.ran == ["left"]
    # What needs it is no longer up to date.
    assert [name for name, reason in run.runner.outlook().items() if reason] == ["end"]
    assert run() == 0
    assert run.ran == ["end"]
    assert run(again_from="left") == 0
    assert run.ran == ["left", "end"]
    (root / "recipe.yaml").write_text("a: 3\n", encoding="utf-8")
    with pytest.raises(DataError, match="--only end needs stages that have finished; left: its command or an input"):
        run(only="end")


def test_a_folder_is_set_aside_with_what_lies_in_it(root):
    stage = entry("a", outputs=["{out}/a/written", "{out}/a"])
    assert Run(root, [stage])() == 0
    stage["command"].append("--more")
    run = Run(root, [stage])
    assert run() == 0
    (kept,) = run.out.glob("replaced/a-*/a/written")
    assert kept.read_text(encoding="utf-8") == "a"


# A stage with checkpoints that fails in its middle, and finishes when it is told to go on.
TRAINING = """
import pathlib, sys
with open("ran.txt", "a") as file:
    file.write(" ".join(sys.argv[2:]) + "\\n")
out = pathlib.Path(sys.argv[1])
if "--resume" in sys.argv:
    assert (out / "checkpoint-4" / "weights").read_text() == "w"
    (out / "model").write_text("done")
else:
    assert not out.exists(), "the folder must be new"
    out.mkdir()
    (out / "half").write_text("h")
    sys.exit(3)
"""


def training(root: Path, *arguments: str) -> dict:
    (root / "training.py").write_text(TRAINING, encoding="utf-8")
    return {
        "name": "train",
        "command": ["{python}", "-S", "training.py", "{out}/train", *arguments],
        "outputs": ["{out}/train", "{out}/train/model"],
        "resume": ["--resume", "auto"],
    }


def write_checkpoint(run_dir: Path) -> None:
    with write_whole(run_dir / "checkpoint-4") as folder:
        (folder / "weights").write_text("w", encoding="utf-8")


def test_a_stage_with_a_whole_checkpoint_is_resumed(root):
    run = Run(root, [training(root)])
    assert run() == 3
    write_checkpoint(run.out / "train")
    assert run() == 0
    assert run.ran == ["--resume auto"]
    assert "goes on from its last checkpoint: --resume auto" in "".join(run.said)
    assert not (run.out / "replaced").exists()


@pytest.mark.parametrize("case", ["none", "damaged", "changed"])
def test_a_stage_starts_anew_where_it_cannot_be_resumed(root, case):
    run = Run(root, [training(root)])
    assert run() == 3
    if case != "none":
        write_checkpoint(run.out / "train")
    if case == "damaged":
        (run.out / "train" / "checkpoint-4" / "weights").write_text("v", encoding="utf-8")
    run = Run(root, [training(root, *(["lr=2"] if case == "changed" else []))])
    assert run() == 3
    assert run.ran == ["lr=2" if case == "changed" else ""]
    assert len(list(run.out.glob("replaced/train-*/train/half"))) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"pipeline.json cannot be read \(JSONDecodeError"),
        ("[]", r"pipeline.json cannot be read \(TypeError"),
        ('{"stages": {}}', r"pipeline.json cannot be read \(KeyError"),
        ('{"pipeline": "nano", "stages": {}}', "--out must be of pipeline 'made'; got .*, of 'nano'"),
    ],
)
def test_folders_of_other_things_are_refused(root, content, message):
    out = root / "out with space"
    out.mkdir()
    (out / "thesis.txt").touch()
    with pytest.raises(RunFolderError, match="--out must be new, empty, or of a pipeline"):
        Run(root, diamond())
    (out / STATE_NAME).write_text(content, encoding="utf-8")
    with pytest.raises(RunFolderError, match=message):
        Run(root, diamond())


@needs_locks
def test_a_second_orchestrator_is_refused(root):
    run = Run(root, diamond())
    run.out.mkdir()
    with (run.out / "pipeline.lock").open("a+") as file:
        file.write("4711\n")
        file.flush()
        assert try_lock(file)
        with pytest.raises(RunFolderError, match=r"one orchestrator at a time; got .*, which process 4711 has"):
            run()
    assert run() == 0


# The launcher ends at once on a signal, and the child saves for a while, as with accelerate.
LAUNCHER = """
import pathlib, subprocess, sys
child = '''
import pathlib, signal, sys, time
out = pathlib.Path(sys.argv[1])
def save(number, frame):
    time.sleep(0.7)
    (out / "saved").write_text(str(number))
    sys.exit(130)
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, save)
out.mkdir()
time.sleep(60)
'''
sys.exit(subprocess.Popen([sys.executable, "-S", "-c", child, sys.argv[1]]).wait())
"""


def launcher(root: Path) -> dict:
    (root / "launcher.py").write_text(LAUNCHER, encoding="utf-8")
    return entry("a", command=["{python}", "-S", "launcher.py", "{out}/a"])


def wait_for(path: Path, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, path
        time.sleep(0.02)


@needs_locks
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_the_stage_save_before_all_stops(root, number):
    run = Run(root, [launcher(root), entry("b", "a")])
    before = signal.getsignal(number)

    def interrupt():
        wait_for(run.out / "a")
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=interrupt)
    thread.start()
    assert run() == INTERRUPTED
    thread.join()
    assert (run.out / "a" / "saved").read_text(encoding="utf-8") == str(int(number))
    assert run.status("a") == "stopped"
    assert run.status("b") == "waiting"
    assert run.said[-1] == f"{signal.Signals(number).name}: a is stopped"
    assert signal.getsignal(number) is before


@needs_locks
def test_what_a_killed_orchestrator_has_left_is_ended(root):
    log, out = root / "a.log", root / "a"
    launcher(root)
    assert end_leftover(log, None) is False
    with StageProcess() as process:
        group = process.start([sys.executable, "-S", "launcher.py", str(out)], log, {}, root)
        wait_for(out)
        assert is_held(log)
        assert end_leftover(log, group) is True
        assert (out / "saved").read_text(encoding="utf-8") == str(int(signal.SIGTERM))
        assert not is_held(log)


@needs_locks
def test_what_does_not_end_is_named(root):
    log = root / "a.log"
    program = "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
    with StageProcess() as process:
        group = process.start([sys.executable, "-S", "-c", program], log, {}, root)
        while "deaf" not in log.read_text(encoding="utf-8"):
            time.sleep(0.02)
        try:
            with pytest.raises(RunFolderError, match=rf"End it with: kill -KILL -- -{group}"):
                end_leftover(log, group, seconds=0.3)
        finally:
            with pytest.raises(RunFolderError, match=r"a process still writes to .* End it with: fuser -k"):
                end_leftover(log, None, seconds=0.1)
            os.killpg(group, signal.SIGKILL)
            assert process.wait(log) == 128 + signal.SIGKILL
