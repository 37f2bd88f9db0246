"""Planned peak memory of an optimizer step against the measured one, each configuration in a process of its own.

    python recipes/benchmarks/plan_against_measured.py [--device cuda] [--only NAME ...]

On the CPU the measured peak is that of the resident set, above what the process holds after its imports and a step of
a small model of the same kind; the allocator gives blocks of 64 KiB and more back at once. On a GPU it is what torch's
allocator gave out and reserved, with expandable segments. Writes results/plan_against_measured_DEVICE.json.
"""

import argparse
import functools
import gc
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate.utils.operations import convert_to_fp32
from interleaved import run_in_fresh_process, write_benchmark
from torch import nn
from transformers import (
    BertConfig,
    BertForMaskedLM,
    ConvNextConfig,
    ConvNextForImageClassification,
    GPT2Config,
    GPT2LMHeadModel,
    ViTConfig,
    ViTForImageClassification,
)

from modeling_astrobio import AstroLLMConfig, AstroLLMForCausalLM
from modeling_astrobio.training.activations import apply_activation_policy
from modeling_astrobio.training.adapters import add_lora, lora_config
from modeling_astrobio.training.gpu_specs import this_machine
from modeling_astrobio.training.memory_plan import plan_step
from modeling_astrobio.training.monitoring.memory_use import host_bytes, reset_host_peak
from modeling_astrobio.training.optimizers import build_optimizer, embedding_weights
from modeling_astrobio.training.strategy import Strategy
from modeling_astrobio.training.training_step import TrainingStep


MODELS: dict[str, tuple[type, type]] = {
    "astro_llm": (AstroLLMConfig, AstroLLMForCausalLM),
    "bert": (BertConfig, BertForMaskedLM),
    "gpt2": (GPT2Config, GPT2LMHeadModel),
    "vit": (ViTConfig, ViTForImageClassification),
    "convnext": (ConvNextConfig, ConvNextForImageClassification),
}


