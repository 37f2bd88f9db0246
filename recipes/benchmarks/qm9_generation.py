"""Compare generators of molecules on QM9, each trained for the same time on the same threads.

    python recipes/benchmarks/qm9_generation.py --smiles FILE --row ROW [--minutes 30] [--clock wall]

ROW is one of:
    floor         held-out molecules themselves: what two draws of the data differ by
    null_random   the decoder with its masks and the weights it starts from
    null_uniform  the decoder with its masks and equal scores of all actions
    char_rnn      an LSTM over the characters of SMILES, with as many parameters as ours
    one_shot      ours, with the decoder that draws all atoms and bonds at one time
    unmasked      ours, trained and sampled without masks
    ours          AstroGraphVAE

Each run is added to the JSON file that --out names, failed ones too, so that rows may be run one by one or at the same
time; a table of the latest finished run of each row is printed and drawn. FILE has a SMILES a line, and may be
gzipped. Stereo is left out; of the different molecules, two disjoint sets of as many as there are samples are held
out: distances of all rows are from one of them, and the floor's samples are the other.
"""

import argparse
import itertools
import json
import shlex
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from generation_results import add_run, draw_results, table_lines
from held_out_molecules import Molecules
from interleaved import RESULTS
from timed_training import train_for
from transformers.feature_extraction_utils import BatchFeature

from modeling_astrobio.configuration_astro_graph_vae import AstroGraphVAEConfig
from modeling_astrobio.graph_record import GraphRecord
from modeling_astrobio.modeling_astro_graph_vae import AstroGraphVAEModel
from modeling_astrobio.processing_astro_graph_vae import AstroGraphVAEProcessor
from modeling_astrobio.training.char_rnn import CharRNN, characters_of, length_batches, matching_width
from modeling_astrobio.training.graph_evaluation import draw_smiles, held_out_figures
from modeling_astrobio.training.graph_metrics.generation_report import generation_report
from modeling_astrobio.training.graph_metrics.molecule_set import MoleculeSet
from modeling_astrobio.training.graph_prior import fit_latent_prior
from modeling_astrobio.training.graph_trainer import kl_weight_at
from modeling_astrobio.training.hardware import describe_hardware, package_versions
from modeling_astrobio.training.loading import size_batches


ROWS = ("floor", "null_random", "null_uniform", "char_rnn", "one_shot", "unmasked", "ours")
CLOCKS = {"wall": time.monotonic, "cpu": time.process_time}
PUBLISHED = {
    "source": "samples of DiGress on QM9 (Vignac et al. 2023, arXiv:2209.14734), quoted, not measured here",
    "valid": 0.992,
    "unique": 0.969,
    "descriptor_distance_range": [0.016, 0.14],
    "descriptor_distance_range_of_null": [0.12, 0.78],
}
GOALS = {"valid": 0.90, "unique": 0.96, "descriptor distance (sd)": 0.10, "reconstruction": 0.90}
MARKS = {
    "valid": {"DiGress, published": (0.992, 0.992), "goal": (0.90, 0.90)},
    "unique": {"DiGress, published": (0.969, 0.969), "goal": (0.96, 0.96)},
    "descriptor distance (sd)": {"DiGress, published": (0.016, 0.14), "goal": (0.10, 0.10)},
    "reconstruction": {"goal": (0.90, 0.90)},
}


def graph_batches(
    processor: AstroGraphVAEProcessor, records: Sequence[GraphRecord], most_nodes: int, seed: int
) -> Iterator[BatchFeature]:
    """Give batches of graphs of like size without end; each epoch has other batches, in another order."""
    sizes = [(record.size, len(record.motif_types), len(record.edge_types)) for record in records]
    rng = np.random.default_rng(seed)
    while True:
        batches = size_batches(sizes, most_nodes, int(rng.integers(2**31)))
        for place in rng.permutation(len(batches)):
            yield processor.pad([records[row] for row in batches[place]])


