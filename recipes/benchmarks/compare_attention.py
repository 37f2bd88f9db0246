"""Attention kernels of AstroLLM on one set of weights: training step and memory, against eager attention.

    python recipes/benchmarks/compare_attention.py [--shape 1b] [--sequence 4096] [--rounds 15] [--device cuda]

Kernels that this machine lacks are listed with the reason. Writes results/compare_attention_DEVICE.json.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch
from compare_with_llama import SHAPES, make_pair, training_step
from interleaved import compare, peak_memory, run_in_fresh_process, write_benchmark


KERNELS = ("eager", "sdpa", "flex_attention", "flash_attention_2", "flash_attention_3")


def usable_kernels(model, tokens: torch.Tensor) -> dict[str, str | None]:
    """Each kernel with the reason why a step with it fails, or `None`."""
    reasons: dict[str, str | None] = {}
    for kernel in KERNELS:
        try:
            model.set_attn_implementation(kernel)
            training_step(model, tokens[:, :128])
            reasons[kernel] = None
        except Exception as error:  # what a missing kernel raises differs from kernel to kernel
            reasons[kernel] = f"{type(error).__name__}: {str(error)[:300]}"
    return reasons


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=sorted(SHAPES), default="1b")
    parser.add_argument("--sequence", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    parser.add_argument("--memory", metavar="KERNEL", help=argparse.SUPPRESS)
    parsed = parser.parse_args()
    torch.set_num_threads(1)
    model = make_pair(parsed.shape, parsed.device)["astro"]
    tokens = torch.randint(0, model.config.vocab_size, (1, parsed.sequence), device=parsed.device)
    if parsed.memory:
        model.set_attn_implementation(parsed.memory)
        training_step(model, tokens[:, :128])
        print(json.dumps({"step_peak_bytes": peak_memory(lambda: training_step(model, tokens))}))
        return 0

    reasons = usable_kernels(model, tokens)
    usable = [kernel for kernel, reason in reasons.items() if reason is None]

    def step(kernel: str) -> None:
        model.set_attn_implementation(kernel)
        training_step(model, tokens)

    times = compare({kernel: lambda kernel=kernel: step(kernel) for kernel in usable}, parsed.rounds, "eager")
    model.to("meta")  # its memory goes to the processes that measure
    same = ("--shape", parsed.shape, "--sequence", str(parsed.sequence), "--device", parsed.device)
    if parsed.device == "cuda":
        torch.cuda.empty_cache()
    script = Path(__file__).resolve()
    memory: dict[str, Any] = {kernel: run_in_fresh_process(script, "--memory", kernel, *same) for kernel in usable}
    result = {
        "status": "finished",
        "shape": parsed.shape,
        "sequence": parsed.sequence,
        "unusable": {kernel: reason for kernel, reason in reasons.items() if reason},
        "training_step": times,
        "memory": memory,
    }
    path = write_benchmark(f"compare_attention_{parsed.device}", result)
    for kernel in usable:
        speed_up = times["speed_up_median_of_rounds"].get(kernel, 1.0)
        peak = memory[kernel].get("step_peak_bytes", float("nan"))
        print(f"{kernel:18} {speed_up:.2f}x eager, step memory {peak / 2**30:.2f} GiB")
    for kernel, reason in result["unusable"].items():
        print(f"{kernel:18} not usable: {reason.splitlines()[0]}")
    print(path.name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
