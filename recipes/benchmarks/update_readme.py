"""Write the measured figures of recipes/benchmarks/results/ into the README.

    python recipes/benchmarks/update_readme.py

`llm_nano.json`, `graph_vae_nano.json`, `datacube_nano.json`, `diffusion_nano.json` and `climate_nano.json` are the
result.json of the default runs, copied there.
"""

import json
import sys
from pathlib import Path
from typing import Any

from readme_datacube import (
    atmosphere_lines,
    climate_nano_lines,
    cube_memory_lines,
    datacube_nano_lines,
    ensemble_lines,
    first_steady_lines,
    forecast_lines,
    steady_lines,
    wind_lines,
    window_block_lines,
)
from readme_graph_vae import (
    few_shot_lines,
    gap_filling_lines,
    generation_lines,
    gps_lines,
    graph_nano_lines,
    property_lines,
)


ROOT = Path(__file__).resolve().parents[2]
RESULTS = Path(__file__).resolve().parent / "results"
BEGIN, END = "<!-- results -->", "<!-- /results -->"
GOALS = {"base": (1.1, 0.6), "1b": (1.0, None)}


def results_section() -> str:
    """Return the README's section of figures, made from the JSON files alone."""
    return "\n".join(
        [
            "## What was measured",
            "",
            *nano_lines(read("llm_nano")),
            "",
            *llama_lines(sorted(RESULTS.glob("compare_with_llama_cpu*.json"))),
            "",
            *planner_lines(read("plan_against_measured_cpu")),
            "",
            *optimizer_lines(read("compare_optimizers")),
            "",
            *rounding_lines(read("bf16_updates")),
            "",
            *strategy_lines(read("measure_strategies_planned")),
            "",
            *monitoring_lines(read("monitoring_cost")),
            "",
            *graph_nano_lines(read("graph_vae_nano")),
            "",
            *generation_lines(read("qm9_generation")),
            "",
            *gps_lines(read("compare_with_gps_cpu")),
            "",
            *property_lines(read("property_intervals")),
            "",
            *few_shot_lines(read("few_shot")),
            "",
            *gap_filling_lines(read("gap_filling"), read("gap_filling_width_start")),
            "",
            *datacube_nano_lines(read("datacube_nano")),
            "",
            *forecast_lines(read("shallow_water_forecast")),
            "",
            *ensemble_lines(read("diffusion_forecast"), read("diffusion_nano")),
            "",
            *atmosphere_lines(read("exoplasim_forecast_constrained"), read("exoplasim_forecast_free")),
            "",
            *climate_nano_lines(read("climate_nano")),
            "",
            *steady_lines(read("steady_climates")),
            "",
            *first_steady_lines(read("steady_climates_t21")),
            "",
            *wind_lines(read("wind_from_geopotential")),
            "",
            *window_block_lines(read("compare_window_blocks_cpu")),
            "",
            *cube_memory_lines(read("datacube_memory")),
        ]
    )


def read(name: str) -> dict[str, Any]:
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def nano_lines(result: dict[str, Any]) -> list[str]:
    training = result["training"]
    lines = [
        f"The default run (`nano`, {result['model']['parameters']:,} parameters, {training['steps']} steps, "
        f"{training['seconds'] / 60:.1f} minutes of training on {result['hardware']['torch_threads']} CPU threads), "
        f"on {result['evaluation']['rows']} rows about stars held out; one run, one seed, 95 % intervals of the "
        "questions:",
        "",
        "| model | perplexity per token | answers right |",
        "|---|---|---|",
    ]
    for name, scores in result["evaluation"]["models"].items():
        documents, answers = scores.get("documents"), scores.get("answers")
        perplexity = f"{documents['perplexity']:.2f}" if documents else "–"
        low, high = (100 * limit for limit in answers["interval_95"])
        lines.append(f"| {name} | {perplexity} | {100 * answers['accuracy']:.1f} % ({low:.1f}–{high:.1f}) |")
    by_kind = result["evaluation"]["models"]["trained"]["answers"]["by_kind"]
    kinds = ", ".join(f"{kind} {100 * scores['accuracy']:.0f} %" for kind, scores in by_kind.items())
    return [
        *lines,
        "",
        f'By kind of question: {kinds}. "Most frequent answer" always gives the commonest training answer of the '
        "kind, knowing the kind. A model of this size learns how records read and some comparisons; it does not copy "
        "or convert values reliably, so do not take an answer from it.",
    ]


