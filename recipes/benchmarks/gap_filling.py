"""Metabolic gap filling on organisms that were held out: recall against baselines, directions, balances, fluxes.

    python recipes/benchmarks/gap_filling.py FOLDER_OF_MODELS

A model is trained for each species on the networks of all others; all networks of a species are held out together.
"""

import argparse
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from interleaved import write_benchmark

from data_scripts.chemistry.organisms import read_organisms
from modeling_astrobio.training.metabolic_completion import CompletionSettings, fit_prior_weights, train_completion
from modeling_astrobio.training.metabolic_data import Organism, ReactionPool
from modeling_astrobio.training.metabolic_figures import organism_figures, short_figures
from modeling_astrobio.training.metabolic_ranking import RECALL_AT, mean_with_interval


def hold_out(organism: Organism, known: list[Organism], settings: CompletionSettings, arguments) -> dict[str, Any]:
    """Train on the known organisms and evaluate on the other one, on one thread."""
    torch.set_num_threads(1)
    started = time.perf_counter()
    pool = ReactionPool(known)
    priors = fit_prior_weights(known, settings, settings.seed)
    model, training = train_completion(known, settings, priors)
    figures = organism_figures(
        model,
        organism,
        pool,
        priors,
        share=arguments.share,
        draws=arguments.draws,
        proposals=arguments.proposals,
        completions=arguments.completions,
    )
    return {
        "species": organism.species,
        "network": organism.network.id,
        "training": training,
        "learned_prior_weights": model.prior_weight.tolist(),
        "prior_weights_alone": priors.tolist(),
        **figures,
        "seconds": time.perf_counter() - started,
    }


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return means over the held-out organisms with bootstrap intervals."""

    def interval(values) -> dict[str, float]:
        return mean_with_interval({run["species"]: values(run) for run in runs})

    ways = list(runs[0]["ranking"]["recall"])
    table: dict[str, Any] = {
        "removed_reactions_in_pool": {
            run["species"]: run["ranking"]["in_pool"] / run["ranking"]["removed"] for run in runs
        },
        "recall": {
            way: {f"top_{k}": interval(lambda run, way=way, k=k: run["ranking"]["recall"][way][k]) for k in RECALL_AT}
            for way in ways
        },
        "recall_gain_of_model_over": {
            way: {
                f"top_{k}": interval(
                    lambda run, way=way, k=k: np.subtract(
                        run["ranking"]["recall"]["model"][k], run["ranking"]["recall"][way][k]
                    )
                )
                for k in RECALL_AT
            }
            for way in ways
            if way != "model"
        },
        "top_10_by_species": {
            run["species"]: {way: float(np.mean(run["ranking"]["recall"][way][10])) for way in ways} for run in runs
        },
        "proposals_recall": {
            way: {
                f"top_{k}": interval(lambda run, way=way, k=k: run["proposals"]["recall"][way][k]) for k in RECALL_AT
            }
            for way in ("model", "degree")
        },
        "proposals_unbalanced": sum(run["proposals"]["unbalanced"] for run in runs),
        "proposals": sum(run["proposals"]["proposed"] for run in runs),
    }
    for name, kept in (("all", (True, False)), ("known", (True,)), ("new", (False,))):
        table[f"direction_log_loss_of_{name}_reactions"] = {
            way: interval(
                lambda run, way=way, kept=kept: [
                    loss
                    for loss, is_known in zip(run["directions"][way], run["directions"]["is_known"], strict=True)
                    if is_known in kept
                ]
            )
            for way in ("base_rates", "known_reaction", "model")
        }
    return table


def main() -> None:
    """Hold out one species after another."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="SBML or cobra's JSON, plain or .gz, with species.csv if needed")
    parser.add_argument("--steps", type=int, default=100, help="optimizer steps of each model")
    parser.add_argument("--share", type=float, default=0.1, help="share of reactions that is removed")
    parser.add_argument("--draws", type=int, default=3, help="networks with gaps of each organism")
    parser.add_argument("--processes", type=int, default=1, help="species that are held out at one time")
    parser.add_argument("--proposals", type=int, default=10, help="removed reactions rebuilt from compounds, each")
    parser.add_argument("--completions", type=int, default=20, help="reactions added to a network, each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--species", nargs="*", help="hold out these alone")
    parser.add_argument("--name", default="gap_filling", help="name of the result")
    arguments = parser.parse_args()
    organisms, errors = read_organisms(arguments.folder)
    settings = CompletionSettings(steps=arguments.steps, seed=arguments.seed)
    held_out = [each for each in organisms if not arguments.species or each.species in arguments.species]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(arguments.processes, mp_context=context) as workers:
        tasks = [
            workers.submit(hold_out, each, [other for other in organisms if other is not each], settings, arguments)
            for each in held_out
        ]
        runs = []
        for task in tasks:
            runs.append(task.result())
            recall = {way: round(float(np.mean(found[10])), 3) for way, found in runs[-1]["ranking"]["recall"].items()}
            print(runs[-1]["species"], f"{runs[-1]['seconds']:.0f} s", "top-10 recall", recall, flush=True)
    result = {
        "settings": asdict(settings),
        "files_left_out": errors,
        "summary": summary(runs),
        "runs": [short_figures(run) for run in runs],
    }
    print(write_benchmark(arguments.name, result))


if __name__ == "__main__":
    main()
