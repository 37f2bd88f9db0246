"""Every tracker that the run reports to, written to and read back."""

import difflib
import os

from transformers.integrations import get_available_reporting_integrations
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

from ..monitoring.trackers import check_trackers
from .context import Context
from .environment import named_trackers
from .outcome import NotTestable, Outcome, failed, passed


__all__ = ["check_reachable"]


def check_reachable(context: Context) -> Outcome:
    """Each tracker of `training.report_to` takes a run."""
    names = sorted(named_trackers(context.recipe.training))
    if not names:
        raise NotTestable("training.report_to names no tracker")
    absent = sorted(set(names) - {"all", *get_available_reporting_integrations()})
    if absent:
        known = sorted({"all", *INTEGRATION_TO_CALLBACK})
        near = [name for each in absent if each not in known for name in difflib.get_close_matches(each, known, n=1)]
        if near:
            return failed(f"unknown: {', '.join(absent)}. Did you mean {', '.join(near)}?", absent=absent)
        return failed(f"not installed: {', '.join(absent)}. pip install 'modeling_astrobio[track]'", absent=absent)
    found = check_trackers(names, os.environ)
    said = "; ".join(f"{name}: {text}" for name, _, text in found)
    evidence = {name: {"ok": ok, "evidence": text} for name, ok, text in found}
    if any(ok is False for _, ok, _ in found):
        return failed(said, **evidence)
    if any(ok is None for _, ok, _ in found) or len(found) < len(names):
        raise NotTestable(said)
    return passed(said, **evidence)
