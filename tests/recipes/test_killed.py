"""A run that is killed at any moment and resumed is the run that was not killed: losses, weights, order of the data.

Float32 on one thread. What each step learned from is noted row by row.
"""

import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from recipe_runs import ENVIRONMENT, read_run, small_arguments


WORKER = Path(__file__).with_name("killed_worker.py")
# Several epochs, an odd last step, dropout, and a checkpoint every other step, so that many kills come in a save.
STEPS = [
    "training.num_train_epochs=3",
    "training.max_steps=-1",
    "model.config.attention_dropout=0.1",
    "training.save_steps=2",
    "training.eval_steps=5",
]
# Two micro-batches in a step of one process, and one in a step of each of two.
OF_RANKS = {1: ["training.gradient_accumulation_steps=2"], 2: []}
WITHOUT_DROPOUT = "model.config.attention_dropout=0.0"


def launch(folder: Path, ranks: int, arguments: list[str], rank: int = 0, action: str = "never", seconds: float = 0):
    launcher = [sys.executable]
    if ranks > 1:
        launcher += ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={ranks}"]
    return subprocess.run(
        [*launcher, str(WORKER), str(folder), str(rank), action, str(seconds), *arguments, f"output_dir={folder}/run"],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def rows_of_steps(folder: Path) -> dict[int, set[str]]:
    """Rows of each step, of all processes and attempts: an attempt with other rows would add to them."""
    steps: dict[int, set[str]] = {}
    for file in folder.glob("rows-*.txt"):
        for line in file.read_text(encoding="utf-8").splitlines():
            step, digest = line.split(" ")
            steps.setdefault(int(step), set()).add(digest)
    return steps


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    return [*small_arguments(folder), "training.per_device_train_batch_size=2", *STEPS]


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """Uninterrupted runs, each made when it is first asked for."""
    runs: dict[tuple, Path] = {}

    def run(ranks: int, *more: str) -> Path:
        if (ranks, *more) not in runs:
            folder = tmp_path_factory.mktemp(f"whole-{ranks}")
            done = launch(folder, ranks, [*data, *OF_RANKS[ranks], *more])
            assert done.returncode == 0, done.stderr
            assert (folder / "began.txt").read_text().split() == [str(ranks)] * ranks
            runs[(ranks, *more)] = folder
        return runs[(ranks, *more)]

    return run


def kill_and_resume(folder: Path, ranks: int, arguments: list[str], longest: float, rng: random.Random) -> list[float]:
    """Kill a run, and perhaps its continuation, at random moments, and let it end; returns the moments."""
    moments = [rng.uniform(0, longest) for _ in range(rng.choice((1, 1, 2)))]
    for number, moment in enumerate(moments):
        resume = ["--resume", "auto"] if number else []
        done = launch(folder, ranks, [*arguments, *resume], rng.randrange(ranks), "kill", moment)
        # The last part may have ended before its moment came.
        assert done.returncode != 0 or number, done.stdout
    done = launch(folder, ranks, [*arguments, "--resume", "auto"])
    assert done.returncode == 0, done.stderr
    return moments


# In the order in which they are tried: the default suite has the first two.
POINTS = [(1, 0, 1), (2, 0, 2)] + [
    (ranks, workers, seed) for seed in range(3, 8) for ranks in (1, 2) for workers in (0, 2)
]


@pytest.mark.parametrize(
    ("ranks", "workers", "seed"),
    [pytest.param(*point, marks=[] if number < 1 else pytest.mark.slow) for number, point in enumerate(POINTS)],
)
def test_run_killed_at_a_random_moment_is_the_uninterrupted_one(data, whole, ranks, workers, seed, tmp_path):
    reference = whole(ranks)
    longest = max(map(float, (reference / "seconds.txt").read_text().split()))
    arguments = [*data, *OF_RANKS[ranks], f"training.dataloader_num_workers={workers}"]
    moments = kill_and_resume(tmp_path, ranks, arguments, longest, random.Random(seed))
    print(f"killed after {moments} of {longest} seconds")
    read_run(tmp_path / "run").assert_same(read_run(reference / "run"))
    assert rows_of_steps(tmp_path) == rows_of_steps(reference)
    assert not (tmp_path / "run" / ".saving").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2)])
def test_run_goes_on_with_another_number_of_processes(data, whole, before, after, tmp_path):
    reference = whole(before, WITHOUT_DROPOUT)
    longest = max(map(float, (reference / "seconds.txt").read_text().split()))
    arguments = [*data, *OF_RANKS[before], WITHOUT_DROPOUT]
    killed = launch(tmp_path, before, arguments, action="kill", seconds=longest / 2)
    assert killed.returncode != 0
    done = launch(tmp_path, after, [*arguments, "--resume", "auto"])
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "began.txt").read_text().split() == [str(before)] * before + [str(after)] * after
    assert "rows in a step" in done.stdout
    # The same rows in every step; their sums come in another order, which Adam's division carries into the weights.
    assert rows_of_steps(tmp_path) == rows_of_steps(reference)
    found, expected = read_run(tmp_path / "run"), read_run(reference / "run")
    assert found.log.keys() == expected.log.keys()
    for step, row in expected.log.items():
        assert found.log[step]["loss"] == pytest.approx(row["loss"], rel=1e-4)
        assert found.log[step]["learning_rate"] == row["learning_rate"]
    for name, weight in expected.weights.items():
        torch.testing.assert_close(found.weights[name], weight, rtol=0, atol=2e-4, msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("action", ["kill", "stop"])
def test_rank_that_dies_or_hangs_ends_the_run(data, whole, action, tmp_path):
    longest = max(map(float, (whole(2) / "seconds.txt").read_text().split()))
    started = time.monotonic()
    arguments = [*data, "training.ddp_timeout=15", "training.num_train_epochs=60"]
    done = launch(tmp_path, 2, arguments, rank=1, action=action, seconds=longest / 2)
    assert done.returncode != 0
    # Start and imports, the time-out, and the thirty seconds that torchrun gives the stopped process.
    assert time.monotonic() - started < 120
    assert "ChildFailedError" in done.stderr
    shutil.rmtree(tmp_path / "run")
