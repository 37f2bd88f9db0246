"""Full-size training steps on one GPU: memory under a cap, model-FLOPs utilisation, GPU utilisation, beside the plan.

    python recipes/benchmarks/measure_strategies.py [--preset 13b] [--only NAME ...]

Each row trains in a process of its own: one optimizer step to warm up, then one measured, of four micro-batches of
4096 tokens. A row with a cap may not take more than that from the driver. Where there is no GPU the table has the
plan's figures and says NOT TESTED. Writes results/measure_strategies_DEVICE.json.
"""

import argparse
import json
import statistics
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from interleaved import run_in_fresh_process, write_benchmark
from torch import nn
from transformers.utils.logging import set_verbosity_error

from modeling_astrobio.training.errors import UserError
from modeling_astrobio.training.gpu_specs import Hardware, parse_hardware, this_machine
from modeling_astrobio.training.kernels import apply_strategy
from modeling_astrobio.training.llm_recipe import LLMRecipe
from modeling_astrobio.training.llm_step import llm_step
from modeling_astrobio.training.memory_plan import MemoryPlan, plan_step
from modeling_astrobio.training.optimizers import build_optimizer, embedding_weights
from modeling_astrobio.training.plan_search import TraceCache
from modeling_astrobio.training.recipe import load_recipe, read_yaml
from modeling_astrobio.training.sharding import shard_model
from modeling_astrobio.training.strategy_rules import check_strategy
from modeling_astrobio.training.training_step import TrainingStep


RECIPES = Path(__file__).resolve().parents[1]
GB = 10**9
MICRO_STEPS = 4


@dataclass(frozen=True)
class Row:
    """A strategy and what it is to reach.

    Attributes:
        name: Of the row.
        strategy: Of recipes/strategies.
        overrides: What differs from it.
        cap_gb: The most it may take, GB, or `None`.
        least_utilisation: Model FLOPs over the GPU's dense bfloat16 peak, or `None`.
    """

    name: str
    strategy: str
    overrides: tuple[str, ...] = ()
    cap_gb: float | None = None
    least_utilisation: float | None = None


FULL, SELECTIVE = "strategy.activation_checkpointing=full", "strategy.activation_checkpointing=selective"
NONE = "strategy.activation_checkpointing=none"
ROWS = (
    Row("bnb_8bit_full", "bnb_8bit", (FULL,), 86, 0.42),
    Row("torchao_8bit_full", "torchao_8bit", (FULL,), 86, 0.42),
    Row("bnb_8bit_selective", "bnb_8bit", (SELECTIVE,), None, 0.50),
    Row("bnb_8bit_none", "bnb_8bit", (NONE,), None, 0.50),
    Row("paged_8bit_full", "bnb_paged_8bit", (FULL,), 86, 0.42),
    Row("optimizer_offload", "optimizer_offload", (FULL,), 58),
    Row("everything_offloaded", "fsdp2_offload", (FULL, "strategy.activation_offload=true"), 45),
    Row("qlora", "qlora", (FULL,), 24),
    Row("lora", "lora", (FULL,)),
    Row("compiled", "bnb_8bit", (FULL, "strategy.compile=true")),
    Row("liger", "bnb_8bit", (FULL, "strategy.liger=true")),
    Row("fp8", "torchao_8bit", (FULL, "strategy.fp8=true")),
)


def training_step(row: Row, preset: str, length: int) -> TrainingStep:
    layer = read_yaml(row.strategy, RECIPES / "strategies", "strategy")
    overrides = [
        *row.overrides,
        f"model.preset={preset}",
        f"data.sequence_length={length}",
        "training.per_device_train_batch_size=1",
        f"training.gradient_accumulation_steps={MICRO_STEPS}",
    ]
    recipe = load_recipe(LLMRecipe, "13b", overrides, RECIPES / "llm", (layer,))
    step = llm_step(recipe)
    if step.strategy.sharding == "auto":
        step = replace(step, strategy=replace(step.strategy, sharding="none"))
    # Nothing is clipped here, on any row.
    return replace(step, max_grad_norm=0.0)


def quantise(model: nn.Module, device: torch.device) -> None:
    """Replace the frozen linear layers inside the decoder by 4-bit ones of bitsandbytes, in place."""
    import bitsandbytes as bnb

    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            if type(layer) is not nn.Linear or layer.weight.requires_grad or name == "lm_head":
                continue
            packed = bnb.nn.Linear4bit(
                layer.in_features,
                layer.out_features,
                bias=layer.bias is not None,
                compute_dtype=layer.weight.dtype,
                compress_statistics=True,
                quant_type="nf4",
            )
            packed.weight = bnb.nn.Params4bit(layer.weight.data, requires_grad=False, quant_type="nf4")
            setattr(parent, name, packed.to(device))


