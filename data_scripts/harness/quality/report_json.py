"""The quality report as JSON."""

import dataclasses
import json
from typing import Any

from data_scripts.harness.quality.gates import GATES, failed_gates, grade_of
from data_scripts.harness.quality.report import QualityReport, TableReport
from data_scripts.harness.quality.scores import Score


__all__ = ["json_text"]


def json_text(report: QualityReport) -> str:
    """Write the report; `failed_gates` is empty if every table passes, a score that could not be judged is null."""
    content = {
        "source": report.source,
        "failed_gates": report.failed_gates,
        "missing": list(report.missing),
        "refused_bodies": [dataclasses.asdict(body) for body in report.refused],
        "configs": {each.config.name: _config(each) for each in report.tables},
    }
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _config(each: TableReport) -> dict[str, Any]:
    table, scores = each.table, each.scores
    return {
        "grade": grade_of(scores.overall),
        "overall": scores.overall,
        "scores": {score.name: _score(score) for score in scores.all},
        "failed_gates": failed_gates(scores),
        "rows": {
            "read": table.tallies.rows,
            "rejected": table.tallies.rejected,
            "duplicate": table.duplicates,
            "beyond_limit": table.beyond_limit,
            "published": table.rows,
            "by_split": table.split_rows,
        },
        "bodies": table.bodies,
        "faults": dict(sorted(table.tallies.faults.items())),
        "columns": {name: dataclasses.asdict(tally) for name, tally in table.tallies.columns.items()},
        "identities": {
            identity.name: {
                "source": identity.source,
                **dataclasses.asdict(table.tallies.identities[identity.name]),
            }
            for identity in each.config.identities
            if identity.name in table.tallies.identities
        },
        "agreement": None if each.agreement is None else dataclasses.asdict(each.agreement),
    }


def _score(score: Score) -> dict[str, Any]:
    parts = [
        {"name": part.name, "right": part.right, "judged": part.judged, "share": part.share} for part in score.parts
    ]
    return {"value": score.value, "gate": GATES[score.name], "parts": parts}
