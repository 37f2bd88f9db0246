"""Check that the processes of a machine exchange tensors correctly, and measure how fast.

    torchrun --nproc-per-node 2 recipes/hardware/check_communication.py [--timeout SECONDS] [--json FILE]

Every process all-reduces, gathers, reduce-scatters, broadcasts and passes tensors around a ring, and compares every
element with what it must be. NCCL where each process has a GPU, gloo on the CPU. Exit status 0 if all is right, 1 if
an element is wrong, a process dies, or one does not answer in time, 2 if there is nothing to check.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist


DTYPES = (torch.float32, torch.bfloat16, torch.int64)
# A rank contributes integers up to 18, so sums over 14 ranks are exact in bfloat16, which has all integers up to 256.
PERIOD, SHIFTS, MOST_RANKS_BFLOAT16 = 13, 7, 14
# One element, an odd length, and more than one of NCCL's chunks.
ELEMENTS = (1, 1_013, 1_048_577)
MIB = {"cpu": (1, 8), "cuda": (1, 16, 256)}
WARM_UP, REPEATS = 2, 5
# Their names since torch 2.13.
all_gather_single = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
reduce_scatter_single = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor


def values(rank: int, count: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """What a rank contributes; no two ranks the same, and no two neighbouring elements."""
    return (torch.arange(count, device=device) % PERIOD + rank % SHIFTS).to(dtype)


def all_reduce(count: int, dtype: torch.dtype, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Each operation returns what was received and what must have been."""
    found = values(dist.get_rank(), count, dtype, device)
    dist.all_reduce(found)
    return found, torch.stack([values(rank, count, dtype, device) for rank in range(dist.get_world_size())]).sum(0)