def _llm(layers: int, hidden: int, heads: int, kv_heads: int, vocabulary: int, **changes: Any) -> dict[str, Any]:
    shape = {"num_hidden_layers": layers, "hidden_size": hidden, "intermediate_size": 11 * hidden // 4}
    return {
        **shape,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "vocab_size": vocabulary,
        **changes,
    }


# A small model of the same kind, for libraries to make their buffers before anything is measured.
_SMALL: dict[str, dict[str, Any]] = {
    "astro_llm": {**_llm(1, 256, 4, 2, 512), "head_dim": 64},
    "bert": {"num_hidden_layers": 1, "vocab_size": 512},
    "gpt2": {"n_layer": 1, "vocab_size": 512},
    "vit": {"num_hidden_layers": 1},
    "convnext": {"depths": [1, 1, 1, 1]},
}
_IMAGES = ("vit", "convnext")
# How far planned may be from measured, as a share of what was measured: above by this much and below by `_MOST_UNDER`.
# "backward" is the peak of the micro-steps alone.
_TOLERANCE = {"cpu": {"peak": 0.10, "backward": 0.10}, "cuda": {"peak": 0.05, "backward": 0.05, "reserved": 0.10}}
_MOST_UNDER = {"cpu": 0.10, "cuda": 0.02}


@dataclass(frozen=True)
class Case:
    """A model, a micro-batch and a strategy; rows of tokens hold documents of 100, or are one each."""

    name: str
    config: dict[str, Any]
    model: str = "astro_llm"
    rows: int = 1
    length: int = 1024
    packed: bool = True
    dtype: str = "float32"
    mixed_precision: str = "no"
    attention: str = "sdpa"
    lora_rank: int = 0
    accumulation: int = 1
    checkpointing: str = "none"
    optimizer: str = "adamw"

    @property
    def strategy(self) -> Strategy:
        return Strategy(sharding="none", optimizer=self.optimizer, activation_checkpointing=self.checkpointing)


# Weights and their averages are most of what these need,
_WIDE, _TIED = _llm(6, 1024, 16, 4, 24000), _llm(4, 1024, 8, 1, 16000, tie_word_embeddings=True)
# activations of these,
_DEEP, _HEADS = _llm(24, 256, 8, 2, 4096), _llm(8, 512, 16, 16, 8192)
# and the head or logits of these.
_VOCABULARY, _ALL_LOGITS = _llm(3, 1024, 8, 8, 54272), _llm(2, 256, 4, 4, 54272, loss_chunk_size=0)
_BF16: dict[str, Any] = {"dtype": "bfloat16"}
_AUTOCAST: dict[str, Any] = {"mixed_precision": "bf16"}
CPU_CASES = (
    Case("fp32", _DEEP, length=3072),
    Case("fp32_many_rows", _DEEP, rows=12, length=256),
    Case("fp32_single_documents", _DEEP, rows=3, length=1024, packed=False),
    Case("fp32_wide", _WIDE, length=640),
    Case("fp32_wide_full", _WIDE, checkpointing="full"),
    Case("fp32_selective", _DEEP, checkpointing="selective", rows=2, length=2048),
    Case("fp32_eager", _HEADS, attention="eager"),
    Case("fp32_eager_full", _HEADS, attention="eager", length=2048, checkpointing="full"),
    Case("fp32_tied", _TIED, rows=3, length=384),
    Case("fp32_vocabulary", _VOCABULARY, length=384),
    Case("fp32_all_logits", _ALL_LOGITS, length=2048),
    Case("fp32_all_logits_full", _ALL_LOGITS, rows=3, length=768, checkpointing="full"),
    Case("fp32_accumulation", _DEEP, rows=2, length=1280, accumulation=2),
    Case("fp32_accumulation_eager_full", _HEADS, attention="eager", length=2048, accumulation=2, checkpointing="full"),
    Case("fp32_bnb_8bit", _TIED, rows=3, length=768, optimizer="adamw_bnb_8bit"),
    Case("fp32_bnb_8bit_update", _VOCABULARY, length=128, optimizer="adamw_bnb_8bit"),
    Case("fp32_torchao_8bit", _HEADS, attention="eager", optimizer="adamw_torchao_8bit"),
    Case("fp32_sophia", _TIED, rows=2, length=512, optimizer="sophia"),
    Case("fp32_lora", _DEEP, lora_rank=16, length=3072),
    Case("fp32_lora_eager_full", _HEADS, lora_rank=16, attention="eager", length=2304, checkpointing="full"),
    Case("bf16", _DEEP, **_BF16, rows=2, length=2560),
    Case("bf16_vocabulary_full", _VOCABULARY, **_BF16, length=1024, checkpointing="full"),
    Case("bf16_selective", _DEEP, **_BF16, rows=3, length=2560, checkpointing="selective"),
    Case("bf16_eager", _HEADS, **_BF16, attention="eager", length=1280),
    Case("bf16_all_logits", _ALL_LOGITS, **_BF16, length=2560),
    Case("bf16_accumulation_bnb_8bit", _WIDE, **_BF16, length=1280, accumulation=2, optimizer="adamw_bnb_8bit"),
    Case("bf16_torchao_8bit", _WIDE, **_BF16, rows=2, optimizer="adamw_torchao_8bit"),
    Case("bf16_lora", _DEEP, **_BF16, lora_rank=8, rows=2, length=2560),
    Case("autocast", _DEEP, **_AUTOCAST, rows=2, length=1792),
    Case("autocast_wide_full", _WIDE, **_AUTOCAST, checkpointing="full"),
    Case("autocast_all_logits", _ALL_LOGITS, **_AUTOCAST, length=2048),
    Case("autocast_accumulation", _TIED, **_AUTOCAST, rows=2, accumulation=2),
    Case("bert", {"num_hidden_layers": 4}, "bert", rows=6, length=384),
    Case("bert_autocast", {"num_hidden_layers": 6}, "bert", rows=6, length=384, **_AUTOCAST),
    Case("gpt2_eager_full", {"n_layer": 4}, "gpt2", length=1024, attention="eager", checkpointing="full"),
    Case("vit", {}, "vit", rows=8),
    Case("vit_bf16", {"num_hidden_layers": 8}, "vit", rows=20, **_BF16),
    Case("convnext", {}, "convnext", rows=16, attention="eager"),
)

_1B, _13B = ({"preset": preset} for preset in ("1b", "13b"))
_GPU: dict[str, Any] = {"dtype": "bfloat16", "length": 4096}
CUDA_CASES = (
    Case("1b", _1B, **_GPU),
    Case("1b_selective", _1B, **_GPU, checkpointing="selective"),
    Case("1b_full", _1B, **_GPU, checkpointing="full"),
    Case("1b_full_4_rows", _1B, **_GPU, checkpointing="full", rows=4),
    Case("1b_eager", _1B, **_GPU, attention="eager"),
    Case("1b_eager_full", _1B, **_GPU, attention="eager", checkpointing="full"),
    Case("1b_flash", _1B, **_GPU, attention="flash_attention_2"),
    Case("1b_bnb_8bit", _1B, **_GPU, optimizer="adamw_bnb_8bit"),
    Case("1b_torchao_8bit", _1B, **_GPU, optimizer="adamw_torchao_8bit"),
    Case("1b_lora", _1B, **_GPU, lora_rank=16),
    Case("1b_accumulation", _1B, **_GPU, accumulation=2),
    Case("1b_autocast", _1B, length=4096, mixed_precision="bf16"),
    Case("13b_full", _13B, **_GPU, checkpointing="full"),
    Case("13b_full_bnb_8bit", _13B, **_GPU, checkpointing="full", optimizer="adamw_bnb_8bit"),
    Case("13b_full_torchao_8bit", _13B, **_GPU, checkpointing="full", optimizer="adamw_torchao_8bit"),
    Case("13b_selective_bnb_8bit", _13B, **_GPU, checkpointing="selective", optimizer="adamw_bnb_8bit"),
    Case("13b_bnb_8bit", _13B, **_GPU, optimizer="adamw_bnb_8bit"),
    Case("13b_eager_full_bnb_8bit", _13B, **_GPU, attention="eager", checkpointing="full", optimizer="adamw_bnb_8bit"),
    Case("13b_lora", _13B, **_GPU, lora_rank=16),
    Case("13b_lora_full", _13B, **_GPU, lora_rank=16, checkpointing="full"),
    Case(
        "13b_flash_full_bnb_8bit",
        _13B,
        **_GPU,
        attention="flash_attention_2",
        checkpointing="full",
        optimizer="adamw_bnb_8bit",
    ),
)
CASES = {"cpu": CPU_CASES, "cuda": CUDA_CASES}


def make_model(case: Case) -> nn.Module:
    config_class, model_class = MODELS[case.model]
    settings = dict(case.config)
    preset = settings.pop("preset", None)
    config = config_class.from_preset(preset, **settings) if preset else config_class(**settings)
    model = model_class._from_config(config, dtype=getattr(torch, case.dtype), attn_implementation=case.attention)
    return add_lora(model, lora_config(case.lora_rank)) if case.lora_rank else model


def make_batch(case: Case) -> dict[str, Any]:
    """One micro-batch; labels as `collate_packed` makes them, with the first token of each document not learned."""
    if case.model in _IMAGES:
        pixels = torch.randn(case.rows, 3, 224, 224, dtype=getattr(torch, case.dtype))
        return {"pixel_values": pixels, "labels": torch.randint(0, 2, (case.rows,))}
    shape = (case.rows, case.length)
    tokens = torch.randint(0, 500, shape)
    if case.model != "astro_llm":
        return {"input_ids": tokens, "labels": tokens.clone()}
    positions = (torch.arange(case.length) % (100 if case.packed else case.length)).repeat(case.rows, 1)
    return {
        "input_ids": tokens,
        "labels": tokens.masked_fill(positions == 0, -100),
        "position_ids": positions,
        "num_items_in_batch": torch.tensor(case.rows * case.length * case.accumulation),
    }


def training_step(case: Case) -> TrainingStep:
    """The case for the planner; flash attention's package is traced as torch's flash kernel."""
    is_flash = case.attention.startswith("flash")
    traced = replace(case, attention="sdpa") if is_flash else case

    def batch() -> dict[str, Any]:
        # A trace cannot see that positions have no breaks, or that a kernel needs no mask.
        no_mask = {"attention_mask": {"full_attention": None}} if is_flash or not case.packed else {}
        return {**make_batch(case), **no_mask}

    return TrainingStep(
        name=case.name,
        identity=repr(traced),
        make_model=functools.partial(make_model, traced),
        make_batch=batch,
        strategy=case.strategy,
        dtype=case.dtype,
        mixed_precision=case.mixed_precision,
        accumulation_steps=case.accumulation,
        max_grad_norm=0.0,
        micro_batch=case.rows,
        items=case.rows * case.length,
        is_adapted=case.lora_rank > 0,
        attn_implementation=case.attention,
    )


def prepare(case: Case, device: str) -> tuple[Callable[[], None], Callable[[], None]]:
    """Build a case's model and optimizer; return what runs its micro-steps and what updates the weights."""
    with torch.device(device):
        model = make_model(case)
        batches = [make_batch(case) for _ in range(case.accumulation)]
    model.train()
    apply_activation_policy(model, case.strategy)
    optimizer = build_optimizer(
        case.strategy,
        [{"params": list(model.parameters())}],
        learning_rate=1e-5,
        betas=(0.9, 0.95),
        eps=1e-8,
        weight_decay=0.1,
        embeddings=embedding_weights(model),
    )

    def run_micro_steps() -> None:
        for batch in batches:
            with torch.autocast(device, dtype=torch.bfloat16, enabled=case.mixed_precision == "bf16"):
                outputs = model(**batch)
            if case.mixed_precision == "bf16":
                outputs = convert_to_fp32(outputs)
            loss = outputs["loss"]
            del outputs
            loss.backward()

    def update() -> None:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return run_micro_steps, update


def measure(case: Case, device: str) -> dict[str, Any]:
    """Peaks of the second optimizer step, whose optimizer has its state: of its micro-steps and of its update."""
    torch.manual_seed(0)
    small = replace(case, rows=2, length=64, config={**case.config, **_SMALL[case.model]})
    for act in prepare(small, device) * 2:
        act()
    del act
    reset, read = (_reset_device, _read_device) if device == "cuda" else (reset_host_peak, _read_host)
    before = reset()
    run_micro_steps, update = prepare(case, device)
    run_micro_steps()
    update()
    started = time.perf_counter()
    peaks = {}
    for moment, act in (("backward", run_micro_steps), ("update", update)):
        reset()
        act()
        peaks[moment] = read(before)
    return {
        "measured": {
            "backward": peaks["backward"]["peak"],
            **{what: max(peak[what] for peak in peaks.values()) for what in peaks["update"]},
        },
        "baseline_bytes": before,
        "step_seconds": time.perf_counter() - started,
    }


def _reset_device() -> int:
    gc.collect()
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    return 0


def _read_device(before: int) -> dict[str, int]:
    torch.cuda.synchronize()
    return {"peak": torch.cuda.max_memory_allocated(), "reserved": torch.cuda.max_memory_reserved()}


def _read_host(before: int) -> dict[str, int]:
    return {"peak": host_bytes("VmHWM") - before}


def compare(case: Case, device: str) -> dict[str, Any]:
    """Plan a case, measure it in a fresh process, and say whether they agree."""
    hardware = this_machine(device)
    started = time.perf_counter()
    plan = plan_step(training_step(case), hardware)
    in_backward = plan.trace.peak_bytes + plan.device["optimizer"]
    row: dict[str, Any] = {
        "name": case.name,
        "configuration": asdict(case),
        "planned": {
            "backward": plan.device_bytes if plan.moment == "backward" else in_backward,
            "peak": plan.device_bytes,
            "reserved": plan.reserved_bytes,
        },
        "planned_moment": plan.moment,
        "planned_components": plan.device,
        "trace_seconds": time.perf_counter() - started,
    }
    if device == "cuda" and plan.reserved_bytes > hardware.usable_vram_bytes:
        return {**row, "status": "skipped: the plan says that it does not fit"}
    measured = run_in_fresh_process(Path(__file__).resolve(), "--device", device, "--measure", case.name)
    if measured.pop("status") != "finished":
        return {**row, "status": "failed", "error": measured["error"]}
    row |= measured
    row["ratio"] = {what: row["planned"][what] / row["measured"][what] for what in row["measured"]}
    least = 1 - _MOST_UNDER[device]
    within = all(least <= row["ratio"][what] <= 1 + share for what, share in _TOLERANCE[device].items())
    return {**row, "status": "within" if within else "missed"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=sorted(CASES), default="cpu")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="rows to run; the file is then not written")
    parser.add_argument("--measure", metavar="NAME", help=argparse.SUPPRESS)
    parsed = parser.parse_args()
    torch.set_num_threads(1)
    cases = {case.name: case for case in CASES[parsed.device]}
    if parsed.measure:
        print(json.dumps(measure(cases[parsed.measure], parsed.device)))
        return 0
    unknown = set(parsed.only or ()) - set(cases)
    if unknown:
        parser.error(f"--only must name rows among {', '.join(cases)}; got {', '.join(sorted(unknown))}")
    os.environ["PYTORCH_ALLOC_CONF"] = "expandable_segments:True"
    rows = []
    for name in parsed.only or cases:
        row = compare(cases[name], parsed.device)
        rows.append(row)
        figures = ", ".join(
            f"{what} {row['planned'][what] / 2**30:.2f} of {row['measured'][what] / 2**30:.2f} GiB ({ratio:.3f})"
            for what, ratio in row.get("ratio", {}).items()
        )
        print(f"{name:34} {figures} {row['status']}", flush=True)
    if not parsed.only:
        ratios = [row["ratio"]["peak"] for row in rows if "ratio" in row]
        result = {
            "status": "finished",
            "tolerance": {**_TOLERANCE[parsed.device], "under": _MOST_UNDER[parsed.device]},
            "within": sum(row["status"] == "within" for row in rows),
            "ratio_lowest": min(ratios, default=None),
            "ratio_highest": max(ratios, default=None),
            "rows": rows,
        }
        print(write_benchmark(f"plan_against_measured_{parsed.device}", result).name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
