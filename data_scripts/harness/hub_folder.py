"""Write a data set as the folder that the Hub shows and `datasets.load_dataset` opens."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from datasets import Dataset, DatasetDict

from data_scripts.harness.new_folder import new_folder
from data_scripts.harness.split_file import write_split


__all__ = ["DatasetCard", "card_text", "write_hub_folder"]


@dataclass(frozen=True)
class DatasetCard:
    """What a builder states about its data set; `write_hub_folder` adds the counts.

    Attributes:
        name: Name of the builder and of the configuration.
        pretty_name: Title.
        summary: One paragraph.
        columns: Column to description, every column of the data set.
        source: Archive, table, DOI, release and the acknowledgement that the archive asks for.
        method: How rows were selected and made.
        limits: What the data do not support.
        license: Licence identifier of the Hub; `other` needs the next two.
        license_name: Name of a licence that the Hub has no identifier for.
        license_link: Address of its text.
        license_note: What the licence asks of a user.
        citation: BibTeX.
        task_categories: The Hub's task names.
        count_by: Column whose values are counted per split, or None.
    """

    name: str
    pretty_name: str
    summary: str
    columns: Mapping[str, str]
    source: str
    method: str
    limits: str
    license: str
    license_name: str
    license_link: str
    license_note: str
    citation: str
    task_categories: tuple[str, ...] = ()
    count_by: str | None = None


def write_hub_folder(splits: DatasetDict, card: DatasetCard, out_dir: str | Path) -> Path:
    """Write one Parquet file per split and a `README.md` whose YAML names them.

    What a builder has to say of this build, such as how many rows it removed, is the splits' `info.description`.

    The folder appears whole or not at all: it is written beside its place and renamed.

    Args:
        splits: The data set.
        card: Its description; must describe every column.
        out_dir: Folder to make; may exist if it is empty.

    Returns:
        The folder.

    Raises:
        FileExistsError: If the folder exists and is not empty, or is a file.
        BuildError: If another process makes the folder.
        ValueError: If the card does not describe exactly the columns of the data set.
    """
    for split, rows in splits.items():
        if set(rows.column_names) != set(card.columns):
            raise ValueError(
                f"card.columns must describe the columns {sorted(rows.column_names)} of split {split}; got "
                f"{sorted(card.columns)}. Add or remove descriptions."
            )
    with new_folder(out_dir) as partial:
        (partial / "data").mkdir()
        for split, rows in splits.items():
            write_split(rows, partial / _split_file(str(split)))
        (partial / "README.md").write_text(_readme(splits, card), encoding="utf-8", newline="\n")
    return Path(out_dir).absolute()


def card_text(header: Mapping[str, Any], title: str, sections: Mapping[str, str]) -> str:
    """Write a data set's `README.md`.

    Args:
        header: What the Hub reads, such as `license` and `configs`.
        title: Title for people.
        sections: Heading to text, in order; the text under an empty heading comes right after the title.
    """
    yaml_text = yaml.safe_dump(dict(header), sort_keys=False, allow_unicode=True)
    parts = [f"---\n{yaml_text}---", f"# {title}"]
    parts += [f"## {heading}\n\n{text}" if heading else text for heading, text in sections.items()]
    return "\n\n".join(parts) + "\n"


def _split_file(split: str) -> str:
    return f"data/{split}-00000-of-00001.parquet"


def _readme(splits: DatasetDict, card: DatasetCard) -> str:
    header: dict[str, Any] = {"pretty_name": card.pretty_name, "language": ["en"], "license": card.license}
    if card.license == "other":
        header |= {"license_name": card.license_name, "license_link": card.license_link}
    if card.task_categories:
        header["task_categories"] = list(card.task_categories)
    # `load_dataset` refuses a configuration that names a file without rows.
    named = [split for split, rows in splits.items() if len(rows)]
    data_files = [{"split": str(split), "path": _split_file(str(split))} for split in named]
    header["configs"] = [{"config_name": card.name, "default": True, "data_files": data_files}]
    columns = "\n".join(f"| `{column}` | {description} |" for column, description in card.columns.items())
    sections = {
        "": card.summary,
        "Columns": f"| column | content |\n|---|---|\n{columns}",
        "Size": _counts_table(splits, card.count_by),
        "How it was made": "\n\n".join(filter(None, (card.method, _description(splits)))),
        "Limits": card.limits,
        "Source and acknowledgement": card.source,
        "Licence": f"{card.license_note} See {card.license_link}.",
        "Citation": f"```bibtex\n{card.citation}\n```",
    }
    return card_text(header, card.pretty_name, sections)


def _description(splits: DatasetDict) -> str:
    """Return what the builder said of this build, each text once."""
    return " ".join(dict.fromkeys(text for rows in splits.values() if (text := rows.info.description)))


def _counts_table(splits: DatasetDict, count_by: str | None) -> str:
    if count_by is None:
        lines = ["| split | rows |", "|---|---|"]
        return "\n".join(lines + [f"| {split} | {len(rows)} |" for split, rows in splits.items()])
    counts = {split: Counter(_values(rows, count_by)) for split, rows in splits.items()}
    kinds = sorted({kind for counter in counts.values() for kind in counter})
    lines = [f"| split | rows | {' | '.join(kinds)} |", "|" + "---|" * (len(kinds) + 2)]
    for split, counter in counts.items():
        lines.append(f"| {split} | {counter.total()} | {' | '.join(str(counter[kind]) for kind in kinds)} |")
    return "\n".join(lines)


def _values(rows: Dataset, column: str) -> list[str]:
    return [str(value) for value in rows[column]]
