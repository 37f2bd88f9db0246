"""One of the processes that `test_astro_llm_distributed.py` starts through torchrun; writes what it found as JSON.

Usage: torchrun --nproc-per-node 2 distributed_worker.py CHECKPOINT RESULT
"""

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from reference_models import random_tokens
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Shard
from torch.nn.parallel import DistributedDataParallel
from transformers.distributed import DistributedConfig

from modeling_astrobio import AstroLLMForCausalLM


def whole(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def largest_difference(model, reference) -> float:
    """Largest difference of a gradient from the reference's, as a share of that gradient's largest value."""
    gradients = {name.removeprefix("module."): whole(value.grad) for name, value in model.named_parameters()}
    return max(
        ((gradients[name] - value.grad).abs().max() / value.grad.abs().max()).item()
        for name, value in reference.named_parameters()
    )


def main() -> None:
    checkpoint, result_file = sys.argv[1:]
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank, size = dist.get_rank(), dist.get_world_size()
    found = {"world_size": size, "backend": dist.get_backend()}
    tokens = random_tokens(2, 13)

    reference = AstroLLMForCausalLM.from_pretrained(checkpoint).train()
    with torch.no_grad():
        expected_logits = reference(tokens).logits
    labels = tokens.clone()
    labels[:, :4] = -100
    expected_loss = reference(tokens, labels=labels, num_items_in_batch=18, use_cache=False).loss
    expected_loss.backward()

    def step(model):
        """A step on this rank's row, scaled so that the mean over ranks is the loss of both rows."""
        row = slice(rank, rank + 1)
        loss = model(tokens[row], labels=labels[row], num_items_in_batch=18, use_cache=False).loss
        (loss * size).backward()
        total = loss.detach().clone()
        dist.all_reduce(total)
        return (total - expected_loss).abs().item()

    replicated = DistributedDataParallel(AstroLLMForCausalLM.from_pretrained(checkpoint).train())
    found["ddp"] = {"loss": step(replicated), "gradients": largest_difference(replicated, reference)}

    for name, parts in (("fsdp2", ("layers", "lm_head")), ("fsdp2_root_head", ("layers",))):
        sharded = AstroLLMForCausalLM.from_pretrained(checkpoint).train()
        for layer in sharded.model.layers:
            fully_shard(layer)
        if "lm_head" in parts:
            fully_shard(sharded.lm_head)
        fully_shard(sharded)
        found[name] = {
            "dtensors": sum(isinstance(value, DTensor) for value in sharded.parameters()),
            "parameters": sum(1 for _ in sharded.parameters()),
            "loss": step(sharded),
            "gradients": largest_difference(sharded, reference),
        }

    parallel = AstroLLMForCausalLM.from_pretrained(
        checkpoint, distributed_config=DistributedConfig(tp_size=size, tp_plan="auto")
    ).train()
    placements = {
        name: [str(place) for place in value.placements]
        for name, value in parallel.named_parameters()
        if isinstance(value, DTensor) and any(isinstance(place, Shard) for place in value.placements)
    }
    with torch.no_grad():
        logits = whole(parallel(tokens).logits)
    loss = parallel(tokens, labels=labels, num_items_in_batch=18, use_cache=False).loss
    loss.backward()
    found["tp"] = {
        "sharded": placements,
        "local_rows_of_q_proj": parallel.model.layers[0].self_attn.q_proj.weight.to_local().shape[0],
        "logits": (logits - expected_logits).abs().max().item(),
        "loss": (whole(loss) - expected_loss).abs().item(),
        "gradients": largest_difference(parallel, reference),
    }
    if rank == 0:
        Path(result_file).write_text(json.dumps(found))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
