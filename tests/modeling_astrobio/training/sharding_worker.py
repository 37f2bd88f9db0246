"""A sharded model beside a whole one: what one of two processes under torchrun computes for test_two_processes.py.

Usage: torchrun --nproc-per-node 2 sharding_worker.py FOLDER SCENARIO ...
"""

import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from sharded_models import (
    CHECKPOINTS,
    EPS,
    STEPS,
    UNEVEN,
    accumulate,
    blank_model,
    checkpointed_model,
    load_checkpoint,
    local,
    make_model,
    make_optimizer,
    of_ranks,
    train,
    weights,
    whole,
    window,
)
from sharded_trainers import run_fsdp2, run_zero3
from torch.distributed.checkpoint.state_dict import get_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor

from modeling_astrobio import AstroLLMForCausalLM
from modeling_astrobio.training.errors import UserError
from modeling_astrobio.training.optimizer_specs import OPTIMIZERS, measure_state_bytes
from modeling_astrobio.training.sharding import shard_model


def gradient_difference(model, reference) -> float:
    """Largest difference of a gradient from the reference's, as a share of that gradient's largest value."""
    return max(
        ((whole(ours.grad) - theirs.grad).abs().max() / theirs.grad.abs().max()).item()
        for ours, theirs in zip(model.parameters(), reference.parameters(), strict=True)
    )


def compare_training(
    name: str, dtype: torch.dtype, steps: range = STEPS, rows: int = 6, max_norm: float = 0.5, **overrides
) -> dict[str, Any]:
    """Train a sharded and a whole model on the same rows, and compare."""
    reference, model = make_model(dtype, **overrides), shard_model(make_model(dtype, **overrides))
    start = weights(reference)
    optimizer, of_reference = make_optimizer(model, name), make_optimizer(reference, name)
    found = train(model, optimizer, True, steps, rows, max_norm)
    expected = train(reference, of_reference, False, steps, rows, max_norm)
    trained = weights(model)
    states = {
        parameter_name: {key: local(value) for key, value in optimizer.state[parameter].items()}
        for parameter_name, parameter in model.named_parameters()
    }
    spec = OPTIMIZERS[name]
    shards = [local(parameter) for parameter in model.parameters()]
    return {
        "figures": found,
        "expected_figures": expected,
        "weights": trained,
        "expected_weights": weights(reference),
        "moved": max((trained[key] - start[key]).abs().max().item() for key in start),
        "parameters": len(shards),
        "dtensors": sum(isinstance(parameter, DTensor) for parameter in model.parameters()),
        "state_dtensors": all(
            isinstance(value, DTensor)
            for state in optimizer.state.values()
            for key, value in state.items()
            if key != "step"
        ),
        "state_types": of_ranks(
            {key: type(state["exp_avg_sq"]).__name__ for key, state in states.items() if "norm" not in key}
        ),
        "local_bytes": of_ranks(sum(shard.nbytes for shard in shards)),
        "whole_bytes": sum(parameter.nbytes for parameter in reference.parameters()),
        "state_bytes": of_ranks(measure_state_bytes(optimizer)),
        "planned_bytes": of_ranks(sum(spec.state_bytes(tuple(shard.shape), shard.dtype) for shard in shards)),
    }


def adamw() -> dict[str, Any]:
    return {
        "even": compare_training("adamw", torch.float64, rows=4),
        "uneven_tied": compare_training("adamw", torch.float64, rows=4, vocab_size=UNEVEN, tie_word_embeddings=True),
    }


def torchao() -> dict[str, Any]:
    """With one row for each process and step a gradient is the sum of the same two numbers in both runs.

    The norm, of which each process computes a part, is not: that alone would make a difference.
    """
    options: dict[str, Any] = {"name": "adamw_torchao_8bit", "steps": range(4), "num_hidden_layers": 1}
    same_sums = {"rows": 2, "max_norm": float("inf")}
    return {
        "same_sums": compare_training(dtype=torch.float32, **options, **same_sums),
        "same_sums_bfloat16": compare_training(dtype=torch.bfloat16, **options, **same_sums),
        "other_sums": compare_training(dtype=torch.float32, **options),
        "uneven": compare_training(dtype=torch.float32, vocab_size=UNEVEN, **options),
    }


