"""Attention with a bias over the few tokens of a graph, which keeps one matrix of scores for its backward pass.

For graphs of some dozen tokens the time goes into passes over memory. torch's kernels for the CPU take a bias that
wants a gradient through five matrices of scores, a copy of queries, keys and values each way, and a softmax whose loop
is made for long rows; here scores, probabilities and their gradients are each computed in place.

Shape suffixes: B graphs, T tokens, H heads, D width, C numbers of a pair of nodes, K codes.
"""

from functools import partial

import torch

from .attention_graph_bias import AttentionPairs, attention_bias


__all__ = ["small_graph_attention", "small_graph_attention_naive"]

# torch's softmax goes through shorter rows one number at a time.
_VECTOR_WIDTH = 16


def small_graph_attention_naive(
    qkv: torch.Tensor, table: torch.Tensor, weight: torch.Tensor, pairs: AttentionPairs
) -> torch.Tensor:
    """Return softmax(Q K^T / sqrt(D / H) + bias) V; the oracle of `small_graph_attention`, arguments as there."""
    heads = (3, table.shape[1], -1)
    query, key, value = (part.transpose(1, 2) for part in qkv.unflatten(-1, heads).unbind(2))
    bias = attention_bias(pairs, table, weight).transpose(0, 1)
    scores = query @ key.mT * query.shape[-1] ** -0.5 + bias
    return (scores.softmax(-1) @ value).transpose(1, 2).flatten(2)


def _by_head(qkv: torch.Tensor, num_heads: int) -> torch.Tensor:
    """Return queries, keys and values, shape (3, H * B, T, D / H), of (B, T, 3 * D)."""
    return qkv.unflatten(-1, (3, num_heads, -1)).permute(2, 3, 0, 1, 4).contiguous().flatten(1, 2)


def _softmax(scores: torch.Tensor) -> torch.Tensor:
    """Return the softmax over the last dimension; `scores` may be overwritten."""
    if scores.shape[-1] >= _VECTOR_WIDTH:
        return scores.softmax(-1)
    scores.sub_(scores.amax(-1, keepdim=True)).exp_()
    return scores.div_(scores.sum(-1, keepdim=True))


class _SmallGraphAttention(torch.autograd.Function):
    @staticmethod
    def forward(qkv, table, weight, pairs):
        (batch, tokens, _), num_heads = qkv.shape, table.shape[1]
        query, key, value = _by_head(qkv, num_heads).unbind(0)
        scores = attention_bias(pairs, table, weight).flatten(0, 1)
        scores.baddbmm_(query, key.mT, alpha=query.shape[-1] ** -0.5)
        probabilities = _softmax(scores)
        attended = (probabilities @ value).view(num_heads, batch, tokens, -1)
        return attended.permute(1, 2, 0, 3).flatten(2), probabilities

    @staticmethod
    def setup_context(ctx, inputs, output):
        *tensors, ctx.pairs = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(*tensors, *output)

    @staticmethod
    def backward(ctx, grad, _):
        qkv, table, weight, attended, probabilities = ctx.saved_tensors
        if torch.is_grad_enabled():
            # A second derivative is wanted, which what works in place does not have.
            _, pull_back = torch.func.vjp(partial(small_graph_attention_naive, pairs=ctx.pairs), qkv, table, weight)
            return *pull_back(grad), None
        codes, numbers, (coarse, _) = ctx.pairs
        (batch, tokens, _), num_heads = qkv.shape, table.shape[1]
        query, key, value = _by_head(qkv, num_heads).unbind(0)
        # Of a row of scores, from its output instead (Dao et al. 2022, arXiv:2205.14135).
        mean = (grad * attended).unflatten(-1, (num_heads, -1)).sum(-1).permute(2, 0, 1).reshape(-1, tokens, 1)
        grad = grad.unflatten(-1, (num_heads, -1)).permute(2, 0, 1, 3).contiguous().flatten(0, 1)
        grad_heads = grad.new_empty(3, *query.shape)
        torch.bmm(probabilities.mT, grad, out=grad_heads[2])
        grad_scores = grad @ value.mT
        grad_scores.sub_(mean).mul_(probabilities)
        torch.bmm(grad_scores, key, out=grad_heads[0])
        torch.bmm(grad_scores.mT, query, out=grad_heads[1])
        grad_heads[:2].mul_(query.shape[-1] ** -0.5)
        grad_qkv = grad_heads.view(3, num_heads, batch, tokens, -1).permute(2, 3, 0, 1, 4).flatten(2)

        grad_bias = grad_scores.view(num_heads, batch, tokens, tokens)
        grad_table = table.new_zeros(num_heads, len(table) + 1)
        grad_table.scatter_add_(1, codes.flatten().expand(num_heads, -1), grad_bias.flatten(1))
        of_nodes = grad_bias[:, :, coarse:, coarse:].flatten(1)
        return grad_qkv, grad_table[:, 1:].t(), of_nodes @ numbers.flatten(1).t(), None


def small_graph_attention(
    qkv: torch.Tensor, table: torch.Tensor, weight: torch.Tensor, pairs: AttentionPairs
) -> torch.Tensor:
    """`small_graph_attention_naive` in place.

    Args:
        qkv: Queries, keys and values of all heads, shape (B, T, 3 * D).
        table: Of each code of a pair, shape (K, H).
        weight: Of each number of two nodes, shape (H, C).
        pairs: Pairs of tokens.

    Returns:
        Shape (B, T, D).
    """
    return _SmallGraphAttention.apply(qkv, table, weight, pairs)[0]
