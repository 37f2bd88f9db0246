"""Timing of rivals in turn, peak memory of each in a process of its own, and the JSON both end up in."""

import json
import os
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from modeling_astrobio.training.hardware import describe_hardware, package_versions


__all__ = ["compare", "peak_memory", "run_in_fresh_process", "write_benchmark"]


RESULTS = Path(__file__).resolve().parent / "results"


def compare(rivals: dict[str, Callable[[], Any]], rounds: int, reference: str) -> dict[str, Any]:
    """Run each rival once a round, in alternating order, after one round that does not count.

    Machines drift, so only ratios within a round are compared.

    Args:
        rivals: Name to what is timed.
        rounds: Counted rounds.
        reference: The rival the others are measured against.

    Returns:
        Seconds of every round, medians, and for each other rival the median over rounds of
        reference seconds / its seconds (above 1: faster than the reference).
    """
    seconds: dict[str, list[float]] = {name: [] for name in rivals}
    order = list(rivals)
    for round_ in range(rounds + 1):
        for name in order if round_ % 2 else order[::-1]:
            _synchronise()
            started = time.perf_counter()
            rivals[name]()
            _synchronise()
            if round_:
                seconds[name].append(time.perf_counter() - started)
    speed_up = {
        name: statistics.median(base / own for base, own in zip(seconds[reference], times, strict=True))
        for name, times in seconds.items()
        if name != reference
    }
    return {
        "rounds": rounds,
        "reference": reference,
        "median_seconds": {name: statistics.median(times) for name, times in seconds.items()},
        "speed_up_median_of_rounds": speed_up,
        "seconds": seconds,
    }


def _synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def peak_memory(step: Callable[[], Any]) -> int:
    """Return the bytes a step needs at its peak beyond what is allocated before it.

    On a GPU from torch's allocator. On the CPU the growth of the resident set: run it in a process whose allocator
    gives large blocks back at once (`run_in_fresh_process`), after the libraries have made their own buffers.
    """
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        return torch.cuda.max_memory_allocated() - before
    Path("/proc/self/clear_refs").write_text("5")  # sets the resident peak to the present
    before = _resident("VmRSS")
    step()
    return _resident("VmHWM") - before


def _resident(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def run_in_fresh_process(script: Path, *arguments: str) -> dict[str, Any]:
    """Run a script that prints JSON as its last line, with an allocator that returns blocks of 64 KiB and more."""
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    finished = subprocess.run(
        [sys.executable, str(script), *arguments], capture_output=True, text=True, env=environment, check=False
    )
    if finished.returncode:
        return {"status": "failed", "arguments": arguments, "error": finished.stderr[-2000:]}
    return {"status": "finished", **json.loads(finished.stdout.splitlines()[-1])}


def write_benchmark(name: str, result: dict[str, Any]) -> Path:
    """Write a result with the command, versions and hardware it came from."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    script = Path(sys.argv[0]).resolve()
    # Where a file lies on this machine is nobody's business.
    arguments = [Path(each).name if Path(each).exists() else each for each in sys.argv[1:]]
    whole = {
        "command": shlex.join(["python", f"recipes/benchmarks/{script.name}", *arguments]),
        "hardware": describe_hardware(),
        "versions": package_versions(),
        **result,
    }
    path.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    return path