def compiled() -> dict[str, Any]:
    """torchao's step compiled and not, on shards."""
    found = {}
    for stance in ("default", "force_eager"):
        torch.compiler.set_stance(stance)
        for dtype in (torch.float32, torch.bfloat16):
            model = shard_model(make_model(dtype))
            train(model, make_optimizer(model, "adamw_torchao_8bit"), True)
            found[stance, dtype] = weights(model)
    return found


def rounding() -> dict[str, Any]:
    """One step of bfloat16 weights with and without stochastic rounding, its exact change, and steps of both kinds."""
    learning_rate = 1e-5
    found: dict[str, Any] = {}
    for name, is_stochastic in (("nearest", False), ("stochastic", True)):
        torch.manual_seed(dist.get_rank())
        model = shard_model(make_model(torch.bfloat16, num_hidden_layers=1))
        before = weights(model)
        accumulate(model, window(0, 6), True)
        gradients = {key: whole(value.grad).double() for key, value in model.named_parameters()}
        make_optimizer(model, "adamw_torchao_8bit", learning_rate, is_stochastic).step()
        found[name] = {
            "before": before,
            "after": weights(model),
            # The first step of AdamW goes by the sign of the gradient, but for eps.
            "change": {
                key: -learning_rate * (0.1 * before[key].double() + value / (value.abs() + EPS))
                for key, value in gradients.items()
            },
        }
    for name, model, optimizer in (
        ("losses", shard_model(make_model(torch.bfloat16, num_hidden_layers=1)), "adamw_torchao_8bit"),
        ("expected_losses", make_model(torch.float32, num_hidden_layers=1), "adamw"),
    ):
        is_sharded = name == "losses"
        of_model = make_optimizer(model, optimizer, rounding=is_sharded)
        found[name] = [loss for loss, _ in train(model, of_model, is_sharded, range(4))]
    return found


def accumulation() -> dict[str, Any]:
    """Gradients of ten rows of each process, reduced after each, or once at the end."""
    reference = make_model()
    accumulate(reference, window(0, 20), False)
    found = {}
    for name, is_deferred, is_kept in (("each", False, False), ("once", True, False), ("once_kept", True, True)):
        model = shard_model(make_model())
        sharded_before_last = []

        def on_row(index, count, model=model, is_deferred=is_deferred, is_kept=is_kept, seen=sharded_before_last):
            is_last = index == count - 1
            model.set_requires_gradient_sync(is_last or not is_deferred)
            model.set_reshard_after_backward(is_last or not is_kept)
            if is_last:
                seen.append(sum(value.grad is not None for value in model.parameters()))

        accumulate(model, window(0, 20), True, on_row)
        found[name] = {
            "difference": gradient_difference(model, reference),
            "dtensors": all(isinstance(value.grad, DTensor) for value in model.parameters()),
            "sharded_before_last": sharded_before_last[0],
        }
    return found


def variants() -> dict[str, Any]:
    """Gradients of sharded models that recompute, offload, or are given their mesh."""
    reference = make_model()
    accumulate(reference, window(0, 6), False)
    found = {}
    checkpointed = make_model()
    checkpointed.activation_checkpointing_enable()
    for name, model in {
        "checkpointed": shard_model(checkpointed),
        "offloaded": shard_model(make_model(), parameter_offload=True),
        "mesh": shard_model(make_model(), init_device_mesh("cpu", (2,))),
        "float32": shard_model(make_model(), param_dtype=torch.float32, reduce_dtype=torch.float64),
    }.items():
        accumulate(model, window(0, 6), True)
        found[name] = gradient_difference(model, reference)
    found["is_checkpointed"] = any(
        getattr(module, "gradient_checkpointing", False) for module in checkpointed.modules()
    )
    return found


def state_values(optimizer) -> list[torch.Tensor]:
    """This process's part of the states as plain numbers."""
    values = [local(value) for state in optimizer.state.values() for value in state.values()]
    return [(value.dequantize() if hasattr(value, "dequantize") else value).clone() for value in values]