def build(step: TrainingStep, device: torch.device) -> tuple[nn.Module, torch.optim.Optimizer]:
    """Build model and optimizer as `AstroTrainer` does, with random weights made on the device."""
    strategy = step.strategy
    # Quantised weights are made and packed on the host, whose memory holds them unpacked.
    with torch.device("cpu" if step.quantization else device):
        model = step.make_model()
    model.train()
    if step.quantization:
        quantise(model, device)
        model.to(device)
    apply_strategy(model, strategy, device)
    if strategy.sharding == "fsdp2":
        if not dist.is_initialized():
            store = dist.HashStore()
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo", store=store, rank=0, world_size=1)
        if strategy.parameter_offload:
            model.to("cpu")
        shard_model(model, parameter_offload=strategy.parameter_offload)
    optimizer = build_optimizer(
        strategy,
        [{"params": [parameter for parameter in model.parameters() if parameter.requires_grad]}],
        learning_rate=1e-5,
        betas=(0.9, 0.95),
        eps=1e-8,
        weight_decay=0.1,
        embeddings=embedding_weights(model),
    )
    return model, optimizer


class Utilisation:
    """Samples of the GPU's utilisation while something runs, %; none where NVML is absent."""

    def __init__(self, device: torch.device):
        self.device, self.samples, self._done = device, [], threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def _sample(self) -> None:
        while not self._done.wait(0.1):
            try:
                self.samples.append(torch.cuda.utilization(self.device))
            except (ModuleNotFoundError, RuntimeError):
                # No nvidia-ml-py, or a driver that does not tell.
                return

    def __enter__(self) -> "Utilisation":
        if self.device.type == "cuda":
            self._thread.start()
        return self

    def __exit__(self, *exception) -> None:
        self._done.set()
        if self._thread.is_alive():
            self._thread.join()


def measure(row: Row, preset: str, length: int, device: torch.device) -> dict[str, Any]:
    """Run a row's two optimizer steps."""
    on_gpu = device.type == "cuda"
    if on_gpu and row.cap_gb is not None:
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, row.cap_gb * GB / total), device)
    torch.manual_seed(0)
    step = training_step(row, preset, length)
    model, optimizer = build(step, device)
    batch = {name: tensor.to(device) for name, tensor in step.make_batch().items()}
    vocabulary = model.get_input_embeddings().weight.shape[0]
    batch["input_ids"] = torch.randint(vocabulary, batch["input_ids"].shape, device=device)
    batch["labels"] = batch["input_ids"].clone()
    synchronise: Callable[[], Any] = torch.cuda.synchronize if on_gpu else (lambda: None)
    losses, seconds = [], {}
    with Utilisation(device) as utilisation:
        for _ in range(2):
            if on_gpu:
                torch.cuda.reset_peak_memory_stats()
            synchronise()
            started = time.perf_counter()
            for _ in range(MICRO_STEPS):
                with torch.autocast(device.type, torch.bfloat16, enabled=step.mixed_precision == "bf16"):
                    loss = model(**batch).loss
                (loss / MICRO_STEPS).backward()
                losses.append(loss.detach())
            synchronise()
            seconds["micro_step"] = (time.perf_counter() - started) / MICRO_STEPS
            optimizer.step()
            optimizer.zero_grad()
            synchronise()
            seconds["step"] = time.perf_counter() - started
            utilisation.samples, samples = [], utilisation.samples
    found: dict[str, Any] = {"losses": [float(loss) for loss in losses], "seconds": seconds}
    if on_gpu:
        found["allocated_bytes"] = torch.cuda.max_memory_allocated()
        found["reserved_bytes"] = torch.cuda.max_memory_reserved()
        found["gpu_utilisation_percent"] = statistics.mean(samples) if samples else None
    if not all(map(torch.isfinite, losses)):
        raise FloatingPointError(f"the loss must be finite; got {found['losses']}.")
    return found


