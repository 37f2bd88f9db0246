"""A run that was stopped and resumed is, bit for bit, the run that was not stopped.

Float32 on one thread: the same operations in the same order, so that no tolerance is needed.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest
from recipe_runs import ENVIRONMENT, ROOT, interrupt_at, read_run, small_arguments, start, train_llm
from training_builders import small_tokenizer

from modeling_astrobio.training.llm_recipe import LLMRecipe
from modeling_astrobio.training.recipe import load_recipe


# Odd numbers of steps, epochs that end between checkpoints, and dropout, which shows a random state that was not kept.
MAP = [
    "training.num_train_epochs=3",
    "training.max_steps=-1",
    "training.gradient_accumulation_steps=2",
    "training.per_device_train_batch_size=2",
    "model.config.attention_dropout=0.1",
    "training.save_steps=5",
    "training.eval_steps=3",
]
# The stream is read more than twice.
STREAM = [
    "data.streaming=true",
    "training.max_steps=17",
    "training.per_device_train_batch_size=8",
    "model.config.attention_dropout=0.1",
    "training.save_steps=5",
    "training.eval_steps=0.2",
]
VARIANTS = {"map": MAP, "stream": STREAM}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("resume")


@pytest.fixture(scope="module", params=VARIANTS)
def variant(request, folder):
    """A variant's arguments and its uninterrupted run."""
    arguments = [*small_arguments(folder), *VARIANTS[request.param]]
    out = folder / f"whole-{request.param}"
    assert train_llm.main([*arguments, f"output_dir={out}"]) == 0
    return arguments, read_run(out)


def last_step(arguments: list[str], step: int) -> int:
    """The last finished step of a run that is interrupted in `step`: one of two micro-batches is given up."""
    return step - ("training.gradient_accumulation_steps=2" in arguments)


def left_out(arguments: list[str], step: int) -> tuple[int, ...]:
    """The evaluation of a step that was finished before the run stopped: the checkpoint comes first."""
    return (step,) if last_step(arguments, step) == step else ()


def test_variants_pass_over_the_data_more_than_twice(variant):
    arguments, whole = variant
    epochs = [row["epoch"] for row in whole.log.values()]
    assert len(whole.log) >= 13
    assert len(whole.evaluations) >= 4
    if "data.streaming=true" in arguments:
        recipe = load_recipe(LLMRecipe, "tiny", arguments[1:], ROOT / "recipes" / "llm")
        rows = train_llm.load_splits(recipe.data, None)["train"]
        one_pass = list(train_llm.packed_rows(rows, small_tokenizer(), recipe.data))
        assert len(whole.log) * 8 > 2 * len(one_pass)
    else:
        assert epochs[-1] == 3.0


# A step before any checkpoint, one that evaluates, one that would save anyway, and one after the first epoch or pass.
@pytest.mark.parametrize("step", [2, 3, 5, 14])
def test_interrupted_and_resumed_run_is_the_uninterrupted_one(variant, step, tmp_path, monkeypatch, capsys):
    arguments, whole = variant
    last = last_step(arguments, step)
    arguments = [*arguments, f"output_dir={tmp_path / 'run'}"]
    with monkeypatch.context() as patch:
        interrupt_at(patch, step, signal.SIGTERM if step == 14 else signal.SIGINT)
        assert train_llm.main(arguments) == 130
    said = capsys.readouterr()
    assert ("SIGTERM" if step == 14 else "SIGINT") + ": saving a checkpoint after this micro-batch" in said.err
    assert f"stopped at step {last}; continue with: accelerate launch recipes/train_llm.py tiny" in said.out
    assert (tmp_path / "run" / f"checkpoint-{last}" / "manifest.json").is_file()
    assert not (tmp_path / "run" / "result.json").exists()
    assert train_llm.main([*arguments, "--resume"]) == 0
    said = capsys.readouterr()
    # Nothing that would frighten: no missing keys of a tied head, no arguments that do not match.
    assert "[transformers]" not in said.err
    resumed = read_run(tmp_path / "run")
    resumed.assert_same(whole, without_evaluation=left_out(arguments, step))
    assert resumed.result["training"]["resumed"] is True
    assert resumed.result["training"]["steps"] == whole.result["training"]["steps"]
    assert resumed.result["evaluation"] == whole.result["evaluation"]


