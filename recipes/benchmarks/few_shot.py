"""Few-shot prediction of properties that neither encoder nor adapter was trained for, beside ridge and random forest.

    python recipes/benchmarks/few_shot.py --smiles qm9_smiles.txt.gz [--preset nano] [--checkpoint FOLDER]

The encoder learns the properties of the training families; the adapter learns, on its tokens, to adapt to tasks of
these families. Tested are tasks of other families, on molecules that neither has seen, with 16 to 128 labelled ones:
the adapter, one trained without an inner loop (its head alone is fitted to a task), ridge regression on the same
tokens, and a random forest on Morgan fingerprints (radius 2, 1024 bits). Writes results/few_shot.json.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from interleaved import write_benchmark
from molecule_inputs import Molecules, read_molecules
from transformers import AutoConfig, set_seed

from modeling_astrobio.configuration_astro_graph_vae import AstroGraphVAEConfig
from modeling_astrobio.graph_few_shot import GraphFewShotAdapter
from modeling_astrobio.modeling_astro_graph_vae_properties import AstroGraphVAEForPropertyPrediction
from modeling_astrobio.training.few_shot_evaluation import (
    adapter_method,
    evaluate_few_shot,
    forest_method,
    mean_interval,
    ridge_method,
    summarise_few_shot,
)
from modeling_astrobio.training.few_shot_tasks import FewShotTasks, family_properties, nearest_training_property
from modeling_astrobio.training.few_shot_training import train_adapter
from modeling_astrobio.training.graph_metrics.molecule_set import MoleculeSet
from modeling_astrobio.training.property_config import with_properties
from modeling_astrobio.training.property_table import compute_properties
from modeling_astrobio.training.property_training import embed_graphs, train_properties


SUPPORT_SIZES = (16, 32, 64, 128)
SPLITS = ("train", "validation", "test")
INNER_STEPS = {"adapter": 3, "adapter_without_inner_loop": 0}


def label_tables(
    parsed: argparse.Namespace, smiles: list[str]
) -> tuple[dict[str, dict[str, str]], dict[str, np.ndarray]]:
    """Return the families of the properties of each split, and their labels (N, P).

    Those that are alike in all training or in all test molecules, or not known of all, are left out.
    """
    families, labels = {}, {}
    for split in SPLITS:
        families[split] = family_properties(split)
        table = compute_properties(smiles, list(families[split]))
        varies = (np.ptp(table[: parsed.train], axis=0) > 0) & (np.ptp(table[parsed.train :], axis=0) > 0)
        for name, kept in zip(list(families[split]), varies, strict=True):
            if not kept:
                families[split].pop(name)
        labels[split] = table[:, varies]
    return families, labels


def encoder(
    parsed: argparse.Namespace, molecules: Molecules, names: list[str], labels: np.ndarray
) -> tuple[AstroGraphVAEForPropertyPrediction, dict[str, Any]]:
    """Return the encoder, trained on the training families where epochs are asked for, and what was done."""
    start = parsed.checkpoint or parsed.preset
    base = AutoConfig.from_pretrained(start) if parsed.checkpoint else AstroGraphVAEConfig.from_preset(start)
    config = with_properties(base, names, labels[: parsed.train])
    set_seed(parsed.seed)
    if parsed.checkpoint:
        model = AstroGraphVAEForPropertyPrediction.from_pretrained(parsed.checkpoint, config=config)
    else:
        model = AstroGraphVAEForPropertyPrediction(config)
    training: dict[str, Any] = {"epochs": parsed.encoder_epochs}
    if parsed.encoder_epochs:
        graphs = molecules.graphs[: parsed.train]
        training |= train_properties(
            model, graphs, labels[: parsed.train], epochs=parsed.encoder_epochs, seed=parsed.seed
        )
    return model.eval(), {"start": str(start), "config": config.to_dict(), **training}


def train_adapters(
    parsed: argparse.Namespace,
    tokens: torch.Tensor,
    families: dict[str, dict[str, str]],
    labels: dict[str, np.ndarray],
) -> tuple[dict[str, GraphFewShotAdapter], dict[str, Any]]:
    """Train the adapters on the training molecules, each on the same tasks; returns them and how it went."""
    adapters, training = {}, {}
    for name, inner_steps in INNER_STEPS.items():
        set_seed(parsed.seed)
        adapters[name] = GraphFewShotAdapter(*tokens.shape[1:], inner_steps=inner_steps)
        training[name] = train_adapter(
            adapters[name],
            tokens,
            FewShotTasks(labels["train"][: parsed.train], list(families["train"].values()), seed=parsed.seed),
            FewShotTasks(
                labels["validation"][: parsed.train],
                list(families["validation"].values()),
                mixed=0.0,
                seed=parsed.seed,
            ),
            steps=parsed.adapter_steps,
            support_sizes=SUPPORT_SIZES,
        )
        print(name, training[name]["validation_loss"], flush=True)
    return adapters, training


def by_property(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """R2 of every property, size and method, with its interval over draws."""
    values: dict[tuple[str, str, str], list[float]] = {}
    for row in rows:
        values.setdefault((row["property"], str(row["support"]), row["method"]), []).append(row["r2"])
    found: dict[str, Any] = {}
    for (name, size, method), scores in values.items():
        found.setdefault(name, {}).setdefault(size, {})[method] = mean_interval(scores)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smiles", type=Path, required=True, help="list of SMILES, a line each; may end in .gz")
    parser.add_argument("--preset", default="nano")
    parser.add_argument("--checkpoint", help="folder or Hub id of a trained AstroGraphVAE to start from")
    parser.add_argument("--train", type=int, default=10_000, help="molecules of the encoder and of training tasks")
    parser.add_argument("--test", type=int, default=4000, help="molecules of test tasks")
    parser.add_argument("--encoder-epochs", type=int, default=8)
    parser.add_argument("--adapter-steps", type=int, default=1000)
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--query", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parsed = parser.parse_args()
    torch.set_num_threads(parsed.threads)
    started = time.monotonic()
    shape = AutoConfig.from_pretrained(parsed.checkpoint) if parsed.checkpoint else None
    shape = shape or AstroGraphVAEConfig.from_preset(parsed.preset)
    molecules = read_molecules(parsed.smiles, parsed.train + parsed.test, shape, parsed.seed)
    families, labels = label_tables(parsed, molecules.smiles)
    names = {split: list(of_split) for split, of_split in families.items()}
    model, trained = encoder(parsed, molecules, names["train"], labels["train"])
    tokens = embed_graphs(model, molecules.graphs)
    adapters, adapter_training = train_adapters(parsed, tokens[: parsed.train], families, labels)

    unseen = slice(parsed.train, None)
    scale = adapters["adapter"].features
    features = ((tokens[unseen] - scale.token_mean) / scale.token_std).flatten(1).numpy()
    methods = {
        **{name: adapter_method(adapter, tokens[unseen]) for name, adapter in adapters.items()},
        "ridge_embedding": ridge_method(features),
        "forest_morgan": forest_method(MoleculeSet.known(molecules.smiles[unseen], "molecules").fingerprints),
    }
    rows = evaluate_few_shot(
        methods,
        names["test"],
        labels["test"][unseen],
        support_sizes=SUPPORT_SIZES,
        draws=parsed.draws,
        query_size=parsed.query,
        seed=parsed.seed,
    )
    nearest = nearest_training_property(labels["test"], labels["train"])
    summary = {score: summarise_few_shot(rows, score, "adapter") for score in ("r2", "scaled_error", "coverage_90")}
    path = write_benchmark(
        "few_shot",
        {
            "status": "finished",
            "seconds": time.monotonic() - started,
            "data": {**molecules.source, "train": parsed.train, "test": parsed.test},
            "families": families,
            "nearest_training_property": {
                name: {"property": names["train"][place], "correlation": size}
                for name, (place, size) in zip(names["test"], nearest, strict=True)
            },
            "encoder": trained,
            "adapter_training": adapter_training,
            "adapter_parameters": sum(each.numel() for each in adapters["adapter"].parameters()),
            "summary": summary,
            "r2_by_property": by_property(rows),
            "runs": rows,
        },
    )
    for size, found in summary["r2"].items():
        print(
            size,
            *(f"{name} {row['mean']:.3f} [{row['lower']:.3f}, {row['upper']:.3f}]" for name, row in found.items()),
        )
    print(path.name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