def checkpoint() -> dict[str, Any]:
    """Save after three steps; load into a blank model; the next step must be the one that was not interrupted."""
    found: dict[str, Any] = {}
    for name, shape in CHECKPOINTS.items():
        folder = Path(sys.argv[1]) / name
        model = shard_model(checkpointed_model(*shape))
        optimizer = make_optimizer(model, "adamw_torchao_8bit")
        train(model, optimizer, True, range(3), rows=2)
        of_model, of_optimizer = get_state_dict(model, optimizer)
        dcp.save({"model": of_model, "optimizer": of_optimizer}, checkpoint_id=folder)
        saved, states = weights(model), state_values(optimizer)
        train(model, optimizer, True, range(3, 4), rows=2, max_norm=float("inf"))

        loaded = shard_model(blank_model(*shape))
        of_loaded = make_optimizer(loaded, "adamw_torchao_8bit")
        load_checkpoint(folder, loaded, of_loaded)
        found[name] = {
            "folder": folder,
            "saved": saved,
            "next": weights(model),
            "loaded": weights(loaded),
            "states_equal": of_ranks(
                all(torch.equal(a, b) for a, b in zip(state_values(of_loaded), states, strict=True))
            ),
        }
        train(loaded, of_loaded, True, range(3, 4), rows=2, max_norm=float("inf"))
        found[name]["loaded_next"] = weights(loaded)
    return found


def bitsandbytes() -> dict[str, str]:
    """What bitsandbytes says to shards, past the check that spares users from it."""
    import bitsandbytes.optim as optim

    found = {}
    for name in ("AdamW8bit", "PagedAdamW8bit", "Lion8bit", "Lion"):
        model = shard_model(make_model(torch.float32))
        accumulate(model, window(0, 2), True)
        try:
            getattr(optim, name)(model.parameters(), lr=1e-3).step()
            found[name] = "no error"
        except (RuntimeError, NotImplementedError) as error:
            found[name] = str(error)
    for name in ("adamw_bnb_8bit", "paged_adamw_bnb_8bit", "lion_bnb_8bit", "lion", "sophia"):
        try:
            make_optimizer(model, name)
            found[name] = "no error"
        except UserError as error:
            found[name] = str(error)
    return found


def mistakes() -> dict[str, str]:
    class Unnamed(AstroLLMForCausalLM):
        _no_split_modules = ["Block"]

    found = {}
    unnamed = Unnamed(make_model().config)
    unnamed._no_split_modules = {"Block"}
    for name, model in (("twice", shard_model(make_model())), ("blocks", unnamed), ("linear", torch.nn.Linear(3, 5))):
        try:
            shard_model(model)
        except ValueError as error:
            found[name] = str(error)
    return found


def fsdp2_trainer() -> dict[str, Any]:
    """With float32 weights; with bfloat16 ones rounded at random; and those again from a checkpoint."""
    folder = Path(sys.argv[1]) / "fsdp2"
    return {
        "float32": run_fsdp2(folder / "float32", torch.float32),
        "bfloat16": run_fsdp2(folder / "bfloat16", torch.bfloat16),
        "resumed": run_fsdp2(folder / "bfloat16", torch.bfloat16, resume=True),
    }


def zero3_trainer() -> dict[str, Any]:
    folder = Path(sys.argv[1]) / "zero3"
    return {"whole_run": run_zero3(folder), "resumed": run_zero3(folder, resume=True)}


def main() -> None:
    torch.set_num_threads(1)
    # torchao compiles its step, which takes seconds for each shape; `compiled` shows that it makes no difference.
    torch.compiler.set_stance("force_eager")
    dist.init_process_group("gloo")
    found: dict[str, Any] = {"world_size": dist.get_world_size(), "backend": dist.get_backend()}
    for name in sys.argv[2:]:
        found[name] = globals()[name]()
    if dist.get_rank() == 0:
        torch.save(found, Path(sys.argv[1]) / "found.pt")
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
