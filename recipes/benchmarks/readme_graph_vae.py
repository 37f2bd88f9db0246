"""The README's figures of AstroGraphVAE, made from the JSON files alone."""

from typing import Any


__all__ = [
    "few_shot_lines",
    "gap_filling_lines",
    "generation_lines",
    "gps_lines",
    "graph_nano_lines",
    "property_lines",
]

# Row of the comparison of generators to what it is.
_GENERATORS = {
    "floor": "held-out molecules (split-half floor)",
    "null_random": "masks, weights as they start",
    "null_uniform": "masks, all actions alike",
    "char_rnn": "character LSTM",
    "one_shot": "AstroGraphVAE, one-shot decoder",
    "unmasked": "AstroGraphVAE, trained without masks",
    "ours": "AstroGraphVAE",
}
_GENERATOR_COLUMNS = ("valid", "unique", "novel", "descriptor distance (sd)", "reconstruction", "parameters")
_RANKINGS = {
    "frequency": "frequency among training organisms",
    "nearest_organism": "nearest organism",
    "nearest_then_frequency": "nearest organism, ties by frequency",
    "compounds_present": "rule: fewest new compounds, then similar organisms",
    "priors_alone": "linear fit of four such features, no graph",
    "model": "AstroGraphVAE",
}


def graph_nano_lines(result: dict[str, Any]) -> list[str]:
    """Return what the default run gave."""
    training, evaluation = result["training"], result["evaluation"]
    held_out, generation = evaluation["held_out"], evaluation["generation"]
    lines = [
        f"The default run of AstroGraphVAE (`nano`, {result['model']['parameters']:,} parameters, "
        f"{training['steps']:,} steps, {training['seconds'] / 60:.1f} minutes of training on "
        f"{result['hardware']['torch_threads']} CPU threads) rebuilds {100 * held_out['reconstruction']:.1f} % of "
        f"{held_out['molecules']} held-out molecules exactly, with {held_out['active_units']:.0f} active units "
        f"and a divergence of {held_out['divergence_nats']:.1f} nats. Its samples, one run, one seed; "
        "the distance is the mean over descriptors of the Wasserstein distance from held-out molecules, in "
        "standard deviations:",
        "",
        "| molecules | valid | unique | novel | descriptor distance |",
        "|---|---|---|---|---|",
    ]
    for name, scores in generation.items():
        cells = (scores.get(key) for key in ("validity", "uniqueness", "novelty", "descriptor_distance"))
        lines.append(f"| {name} | " + " | ".join("–" if cell is None else f"{cell:.3f}" for cell in cells) + " |")
    return lines


def generation_lines(result: dict[str, Any]) -> list[str]:
    """Return the comparison of generators on QM9."""
    finished = {run["row"]: run for run in result["runs"] if run["status"] == "finished"}
    arguments, data = finished["ours"]["arguments"], finished["ours"]["data"]
    published, goals = result["published"], result["goals"]
    low, high = published["descriptor_distance_range"]
    lines = [
        f"Generators of molecules on QM9, {data['training']:,} molecules without stereo, each trained for "
        f"{arguments['minutes']:.0f} minutes on {arguments['threads']} CPU thread, one seed "
        f"(`python recipes/benchmarks/qm9_generation.py`); {arguments['samples']:,} samples, distance as above from "
        f"{data['reference']:,} held-out molecules, reconstruction of {arguments['reconstructions']:,} others. Goals: "
        f"valid {goals['valid']:.2f} of the row trained without masks, unique {goals['unique']:.2f}, distance "
        f"{goals['descriptor distance (sd)']:.2f}, reconstruction {goals['reconstruction']:.2f}. Published samples of "
        f"DiGress (GPU) have valid {published['valid']}, unique {published['unique']}, distances of {low} to {high}.",
        "",
        "| generator | " + " | ".join(_GENERATOR_COLUMNS) + " |",
        "|" + "---|" * (len(_GENERATOR_COLUMNS) + 1),
    ]
    for row, values in result["table"].items():
        cells = (values[name] for name in _GENERATOR_COLUMNS)
        shown = ("–" if cell is None else f"{cell:,d}" if isinstance(cell, int) else f"{cell:.3f}" for cell in cells)
        lines.append(f"| {_GENERATORS[row]} | " + " | ".join(shown) + " |")
    superseded = [
        f"{_GENERATORS[run['row']]}, weight of the divergence {run['arguments']['kl_weight']}, prior "
        f"{'fitted' if 'prior' in run else 'not fitted'}"
        f"{', bonds among the attending tokens' if 'num_edge_token_layers' in run['config'] else ''}: distance "
        f"{run['metrics']['descriptor_distance']:.3f}, "
        f"reconstruction {run['metrics']['reconstruction']:.3f}"
        for run in result["runs"]
        if run["status"] == "finished" and run is not finished[run["row"]] and "reconstruction" in run["metrics"]
    ]
    weight = arguments["kl_weight"]
    nats = {row: finished[row]["held_out_nats"] for row in ("ours", "char_rnn")}
    return [
        *lines,
        "",
        f"The weight of the divergence rises to {weight}, and the prior is fitted after training, within the time. A "
        f"held-out molecule costs at most {nats['ours']:.1f} nats with AstroGraphVAE and {nats['char_rnn']:.1f} with "
        "the character LSTM, which has the better distribution, fewer new molecules, and no latents. Earlier runs of "
        f"the same length: {'; '.join(superseded)}.",
    ]