def llama_lines(paths: list[Path]) -> list[str]:
    """Every run there is, so that the spread between runs on a shared machine shows."""
    lines = [
        "Against `LlamaForCausalLM` with the same weights, one CPU thread, float32, in turn (`python "
        "recipes/benchmarks/compare_with_llama.py --shapes base 1b`); `base` has width 512, 8 layers and a vocabulary "
        "of 54,272. Speed is the median over rounds of Llama's time / ours; memory is the peak of a training step "
        "above the weights, ours / Llama's, in brackets with the weights counted in both. Every run is listed: the "
        "machine was shared, and runs differ.",
        "",
        "| result file | shape | tokens | rounds | training speed | goal | decoding speed | step memory | goal |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for path in paths:
        for shape, figures in json.loads(path.read_text(encoding="utf-8"))["shapes"].items():
            speed_goal, memory_goal = GOALS[shape]
            step, decoding = figures["training_step"], figures["decoding"]
            memory = figures.get("step_peak_bytes_astro_over_llama")
            memory_text = f"{memory:.2f} ({figures['total_bytes_astro_over_llama']:.2f})" if memory else "not measured"
            lines.append(
                f"| {path.stem} | {shape} | {figures['sequence']} | {step['rounds']} | "
                f"{step['speed_up_median_of_rounds']['astro']:.2f} | {speed_goal} | "
                f"{decoding['speed_up_median_of_rounds']['astro']:.2f} | {memory_text} | {memory_goal or '–'} |"
            )
    return [*lines, "", "On a GPU: not measured yet; `recipes/benchmarks/run_on_gpu.sh` is the command."]


def planner_lines(result: dict[str, Any]) -> list[str]:
    tolerance = 100 * result["tolerance"]["peak"]
    lines = [
        f"Planned against measured peak of an optimizer step on the CPU (`python "
        f"recipes/benchmarks/plan_against_measured.py`): {result['within']} of {len(result['rows'])} within "
        f"{tolerance:.0f} %, planned / measured from {result['ratio_lowest']:.3f} to {result['ratio_highest']:.3f}. "
        "On a GPU: NOT TESTED.",
        "",
        "| configuration | planned, GiB | measured, GiB | ratio | |",
        "|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        planned = f"{row['planned']['peak'] / 2**30:.2f}"
        if "ratio" not in row:
            lines.append(f"| {row['name']} | {planned} | – | – | {row['status']} |")
            continue
        measured, ratio = row["measured"]["peak"] / 2**30, row["ratio"]["peak"]
        lines.append(f"| {row['name']} | {planned} | {measured:.2f} | {ratio:.3f} | {row['status']} |")
    return lines


def optimizer_lines(result: dict[str, Any]) -> list[str]:
    reference, *others = result["summary"].items()
    name, figures = reference
    lines = [
        f"Loss of `nano` after {result['steps']} steps with each optimizer, float32 weights unless said, "
        f"{len(result['runs'][name])} seeds (`python recipes/benchmarks/compare_optimizers.py`; curves in "
        "`recipes/benchmarks/results/`). The torchao rows had the embedding in 8 bits too; the recipes keep it plain "
        "since that was found to move rows of rare tokens too far. Seeds differ more than means do:",
        "",
        "| optimizer | validation loss, mean (least to most) | minus 32-bit, each seed | bytes of state |",
        "|---|---|---|---|",
    ]
    for name, figures in (reference, *others):
        spread = f"{figures['validation_loss_min']:.3f} to {figures['validation_loss_max']:.3f}"
        minus = ", ".join(f"{difference:+.3f}" for difference in figures["minus_reference_of_each_seed"])
        lines.append(
            f"| {name} | {figures['validation_loss_mean']:.3f} ({spread}) | {minus} | {figures['state_bytes']:,} |"
        )
    return lines


def rounding_lines(result: dict[str, Any]) -> list[str]:
    rates = result["learning_rates"]
    lines = [
        "Weights in bfloat16 that change in a step, %, and in brackets how much of the update meant for them arrives, "
        f"%, over {result['steps']} steps of `nano` at five learning rates (`python "
        "recipes/benchmarks/bf16_updates.py`): without stochastic rounding small updates are lost.",
        "",
        "| optimizer | " + " | ".join(rates) + " |",
        "|---|" + "---|" * len(rates),
    ]
    for name in next(iter(rates.values())):
        cells = [
            f"{100 * figures[name]['changed_fraction_mean']:.1f} ({100 * figures[name]['kept']:.0f})"
            for figures in rates.values()
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def strategy_lines(result: dict[str, Any]) -> list[str]:
    lines = [
        f"`{result['preset']}` on one GPU, rows of {result['length']} tokens, micro-batch 1, accumulated "
        "(`python recipes/benchmarks/measure_strategies.py`): planned, and NOT TESTED, for no GPU was at hand.",
        "",
        "| row | planned, GB | cap wished, GB | MFU wished, % | measured |",
        "|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        goal = row["least_utilisation"]
        lines.append(
            f"| {row['name']} | {row['plan']['device_bytes'] / 1e9:.1f} | {row['cap_gb'] or '–'} | "
            f"{'–' if goal is None else f'{100 * goal:.0f}'} | {row['status']} |"
        )
    return lines


def monitoring_lines(result: dict[str, Any]) -> list[str]:
    low, _, high = (100 * (ratio - 1) for ratio in result["wall"]["ratio_quartiles"])
    return [
        f"All monitoring together costs {100 * result['wall']['cost']:+.1f} % of a step of `nano` (median of "
        f"{result['rounds']} interleaved rounds on one CPU thread, quartiles {low:+.1f} to {high:+.1f}; goal: at most "
        f"{100 * result['goal']:.0f} %; `python recipes/benchmarks/monitoring_cost.py`)."
    ]


def main() -> int:
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    readme.write_text(f"{before}{BEGIN}\n{results_section()}\n{END}{after}", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
