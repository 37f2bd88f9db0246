"""Two processes with gloo compute the loss and the gradients of one: replicated, sharded, and split inside layers."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from reference_models import tiny_model


# Sums over two ranks in float32, in another order than on one.
TOLERANCE = 1e-4
HERE = Path(__file__).resolve().parent


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What two processes under torchrun found."""
    folder = tmp_path_factory.mktemp("distributed")
    tiny_model(use_qk_norm=True, loss_chunk_size=5).save_pretrained(folder / "checkpoint")
    environment = {**os.environ, "PYTHONPATH": f"{HERE.parents[1]}{os.pathsep}{HERE}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    log = folder / "log.txt"
    with log.open("w") as stream:
        launcher = subprocess.Popen(
            [*command, str(HERE / "distributed_worker.py"), str(folder / "checkpoint"), str(folder / "found.json")],
            env=environment,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            launcher.wait(timeout=240)
        finally:
            if launcher.poll() is None:
                # Stops the two processes too; killing the launcher alone would leave them.
                launcher.terminate()
                launcher.wait(timeout=60)
    assert launcher.returncode == 0, log.read_text()[-4000:]
    return json.loads((folder / "found.json").read_text())


def test_two_processes_ran(found):
    assert found["world_size"] == 2
    assert found["backend"] == "gloo"


def test_replicas_equal_one_process(found):
    assert found["ddp"]["loss"] < TOLERANCE
    assert found["ddp"]["gradients"] < TOLERANCE


@pytest.mark.parametrize("kind", ["fsdp2", "fsdp2_root_head"])
def test_shards_equal_one_process(found, kind):
    assert found[kind]["dtensors"] == found[kind]["parameters"] > 0
    assert found[kind]["loss"] < TOLERANCE
    assert found[kind]["gradients"] < TOLERANCE


def test_tensor_parallel_layers_equal_one_process(found):
    sharded = found["tp"]["sharded"]
    by_rows, by_columns = ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj"), ("o_proj", "down_proj")
    places = {name.split(".")[-2]: ",".join(place) for name, place in sharded.items() if ".layers." in name}
    assert places == {**dict.fromkeys(by_rows, "S(0)"), **dict.fromkeys(by_columns, "S(1)")}
    assert sum(".layers." in name for name in sharded) == 3 * 7
    assert sharded["lm_head.weight"] == ["S(0)"]
    assert found["tp"]["local_rows_of_q_proj"] == 24
    for value in ("logits", "loss", "gradients"):
        assert found["tp"][value] < TOLERANCE, value
