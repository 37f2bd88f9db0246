"""Token accuracy and the monitor on one of two processes under torchrun, for test_monitored_processes.py.

Usage: torchrun --nproc-per-node 2 monitoring_worker.py FOLDER SCENARIO ...
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from monitored_trainers import make_monitor, make_plan
from sharded_models import make_model, of_ranks
from sharded_trainers import fsdp2_trainer, zero3_trainer
from torch.distributed.tensor import DTensor

from modeling_astrobio.training.memory_plan import GIB
from modeling_astrobio.training.monitoring.memory_use import gradient_bytes, optimizer_bytes, parameter_bytes
from modeling_astrobio.training.optimizer_specs import measure_state_bytes
from modeling_astrobio.training.sharding import shard_model
from modeling_astrobio.training.token_accuracy import TokenAccuracy


CPU = torch.device("cpu")


def batches() -> list[dict[str, torch.Tensor]]:
    """Two batches for each process, of different lengths, so that their chunks differ in number."""
    found = []
    for index in range(4):
        generator = torch.Generator().manual_seed(index)
        tokens = torch.randint(3, 276, (1 + index % 2, 11 + 9 * index), generator=generator)
        labels = tokens.masked_fill(torch.rand(tokens.shape, generator=generator) < 0.3, -100)
        found.append({"input_ids": tokens, "labels": labels})
    return found


@torch.no_grad()
def with_known_answers(model, inputs: dict[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], int, int]:
    """Make every second label what the model says; returns the places that are right, and all of them."""
    chosen = model(inputs["input_ids"]).logits.argmax(-1)
    labels = inputs["labels"].clone()
    labels[:, 1::2] = torch.where(labels[:, 1::2] == -100, labels[:, 1::2], chosen[:, : labels.shape[1] - 1 : 2])
    right = (chosen[:, :-1] == labels[:, 1:]).sum().item()
    return {"input_ids": inputs["input_ids"], "labels": labels}, right, int((labels[:, 1:] != -100).sum())


def summed(counts: torch.Tensor) -> torch.Tensor:
    dist.all_reduce(counts)
    return counts


def fsdp2_accuracy() -> dict[str, Any]:
    """Accuracy and loss of sharded models, with and without being watched, against whole ones."""
    found = {}
    for name, overrides in (("plain", {}), ("tied", {"tie_word_embeddings": True})):
        whole = make_model(**overrides).eval()
        model = shard_model(make_model(**overrides)).eval()
        known = [with_known_answers(whole, inputs) for inputs in batches()]
        accuracy = TokenAccuracy(4)
        losses = []
        for inputs, _, _ in known[dist.get_rank() :: 2]:
            with torch.no_grad():
                expected = model(**inputs, skip_logits=True).loss
                with accuracy.watching(model, inputs):
                    watched = model(**inputs, skip_logits=True).loss
            losses.append((expected, watched))
        # The model trains on as before.
        inputs = known[dist.get_rank()][0]
        model.train()
        model(**inputs).loss.backward()
        found[name] = {
            "accuracy": accuracy.drain(summed)["accuracy"],
            "expected": sum(right for _, right, _ in known) / sum(counted for _, _, counted in known),
            "losses_equal": of_ranks(all(torch.equal(a, b) for a, b in losses)),
            "gradients": of_ranks(all(parameter.grad is not None for parameter in model.parameters())),
            "dtensors": all(isinstance(parameter, DTensor) for parameter in model.parameters()),
        }
    return found


def fsdp2_memory() -> dict[str, Any]:
    """Bytes of a sharded trainer's components on each process, and the rows that it logs."""
    folder = Path(sys.argv[1]) / "fsdp2_memory"
    trainer = fsdp2_trainer(folder, torch.float32)
    # On the second process alone there is more than the plan allows.
    plan = make_plan()
    monitor = make_monitor(folder, plan, is_main=dist.get_rank() == 0)
    held: list[torch.Tensor] = []

    def waste(*_: Any) -> None:
        if dist.get_rank() == 1 and not held:
            held.append(torch.ones(plan.device_bytes // 2 + 2**26))

    trainer.model.register_forward_pre_hook(waste)
    monitor.attach(trainer)
    trainer.train()
    model, optimizer = trainer.model, trainer.optimizer
    alerts = folder / "alerts.jsonl"
    return {
        "parameters": of_ranks(parameter_bytes(model, CPU)),
        "whole": sum(p.numel() * p.element_size() for p in model.parameters()),
        "optimizer": of_ranks(optimizer_bytes(model, optimizer, CPU)),
        "states": of_ranks(measure_state_bytes(optimizer)),
        "gradients": of_ranks(gradient_bytes(model, CPU)),
        "sizes": of_ranks(dict(monitor._sizes)),
        "rows": [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()],
        "alerts": [json.loads(line) for line in alerts.read_text().splitlines()] if alerts.exists() else [],
        "gib": GIB,
    }


def zero3_accuracy() -> dict[str, Any]:
    """Accuracy of a model whose head ZeRO-3 gathers in each call, with chunks that differ in number."""
    whole = make_model(torch.float32, num_hidden_layers=1).eval()
    known = [with_known_answers(whole, inputs) for inputs in batches()]
    folder = Path(sys.argv[1]) / "zero3"
    trainer = zero3_trainer(folder)
    make_monitor(folder, is_main=dist.get_rank() == 0).attach(trainer)
    trainer.train()
    import deepspeed  # here, for it takes seconds

    # Back to the weights it had, which every process has its part of.
    for parameter, value in zip(trainer.model.parameters(), whole.parameters(), strict=True):
        with deepspeed.zero.GatheredParameters([parameter], modifier_rank=0):
            parameter.data.copy_(value.data)
    model = trainer.model_wrapped
    model.eval()
    accuracy = TokenAccuracy(4)
    for inputs, _, _ in known[dist.get_rank() :: 2]:
        with torch.no_grad(), accuracy.watching(model, inputs):
            model(**inputs, skip_logits=True)
    device = torch.device("cpu")
    return {
        "accuracy": accuracy.drain(summed)["accuracy"],
        "expected": sum(right for _, right, _ in known) / sum(counted for _, _, counted in known),
        "parameters": of_ranks(parameter_bytes(trainer.model, device)),
        "whole": sum(p.nbytes for p in whole.parameters()),
        "rows": [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()],
        "unknown": [gradient_bytes(trainer.model, device), optimizer_bytes(trainer.model, trainer.optimizer, device)],
    }


def main() -> None:
    torch.set_num_threads(1)
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
