"""Read lists of molecules: SMILES, a line each, or tables with a column of SMILES."""

import csv
import gzip
import io
import math
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from data_scripts.harness.errors import BuildError


__all__ = ["Entry", "Measurement", "molecule_files", "read_entries"]

_SUFFIXES = (".csv", ".smi", ".txt")
# Columns of tables in wide use whose header does not state the unit so that `_WITH_UNIT` sees it.
_KNOWN_COLUMNS = {
    "measured log solubility in mols per litre": ("log_solubility", "log10(mol/L)"),
    "measured log solubility": ("log_solubility", "log10(mol/L)"),
}
_WITH_UNIT = re.compile(r"(?P<name>.*\S)\s*\[(?P<unit>[^\[\]]+)\]")
_NAME_COLUMNS = ("name", "compound id", "compound name")
_NO_VALUE = frozenset({"", "na", "n/a", "nan", "none", "null", "-"})


@dataclass(frozen=True)
class Measurement:
    """A property that was measured, or computed by the authors of the table.

    Attributes:
        name: Name in lower case with underscores.
        unit: Unit, as the table or its publication writes it.
        value: The number.
    """

    name: str
    unit: str
    value: float


@dataclass(frozen=True)
class Entry:
    """A line of a list.

    Attributes:
        file: Name of the file.
        line: Number of the line, from 1.
        smiles: What stands for the molecule.
        name: Its name, or None.
        measured: Its properties.
        left_out: Columns of the table that are not used, since no unit is stated for them.
        problem: Why the line cannot be used, or None.
    """

    file: str
    line: int
    smiles: str
    name: str | None = None
    measured: tuple[Measurement, ...] = ()
    left_out: tuple[str, ...] = ()
    problem: str | None = None


def molecule_files(folder: Path) -> list[Path]:
    """Return the lists and tables of a folder, sorted by name.

    Raises:
        BuildError: If there is none.
    """
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    found = [path for path in paths if path.is_file() and _plain_name(path).endswith(_SUFFIXES)]
    if not found:
        raise BuildError(
            f"molecules must be a folder with {', '.join(_SUFFIXES)}, plain or .gz; {folder} holds none. "
            "Put lists of SMILES there."
        )
    return found


def read_entries(path: Path) -> Iterator[Entry]:
    """Read a list, in order; lines that cannot be used come with the problem.

    A `.csv` has a header with a column `smiles`, in any case. A column of numbers is a property if its header is
    `name [unit]`, or one of a table in wide use, such as ESOL's. In `.txt` and `.smi`, a line is a SMILES, and a name
    after white space if there is one.

    Raises:
        BuildError: If the file is damaged, not UTF-8, or a table without a column of SMILES.
    """
    with _opened(path) as text:
        yield from _table(path.name, text) if _plain_name(path).endswith(".csv") else _list(path.name, text)


def _plain_name(path: Path) -> str:
    return path.name.lower().removesuffix(".gz")


@contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    opened = gzip.open if path.suffix.lower() == ".gz" else open
    try:
        with opened(path, "rb") as body:
            yield io.TextIOWrapper(body, "utf-8-sig", newline="")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
        raise BuildError(f"{path.name} must be a text in UTF-8, whole; got {error}. Fetch the file again.") from error


def _list(file: str, text: TextIO) -> Iterator[Entry]:
    for line, content in enumerate(text, 1):
        smiles, *name = content.strip().split(maxsplit=1) or [""]
        is_header = line == 1 and smiles.casefold() == "smiles"
        if smiles and not is_header:
            yield Entry(file, line, smiles, name[0] if name else None)


def _table(file: str, text: TextIO) -> Iterator[Entry]:
    reader = csv.reader(text)
    header = [name.strip() for name in next(reader, [])]
    keys = [" ".join(name.casefold().replace("_", " ").split()) for name in header]
    if keys.count("smiles") != 1:
        raise BuildError(f"{file} must have one column smiles; got {', '.join(header) or 'no header'}. Name it so.")
    measured = {place: property for place, name in enumerate(header) if (property := _property(name, keys[place]))}
    names = [keys.index(name) for name in _NAME_COLUMNS if name in keys]
    used = {keys.index("smiles"), *names[:1], *measured}
    left_out = tuple(name for place, name in enumerate(header) if place not in used)
    for cells in reader:
        if not cells:
            continue
        line = reader.line_num
        if len(cells) != len(header):
            yield Entry(file, line, ",".join(cells), problem=f"{len(cells)} cells under {len(header)} columns")
            continue
        smiles = cells[keys.index("smiles")].strip()
        name = cells[names[0]].strip() or None if names else None
        values, problem = _measurements(cells, measured)
        yield Entry(file, line, smiles, name, values, left_out, problem)


def _property(header: str, key: str) -> tuple[str, str] | None:
    if key in _KNOWN_COLUMNS:
        return _KNOWN_COLUMNS[key]
    found = _WITH_UNIT.fullmatch(header)
    if found is None:
        return None
    return re.sub(r"[\s_]+", "_", found["name"].casefold()), found["unit"].strip()


def _measurements(
    cells: Sequence[str], measured: dict[int, tuple[str, str]]
) -> tuple[tuple[Measurement, ...], str | None]:
    found = []
    for place, (name, unit) in measured.items():
        text = cells[place].strip()
        if text.casefold() in _NO_VALUE:
            continue
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            return (), f"{name} must be a finite number; got {text!r}"
        found.append(Measurement(name, unit, value))
    return tuple(found), None