def gps_lines(result: dict[str, Any]) -> list[str]:
    """Return the comparison with GPSConv."""
    lines = [
        "AstroGraphVAE's encoder against `GPSConv` of PyTorch Geometric with as many parameters, forward and "
        "backward, float32, one CPU thread, in turn (`python recipes/benchmarks/compare_with_gps.py`). Speed is the "
        f"median over {result['cases']['qm9_size']['layer']['rounds']} rounds of GPSConv's time / ours.",
        "",
        "| molecules | layer | goal | whole step | goal | padding, tokens |",
        "|---|---|---|---|---|---|",
    ]
    for name, case in result["cases"].items():
        layer, step = (case[part]["speed_up_median_of_rounds"] for part in ("layer", "step"))
        lines.append(
            f"| {name.replace('_', ' ')} | {layer['astro']:.2f} | 1.1 | "
            f"{step['astro']:.2f} | 1.3 | {100 * case['padding_shares_of_all_batches']['tokens']:.1f} % |"
        )
    return lines


def gap_filling_lines(result: dict[str, Any], width_start: dict[str, Any]) -> list[str]:
    """Return the table of recall, what of it the graph adds, and what another start of the weights gave."""
    other = width_start["summary"]["recall"]["model"]["top_10"]["mean"]
    summary = result["summary"]
    lines = [
        f"Gap filling: {len(summary['removed_reactions_in_pool'])} species held out one after another, a tenth of the "
        "reactions taken out, ranked among all of the other organisms; recall of those that are there at all, with a "
        "95 % bootstrap interval (`python recipes/benchmarks/gap_filling.py FOLDER`):",
        "",
        "| ranking | top 1 | top 5 | top 10 |",
        "|---|---|---|---|",
    ]
    for key, name in _RANKINGS.items():
        recall = summary["recall"][key]
        last = recall["top_10"]
        lines.append(
            f"| {name} | {recall['top_1']['mean']:.3f} | {recall['top_5']['mean']:.3f} | {last['mean']:.3f} "
            f"({last['low']:.3f}–{last['high']:.3f}) |"
        )
    gain = summary["recall_gain_of_model_over"]["priors_alone"]["top_10"]
    return [
        *lines,
        "",
        f"Over the linear fit without a graph the model gains {gain['mean']:+.3f} ({gain['low']:+.3f} to "
        f"{gain['high']:+.3f}) in the top 10: what the graph adds is not shown. Of {summary['proposals']:,} reactions "
        f"that it composed itself, {summary['proposals_unbalanced']} are unbalanced. The weights start small, so that "
        f"the model starts as that fit; with the start that molecules want the top 10 was {other:.3f}.",
    ]


def property_lines(result: dict[str, Any]) -> list[str]:
    """Return coverage of the intervals."""
    data, ensemble = result["data"], result["ensemble"]
    lines = [
        f"Intervals of nominally {100 * result['coverage']:.0f} % for properties of QM9 molecules, split-conformal "
        f"with {data['calibration']:,} molecules, an ensemble of {len(result['members'])}, on {data['test']:,} others "
        f"and on {data['scaffold_test']:,} of unseen scaffolds (`python recipes/benchmarks/property_intervals.py`).",
        "",
        "| property | R² | coverage | coverage, unseen scaffolds |",
        "|---|---|---|---|",
    ]
    for name, scores in ensemble["test"].items():
        apart = ensemble["scaffold_test"][name]
        lines.append(
            f"| {name} | {scores['r2']:.3f} | {scores['conformal_coverage']:.3f} | {apart['conformal_coverage']:.3f} |"
        )
    return lines


def few_shot_lines(result: dict[str, Any]) -> list[str]:
    """Return R² by number of labelled molecules."""
    table = result["summary"]["r2"]
    names = {
        "adapter": "adapter",
        "adapter_without_inner_loop": "the same, without its inner loop",
        "ridge_embedding": "ridge on the embedding",
        "forest_morgan": "random forest on Morgan fingerprints",
    }
    lines = [
        "Properties of families that no head was trained for, from a few labelled molecules: R², mean of "
        f"{next(iter(table.values()))['adapter']['properties']} properties and ten draws, 95 % intervals (`python "
        "recipes/benchmarks/few_shot.py`).",
        "",
        "| labelled molecules | " + " | ".join(names.values()) + " |",
        "|---|" + "---|" * len(names),
    ]
    for count, scores in table.items():
        cells = [f"{scores[key]['mean']:.3f} ({scores[key]['lower']:.3f}–{scores[key]['upper']:.3f})" for key in names]
        lines.append(f"| {count} | " + " | ".join(cells) + " |")
    return lines
