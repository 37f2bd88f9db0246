"""What a person confirms before a long run, from what the preflight found."""

import os
import shlex
from collections.abc import Sequence

from ..monitoring.settings import WEBHOOK_VARIABLE
from .context import Context
from .environment import named_trackers
from .outcome import FAIL, NOT_TESTED, Outcome
from .report import Line
from .source import recipe_digest


__all__ = ["signoff_items"]


_GIB = 2**30
_LONGEST = 160  # characters of a reason


def signoff_items(context: Context, lines: Sequence[Line], missing: Sequence[str]) -> list[str]:
    """Return the items, those that stand against a start first."""
    found = {line.name: line.outcome for line in lines}
    items = [f"NOT RUN, and nothing is known of: {', '.join(missing)}."] if missing else []
    items += [
        f"FAIL `{line.name}` is mended, and the preflight was run again: {_short(line)}"
        for line in lines
        if line.outcome.status == FAIL
    ]
    items += [
        f"NOT TESTED `{line.name}` is tested elsewhere, or its risk is taken: {_short(line)}"
        for line in lines
        if line.outcome.status == NOT_TESTED
    ]
    items.append(
        f"The run starts with the recipe examined, SHA-256 {recipe_digest(context.recipe)}, and nothing else."
    )
    items += [_lost(context, found), _time(context, found), _disk(context, found), _alerts(context)]
    source = context.source
    start = shlex.join([*context.launch, source.script, *source.arguments()])
    items.append(f"It is started with `{start}`; after a stop it goes on with `{start} --resume auto`.")
    items.append("Whoever is called, and whoever stands in: ______________________________")
    items.append("Confirmed by, on: ______________________________")
    return items


def _short(line: Line) -> str:
    text = line.outcome.text
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _lost(context: Context, found: dict[str, Outcome]) -> str:
    training = context.recipe.training
    kept = training["save_total_limit"] or "all"
    time = found.get("time.to_finish")
    if time is None or time.evidence.get("save_interval") is None:
        when = ", ".join(f"{name}={training[name]}" for name in ("save_strategy", "save_steps"))
        return f"What is lost when the machine fails is small enough: {when}, {kept} kept."
    steps = time.evidence["save_interval"]
    minutes = time.evidence["seconds_between_saves"] / 60
    return (
        f"A checkpoint is written every {steps:,} steps, about {minutes:,.1f} minutes: so much is lost at the most; "
        f"{kept} are kept."
    )


def _time(context: Context, found: dict[str, Outcome]) -> str:
    time = found.get("time.to_finish")
    if time is None or "days" not in time.evidence:
        return "The machine is there for as long as the run takes, which was not measured."
    limit = "no limit was given" if context.days is None else f"{context.days:g} days were given"
    return f"The machine is there for {time.evidence['days']:.3g} days ({limit})."


def _disk(context: Context, found: dict[str, Outcome]) -> str:
    disk = found.get("disk.checkpoints")
    if disk is None or "needed_bytes" not in disk.evidence:
        return "Nobody else fills the disk; what the run needs there was not measured."
    needed, free = (disk.evidence[name] / _GIB for name in ("needed_bytes", "free_bytes"))
    return f"{needed:,.2f} GiB of the {free:,.2f} GiB free stay free for the run until its end."


def _alerts(context: Context) -> str:
    channels = ["the log and alerts.jsonl"]
    if "wandb" in named_trackers(context.recipe.training):
        channels.append("Weights & Biases")
    if os.environ.get(WEBHOOK_VARIABLE):
        channels.append(f"the webhook in {WEBHOOK_VARIABLE}")
    else:
        channels.append(f"no webhook, for {WEBHOOK_VARIABLE} is not set")
    return f"Alerts reach a person by: {', '.join(channels)}."
