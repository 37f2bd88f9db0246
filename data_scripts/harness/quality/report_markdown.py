"""The quality report as Markdown."""

from collections.abc import Sequence

from data_scripts.harness.quality.agreement import Agreement
from data_scripts.harness.quality.gates import GATES, failed_gates, grade_of
from data_scripts.harness.quality.report import QualityReport, TableReport
from data_scripts.harness.quality.scores import share_text


__all__ = ["cell_text", "markdown_table", "markdown_text", "scores_table"]

MOST_FAULTS = 30


def markdown_text(report: QualityReport) -> str:
    """Write the report."""
    parts = [f"# Quality of {report.source}", _verdict(report), scores_table(report), "![Scores](quality.png)"]
    for each in report.tables:
        parts += _config_parts(each)
    parts.append("## Answers set aside")
    if report.refused:
        rows = [[body.url, body.reason, f"`{body.sha256}`"] for body in report.refused]
        parts.append(markdown_table(["address", "reason", "SHA-256 of the body"], rows))
    else:
        parts.append("None.")
    if report.missing:
        parts += ["## Requests without an answer", "\n".join(f"- {cell_text(each)}" for each in report.missing)]
    return "\n\n".join(parts) + "\n"


def scores_table(report: QualityReport) -> str:
    """Write a table of the scores of every configuration, with the gates."""
    rows = []
    for each in report.tables:
        scores = each.scores
        values = [share_text(score.value) for score in scores.all]
        gates = "failed" if failed_gates(scores) else "passed"
        rows.append([f"`{each.config.name}`", *values, share_text(scores.overall), grade_of(scores.overall), gates])
    bounds = [f"> {GATES[name]:.2f}" for name in GATES]
    header = ["config", *GATES, "overall", "grade", "gates"]
    return markdown_table(header, [*rows, ["*gate*", *bounds, "", "", ""]])


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Write a table; bars and line breaks in cells are escaped."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cell_text(str(cell)) for cell in line)} |" for line in lines)


def cell_text(text: str) -> str:
    """Return the text as it may stand in a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")


def _verdict(report: QualityReport) -> str:
    if not report.failed_gates:
        return "Every gate is passed."
    return "Gates that failed:\n\n" + "\n".join(f"- {gate}" for gate in report.failed_gates)


def _config_parts(each: TableReport) -> list[str]:
    table = each.table
    fates = [
        ["read", table.tallies.rows],
        ["rejected by the schema", table.tallies.rejected],
        ["rejected for a key that came before", table.duplicates],
        ["beyond the limit of this build", table.beyond_limit],
        *[[f"published in {split}", rows] for split, rows in table.split_rows.items()],
    ]
    judged = [
        [
            score.name,
            part.name,
            f"{part.right:,} of {part.judged:,}",
            share_text(part.share) if part.judged else "not judged",
        ]
        for score in each.scores.all
        for part in score.parts
    ]
    parts = [
        f"## {each.config.name}",
        markdown_table(["rows", "number"], [[name, f"{number:,}"] for name, number in fates]),
        markdown_table(["score", "judged", "right", "share"], judged),
    ]
    parts += [f"{identity.name}: {cell_text(identity.source)}." for identity in each.config.identities]
    empty = [
        [f"`{column.name}`", f"{tally.cells - tally.stated:,} of {tally.cells:,}"]
        for column in each.config.columns
        if column.required and (tally := table.tallies.columns.get(column.name)) and tally.stated < tally.cells
    ]
    if empty:
        parts += ["Required columns with nulls:", markdown_table(["column", "null"], empty)]
    faults = sorted(table.tallies.faults.items(), key=lambda fault: (-fault[1], fault[0]))
    if faults:
        parts.append(f"Rows rejected, with reasons, are in `rejected/{each.config.name}.parquet`:")
        parts.append(markdown_table(["fault", "rows"], [[name, f"{rows:,}"] for name, rows in faults[:MOST_FAULTS]]))
        if len(faults) > MOST_FAULTS:
            parts.append(f"{len(faults) - MOST_FAULTS} rarer faults are in `quality.json`.")
    if each.agreement is not None:
        parts += _agreement_parts(each.agreement)
    return parts


def _agreement_parts(agreement: Agreement) -> list[str]:
    rows = [
        [f"`{value.left}`", f"`{value.right}`", value.judged, value.agree, share_text(value.agree / value.judged)]
        for value in agreement.values
        if value.judged
    ]
    worst = [
        [name, f"`{value.left}`", f"{left:g}", f"{right:g}", f"{away:.1f}"]
        for value in agreement.values
        for name, left, right, away in value.examples
    ]
    parts = [
        f"### Agreement of {agreement.left} with {agreement.right}",
        f"{agreement.matched:,} objects are in both, {agreement.only_left:,} only in the first, "
        f"{agreement.only_right:,} only in the second. Values agree that differ by at most {agreement.sigmas:g} "
        "combined standard errors.",
        markdown_table([agreement.left, agreement.right, "judged", "agree", "share"], rows),
    ]
    if worst:
        header = ["object", "column", agreement.left, agreement.right, "standard errors apart"]
        parts += ["Those furthest apart:", markdown_table(header, worst)]
    return parts
