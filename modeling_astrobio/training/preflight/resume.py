"""A run that was killed and continued against the run that was not."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from transformers import set_seed

from ..random_state import RandomState
from ..trainer import AstroTrainer
from .child_runs import RunRecord
from .context import Context
from .outcome import NotTestable, Outcome, failed, passed


__all__ = ["check_random_state", "check_resume", "compare_runs"]


# Relative, on a GPU, where sums over rows with the same token come in any order: losses, norms of gradients, weights.
_ON_A_GPU = {"loss": 1e-3, "eval_loss": 1e-3, "grad_norm": 5e-2, "weights": 1e-3}
_OTHER_SEED = 987
_TIMES = ("_runtime", "_per_second")


def check_resume(context: Context) -> Outcome:
    """Compare every figure that was logged, and the weights at the end."""
    reference = context.reference
    if reference.status != 0:
        raise NotTestable(f"there is no whole run to compare with: it ended with status {reference.status}")
    resumed = context.resumed
    if not (resumed.folder / "model").is_dir():
        return failed(
            f"killed after step {context.middle}, the run could not be continued to its end; it ended with status "
            f"{resumed.status}: {resumed.tail()}"
        )
    is_exact = not torch.cuda.is_available() or context.recipe.device == "cpu"
    outcome = compare_runs(reference, resumed, exact=is_exact)
    return Outcome(
        outcome.status, f"killed (SIGKILL) after step {context.middle} and resumed: {outcome.text}", outcome.evidence
    )


def check_random_state(trainer: AstroTrainer, checkpoint: Path) -> Outcome:
    """Let the trainer restore the random numbers of a checkpoint after others were drawn.

    A run without dropout draws none that its losses would show.
    """
    name = f"rng_state_{trainer.args.process_index}.pth" if trainer.args.world_size > 1 else "rng_state.pth"
    if not (checkpoint / name).is_file():
        return failed(f"{checkpoint.name} has no {name}")
    # A checkpoint of this very process.
    saved = torch.load(checkpoint / name, weights_only=False)
    set_seed(_OTHER_SEED)
    trainer._load_rng_state(str(checkpoint))
    now = RandomState.now()
    equal = {
        "Python": now.python == saved["python"],
        "NumPy": all(np.array_equal(one, other) for one, other in zip(now.numpy, saved["numpy"], strict=True)),
        "torch": torch.equal(now.cpu, saved["cpu"]),
    }
    if now.cuda and "cuda" in saved:
        cuda = saved["cuda"] if isinstance(saved["cuda"], list) else [saved["cuda"]]
        present = now.cuda if len(cuda) == len(now.cuda) else [torch.cuda.get_rng_state()]
        equal["CUDA"] = all(torch.equal(one, other.cpu()) for one, other in zip(present, cuda, strict=True))
    wrong = [library for library, is_equal in equal.items() if not is_equal]
    if wrong:
        return failed(f"random numbers of {', '.join(wrong)} are not those of the checkpoint", equal=equal)
    return passed(f"random numbers of {', '.join(equal)} are those of the checkpoint", equal=equal)


def compare_runs(reference: RunRecord, resumed: RunRecord, *, exact: bool) -> Outcome:
    """Compare two runs: bit for bit, or within what a GPU's order of summation does.

    Args:
        reference: Ran from start to end.
        resumed: Was interrupted.
        exact: Whether the figures must be identical.
    """
    rows, others = _figures(reference), _figures(resumed)
    if rows.keys() != others.keys():
        missing = sorted(rows.keys() ^ others.keys())[0]
        return failed(f"the {missing[1]} row of step {missing[0]} is in one of the runs only")
    different = [
        (step, name, row[name], others[step, kind].get(name))
        for (step, kind), row in sorted(rows.items())
        for name in row
        if not _same(name, row[name], others[step, kind].get(name), exact)
    ]
    weights, where = _weights_apart(reference.folder / "model", resumed.folder / "model")
    evidence = {
        "rows": len(rows),
        "first_differences": [
            {"step": step, "figure": name, "uninterrupted": one, "resumed": other}
            for step, name, one, other in different[:10]
        ],
        "weights_apart": weights,
        "exact": exact,
    }
    if different:
        step, name, one, other = different[0]
        return failed(
            f"{name} of step {step} is {other}, uninterrupted {one}; {len(different)} figures differ", **evidence
        )
    if weights > (0.0 if exact else _ON_A_GPU["weights"]):
        return failed(
            f"all figures agree, but the weights differ by {weights:.1e} (relative), most in {where}", **evidence
        )
    how = "bit-identical" if exact else f"equal within {_ON_A_GPU}"
    return passed(f"{len(rows)} rows of losses, rates and norms and the weights at the end are {how}", **evidence)


def _figures(run: RunRecord) -> dict[tuple[int, str], dict[str, Any]]:
    """Rows by step and kind, without times."""
    found: dict[tuple[int, str], dict[str, Any]] = {}
    for row in run.history():
        kind = "training" if "loss" in row else "evaluation" if "eval_loss" in row else "closing"
        if kind != "closing":
            found[row["step"], kind] = {key: value for key, value in row.items() if not key.endswith(_TIMES)}
    return found


def _same(name: str, one: Any, other: Any, exact: bool) -> bool:
    if exact or name not in _ON_A_GPU or not isinstance(other, float):
        return one == other
    return math.isclose(one, other, rel_tol=_ON_A_GPU[name])


def _weights_apart(one: Path, other: Path) -> tuple[float, str]:
    """Return the largest relative distance of a weight, 0 where all are bit-identical, and its name."""
    files = sorted(path.name for path in one.glob("*.safetensors"))
    if not files or files != sorted(path.name for path in other.glob("*.safetensors")):
        return math.inf, "the files of the model, which are not the same"
    worst, where = 0.0, ""
    for name in files:
        with safe_open(one / name, "pt") as first, safe_open(other / name, "pt") as second:
            keys, others = list(first.keys()), list(second.keys())
            if sorted(keys) != sorted(others):
                return math.inf, f"{name}, whose tensors are not the same"
            for key in keys:
                a, b = first.get_tensor(key), second.get_tensor(key)
                if a.shape != b.shape or a.dtype != b.dtype:
                    return math.inf, key
                if not torch.equal(a, b):
                    apart = float((a.float() - b.float()).norm() / a.float().norm().clamp(min=1e-30))
                    # Weights that are no numbers are not equal either.
                    apart = apart if apart > 0 else math.inf
                    if apart > worst:
                        worst, where = apart, key
    return worst, where
