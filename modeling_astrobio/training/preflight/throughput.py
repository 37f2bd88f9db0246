"""How fast the data comes, measured alone, against what the steps eat."""

import itertools
import time
from typing import Any

from ..trainer import AstroTrainer
from .outcome import Outcome, failed, passed


__all__ = ["judge_throughput", "measure_loader"]


# The loader must have this much in hand, since it works beside the steps and not before them.
_LEAST_RATIO = 1.25
# Without workers the steps wait for it: at most for a fifth of their time.
_LEAST_RATIO_ALONE = 5.0
# Enough to know the rate of a loader that is slow, and of one that is fast.
_LEAST_BATCHES, _MOST_BATCHES = 20, 200
_SECONDS, _MOST_SECONDS = 5.0, 60.0


def measure_loader(trainer: AstroTrainer) -> dict[str, Any]:
    """Return batches and the seconds they took, after those that workers had prepared while nobody measured."""
    loader = trainer.get_train_dataloader()
    workers = trainer.args.dataloader_num_workers
    ready = workers * (trainer.args.dataloader_prefetch_factor or 2)
    # Epochs follow one another, as in training.
    batches = itertools.chain.from_iterable(iter(loader) for _ in itertools.count())
    for _ in itertools.islice(batches, 1 + ready):
        pass
    count, seconds, started = 0, 0.0, time.perf_counter()
    while count < max(_MOST_BATCHES, 4 * ready):
        next(batches)
        count, seconds = count + 1, time.perf_counter() - started
        if seconds > (_SECONDS if count >= max(_LEAST_BATCHES, 4 * ready) else _MOST_SECONDS):
            break
    return {"batches": count, "seconds": seconds, "workers": workers, "batches_per_second": count / seconds}


def judge_throughput(loader: dict[str, Any], step_seconds: float, accumulation: int, items: int, item: str) -> Outcome:
    """Compare the loader with the steps.

    Args:
        loader: From `measure_loader`.
        step_seconds: Of a step that does not wait for data.
        accumulation: Micro-batches in a step.
        items: Items in a micro-batch.
        item: What is counted.
    """
    eaten = accumulation / step_seconds
    ratio = loader["batches_per_second"] / eaten
    least = _LEAST_RATIO if loader["workers"] else _LEAST_RATIO_ALONE
    text = (
        f"the loader gives {loader['batches_per_second'] * items:,.0f} {item}s/s with {loader['workers']} workers, a "
        f"process trains {eaten * items:,.0f}: {ratio:.2f} times as much, {least:g} are needed"
    )
    evidence = {
        **loader,
        f"{item}s_per_second_of_loader": loader["batches_per_second"] * items,
        f"{item}s_per_second_of_steps": eaten * items,
        "ratio": ratio,
    }
    if ratio < least:
        return failed(f"{text}. Set training.dataloader_num_workers, or store the rows as they are used", **evidence)
    return passed(text, **evidence)
