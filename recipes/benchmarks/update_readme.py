"""Write the measured figures of recipes/benchmarks/results/ into the README.

    python recipes/benchmarks/update_readme.py

`llm_nano.json` is the result.json of the default run, copied there.
"""

import json
import sys
from pathlib import Path
from typing import Any


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
            *nano_lines(json.loads((RESULTS / "llm_nano.json").read_text(encoding="utf-8"))),
            "",
            *llama_lines(sorted(RESULTS.glob("compare_with_llama_cpu*.json"))),
        ]
    )


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


def main() -> int:
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    readme.write_text(f"{before}{BEGIN}\n{results_section()}\n{END}{after}", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
