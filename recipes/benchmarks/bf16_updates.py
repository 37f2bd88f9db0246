"""Which updates of bfloat16 weights are lost to rounding: the nano model, its own gradients, several learning rates.

    python recipes/benchmarks/bf16_updates.py [--pretraining 60] [--warm 20] [--steps 16] [--threads 1]

The model is trained in float32 and cast. Each optimizer then gets the same gradients, of the cast model on real
batches: first with a learning rate of 0, to fill its averages, then with the one measured. The reference is AdamW in
float32 on the same gradients, from the same weights. Writes results/bf16_updates.json.

Of each run: the fraction of weights that change in a step; `kept`, the part of the reference's update that is made,
<update, reference> / <reference, reference>: 1 where rounding takes nothing on average, 0 where all is lost; and
`error`, |update - reference| / |reference|.
"""

import argparse
import statistics
import sys
from typing import Any

import torch
from interleaved import write_benchmark
from nano_training import NanoTraining

from modeling_astrobio.training.strategy import Strategy


LEARNING_RATES = (1e-6, 3e-6, 1e-5, 3e-5, 1e-4)
RIVALS = {
    "torch AdamW": Strategy(optimizer="adamw"),
    "bitsandbytes AdamW 8-bit": Strategy(optimizer="adamw_bnb_8bit"),
    "torchao AdamW": Strategy(optimizer="adamw_torchao"),
    "torchao AdamW, stochastic rounding": Strategy(optimizer="adamw_torchao", stochastic_rounding=True),
    "torchao AdamW 8-bit": Strategy(optimizer="adamw_torchao_8bit"),
    "torchao AdamW 8-bit, stochastic rounding": Strategy(optimizer="adamw_torchao_8bit", stochastic_rounding=True),
}

Gradients = list[list[torch.Tensor]]


def pretrained_weights(nano: NanoTraining, steps: int) -> list[torch.Tensor]:
    """Train in float32 with the recipe's learning rate, and round the weights to bfloat16."""
    model = nano.build_model(0, torch.float32)
    optimizer = nano.build_optimizer(model, Strategy(), nano.recipe.training["learning_rate"])
    batches = nano.batches(0)
    for _ in range(steps):
        model(**next(batches)).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), nano.recipe.training["max_grad_norm"])
        optimizer.step()
        optimizer.zero_grad()
    return [parameter.detach().bfloat16() for parameter in model.parameters()]


def with_weights(nano: NanoTraining, weights: list[torch.Tensor], dtype: torch.dtype):
    model = nano.build_model(0, dtype)
    with torch.no_grad():
        for parameter, weight in zip(model.parameters(), weights, strict=True):
            parameter.copy_(weight)
    return model


def real_gradients(nano: NanoTraining, weights: list[torch.Tensor], count: int) -> Gradients:
    """Gradients of the bfloat16 model on batches that it has not been trained on."""
    model = with_weights(nano, weights, torch.bfloat16)
    batches = nano.batches(1)
    found = []
    for _ in range(count):
        model(**next(batches)).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), nano.recipe.training["max_grad_norm"])
        found.append([parameter.grad for parameter in model.parameters()])
        model.zero_grad(set_to_none=True)
    return found


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def apply(
    nano: NanoTraining,
    strategy: Strategy,
    dtype: torch.dtype,
    weights: list[torch.Tensor],
    gradients: Gradients,
    warm: int,
    rate: float,
) -> tuple[torch.Tensor, list[float]]:
    """Make the updates; returns their sum over the steps, flat in float64, and the fraction changed in each step."""
    torch.manual_seed(0)
    model = with_weights(nano, weights, dtype)
    optimizer = nano.build_optimizer(model, strategy, 0.0)
    parameters = list(model.parameters())
    start = flat(parameters)
    fractions = []
    for step, found in enumerate(gradients):
        set_rate(optimizer, rate if step >= warm else 0.0)
        before = flat(parameters)
        for parameter, gradient in zip(parameters, found, strict=True):
            parameter.grad = gradient.to(dtype, copy=True)
        optimizer.step()
        changed = float((flat(parameters) != before).double().mean())
        if step >= warm:
            fractions.append(changed)
        elif changed:
            raise RuntimeError(f"weights changed with a learning rate of 0, in step {step} of {strategy.optimizer}")
    return flat(parameters) - start, fractions


def flat(parameters: list[torch.nn.Parameter]) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten().double() for parameter in parameters])


def compare_rates(nano: NanoTraining, pretraining: int, warm: int, steps: int) -> dict[str, Any]:
    weights = pretrained_weights(nano, pretraining)
    gradients = real_gradients(nano, weights, warm + steps)
    found: dict[str, Any] = {}
    for rate in LEARNING_RATES:
        reference, _ = apply(nano, Strategy(), torch.float32, weights, gradients, warm, rate)
        found[f"{rate:g}"] = rivals = {}
        for name, strategy in RIVALS.items():
            update, fractions = apply(nano, strategy, torch.bfloat16, weights, gradients, warm, rate)
            rivals[name] = {
                "changed_fraction_mean": statistics.mean(fractions),
                "changed_fraction_of_each_step": fractions,
                "kept": float(update @ reference / (reference @ reference)),
                "error": float((update - reference).norm() / reference.norm()),
            }
            print(
                f"{rate:7g} {name:42} changed {100 * rivals[name]['changed_fraction_mean']:6.2f} %, "
                f"kept {rivals[name]['kept']:.3f}, error {rivals[name]['error']:.3f}",
                flush=True,
            )
    return {"weights": sum(weight.numel() for weight in weights), "learning_rates": found}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pretraining", type=int, default=60, help="float32 steps before the cast")
    parser.add_argument("--warm", type=int, default=20, help="steps with a learning rate of 0")
    parser.add_argument("--steps", type=int, default=16, help="measured steps")
    parser.add_argument("--threads", type=int, default=1)
    parsed = parser.parse_args()
    if min(parsed.pretraining, parsed.warm) < 0 or parsed.steps < 1:
        parser.error("--pretraining and --warm must be at least 0, and --steps at least 1")
    torch.set_num_threads(parsed.threads)
    nano = NanoTraining.prepare()
    measured = compare_rates(nano, parsed.pretraining, parsed.warm, parsed.steps)
    settings = {"pretraining_steps": parsed.pretraining, "warm_steps": parsed.warm, "steps": parsed.steps}
    result = {"status": "finished", "recipe": nano.recipe.to_dict(), **settings, **measured}
    print(write_benchmark("bf16_updates", result).name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
