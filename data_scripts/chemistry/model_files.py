"""Find files of metabolic models and read them with cobra: SBML, or cobra's JSON and YAML."""

import gzip
import io
import json
import logging
import re
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import cobra
from cobra.io.yaml import yaml

from data_scripts.harness.errors import BuildError


__all__ = ["model_files", "read_cobra_model"]

_JSON, _YAML, _SBML = (".json",), (".yaml", ".yml"), (".sbml", ".xml")
_SUFFIXES = (*_JSON, *_SBML, *_YAML)
# Forms that models come in too; one that is left out in silence would be missed.
_NOT_READ = (".bz2", ".mat", ".zip")
# The solver behind cobra ends the process at a longer name, or at one with a control character.
_LONGEST_NAME = 250
_FLUX_BALANCE = "http://www.sbml.org/sbml/level3/version1/fbc/"


def model_files(folder: Path) -> list[Path]:
    """Return the models of a folder, sorted by name.

    Raises:
        BuildError: If there is none, or one in a form that is not read.
    """
    paths = sorted(path for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []
    other = [path.name for path in paths if path.name.lower().endswith(_NOT_READ)]
    if other:
        raise BuildError(
            f"models must be SBML or cobra's JSON or YAML, plain or .gz; got {', '.join(other)} in {folder}. "
            "Save these with cobra.io.write_sbml_model, or move them away."
        )
    found = [path for path in paths if _plain_name(path).endswith(_SUFFIXES)]
    if not found:
        raise BuildError(
            f"models must be a folder with {', '.join(_SUFFIXES)}, plain or .gz; {folder} holds none. "
            "Put SBML files or cobra's JSON or YAML there."
        )
    return found


def read_cobra_model(path: Path, body: bytes) -> cobra.Model:
    """Read a model, its metabolites without charge where the file states none.

    Args:
        path: The file, whose name tells the form.
        body: What it holds.

    Raises:
        BuildError: If the file is damaged, or no model that cobra reads.
    """
    name = _plain_name(path)
    try:
        text = (gzip.decompress(body) if path.suffix.lower() == ".gz" else body).decode("utf-8-sig")
        with _quiet():
            if name.endswith(_SBML):
                return _from_sbml(text)
            return _from_content(json.loads(text) if name.endswith(_JSON) else yaml.load(io.StringIO(text)))
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise BuildError(f"{path.name} must be a whole file in UTF-8; got {error}. Fetch it again.") from error
    # cobra raises what its libraries do, of many types, on a file that is not as they expect.
    except Exception as error:
        reason = " ".join(str(error.__cause__ or error.__context__ or error).split())[:300]
        raise BuildError(
            f"{path.name} must be a model that cobra reads; got {type(error).__name__}: {reason}. "
            "See cobra.io.validate_sbml_model, and leave the file out or correct it."
        ) from error


def _plain_name(path: Path) -> str:
    return path.name.lower().removesuffix(".gz")


@contextmanager
def _quiet() -> Iterator[None]:
    """What cobra remarks about legacy files, thousands of lines a model, is not for who builds a data set."""
    logger = logging.getLogger("cobra")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            yield
    finally:
        logger.setLevel(level)


def _from_sbml(text: str) -> cobra.Model:
    model = cobra.io.read_sbml_model(
        io.StringIO(text),
        f_replace={
            # Names of genes are parts of old files' rules, cut at white space, and no names of the solver.
            "F_GENE": lambda sid: _plain_id(sid.replace("__SBML_DOT__", "."), "G_"),
            "F_SPECIE": lambda sid: _checked_name(_plain_id(sid, "M_")),
            "F_REACTION": lambda sid: _checked_name(_plain_id(sid, "R_")),
            "F_GROUP": lambda sid: _plain_id(sid, "G_"),
        },
    )
    for metabolite, charge in _stated_charges(text).items():
        model.metabolites.get_by_id(metabolite).charge = charge
    return model


def _stated_charges(text: str) -> dict[str, float | None]:
    """Charges as the package `fbc` states them; cobra reads 0 where there is none, and any of version 3 as 0."""
    if _FLUX_BALANCE not in text:
        return {}
    found = {}
    for _, element in ElementTree.iterparse(io.BytesIO(text.encode())):
        tag = element.tag.rpartition("}")[2]
        if tag == "species":
            stated = (
                float(value)
                for name, value in element.attrib.items()
                if name.startswith(f"{{{_FLUX_BALANCE}") and name.endswith("}charge")
            )
            found[_plain_id(element.attrib["id"], "M_")] = next(stated, None)
        if tag in ("species", "reaction"):
            element.clear()
    return found


def _plain_id(sid: str, prefix: str) -> str:
    """Undo how SBML identifiers are spelled, as cobra does, but for codes that no writer makes of a character.

    Old files have `__4__` where cobra would read the control character 4, which ends the process.
    """
    return re.sub(
        r"__([0-9]+)__", lambda found: chr(int(found[1])) if 32 <= int(found[1]) < 127 else found[0], sid
    ).removeprefix(prefix)


def _from_content(content: Any) -> cobra.Model:
    for kind in ("metabolites", "reactions"):
        for item in content[kind]:
            _checked_name(item["id"])
    return cobra.io.model_from_dict(content)


def _checked_name(name: str) -> str:
    if not name.isprintable() or not 0 < len(name.encode()) <= _LONGEST_NAME:
        raise ValueError(f"an identifier must be 1 to {_LONGEST_NAME} printable characters; got {name[:300]!r}")
    return name