def judge(row: Row, plan: MemoryPlan, measured: dict[str, Any], hardware: Hardware) -> dict[str, Any]:
    """Hold a measured row against its goals and its plan."""
    verdict: dict[str, Any] = {"micro_steps_per_second": 1 / measured["seconds"]["micro_step"]}
    if hardware.gpu is not None:
        peak = hardware.gpu.bf16_tflops * 1e12
        verdict["model_flops_utilisation"] = plan.trace.model_flops / (peak * measured["seconds"]["micro_step"])
        if row.least_utilisation is not None:
            verdict["reached_utilisation"] = verdict["model_flops_utilisation"] >= row.least_utilisation
    if "allocated_bytes" in measured:
        verdict["planned_over_allocated"] = plan.device_bytes / measured["allocated_bytes"]
        verdict["planned_over_reserved"] = plan.reserved_bytes / measured["reserved_bytes"]
        if row.cap_gb is not None:
            verdict["under_cap"] = measured["reserved_bytes"] <= row.cap_gb * GB
    return verdict


def run(row: Row, preset: str, length: int, device: torch.device, hardware: Hardware) -> dict[str, Any]:
    """Plan a row and, where it can run, measure it; a row that fails says why."""
    step = training_step(row, preset, length)
    capability = torch.cuda.get_device_capability(device) if device.type == "cuda" else None
    result: dict[str, Any] = {**asdict(row), "status": "NOT TESTED"}
    plan = plan_step(step, hardware, 1)
    result["plan"] = plan.to_dict()
    try:
        check_strategy(step.settings(device.type, 1, capability))
    except UserError as error:
        return {**result, "why": str(error)}
    # A fresh process: what one row leaves on the GPU is not the next one's.
    arguments = ["--measure", row.name, "--preset", preset, "--length", str(length), "--device", device.type]
    measured = run_in_fresh_process(Path(__file__), *arguments)
    if measured.pop("status") == "failed":
        return {**result, "status": "FAIL", "why": measured["error"]}
    return {**result, "status": "measured", "measured": measured, **judge(row, plan, measured, hardware)}


def table(rows: list[dict[str, Any]]) -> str:
    """Return the results as a Markdown table."""
    lines = [
        "| row | cap, GB | planned, GB | allocated, GB | micro-steps/s | MFU, % | goal, % | GPU busy, % | |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        measured = row.get("measured", {})
        allocated = measured.get("allocated_bytes")
        utilisation, goal = row.get("model_flops_utilisation"), row["least_utilisation"]
        busy = measured.get("gpu_utilisation_percent")
        lines.append(
            f"| {row['name']} | {row['cap_gb'] or '–'} | {row['plan']['device_bytes'] / GB:.1f} "
            f"| {'–' if allocated is None else f'{allocated / GB:.1f}'} "
            f"| {'–' if 'micro_steps_per_second' not in row else format(row['micro_steps_per_second'], '.2f')} "
            f"| {'–' if utilisation is None else f'{100 * utilisation:.1f}'} "
            f"| {'–' if goal is None else f'{100 * goal:.0f}'} "
            f"| {'–' if busy is None else f'{busy:.0f}'} | {row['status']} |"
        )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="13b")
    parser.add_argument("--length", type=int, default=4096, help="tokens in a row")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda" if torch.cuda.is_available() else None)
    parser.add_argument("--only", nargs="+", choices=[row.name for row in ROWS], help="rows to run")
    parser.add_argument("--measure", choices=[row.name for row in ROWS], help=argparse.SUPPRESS)
    parsed = parser.parse_args()
    set_verbosity_error()
    by_name = {row.name: row for row in ROWS}
    if parsed.measure:
        row = by_name[parsed.measure]
        print(json.dumps(measure(row, parsed.preset, parsed.length, torch.device(parsed.device))))
        return 0
    chosen = [by_name[name] for name in parsed.only] if parsed.only else list(ROWS)
    if parsed.device is None:
        # The plan of the machine that the goals are for.
        hardware = parse_hardware(1, gpu="H200 SXM")
        rows, trace = [], TraceCache()
        for row in chosen:
            plan = plan_step(training_step(row, parsed.preset, parsed.length), hardware, 1, trace).to_dict()
            rows.append({**asdict(row), "plan": plan, "status": "NOT TESTED", "why": "torch sees no CUDA device"})
    else:
        device = torch.device(parsed.device)
        hardware = this_machine(parsed.device)
        rows = [run(row, parsed.preset, parsed.length, device, hardware) for row in chosen]
    print(table(rows))
    name = f"measure_strategies_{parsed.device or 'planned'}"
    print(write_benchmark(name, {"preset": parsed.preset, "length": parsed.length, "rows": rows}))
    return 1 if any(row["status"] == "FAIL" for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