def char_rnn_row(molecules: Molecules, arguments: argparse.Namespace) -> dict[str, Any]:
    """Train the character RNN and draw from it."""
    with torch.device("meta"):
        parameters = AstroGraphVAEModel(graph_config(molecules, arguments)).num_parameters()
    characters = characters_of(molecules.training)
    width = matching_width(parameters, len(characters))
    model = CharRNN(characters, width)
    known = set(characters)
    held_out = [smiles for smiles in molecules.held_out if known.issuperset(smiles)]
    training = train_for(
        60 * arguments.minutes,
        model,
        length_batches(model.encode(molecules.training), arguments.rnn_batch_size, arguments.seed),
        lambda codes, elapsed: model(codes),
        learning_rate=arguments.rnn_learning_rate,
        clock=CLOCKS[arguments.clock],
    )
    generator = torch.Generator().manual_seed(arguments.seed)
    started = time.monotonic()
    samples = in_parts(arguments.samples, 1000, lambda count: model.sample(count, generator))
    sampling_seconds = time.monotonic() - started
    with torch.no_grad():
        nats = -model.log_likelihood(model.encode(held_out[: arguments.reconstructions])).mean().item()
    return {
        "config": {"hidden_size": width, "num_layers": model.lstm.num_layers, "characters": characters},
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "training": training,
        "held_out_nats": nats,
        "sampling_seconds": sampling_seconds,
        "drawn": samples,
    }


def graph_config(molecules: Molecules, arguments: argparse.Namespace) -> AstroGraphVAEConfig:
    """Return the configuration of ours, with the masks and the decoder that the row has."""
    overrides = {**arguments.config, "atom_types": molecules.atom_types}
    if arguments.row == "one_shot":
        overrides["decoder_type"] = "one_shot"
    return AstroGraphVAEConfig.from_preset(
        arguments.preset, **overrides, constrain_decoding=arguments.row not in ("unmasked", "one_shot")
    )


def graph_row(molecules: Molecules, arguments: argparse.Namespace) -> dict[str, Any]:
    """Train ours, unless the row is a null, and draw from it."""
    config = graph_config(molecules, arguments)
    processor = AstroGraphVAEProcessor(atom_types=config.atom_types, max_nodes=config.max_nodes)
    model = AstroGraphVAEModel(config).eval()
    found: dict[str, Any] = {"config": config.to_diff_dict(), "parameters": model.num_parameters()}
    is_null = arguments.row.startswith("null")
    if arguments.row == "null_uniform":
        with torch.no_grad():
            for parameter in model.decoder.parameters():
                parameter.zero_()
    if not is_null:
        records, _ = processor.read(molecules.training)
        found["processor_coverage"] = len(records) / len(molecules.training)

        def loss_of(batch: BatchFeature, elapsed: float) -> torch.Tensor:
            return model(**batch, kl_weight=kl_weight_at(elapsed, arguments.kl_weight, arguments.kl_warmup)).loss

        found["training"] = train_for(
            60 * arguments.minutes * (1 - arguments.prior_share),
            model,
            graph_batches(processor, records, arguments.batch_nodes, arguments.seed),
            loss_of,
            learning_rate=arguments.learning_rate,
            weight_decay=0.01,
            clock=CLOCKS[arguments.clock],
        )
        started = CLOCKS[arguments.clock]()
        found["prior"] = fit_latent_prior(model, processor, records, seed=arguments.seed)
        found["prior"]["seconds"] = CLOCKS[arguments.clock]() - started
        held_out = molecules.held_out[: arguments.reconstructions]
        records, _ = processor.read(held_out)
        figures = held_out_figures(model, processor, records, 250, arguments.seed)
        # One that is not read is not rebuilt.
        figures["reconstruction"] *= len(records) / len(held_out)
        found |= {name if "nats" not in name else f"held_out_{name}": value for name, value in figures.items()}
    started = time.monotonic()
    found["drawn"] = draw_smiles(model, processor, arguments.samples, 500, arguments.seed, arguments.temperature)
    return {**found, "sampling_seconds": time.monotonic() - started}


def in_parts(count: int, most: int, draw: Callable[[int], list[str | None]]) -> list[str | None]:
    """Draw so many, at most some at one time."""
    parts = [draw(min(most, count - start)) for start in range(0, count, most)]
    return list(itertools.chain.from_iterable(parts))


