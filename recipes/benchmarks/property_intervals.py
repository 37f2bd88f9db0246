"""Whether intervals of predicted properties hold the truth as often as they say: a QM9-size list of molecules.

    python recipes/benchmarks/property_intervals.py --smiles qm9_smiles.txt.gz [--preset nano] [--members 3]

A few models are trained from different weights on the same molecules; split-conformal intervals are calibrated on
molecules of the same draw and tested on others of that draw, and on molecules with a Murcko scaffold that neither
training nor calibration has. Labels are computed by RDKit. Writes results/property_intervals.json, after every model.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from interleaved import write_benchmark
from molecule_inputs import Molecules, read_molecules
from transformers import set_seed

from modeling_astrobio.configuration_astro_graph_vae import AstroGraphVAEConfig
from modeling_astrobio.modeling_astro_graph_vae_properties import AstroGraphVAEForPropertyPrediction
from modeling_astrobio.training.conformal import SplitConformal
from modeling_astrobio.training.property_config import with_properties
from modeling_astrobio.training.property_ensemble import combine_gaussians
from modeling_astrobio.training.property_evaluation import evaluate_properties
from modeling_astrobio.training.property_splits import split_with_scaffolds
from modeling_astrobio.training.property_table import compute_properties
from modeling_astrobio.training.property_training import predict_properties, train_properties


# MolWt is a sum over atoms, MolLogP and TPSA nearly so; the others are not: qed is a product of desirabilities,
# BalabanJ a ratio of distances, MinPartialCharge the limit of an iteration, MaxEStateIndex a maximum over atoms.
PROPERTIES = ("MolWt", "MolLogP", "TPSA", "qed", "BalabanJ", "MinPartialCharge", "MaxEStateIndex")
TESTS = ("test", "scaffold_test")


def judge(
    predictions: dict[str, tuple[np.ndarray, np.ndarray]], labels: dict[str, np.ndarray], coverage: float
) -> dict[str, Any]:
    """Calibrate, and evaluate both tests."""
    means, variances = predictions["calibration"]
    conformal = SplitConformal.fit(means, np.sqrt(variances), labels["calibration"], coverage)
    return {
        "quantiles": dict(zip(PROPERTIES, conformal.quantiles.tolist(), strict=True)),
        **{part: evaluate_properties(PROPERTIES, *predictions[part], labels[part], conformal) for part in TESTS},
    }


def prepare(parsed: argparse.Namespace, config: AstroGraphVAEConfig) -> tuple[Molecules, dict, dict, dict]:
    """Read the molecules and return them, and places, graphs and labels of each part."""
    count = parsed.train + parsed.calibration + parsed.test + parsed.scaffold_test
    molecules = read_molecules(parsed.smiles, count + count // 50, config, parsed.seed)
    places = split_with_scaffolds(
        molecules.smiles, parsed.scaffold_test, parsed.calibration, parsed.test, seed=parsed.seed
    )
    table = compute_properties(molecules.smiles, PROPERTIES)
    graphs = {part: [molecules.graphs[place] for place in chosen] for part, chosen in places.items()}
    return molecules, places, graphs, {part: table[chosen] for part, chosen in places.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smiles", type=Path, required=True, help="list of SMILES, a line each; may end in .gz")
    parser.add_argument("--preset", default="nano")
    parser.add_argument("--train", type=int, default=8000, help="molecules; about that many")
    parser.add_argument("--calibration", type=int, default=5000)
    parser.add_argument("--test", type=int, default=5000)
    parser.add_argument("--scaffold-test", type=int, default=5000)
    parser.add_argument("--members", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--coverage", type=float, default=0.9)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parsed = parser.parse_args()
    torch.set_num_threads(parsed.threads)
    base = AstroGraphVAEConfig.from_preset(parsed.preset)
    molecules, places, graphs, labels = prepare(parsed, base)
    config = with_properties(base, PROPERTIES, labels["train"])
    runs: list[dict[str, Any]] = []
    members: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {part: [] for part in ("calibration", *TESTS)}
    for member in range(parsed.members):
        set_seed(parsed.seed + member)
        model = AstroGraphVAEForPropertyPrediction(config)
        training = train_properties(
            model, graphs["train"], labels["train"], epochs=parsed.epochs, seed=parsed.seed + member
        )
        own = {part: predict_properties(model, graphs[part]) for part in members}
        for part, predicted in own.items():
            members[part].append(predicted)
        runs.append({"seed": parsed.seed + member, "training": training, **judge(own, labels, parsed.coverage)})
        combined = {part: combine_gaussians(*zip(*all_own, strict=True)) for part, all_own in members.items()}
        done = member + 1 == parsed.members
        path = write_benchmark(
            "property_intervals",
            {
                "status": "finished" if done else "running",
                "data": {**molecules.source, **{part: len(chosen) for part, chosen in places.items()}},
                "config": config.to_dict(),
                "trainable_parameters": sum(each.numel() for each in model.parameters() if each.requires_grad),
                "coverage": parsed.coverage,
                "members": runs,
                "ensemble": judge(combined, labels, parsed.coverage),
            },
        )
        for part in TESTS:
            found = runs[-1][part]
            print(
                f"seed {parsed.seed + member} {part}:",
                *(f"{name} {row['conformal_coverage']:.3f} (R2 {row['r2']:.3f})" for name, row in found.items()),
                flush=True,
            )
    print(path.name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
