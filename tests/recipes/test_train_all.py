"""recipes/train_all.py: from the command line, through kill -9, and once with the real stages."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import yaml
from recipe_runs import ENVIRONMENT, ROOT, load_script, read_run, small_arguments, train_llm

from modeling_astrobio.training.checkpoints import find_checkpoints, verify_checkpoint
from modeling_astrobio.training.stage_process import is_held
from modeling_astrobio.training.stages import load_pipeline


SCRIPT = ROOT / "recipes" / "train_all.py"
train_all = load_script(SCRIPT)
needs_locks = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no process groups and no flock")


def write_pipeline(path, *stages: dict) -> str:
    path.write_text(yaml.safe_dump({"stages": list(stages)}), encoding="utf-8")
    return str(path)


def shell_stage(name: str, program: str, *needs: str, **more) -> dict:
    command = ["{python}", "-S", "-c", program, f"{{out}}/{name}"]
    return {"name": name, "command": command, "needs": list(needs), "outputs": [f"{{out}}/{name}"], **more}


WRITE = "import sys; open(sys.argv[1], 'w').write('x')"


def start(*arguments: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), *arguments],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_until(condition, seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.02)


@pytest.mark.parametrize("name", ["nano", "tiny"])
def test_pipelines_are_whole(name, tmp_path):
    pipeline = load_pipeline(name, tmp_path, ROOT / "recipes" / "pipelines", ROOT)
    assert {"data", "tokenizer", "memory_plan", "train", "evaluation_and_card"} == {s.name for s in pipeline.stages}
    assert pipeline.stages[-1].name == "evaluation_and_card"
    for stage in pipeline.stages:
        # What no stage writes is in the repository.
        for text in stage.inputs:
            assert "{out}" in text or pipeline.path(text).exists(), text
        for argument in stage.command:
            assert not argument.endswith(".py") or (ROOT / argument).is_file(), argument
        assert stage.outputs


def test_failure_changed_input_and_list(tmp_path, capfd):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("a: 1\n", encoding="utf-8")
    failing = "import sys; print('no such data', file=sys.stderr); sys.exit(5)"
    good = shell_stage("data", WRITE, inputs=[str(recipe)])
    path = write_pipeline(tmp_path / "mine.yaml", good, shell_stage("train", failing, "data"))
    arguments = [path, "--out", str(tmp_path / "out")]
    assert train_all.main([*arguments, "--list"]) == 0
    assert not (tmp_path / "out").exists()
    assert train_all.main(arguments) == 5
    said = capfd.readouterr()
    assert "    | no such data\nstage train failed with status 5; its whole output is in" in said.out
    assert said.err.endswith(f"continue with: python recipes/train_all.py {path} --out {tmp_path / 'out'}\n")

    write_pipeline(tmp_path / "mine.yaml", good, shell_stage("train", WRITE, "data"))
    assert train_all.main(arguments) == 0
    said = capfd.readouterr().out
    assert "[1/2] data: finished before and unchanged, skipped" in said
    assert "[2/2] train: runs (failed before)" in said

    recipe.write_text("a: 2\n", encoding="utf-8")
    assert train_all.main([*arguments, "--list"]) == 0
    assert capfd.readouterr().out.splitlines() == [
        "data   finished  would run: its command or an input has changed",
        "train  finished  would run: after data; needs data",
    ]
    assert train_all.main([*arguments, "--only", "train"]) == 2
    assert "error: --only train needs stages that have finished; data: its command" in capfd.readouterr().err
    assert train_all.main(arguments) == 0
    assert capfd.readouterr().out.count(": runs (") == 2
    assert train_all.main(["absent"]) == 2
    assert "error: pipeline must be a YAML file or one of ['nano', 'tiny']; got 'absent'" in capfd.readouterr().err


@needs_locks
def test_kill_9_of_the_orchestrator_in_a_stage(tmp_path, capfd):
    """The stage goes on alone, so it is ended before it is run again; the finished one is not run again."""
    slow = "import pathlib, sys, time; pathlib.Path(sys.argv[1]).mkdir(); time.sleep(120)"
    data = shell_stage("data", WRITE)
    path = write_pipeline(tmp_path / "mine.yaml", data, shell_stage("train", slow, "data"))
    out = tmp_path / "out"
    arguments = [path, "--out", str(out)]
    orchestrator = start(*arguments)
    wait_until((out / "train").is_dir)
    assert train_all.main(arguments) == 2
    said = capfd.readouterr().err
    assert f"got {out}, which process {orchestrator.pid} has. Wait for it" in said
    orchestrator.kill()
    orchestrator.communicate()
    assert is_held(out / "logs" / "train.log")
    group = json.loads((out / "pipeline.json").read_text(encoding="utf-8"))["stages"]["train"]["process_group"]
    os.killpg(group, 0)
    # This time it ends.
    write_pipeline(tmp_path / "mine.yaml", data, shell_stage("train", slow.replace("120", "0"), "data"))
    assert train_all.main(arguments) == 0
    said = capfd.readouterr().out
    assert "[1/2] data: finished before and unchanged, skipped" in said
    assert "what an orchestrator that was killed had left of train was ended first" in said
    # It would have slept for two minutes.
    assert not is_held(out / "logs" / "train.log")
    assert len(list(out.glob("replaced/train-*/train"))) == 1


@pytest.mark.slow
def test_tiny_pipeline_from_data_to_card(tmp_path, capfd):
    arguments = ["tiny", "--out", str(tmp_path / "out")]
    assert train_all.main(arguments) == 0, capfd.readouterr().out
    out = tmp_path / "out"
    result = json.loads((out / "train" / "result.json").read_text(encoding="utf-8"))
    evaluation = json.loads((out / "evaluation.json").read_text(encoding="utf-8"))
    for section in ("evaluation", "samples", "data", "model"):
        assert evaluation[section] == result[section]
    assert "112,848 parameters" in (out / "card.md").read_text(encoding="utf-8")
    assert (out / "plan" / "plan.md").is_file()
    assert verify_checkpoint(out / "train" / "model") is None
    capfd.readouterr()
    assert train_all.main(arguments) == 0
    assert capfd.readouterr().out.count("finished before and unchanged, skipped") == 5


@needs_locks
@pytest.mark.slow
def test_training_goes_on_after_ctrl_c_and_after_kill_9(tmp_path, capfd):
    """Launched by accelerate; the end is that of a run that nobody disturbed, bit for bit."""
    steps = ["training.max_steps=150", "training.save_steps=5", "training.eval_strategy='no'"]
    settings = [*small_arguments(tmp_path), *steps]
    assert train_llm.main([*settings, f"output_dir={tmp_path / 'whole'}"]) == 0
    launch = ["{python}", "-m", "accelerate.commands.launch", "--config_file", "recipes/hardware/cpu.yaml"]
    stage = {
        "name": "train",
        "command": [*launch, "recipes/train_llm.py", *settings, "output_dir={out}/train"],
        "outputs": ["{out}/train", "{out}/train/result.json"],
        "resume": ["--resume", "auto"],
        "env": {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
    }
    out = tmp_path / "out"
    arguments = [write_pipeline(tmp_path / "mine.yaml", stage), "--out", str(out)]

    orchestrator = start(*arguments)
    wait_until(lambda: find_checkpoints(out / "train"))
    orchestrator.send_signal(signal.SIGINT)
    said = orchestrator.communicate(timeout=120)[0]
    assert orchestrator.returncode == 130, said
    assert "SIGINT: train is stopped" in said
    assert not is_held(out / "logs" / "train.log")
    stopped = find_checkpoints(out / "train")[0]
    assert verify_checkpoint(stopped) is None

    orchestrator = start(*arguments)
    wait_until(lambda: find_checkpoints(out / "train")[0] != stopped)
    orchestrator.kill()
    said = orchestrator.communicate(timeout=120)[0]
    assert "goes on from its last checkpoint: --resume auto" in said

    capfd.readouterr()
    assert train_all.main(arguments) == 0, capfd.readouterr().out
    said = capfd.readouterr().out
    assert "what an orchestrator that was killed had left of train was ended first" in said
    assert "goes on from its last checkpoint: --resume auto" in said
    whole, resumed = read_run(tmp_path / "whole"), read_run(out / "train")
    resumed.assert_same(whole)
    assert resumed.result["training"]["resumed"] is True