def test_run_stopped_twice_and_continued_from_an_older_checkpoint(variant, tmp_path, monkeypatch):
    arguments, whole = variant
    out = tmp_path / "run"
    arguments = [*arguments, f"output_dir={out}", "training.save_total_limit=9"]
    for step, resume in ((4, []), (7, ["--resume", "auto"])):
        with monkeypatch.context() as patch:
            interrupt_at(patch, step)
            assert train_llm.main([*arguments, *resume]) == 130
    # The later steps are written again over those that are there.
    assert train_llm.main([*arguments, "--resume", str(out / "checkpoint-5")]) == 0
    read_run(out).assert_same(whole, without_evaluation=left_out(arguments, 4))


def test_finished_run_resumes_to_its_report(variant, tmp_path):
    arguments, whole = variant
    out = tmp_path / "run"
    assert train_llm.main([*arguments, f"output_dir={out}"]) == 0
    for name in ("model", "result.json", "loss.png"):
        shutil.rmtree(out / name) if (out / name).is_dir() else (out / name).unlink()
    assert train_llm.main([*arguments, f"output_dir={out}", "--resume"]) == 0
    read_run(out).assert_same(whole)


def test_saving_more_often_on_resuming_takes_effect(variant, tmp_path, monkeypatch):
    arguments, whole = variant
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        interrupt_at(patch, 4)
        assert train_llm.main([*arguments, f"output_dir={out}"]) == 130
    changed = ["training.save_steps=2", "training.save_total_limit=99", "--resume"]
    assert train_llm.main([*arguments, f"output_dir={out}", *changed]) == 0
    resumed = read_run(out)
    resumed.assert_same(whole, without_evaluation=left_out(arguments, 4))
    first = {last_step(arguments, 4), 4, 6, 8, 10}
    assert resumed.steps[: len(first)] == sorted(first)


def test_tied_and_adapted_models_resume(folder, tmp_path, monkeypatch, capsys):
    base = small_arguments(folder)
    tied = [*base, "model.config.tie_word_embeddings=true"]
    for name, arguments in (("tied", tied), ("adapter", [*tied, "adapter.r=3", "adapter.dropout=0.1"])):
        assert train_llm.main([*arguments, f"output_dir={tmp_path / name}-whole"]) == 0
        with monkeypatch.context() as patch:
            interrupt_at(patch, 3)
            assert train_llm.main([*arguments, f"output_dir={tmp_path / name}"]) == 130
        capsys.readouterr()
        assert train_llm.main([*arguments, f"output_dir={tmp_path / name}", "--resume"]) == 0
        assert "missing keys" not in capsys.readouterr().err
        weights = "model.safetensors" if name == "tied" else "adapter_model.safetensors"
        files = [tmp_path / end / "model" / weights for end in (f"{name}-whole", name)]
        assert files[0].read_bytes() == files[1].read_bytes()


def wait_for(process: subprocess.Popen, condition, seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end, "the run did not come this far in time"
        time.sleep(0.02)


# A process takes ten seconds to start: of the two variants each test below has one by default.
@pytest.mark.parametrize("variant", ["map", pytest.param("stream", marks=pytest.mark.slow)], indirect=True)
def test_ctrl_c_of_a_real_process(variant, tmp_path):
    arguments, whole = variant
    out = tmp_path / "run"
    process = start(*arguments, f"output_dir={out}")
    # Bytes are read unbuffered, since the bar ends no line.
    seen = b""
    while b"training:" not in seen or b"/" not in seen.rpartition(b"training:")[2]:
        part = os.read(process.stderr.fileno(), 4096)
        assert part, seen.decode()
        seen += part
    time.sleep(random.uniform(0.0, 0.5))
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 130, output
    assert "continue with: accelerate launch" in output
    (step,) = sorted(int(path.name.split("-")[1]) for path in out.glob("checkpoint-*"))[-1:]
    done = subprocess.run(
        [sys.executable, str(ROOT / "recipes" / "train_llm.py"), *arguments, f"output_dir={out}", "--resume"],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    read_run(out).assert_same(whole, without_evaluation=(step,))


@pytest.mark.parametrize("variant", [pytest.param("map", marks=pytest.mark.slow), "stream"], indirect=True)
def test_killed_run_resumes_from_its_newest_whole_checkpoint(variant, tmp_path):
    arguments, whole = variant
    out = tmp_path / "run"
    process = start(*arguments, f"output_dir={out}")
    wait_for(process, lambda: (out / "checkpoint-5").is_dir())
    time.sleep(random.uniform(0.0, 0.3))
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    # What a kill in the middle of writing leaves is no checkpoint, and is cleared away.
    (out / ".saving" / "checkpoint-10").mkdir(parents=True, exist_ok=True)
    assert train_llm.main([*arguments, f"output_dir={out}", "--resume", "auto"]) == 0
    read_run(out).assert_same(whole)
    assert not (out / ".saving").exists()
