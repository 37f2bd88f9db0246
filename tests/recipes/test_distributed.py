"""Two real processes with gloo train what one process trains with twice the batch.

torchrun and not `accelerate launch --cpu`, which silently runs one process.
"""

import re
import subprocess
import sys
import time

import pytest
import torch
from recipe_runs import ENVIRONMENT, SCRIPT, read_run, small_arguments, train_llm


WORKER = """
import sys
sys.path.insert(0, sys.argv[1])
import torch.distributed as dist
from transformers import TrainerCallback
import train_llm

class Say(TrainerCallback):
    def on_train_begin(self, args, state, control, model=None, **kwargs):
        print(f"rank {dist.get_rank()} of {dist.get_world_size()} on {dist.get_backend()}", flush=True)

    def on_step_begin(self, args, state, control, model=None, **kwargs):
        import os, signal
        # One rank alone gets the signal.
        if sys.argv[2] != "0" and state.global_step == int(sys.argv[2]) - 1 and dist.get_rank() == 1:
            os.kill(os.getpid(), signal.SIGTERM)

class SayingTrainer(train_llm.AstroTrainer):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.add_callback(Say())

train_llm.AstroTrainer = SayingTrainer
sys.exit(train_llm.main(sys.argv[3:]))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("distributed")
    (folder / "worker.py").write_text(WORKER, encoding="utf-8")
    return folder


def torchrun(folder, *arguments: str, signal_step: int = 0) -> subprocess.CompletedProcess:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    return subprocess.run(
        [*launcher, str(folder / "worker.py"), str(SCRIPT.parent), str(signal_step), *arguments],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )


def assert_close(found, expected) -> None:
    """The same up to float32 sums in another order, which Adam's division carries into the weights."""
    assert found.log.keys() == expected.log.keys()
    for step, row in expected.log.items():
        assert found.log[step]["loss"] == pytest.approx(row["loss"], rel=1e-4)
        assert found.log[step]["learning_rate"] == row["learning_rate"]
    for name, weight in expected.weights.items():
        torch.testing.assert_close(found.weights[name], weight, rtol=0, atol=1e-4, msg=name)


@pytest.mark.slow
def test_two_processes_train_as_one_with_twice_the_batch(folder, tmp_path):
    arguments = small_arguments(folder)
    done = torchrun(folder, *arguments, "training.per_device_train_batch_size=2", f"output_dir={tmp_path / 'two'}")
    assert done.returncode == 0, done.stderr
    assert sorted(re.findall(r"rank \d of 2 on gloo", done.stdout)) == ["rank 0 of 2 on gloo", "rank 1 of 2 on gloo"]
    one = [*arguments, "training.per_device_train_batch_size=4", f"output_dir={tmp_path / 'one'}"]
    assert train_llm.main(one) == 0
    assert_close(read_run(tmp_path / "two"), read_run(tmp_path / "one"))
    tokens = [read_run(tmp_path / name).result["training"]["tokens_seen"] for name in ("two", "one")]
    assert tokens[0] == tokens[1]


@pytest.mark.slow
def test_signal_to_one_process_stops_both_and_the_run_resumes(folder, tmp_path):
    arguments = [*small_arguments(folder), f"output_dir={tmp_path / 'stopped'}"]
    done = torchrun(folder, *arguments, signal_step=3)
    assert done.returncode != 0
    assert "stopped at step 3; continue with" in done.stdout
    assert (tmp_path / "stopped" / "checkpoint-3" / "manifest.json").is_file()
    done = torchrun(folder, *arguments, "--resume")
    assert done.returncode == 0, done.stderr
    whole = torchrun(folder, *small_arguments(folder), f"output_dir={tmp_path / 'whole'}")
    assert whole.returncode == 0, whole.stderr
    read_run(tmp_path / "stopped").assert_same(read_run(tmp_path / "whole"), without_evaluation=(3,))


@pytest.mark.slow
def test_mistake_ends_both_processes(folder, tmp_path):
    start = time.monotonic()
    done = torchrun(folder, *small_arguments(folder), f"output_dir={tmp_path / 'run'}", "data.text_column=body")
    assert done.returncode != 0
    assert "error: data.text_column must be a column of the train split" in done.stderr
    # Not the half hour after which gloo gives up waiting.
    assert time.monotonic() - start < 200
