"""Cross-entropy of a linear output head, computed a chunk of tokens at a time.

The plain loss holds logits, their log-softmax and their gradient for all tokens: 3 N V numbers for N tokens and a
vocabulary of V. Here at most `chunk_size` rows of logits exist, and the gradients of the hidden states and of the head
are formed in the same pass, so that nothing is computed twice. The value and the gradients are those of
`torch.nn.functional.cross_entropy(hidden @ weight.T, labels)`.

Shape suffixes: N tokens, H hidden size, V vocabulary.
"""

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers.utils.import_utils import is_fake_tensor


__all__ = ["ChunkedLossHead", "chunked_head_cross_entropy", "cross_entropy", "shift_labels_left"]


def shift_labels_left(labels: torch.Tensor, ignore_index: int = -100) -> torch.Tensor:
    """Move labels one place to the left, so that place t holds the token to predict at t.

    Args:
        labels: Token ids, shape (B, T), int64; `ignore_index` where no prediction is asked for.
        ignore_index: Fills the last place of each row.

    Returns:
        Shape (B, T), int64.
    """
    return nn.functional.pad(labels[..., 1:], (0, 1), value=ignore_index)


def cross_entropy(
    logits: torch.Tensor,
    labels: torch.Tensor,
    num_items_in_batch: torch.Tensor | int | None = None,
    ignore_index: int = -100,
) -> torch.Tensor:
    """Cross-entropy of all logits at once, in float32 or wider.

    Args:
        logits: Shape (..., V).
        labels: Shape (...), int64, already shifted.
        num_items_in_batch: Divisor of the sum; `None` means the labels that are not ignored.
        ignore_index: Label of places that do not count.
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32)).flatten(0, -2)
    labels = labels.flatten().to(logits.device)
    if num_items_in_batch is None:
        return nn.functional.cross_entropy(logits, labels, ignore_index=ignore_index)
    total = nn.functional.cross_entropy(logits, labels, reduction="sum", ignore_index=ignore_index)
    return total / torch.as_tensor(num_items_in_batch).reshape(()).to(total.device)


class _LinearCrossEntropy(torch.autograd.Function):
    """Sum over tokens of -log softmax(hidden @ weight.T)[label], divided by `divisor`; every label is a token."""

    @staticmethod
    def forward(ctx, hidden_NH, weight_VH, labels_N, divisor, chunk_size):
        wants_hidden, wants_weight = ctx.needs_input_grad[:2]
        wide = torch.promote_types(hidden_NH.dtype, torch.float32)
        low_precision = wide != hidden_NH.dtype
        divisor = divisor.to(wide)
        # float16 has no room below 6e-8, so there the division waits for the backward pass and its loss scale.
        late_division = hidden_NH.dtype == torch.float16
        inner = torch.ones_like(divisor) if late_division else divisor
        total = hidden_NH.new_zeros((), dtype=wide)
        grad_hidden = torch.empty_like(hidden_NH) if wants_hidden else None
        grad_weight = None
        for start in range(0, hidden_NH.shape[0], chunk_size):
            hidden = hidden_NH[start : start + chunk_size]
            labels = labels_N[start : start + chunk_size, None]
            logits = (hidden @ weight_VH.T).to(wide)
            greatest = logits.amax(dim=-1, keepdim=True)
            chosen = logits.gather(1, labels)
            # From here on the memory of the logits holds exp(logits - greatest), then its gradient.
            powers = logits.sub_(greatest).exp_()
            total_power = powers.sum(dim=-1, keepdim=True)
            total += (total_power.log() + greatest - chosen).sum()
            if not (wants_hidden or wants_weight):
                continue
            # (softmax - onehot) / inner = (powers - total_power * onehot) * scale; one row has one scale.
            powers.scatter_add_(1, labels, -total_power)
            scale = 1.0 / (total_power * inner)
            if low_precision:
                powers = powers.mul_(scale).to(hidden.dtype)
            if wants_hidden:
                out = torch.mm(powers, weight_VH, out=grad_hidden[start : start + chunk_size])
                if not low_precision:
                    out.mul_(scale)
            if wants_weight:
                # Chunks are summed in float32 or wider, as one large matrix product would sum them.
                scaled = hidden if low_precision else hidden * scale
                if grad_weight is None:
                    grad_weight = (powers.T @ scaled).to(wide)
                elif low_precision:
                    grad_weight += powers.T @ scaled
                else:
                    grad_weight.addmm_(powers.T, scaled)
            del logits, powers
        if wants_weight:
            grad_weight = torch.zeros_like(weight_VH) if grad_weight is None else grad_weight
            if not late_division:
                grad_weight = grad_weight.to(weight_VH.dtype)
        ctx.dtypes = (hidden_NH.dtype, weight_VH.dtype)
        ctx.save_for_backward(grad_hidden, grad_weight, divisor / inner)
        return total / divisor

    @staticmethod
    def backward(ctx, grad_loss):
        if torch.is_grad_enabled():
            raise RuntimeError("The chunked loss has no second derivative; set loss_chunk_size=0 where one is wanted.")
        *grads, rest = ctx.saved_tensors
        factor = grad_loss / rest
        # Anything but 1 is the exception (a loss scale, several ranks); the head's gradient is not copied without one.
        if is_fake_tensor(factor) or factor.item() != 1.0:
            grads = [
                None if grad is None else (grad * factor).to(dtype)
                for grad, dtype in zip(grads, ctx.dtypes, strict=True)
            ]
        return (*grads, None, None, None)


class ChunkedLossHead(nn.Linear):
    """Output head that returns logits, or, given labels, the cross-entropy.

    The loss is a mode of the module's own forward, so that what hooks into a module call (the parameter gathering of
    FSDP and ZeRO-3) serves it too.
    """

    def forward(
        self,
        hidden_states: torch.Tensor,
        labels: torch.Tensor | None = None,
        divisor: torch.Tensor | None = None,
        chunk_size: int | None = None,
    ) -> torch.Tensor:
        """Apply the head.

        Args:
            hidden_states: Shape (..., H).
            labels: Token ids, shape (N,), int64, none ignored; `hidden_states` is then (N, H).
            divisor: Scalar by which the sum of the loss is divided; needed with `labels`.
            chunk_size: Tokens whose logits exist at one time; needed with `labels`.

        Returns:
            Logits, shape (..., V), or the scalar loss in float32 or wider.
        """
        if labels is None:
            return super().forward(hidden_states)
        weight = self.weight
        device_type = hidden_states.device.type
        if torch.is_autocast_enabled(device_type):
            low = torch.get_autocast_dtype(device_type)
            hidden_states, weight = hidden_states.to(low), weight.to(low)
        with torch.autocast(device_type, enabled=False):
            return _LinearCrossEntropy.apply(hidden_states, weight, labels, divisor, chunk_size)


def _recomputed_cross_entropy_sum(head, hidden_NH, labels_N, chunk_size, ignore_index) -> torch.Tensor:
    """The sum for a head that something wrapped (LoRA, quantisation, tensor parallelism, compilation).

    Logits are computed again in the backward pass, by the head's own forward.
    """

    def chunk_loss(hidden, labels):
        return cross_entropy(head(hidden), labels, num_items_in_batch=1, ignore_index=ignore_index)

    total = hidden_NH.new_zeros((), dtype=torch.promote_types(hidden_NH.dtype, torch.float32))
    for hidden, labels in zip(hidden_NH.split(chunk_size), labels_N.split(chunk_size), strict=True):
        total = total + checkpoint(chunk_loss, hidden, labels, use_reentrant=False)
    return total


def chunked_head_cross_entropy(
    head: nn.Module,
    hidden_states: torch.Tensor,
    labels: torch.Tensor,
    chunk_size: int,
    num_items_in_batch: torch.Tensor | int | None = None,
    ignore_index: int = -100,
    fused: bool = True,
) -> torch.Tensor:
    """Cross-entropy of `head(hidden_states)` against `labels` without holding all logits.

    Args:
        head: The output head. A `ChunkedLossHead` takes the fused route, where rows with ignored labels cost nothing;
            any other module one that recomputes logits.
        hidden_states: Shape (B, T, H).
        labels: Shape (B, T), int64, already shifted: the token to predict at each place, or `ignore_index`.
        chunk_size: Tokens whose logits exist at one time, at least 1.
        num_items_in_batch: Divisor of the sum: the real tokens of the whole accumulation window. `None` means the real
            tokens of this batch.
        ignore_index: Label of places that do not count.
        fused: Whether the fused route may be taken; tensor parallelism needs the head's output hooks, so not there.

    Returns:
        Scalar in float32 or wider.
    """
    hidden_NH = hidden_states.reshape(-1, hidden_states.shape[-1])
    labels_N = labels.reshape(-1).to(hidden_NH.device)
    counted = labels_N != ignore_index
    divisor = counted.sum() if num_items_in_batch is None else torch.as_tensor(num_items_in_batch).reshape(())
    divisor = divisor.to(hidden_NH.device)
    takes_labels = isinstance(head, ChunkedLossHead) and head.bias is None
    if torch.compiler.is_compiling() or not fused or not takes_labels:
        return _recomputed_cross_entropy_sum(head, hidden_NH, labels_N, chunk_size, ignore_index) / divisor
    # Without values (the memory planner's fake tensors) every row counts, which is the most that they can need.
    if not is_fake_tensor(counted) and not counted.all():
        hidden_NH, labels_N = hidden_NH[counted], labels_N[counted]
    return head(hidden_NH, labels=labels_N, divisor=divisor, chunk_size=chunk_size)