def run_row(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return everything about one row."""
    molecules = Molecules.read(arguments.smiles, arguments.samples)
    torch.manual_seed(arguments.seed)
    if arguments.row == "floor":
        found: dict[str, Any] = {"drawn": molecules.held_out}
    else:
        found = (char_rnn_row if arguments.row == "char_rnn" else graph_row)(molecules, arguments)
    drawn = found.pop("drawn")
    metrics: dict[str, Any] = generation_report(
        drawn,
        MoleculeSet(molecules.training, len(molecules.training)),
        MoleculeSet(molecules.reference, len(molecules.reference)),
        atom_types=molecules.atom_types,
    )
    for name in ("parameters", "reconstruction"):
        if name in found:
            metrics[name] = found.pop(name)
    if "training" in found:
        seconds = found["training"]["cpu_seconds" if arguments.clock == "cpu" else "seconds"]
        metrics["training_seconds"] = seconds + found.get("prior", {"seconds": 0.0})["seconds"]
    data = {name: len(getattr(molecules, name)) for name in ("training", "held_out", "reference")}
    shown = {} if arguments.row == "floor" else {"first_samples": drawn[:48]}
    return {"data": data, "metrics": metrics, **found, **shown}


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smiles", type=Path, required=True)
    parser.add_argument("--row", choices=ROWS, required=True)
    parser.add_argument("--out", type=Path, default=RESULTS / "qm9_generation.json")
    parser.add_argument("--minutes", type=float, default=30.0, help="of training, of each row that is trained")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu: on a machine that others use too")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--reconstructions", type=int, default=2_000, help="held-out molecules that are decoded again")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--preset", default="small")
    parser.add_argument("--config", type=json.loads, default={}, help="fields of the config that differ, as JSON")
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--batch-nodes", type=int, default=1152, help="most atoms of a batch of ours")
    parser.add_argument("--kl-weight", type=float, default=0.8)
    parser.add_argument("--kl-warmup", type=float, default=1.0, help="share of the time in which the weight rises")
    parser.add_argument("--prior-share", type=float, default=0.035, help="of the time, to fit the prior in")
    parser.add_argument("--temperature", type=float, default=1.0, help="of ours")
    parser.add_argument("--rnn-learning-rate", type=float, default=3e-3)
    parser.add_argument("--rnn-batch-size", type=int, default=64)
    parsed = parser.parse_args(arguments)
    for name, least in (("minutes", 0.0), ("kl_warmup", 0.0), ("temperature", 0.0)):
        if not getattr(parsed, name) > least:
            parser.error(f"--{name.replace('_', '-')} must be above {least:g}; got {getattr(parsed, name)}")
    for name in ("threads", "samples", "reconstructions", "batch_nodes", "rnn_batch_size"):
        if getattr(parsed, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1; got {getattr(parsed, name)}")
    return parsed


def main(arguments: list[str] | None = None) -> int:
    parsed = parse(arguments)
    torch.set_num_threads(parsed.threads)
    given = sys.argv[1:] if arguments is None else arguments
    # Where files lie on this machine helps nobody.
    names = {str(path): path.name for path in (parsed.smiles, parsed.out)}
    run: dict[str, Any] = {
        "row": parsed.row,
        "status": "finished",
        "command": shlex.join(
            ["python", "recipes/benchmarks/qm9_generation.py", *(names.get(each, each) for each in given)]
        ),
        "arguments": {**vars(parsed), "smiles": parsed.smiles.name, "out": parsed.out.name},
        "hardware": describe_hardware(),
        "versions": package_versions(),
    }
    try:
        run |= run_row(parsed)
    except Exception as error:
        traceback.print_exc()
        run |= {"status": "failed", "error": f"{type(error).__name__}: {error}"}
    content = add_run(parsed.out, run, {"published": PUBLISHED, "goals": GOALS}, ROWS)
    if content["table"]:
        print("\n".join(table_lines(content["table"])))
        for picture in draw_results(parsed.out, content, MARKS):
            print(picture.name)
    return 0 if run["status"] == "finished" else 1


if __name__ == "__main__":
    sys.exit(main())
