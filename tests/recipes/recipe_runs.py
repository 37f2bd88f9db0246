"""Runs of recipes/train_llm.py: in this process, which is fast, or in one of their own, as a user runs it."""

import dataclasses
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import torch
from safetensors.torch import load_file
from training_builders import small_data_folder, small_tokenizer
from transformers import TrainerCallback


ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "recipes" / "train_llm.py"
# The name by which the package is found: tests/modeling_astrobio would be found first from within tests.
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


def load_script(path: Path = SCRIPT) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


train_llm = load_script()


def small_arguments(folder: Path) -> list[str]:
    """The tiny recipe on a data set and with a tokenizer that are made in `folder` once, and no questions."""
    if not (folder / "data").is_dir():
        small_data_folder(folder / "data")
        small_tokenizer().save_pretrained(folder / "tokenizer")
    return [
        "tiny",
        "device=cpu",
        # Two threads wait for one another for ever where other processes use the cores.
        "cpu_threads=1",
        f"data.dataset_name={folder / 'data'}",
        f"tokenizer.path={folder / 'tokenizer'}",
        "model.config.vocab_size=700",
        "data.max_rows=0",
        "evaluation.max_questions=0",
    ]


def interrupt_at(
    monkeypatch,
    step: int,
    number: signal.Signals = signal.SIGINT,
    script: ModuleType = train_llm,
    trainer: str = "AstroTrainer",
) -> None:
    """Send a signal to this process while the next run of a script, with a trainer of it, computes a step."""

    class SignalCallback(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            if state.global_step == step - 1:
                os.kill(os.getpid(), number)

    class SignalledTrainer(getattr(script, trainer)):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.add_callback(SignalCallback())

    monkeypatch.setattr(script, trainer, SignalledTrainer)


def kill_after(lines: int, script: Path, arguments: list[str], run_dir: Path) -> int:
    """Run a script in a process of its own, kill it when its metrics have so many lines; returns its exit status."""
    process = subprocess.Popen(
        [sys.executable, str(script), *arguments],
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    metrics = run_dir / "metrics.jsonl"
    try:
        while process.poll() is None and not (metrics.is_file() and metrics.read_bytes().count(b"\n") >= lines):
            time.sleep(0.01)
    finally:
        process.kill()
        process.wait()
    return process.returncode


def start(*arguments: str, launcher: tuple[str, ...] = (sys.executable,), **kwargs) -> subprocess.Popen:
    return subprocess.Popen(
        [*launcher, str(SCRIPT), *arguments],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **kwargs,
    )


@dataclasses.dataclass
class Finished:
    """What a finished run leaves to be compared.

    Attributes:
        log: Step to its loss, norm of the gradient, learning rate and epoch.
        evaluations: Step to its validation loss.
        weights: The final weights.
        steps: Step of each checkpoint.
        result: The result JSON.
    """

    log: dict[int, dict[str, float]]
    evaluations: dict[int, float]
    weights: dict[str, torch.Tensor]
    steps: list[int]
    result: dict

    def assert_same(self, other: "Finished", without_evaluation: tuple[int, ...] = ()) -> None:
        """Every step's figures and the final weights are bit-identical."""
        assert self.log == other.log
        evaluations = {step: loss for step, loss in other.evaluations.items() if step not in without_evaluation}
        assert self.evaluations == evaluations
        assert self.weights.keys() == other.weights.keys()
        for name, weight in self.weights.items():
            assert torch.equal(weight, other.weights[name]), name


def read_run(folder: Path) -> Finished:
    steps = sorted(int(path.name.split("-")[1]) for path in folder.glob("checkpoint-*"))
    state = json.loads((folder / f"checkpoint-{steps[-1]}" / "trainer_state.json").read_text(encoding="utf-8"))
    rows = state["log_history"]
    assert len({row["step"] for row in rows if "loss" in row}) == sum("loss" in row for row in rows)
    return Finished(
        log={
            row["step"]: {key: row[key] for key in ("loss", "grad_norm", "learning_rate", "epoch")}
            for row in rows
            if "loss" in row
        },
        evaluations={row["step"]: row["eval_loss"] for row in rows if "eval_loss" in row},
        weights=load_file(folder / "model" / "model.safetensors"),
        steps=steps,
        result=json.loads((folder / "result.json").read_text(encoding="utf-8")),
    )
