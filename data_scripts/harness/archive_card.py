"""The card of a data set that was built from an archive."""

from typing import Any

from data_scripts.harness.archive import Archive, Column
from data_scripts.harness.assemble import ADDED_COLUMNS
from data_scripts.harness.hub_folder import card_text
from data_scripts.harness.quality.report import QualityReport, TableReport
from data_scripts.harness.quality.report_markdown import cell_text, markdown_table, scores_table
from data_scripts.splits import SPLIT_NAMES


__all__ = ["NOT_VERIFIED", "archive_card", "reader_text"]

NOT_VERIFIED = "documented, not verified against a recorded answer"


def archive_card(archive: Archive, report: QualityReport, release: str = "") -> str:
    """Write the `README.md` of an archive's data set.

    Args:
        archive: The archive.
        report: Tables built, with their quality.
        release: Release of the archive; empty where it has none.
    """
    header: dict[str, Any] = {"pretty_name": archive.title, "language": ["en"], "license": archive.license}
    if archive.license == "other":
        header |= {"license_name": archive.license_name, "license_link": archive.license_link}
    # `load_dataset` raises for a split without rows.
    filled = [each for each in report.tables if each.table.rows]
    header["configs"] = [_config_header(each, each is filled[0]) for each in filled]
    sections = {"": _summary(archive, release)}
    if report.failed_gates or report.missing:
        sections["Warning"] = _warning(report)
    sections |= {
        "Configurations": _configurations(report),
        "Columns": "\n\n".join(_columns(each) for each in report.tables),
        "Quality": f"{scores_table(report)}\n\n![Scores and gates](quality/quality.png)\n\n"
        "`quality/quality.md` says what each score is made of; `rejected/` holds every rejected row with its reason.",
        "How it was made": _method(archive),
        "Source and acknowledgement": f"[{archive.title}]({archive.homepage})\n\n{archive.acknowledgement}",
        "Licence": _licence(archive),
        "Citation": f"```bibtex\n{archive.citation.strip()}\n```",
    }
    return card_text(header, archive.title, sections)


def _licence(archive: Archive) -> str:
    return f"{archive.license_name or archive.license}. See {archive.license_link}. {archive.license_note}".rstrip()


def _config_header(each: TableReport, default: bool) -> dict[str, Any]:
    name, rows = each.config.name, each.table.split_rows
    files = [{"split": split, "path": f"{name}/{split}-*.parquet"} for split in SPLIT_NAMES if rows.get(split)]
    return {"config_name": name} | ({"default": True} if default else {}) | {"data_files": files}


def reader_text(archive: Archive) -> str:
    """Say which readers were run on recorded answers."""
    if not archive.verified:
        return NOT_VERIFIED
    if not archive.unverified:
        return "verified against recorded answers"
    return f"verified against recorded answers; but {', '.join(archive.unverified)}: {NOT_VERIFIED}"


def _summary(archive: Archive, release: str) -> str:
    lines = [f"Tables of [{archive.title}]({archive.homepage}), under the archive's own column names."]
    if release:
        lines.append(f"Release: {release}.")
    if archive.unverified:
        lines.append(f"Reader: {reader_text(archive)}. Check values of those before you rely on them.")
    return "\n\n".join(lines)


def _warning(report: QualityReport) -> str:
    failed = [f"- Gate failed: {cell_text(gate)}" for gate in report.failed_gates]
    missing = [f"- No answer: {cell_text(each)}" for each in report.missing]
    return "This data set was built although not everything was as it must be.\n\n" + "\n".join(failed + missing)


def _configurations(report: QualityReport) -> str:
    rows = [
        [
            f"`{each.config.name}`",
            *(f"{each.table.split_rows.get(split, 0):,}" for split in SPLIT_NAMES),
            each.config.description,
        ]
        for each in report.tables
    ]
    table = markdown_table(["config", *SPLIT_NAMES, "content"], rows)
    if all(each.table.split_rows.get(split) for each in report.tables for split in SPLIT_NAMES):
        return table
    return f"{table}\n\nA split without rows is an empty file; `load_dataset` cannot open it, so it is not offered."


def _columns(each: TableReport) -> str:
    rows = [
        [f"`{column.name}`", f"`{column.dtype}`", column.unit or "", _bounds(column), column.description]
        for column in each.config.columns
    ]
    rows += [[f"`{name}`", "`string`", "", "", description] for name, description in ADDED_COLUMNS.items()]
    required = ", ".join(f"`{column.name}`" for column in each.config.columns if column.required) or "none"
    key = ", ".join(f"`{name}`" for name in each.config.key)
    table = markdown_table(["column", "type", "unit", "bounds", "content"], rows)
    return f"### {each.config.name}\n\nKey: {key}. Required: {required}.\n\n{table}"


def _bounds(column: Column) -> str:
    if column.minimum is None and column.maximum is None:
        return ""
    least = "" if column.minimum is None else f"{column.minimum:g}"
    greatest = "" if column.maximum is None else f"{column.maximum:g}"
    return f"{least} to {greatest}".strip()


def _method(archive: Archive) -> str:
    return (
        f"`python -m data_scripts build {archive.name}` asked the archive, kept every answer as received, and made "
        "these files from the kept answers alone. Each row names the answer that it was read from and its time. Blank "
        "text and NaN became null. Rows with a cell that does not convert exactly, a value that is physically "
        "impossible, an incomplete key, or the key of an earlier row were set aside. Rows are split by `object_id`: "
        "about 80 % of the objects are in train, 10 % in validation, 10 % in test, the same in every data set of this "
        "package."
    )
