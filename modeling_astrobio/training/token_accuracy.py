"""Share of tokens that a causal language model puts first, measured in evaluation without all logits at once."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from peft import PeftModel
from torch import nn

from modeling_astrobio.loss_chunked_cross_entropy import shift_labels_left


__all__ = ["TokenAccuracy"]


_IGNORED = -100


class TokenAccuracy:
    """Counts, over evaluation batches, the places where the most probable next token is the label.

    Beside the model's own forward pass the output head is applied once more, to a chunk of places at a time, so that
    evaluation stays without the logits of all places. Nothing that the model computes is changed.
    """

    def __init__(self, chunk_size: int = 1024):
        """Make a counter.

        Args:
            chunk_size: Places whose logits exist at one time, at least 1.
        """
        if chunk_size < 1:
            raise ValueError(f"chunk_size must be at least 1; got {chunk_size}. 1024 places do for most vocabularies.")
        self.chunk_size = chunk_size
        self._counts: torch.Tensor | None = None

    @contextmanager
    def watching(self, model: nn.Module, inputs: Mapping[str, Any]) -> Iterator[None]:
        """Count during one forward pass of a batch within the block; without labels nothing is counted.

        The head is applied inside the model's forward pass, where FSDP has its weights gathered, and through its own
        forward, where ZeRO-3 gathers them.

        Args:
            model: A causal model, also one within DDP, FSDP, DeepSpeed, torch.compile or PEFT.
            inputs: Its arguments. Counted are the places t whose `labels`, int64, shape (B, T), have a token at t + 1;
                or at t, where they come as `shift_labels`. -100 is no token.

        Raises:
            TypeError: If the model has no output head, or no decoder below the head.
            RuntimeError: If the block did not run the model.
        """
        labels = inputs.get("shift_labels")
        if labels is None and inputs.get("labels") is not None:
            labels = shift_labels_left(inputs["labels"], _IGNORED)
        if labels is None:
            yield
            return
        decoder, head = _decoder_and_head(model)
        is_counted = False

        def count(module: nn.Module, arguments: Any, outputs: Any) -> None:
            nonlocal is_counted
            is_counted = True
            self._count(head, outputs[0], labels)

        handle = decoder.register_forward_hook(count)
        try:
            yield
        finally:
            handle.remove()
        if not is_counted:
            raise RuntimeError(
                f"the block must run the model, whose decoder is {type(decoder).__name__}; got no call of it. Pass "
                "the model that is called."
            )

    @torch.no_grad()
    def _count(self, head: nn.Module, hidden_BTH: torch.Tensor, labels_BT: torch.Tensor) -> None:
        labels_BT = labels_BT.to(hidden_BTH.device)
        counted = labels_BT != _IGNORED
        hidden_NH, labels_N = hidden_BTH[counted], labels_BT[counted]
        counts = hidden_NH.new_zeros(2, dtype=torch.int64)
        counts[1] = labels_N.numel()
        for call in range(_head_calls(head, labels_N, self.chunk_size)):
            places = slice(call * self.chunk_size, (call + 1) * self.chunk_size)
            chosen = head(hidden_NH[places]).argmax(dim=-1)
            counts[0] += (chosen == labels_N[places]).sum()
        self._counts = counts if self._counts is None else self._counts + counts

    def drain(self, sum_over_processes: Callable[[torch.Tensor], torch.Tensor]) -> dict[str, float]:
        """Return "accuracy", from 0 to 1, since the last call, and begin anew; nothing where no place was counted.

        Accelerate fills the last batches of uneven processes with rows that were seen; they count twice.

        Args:
            sum_over_processes: Adds up a tensor, int64, shape (2,), over all processes; every one of them must call.
        """
        counts = self._counts if self._counts is not None else torch.zeros(2, dtype=torch.int64)
        self._counts = None
        right, counted = sum_over_processes(counts).tolist()
        return {"accuracy": right / counted} if counted else {}


def _head_calls(head: nn.Module, labels_N: torch.Tensor, chunk_size: int) -> int:
    calls = -(-labels_N.numel() // chunk_size)
    if any(hasattr(parameter, "ds_id") for parameter in head.parameters()):
        # ZeRO-3 gathers the weights in each call, and all processes must take part.
        most = torch.tensor(calls, device=labels_N.device)
        dist.all_reduce(most, op=dist.ReduceOp.MAX)
        calls = int(most)
    return calls


def _decoder_and_head(model: nn.Module) -> tuple[nn.Module, nn.Module]:
    causal: Any = model
    # Around a model stand DDP and DeepSpeed, which call it module, and torch.compile.
    for name in ("module", "_orig_mod") * 2:
        inner = getattr(causal, name, None)
        causal = inner if isinstance(inner, nn.Module) else causal
    if isinstance(causal, PeftModel):
        causal = causal.get_base_model()
    head = causal.get_output_embeddings() if hasattr(causal, "get_output_embeddings") else None
    decoder = getattr(causal, "base_model", None)
    if head is None or decoder is None or decoder is causal:
        raise TypeError(
            "model must be a causal language model of transformers, a decoder and a head; got "
            f"{type(causal).__name__}. Measure no token accuracy of it."
        )
    return decoder, head
