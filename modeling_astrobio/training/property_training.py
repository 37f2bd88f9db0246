"""Train a model of properties on graphs in memory, and read its predictions and tokens.

Shape suffixes: N graphs, P properties, T tokens, D width.
"""

import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from ..graph_record import GraphRecord, collate_graphs
from ..modeling_astro_graph_vae_properties import AstroGraphVAEForPropertyPrediction
from .errors import DataError


__all__ = ["embed_graphs", "predict_properties", "train_properties"]

_EVALUATION_BATCH = 256


def train_properties(
    model: AstroGraphVAEForPropertyPrediction,
    graphs: Sequence[GraphRecord],
    labels: ArrayLike,
    *,
    epochs: int,
    batch_size: int = 64,
    learning_rate: float = 1e-3,
    weight_decay: float = 0.01,
    seed: int = 0,
) -> dict[str, Any]:
    """Train with AdamW and a one-cycle learning rate; the model is left in evaluation mode.

    Args:
        model: Trained in place.
        graphs: N graphs.
        labels: Shape (N, P), in the units of the config's scale; NaN is unknown.
        epochs: Passes over the graphs, each in another order.
        batch_size: Graphs of a step.
        learning_rate: At its highest.
        weight_decay: Of all weights but biases, norms and embeddings of one row.
        seed: Of the order.

    Returns:
        `steps`, `seconds` and the mean loss of each epoch, `loss`.

    Raises:
        DataError: If there are not as many labels as graphs, or no graph.
    """
    label_NP = torch.from_numpy(np.asarray(labels, dtype=np.float64))
    if len(label_NP) != len(graphs) or not len(graphs):
        raise DataError(f"labels must have a row for each graph; got {len(label_NP)} and {len(graphs)} graphs.")
    started = time.monotonic()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(
        [
            {"params": [weights for weights in trained if weights.dim() > 1], "weight_decay": weight_decay},
            {"params": [weights for weights in trained if weights.dim() < 2], "weight_decay": 0.0},
        ],
        lr=learning_rate,
    )
    steps = epochs * -(-len(graphs) // batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps, pct_start=0.1)
    generator = torch.Generator().manual_seed(seed)
    losses = []
    model.train()
    for _ in range(epochs):
        total = 0.0
        for chosen in torch.randperm(len(graphs), generator=generator).split(batch_size):
            batch = collate_graphs([graphs[place] for place in chosen.tolist()])
            batch["labels"] = label_NP[chosen]
            loss = model(**{name: tensor.to(model.device) for name, tensor in batch.items()}).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            total += float(loss.detach()) * len(chosen)
        losses.append(total / len(graphs))
    model.eval()
    return {"steps": steps, "seconds": time.monotonic() - started, "loss": losses}


def _batches(model: AstroGraphVAEForPropertyPrediction, graphs: Sequence[GraphRecord]) -> Iterator[dict[str, Any]]:
    if not graphs:
        raise DataError("graphs must hold at least one; got none.")
    for start in range(0, len(graphs), _EVALUATION_BATCH):
        batch = collate_graphs(graphs[start : start + _EVALUATION_BATCH])
        yield {name: tensor.to(model.device) for name, tensor in batch.items()}


@torch.no_grad()
def predict_properties(
    model: AstroGraphVAEForPropertyPrediction, graphs: Sequence[GraphRecord]
) -> tuple[np.ndarray, np.ndarray]:
    """Return means and variances, each (N, P), float64, in the label's units; the mode of the model is left.

    Raises:
        DataError: If there is no graph.
    """
    outputs = [model(**batch) for batch in _batches(model, graphs)]
    means, variances = (torch.cat([output[name] for output in outputs]).double() for name in ("mean", "variance"))
    return means.cpu().numpy(), variances.cpu().numpy()


@torch.no_grad()
def embed_graphs(model: AstroGraphVAEForPropertyPrediction, graphs: Sequence[GraphRecord]) -> torch.Tensor:
    """Return the tokens that heads and adapters read, shape (N, T, D).

    Raises:
        DataError: If there is no graph.
    """
    return torch.cat([model.embed(**batch) for batch in _batches(model, graphs)])
