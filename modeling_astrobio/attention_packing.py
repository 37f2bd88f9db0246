"""Packed sequences: several documents in one row, told apart by positions that start again."""

import torch
from transformers.utils.import_utils import is_tracing


__all__ = ["document_positions", "flash_varlen_arguments"]


def document_positions(
    position_ids: torch.Tensor | None, attention_mask: torch.Tensor | None, batch_size: int
) -> torch.Tensor | None:
    """Positions whose breaks are exactly the borders between documents, or `None` where each row is one document.

    transformers reads borders from positions only where no padding mask is given and no cache is in use, so that an
    all-ones mask, or `use_cache=True`, silently lets documents see one another. Here a padding mask is folded into the
    positions: each padded place becomes a document of its own.

    Args:
        position_ids: Shape (1 or B, T), int64; a place whose position does not follow its neighbour's by 1 begins a
            document. `None` means one document in each row.
        attention_mask: Shape (B, T), nonzero where a token is real; `None` means all are real. Masks of any other rank
            are complete already, so they give `None`.
        batch_size: B.

    Returns:
        Shape (B, T), int64, or `None`.
    """
    if position_ids is None or (
        attention_mask is not None and attention_mask.shape != (batch_size, position_ids.shape[-1])
    ):
        return None
    position_ids = position_ids.expand(batch_size, -1)
    real = None
    if attention_mask is not None:
        real = attention_mask.to(device=position_ids.device, dtype=torch.bool)
    # A graph cannot branch on values, so that while one is traced every row counts as packed.
    if not is_tracing(position_ids):
        breaks = position_ids[:, 1:] != position_ids[:, :-1] + 1
        # A break beside padding is the padding's own border, which the padding mask serves.
        if real is not None:
            breaks = breaks & real[:, 1:] & real[:, :-1]
        if not breaks.any():
            return None
    if real is None:
        return position_ids
    isolated = -2 * torch.arange(1, position_ids.shape[1] + 1, device=position_ids.device)
    return torch.where(real, position_ids, isolated)


def flash_varlen_arguments(document_positions_BT: torch.Tensor) -> dict[str, torch.Tensor | int]:
    """Lengths that make flash attention keep packed documents apart, for any batch size.

    Args:
        document_positions_BT: From `document_positions`, shape (B, T).

    Returns:
        `cu_seq_lens_q` and `cu_seq_lens_k`: cumulative document lengths over the flattened batch, int32;
        `max_length_q` and `max_length_k`: the longest document.
    """
    starts = torch.ones_like(document_positions_BT, dtype=torch.bool)
    starts[:, 1:] = document_positions_BT[:, 1:] != document_positions_BT[:, :-1] + 1
    begin = starts.flatten().nonzero().squeeze(-1)
    borders = torch.cat((begin, begin.new_tensor([starts.numel()]))).to(torch.int32)
    longest = int(borders.diff().max())
    return {"cu_seq_lens_q": borders, "cu_seq_lens_k": borders, "max_length_q": longest, "max_length_k": longest}