def all_gather(count: int, dtype: torch.dtype, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    ranks = dist.get_world_size()
    found = torch.zeros(ranks * count, dtype=dtype, device=device)
    all_gather_single(found, values(dist.get_rank(), count, dtype, device))
    return found, torch.cat([values(rank, count, dtype, device) for rank in range(ranks)])


def reduce_scatter(count: int, dtype: torch.dtype, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    ranks, mine = dist.get_world_size(), dist.get_rank()
    found = torch.zeros(count, dtype=dtype, device=device)
    reduce_scatter_single(found, values(mine, ranks * count, dtype, device))
    whole = torch.stack([values(rank, ranks * count, dtype, device) for rank in range(ranks)]).sum(0)
    return found, whole[mine * count : (mine + 1) * count]


def broadcast(count: int, dtype: torch.dtype, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    last = dist.get_world_size() - 1
    found = values(dist.get_rank(), count, dtype, device)
    dist.broadcast(found, src=last)
    return found, values(last, count, dtype, device)


def ring(count: int, dtype: torch.dtype, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    ranks, mine = dist.get_world_size(), dist.get_rank()
    before, after = (mine - 1) % ranks, (mine + 1) % ranks
    found = torch.zeros(count, dtype=dtype, device=device)
    sent = values(mine, count, dtype, device)
    transfers = [dist.P2POp(dist.isend, sent, after), dist.P2POp(dist.irecv, found, before)]
    for request in dist.batch_isend_irecv(transfers):
        request.wait()
    return found, values(before, count, dtype, device)


# Name: the check, and the share of the algorithm's bandwidth that crosses the slowest link, by the number of ranks
# (nccl-tests, doc/PERFORMANCE.md).
OPERATIONS: dict[str, tuple[Callable, Callable[[int], float]]] = {
    "all_reduce": (all_reduce, lambda ranks: 2 * (ranks - 1) / ranks),
    "all_gather": (all_gather, lambda ranks: (ranks - 1) / ranks),
    "reduce_scatter": (reduce_scatter, lambda ranks: (ranks - 1) / ranks),
    "broadcast": (broadcast, lambda ranks: 1.0),
    "ring": (ring, lambda ranks: 1.0),
}


class Report:
    """What was found; the first process prints and writes it, however the check ends."""

    def __init__(self, rank: int, path: Path | None, facts: dict[str, Any]) -> None:
        self.rank, self.path, self.step = rank, path, ""
        self.content: dict[str, Any] = {"status": "FAIL", "reason": None, **facts, "checks": [], "bandwidth": []}

    def close(self, reason: str | None) -> int:
        """Print and write the report; returns the exit status."""
        wrong = [check for check in self.content["checks"] if check["status"] != "PASS"]
        if reason is None and wrong:
            reason = f"{len(wrong)} of {len(self.content['checks'])} checks received wrong elements"
        self.content["reason"] = reason
        self.content["status"] = "PASS" if reason is None else "FAIL"
        if reason is not None:
            print(f"FAIL on rank {self.rank}: {reason}", file=sys.stderr, flush=True)
        if self.rank == 0:
            print(self.table(), flush=True)
            if self.path is not None:
                self.path.write_text(json.dumps(self.content, indent=1) + "\n", encoding="utf-8")
        return 0 if reason is None else 1

    def table(self) -> str:
        rows = [f"{self.content['world_size']} processes, {self.content['backend']} on {self.content['device']}"]
        for name in OPERATIONS:
            checks = [check for check in self.content["checks"] if check["operation"] == name]
            status = "NOT TESTED" if not checks else "PASS"
            if any(check["status"] != "PASS" for check in checks):
                status = "FAIL"
            speeds = [row for row in self.content["bandwidth"] if row["operation"] == name]
            best = max((row["busbw_gb_per_s"] for row in speeds), default=None)
            rows.append(f"{name:16} {status:10} {len(checks):3} checks" + (f"  {best:8.2f} GB/s" if best else ""))
        return "\n".join([*rows, f"{'communication':16} {self.content['status']}"])


@contextmanager
def deadline(report: Report, what: str, seconds: float):
    """End this process if a step does not end in time: a collective that hangs cannot be interrupted otherwise."""

    def give_up():
        os._exit(report.close(f"no answer within {seconds:g} s: {what}"))

    report.step = what
    timer = threading.Timer(seconds, give_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def check_values(report: Report, device: torch.device, seconds: float, control: dist.ProcessGroup) -> None:
    """Run every operation for every dtype and size; a check fails if any rank received a wrong element."""
    is_exact = dist.get_world_size() <= MOST_RANKS_BFLOAT16
    dtypes = [dtype for dtype in DTYPES if is_exact or dtype is not torch.bfloat16]
    for name, (operation, _) in OPERATIONS.items():
        for dtype in dtypes:
            for count in ELEMENTS:
                with deadline(report, f"{name} of {count} elements of {dtype}", seconds):
                    found, expected = operation(count, dtype, device)
                    wrong = [0] * dist.get_world_size()
                    dist.all_gather_object(wrong, int((found != expected).sum()), group=control)
                report.content["checks"].append(
                    {
                        "operation": name,
                        "dtype": str(dtype).removeprefix("torch."),
                        "elements": count,
                        "wrong_elements_by_rank": wrong,
                        "status": "FAIL" if any(wrong) else "PASS",
                    }
                )


def measure(report: Report, device: torch.device, seconds: float, control: dist.ProcessGroup) -> None:
    """Time every operation; the slowest rank's time counts."""
    ranks = dist.get_world_size()
    for name, (_, bus_share) in OPERATIONS.items():
        for mib in MIB[device.type]:
            # As nccl-tests count: the larger of what goes in and what comes out.
            size = mib * 2**20 // (4 * ranks) * 4 * ranks
            with deadline(report, f"{name} of {mib} MiB", seconds):
                run = timed_operation(name, size // 4, device)
                for _ in range(WARM_UP):
                    run()
                finish(device)
                dist.barrier(group=control)
                started = time.perf_counter()
                for _ in range(REPEATS):
                    run()
                finish(device)
                times = [0.0] * ranks
                dist.all_gather_object(times, (time.perf_counter() - started) / REPEATS, group=control)
            algorithm = size / max(times) / 1e9
            report.content["bandwidth"].append(
                {
                    "operation": name,
                    "bytes": size,
                    "seconds": max(times),
                    "algbw_gb_per_s": algorithm,
                    "busbw_gb_per_s": algorithm * bus_share(ranks),
                }
            )


def timed_operation(name: str, elements: int, device: torch.device) -> Callable[[], None]:
    """Return the operation alone, on tensors that exist already."""
    ranks, mine = dist.get_world_size(), dist.get_rank()
    whole = torch.zeros(elements, device=device)
    part = torch.zeros(elements // ranks, device=device)
    received = torch.zeros_like(whole)

    def pass_on():
        transfers = [
            dist.P2POp(dist.isend, whole, (mine + 1) % ranks),
            dist.P2POp(dist.irecv, received, (mine - 1) % ranks),
        ]
        for request in dist.batch_isend_irecv(transfers):
            request.wait()

    return {
        "all_reduce": lambda: dist.all_reduce(whole),
        "all_gather": lambda: all_gather_single(whole, part),
        "reduce_scatter": lambda: reduce_scatter_single(part, whole),
        "broadcast": lambda: dist.broadcast(whole, src=0),
        "ring": pass_on,
    }[name]


def finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def machine_facts(device: torch.device, world_size: int) -> dict[str, Any]:
    """What the figures depend on; no host name."""
    count = torch.cuda.device_count() if device.type == "cuda" else 0
    return {
        "world_size": world_size,
        "backend": "nccl" if count else "gloo",
        "device": torch.cuda.get_device_name(device) if count else "cpu",
        "torch": torch.__version__,
        "peer_access": [
            [i == j or torch.cuda.can_device_access_peer(i, j) for j in range(count)] for i in range(count)
        ],
        "topology": topology() if count else None,
    }


def topology() -> str | None:
    """How the GPUs are connected, as the driver says."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    try:
        done = subprocess.run([program, "topo", "-m"], capture_output=True, text=True, timeout=30, check=False)
    except subprocess.TimeoutExpired:
        return None
    return done.stdout if done.returncode == 0 else None


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--timeout", type=float, default=60.0, metavar="SECONDS", help="for each step (default: 60)")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto", help="default: CUDA if there")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure there")
    arguments = parser.parse_args()
    if not 0 < arguments.timeout <= 86_400:
        parser.error(f"--timeout must be above 0 and at most 86400 seconds; got {arguments.timeout:g}")
    return arguments


def main() -> int:
    arguments = parse_arguments()
    rank, world_size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    local_rank, local_size = int(os.environ.get("LOCAL_RANK", 0)), int(os.environ.get("LOCAL_WORLD_SIZE", world_size))
    if world_size < 2:
        print(
            "error: two processes or more must be started; got one. Use torchrun --nproc-per-node 2.", file=sys.stderr
        )
        return 2
    gpus = torch.cuda.device_count() if torch.cuda.is_available() and arguments.device != "cpu" else 0
    if gpus < local_size and (gpus or arguments.device == "cuda"):
        print(
            f"error: each of {local_size} processes needs a GPU of its own; got {gpus} GPUs. Start fewer, or pass "
            "--device cpu.",
            file=sys.stderr,
        )
        return 2
    device = torch.device("cuda", local_rank) if gpus else torch.device("cpu")
    if gpus:
        torch.cuda.set_device(device)
    report = Report(rank, arguments.json, machine_facts(device, world_size))
    limit = timedelta(seconds=arguments.timeout)
    try:
        with deadline(report, "processes finding one another", arguments.timeout):
            options = {"device_id": device} if gpus else {}
            dist.init_process_group("nccl" if gpus else "gloo", timeout=limit, **options)
            # Verdicts do not pass through what is being checked.
            control = dist.new_group(backend="gloo", timeout=limit)
        check_values(report, device, arguments.timeout, control)
        measure(report, device, arguments.timeout, control)
    except (RuntimeError, ValueError) as error:
        status = report.close(f"{report.step}: {type(error).__name__}: {error}")
        # The others may be waiting for this process in a collective, and leaving in order would wait for them.
        os._exit(status)
    with deadline(report, "leaving the group", arguments.timeout):
        dist.destroy_process_group()
    return report.close(None)


if __name__ == "__main__":
    sys.exit(main())
