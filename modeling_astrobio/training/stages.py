"""Stages of a pipeline: what each runs, what it needs, reads and writes; declared in YAML and checked key by key."""

import difflib
import graphlib
import hashlib
import json
import re
import shlex
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from .errors import DataError, RecipeError
from .recipe import read_yaml


__all__ = ["Pipeline", "Stage", "load_pipeline"]


_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_VARIABLE = re.compile(r"\{([A-Za-z_]+)\}")


@dataclass(frozen=True)
class Stage:
    """One command of a pipeline.

    In texts, `{out}` is the folder of the pipeline's run and `{python}` this Python. Relative paths start at the
    folder that the commands run in.

    Attributes:
        name: Letters, digits, `_` and `-`.
        command: Program and arguments; no shell reads them.
        needs: Stages that must have finished before.
        inputs: Files and folders it reads; when their content changes it runs again. It must not write to them.
        outputs: Files and folders that are there when it has finished.
        env: Environment variables that it has besides those of the orchestrator.
        resume: Arguments that are added where an output is a folder with a whole checkpoint of an earlier attempt.
    """

    name: str
    command: tuple[str, ...]
    needs: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    resume: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pipeline:
    """Stages in an order in which they can run.

    Attributes:
        name: Of the pipeline.
        stages: Each after those that it needs.
        out: Folder of the run, absolute.
        root: Folder that the commands run in.
    """

    name: str
    stages: tuple[Stage, ...]
    out: Path
    root: Path

    def stage(self, name: str) -> Stage:
        """Return a stage by its name.

        Raises:
            RecipeError: If there is none.
        """
        for stage in self.stages:
            if stage.name == name:
                return stage
        raise RecipeError(f"a stage must be one of {[stage.name for stage in self.stages]}; got {name!r}.")

    def needed_by(self, name: str) -> set[str]:
        """Return the stages that need a stage, directly or through others."""
        found: set[str] = set()
        for stage in self.stages:
            if found.union({name}).intersection(stage.needs):
                found.add(stage.name)
        return found

    def text(self, text: str) -> str:
        """Fill in the variables of a text."""
        return _VARIABLE.sub(lambda match: {"out": str(self.out), "python": sys.executable}[match[1]], text)

    def path(self, text: str) -> Path:
        """Return the place that a path of a stage names."""
        return self.root / self.text(text)

    def missing(self, paths: Iterable[str]) -> list[str]:
        """Return those of the paths that do not exist."""
        return [path for path in paths if not self.path(path).exists()]

    def digest(self, stage: Stage, done: Mapping[str, str]) -> str:
        """Return the digest of a stage: of its command, environment and inputs, and of the stages that it needs.

        Args:
            stage: One of the pipeline.
            done: Digests of the stages that it needs.

        Raises:
            DataError: If an input is missing.
        """
        missing = self.missing(stage.inputs)
        if missing:
            raise DataError(
                f"stage {stage.name!r} must have its inputs; got no {self.path(missing[0])}. Make it, or correct the "
                "pipeline."
            )
        content = {
            "command": stage.command,
            "env": dict(stage.env),
            "inputs": {text: _content_digest(self.path(text)) for text in stage.inputs},
            "needs": {need: done.get(need) for need in stage.needs},
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _content_digest(path: Path) -> str:
    """Return the SHA-256 of a file, or of the names and contents of a folder's files."""
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    parts = {
        part.relative_to(path).as_posix(): _content_digest(part) for part in sorted(path.rglob("*")) if part.is_file()
    }
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def load_pipeline(source: str | Path, out: Path | None, folder: Path, root: Path) -> Pipeline:
    """Read a pipeline from YAML.

    Args:
        source: Path of a YAML file, or the name of one in `folder`.
        out: Folder of the run; `None` is outputs/pipeline-NAME, where the orchestrator was started.
        folder: Where named pipelines lie.
        root: Folder that the commands run in.

    Raises:
        RecipeError: If the file is absent or is not YAML; a key is unknown or a value wrong; a stage needs one that is
            not there, or itself through others; or reads what a stage writes that it does not need.
    """
    values = read_yaml(source, folder, "pipeline")
    _check_keys(values, ("stages",), "pipeline")
    declared = values.get("stages")
    if not isinstance(declared, list) or not declared:
        raise RecipeError(f"stages must be a list of at least one stage; got {declared!r}.")
    stages = [_stage(number, entry) for number, entry in enumerate(declared, start=1)]
    names = [stage.name for stage in stages]
    for name in names:
        if names.count(name) > 1:
            raise RecipeError(f"names of stages must differ; got {name!r} twice.")
    for stage in stages:
        for need in stage.needs:
            if need not in names:
                raise RecipeError(_unknown(f"stage {stage.name!r} needs {need!r}, which is no stage.", need, names))
    try:
        order = list(graphlib.TopologicalSorter({stage.name: stage.needs for stage in stages}).static_order())
    except graphlib.CycleError as error:
        raise RecipeError(
            f"stages must not need themselves; got the cycle {' -> '.join(reversed(error.args[1]))}."
        ) from error
    name = Path(source).stem
    place = Path(f"outputs/pipeline-{name}") if out is None else out
    stages.sort(key=lambda stage: order.index(stage.name))
    pipeline = Pipeline(name, tuple(stages), place.absolute(), root)
    _check_paths(pipeline)
    return pipeline


def _stage(number: int, entry: Any) -> Stage:
    where = f"stage {number}"
    if not isinstance(entry, dict):
        raise RecipeError(f"{where} must be a mapping; got {entry!r}.")
    known = [field.name for field in fields(Stage)]
    _check_keys(entry, known, where)
    name = entry.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise RecipeError(f"the name of {where} must be letters, digits, '_' and '-'; got {name!r}.")
    where = f"stage {name!r}"
    command = entry.get("command")
    if isinstance(command, str):
        try:
            command = shlex.split(command)
        except ValueError as error:
            raise RecipeError(f"command of {where} cannot be split into arguments: {error}.") from error
    env = entry.get("env", {})
    if not isinstance(env, dict):
        raise RecipeError(f"env of {where} must be a mapping of names to texts; got {env!r}.")
    lists = {key: _texts(entry.get(key, []), f"{key} of {where}") for key in ("needs", "inputs", "outputs", "resume")}
    stage = Stage(
        name=name,
        command=_texts(command, f"command of {where}"),
        env={str(key): _texts([value], f"env of {where}")[0] for key, value in env.items()},
        **lists,
    )
    if not stage.command:
        raise RecipeError(f"command of {where} must be a program and its arguments; got none.")
    return stage


def _texts(values: Any, name: str) -> tuple[str, ...]:
    if not isinstance(values, list) or any(
        isinstance(value, bool) or not isinstance(value, (str, int, float)) for value in values
    ):
        raise RecipeError(f"{name} must be a list of texts; got {values!r}. Quote what YAML reads as another type.")
    texts = tuple(str(value) for value in values)
    for text in texts:
        for variable in _VARIABLE.findall(text):
            if variable not in ("out", "python"):
                raise RecipeError(f"{name} may use {{out}} and {{python}}; got {{{variable}}} in {text!r}.")
    return texts


def _check_keys(values: Mapping[Any, Any], known: Iterable[str], where: str) -> None:
    for key in values:
        if key not in known:
            raise RecipeError(_unknown(f"unknown key {key!r} of {where}.", str(key), known))


def _unknown(message: str, key: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(key, list(known), n=1)
    return f"{message} Did you mean {near[0]!r}?" if near else f"{message} Known: {sorted(known)}."


def _check_paths(pipeline: Pipeline) -> None:
    """Refuse outputs of two stages in one place, and inputs that come from a stage that is not needed."""
    writers: dict[Path, str] = {}
    for stage in pipeline.stages:
        for text in stage.outputs:
            path = pipeline.path(text)
            if path == pipeline.out or path in pipeline.out.parents:
                raise RecipeError(f"outputs of stage {stage.name!r} must not be {{out}} or around it; got {text!r}.")
            if path in writers:
                raise RecipeError(
                    f"{text!r} must be an output of one stage; got {writers[path]!r} and {stage.name!r}."
                )
            writers[path] = stage.name
    for stage in pipeline.stages:
        for text in stage.inputs:
            path = pipeline.path(text)
            for place in (path, *path.parents):
                writer = writers.get(place)
                if writer == stage.name:
                    raise RecipeError(f"stage {writer!r} must not have its output {text!r} as an input.")
                if writer is not None and stage.name not in pipeline.needed_by(writer):
                    raise RecipeError(
                        f"stage {stage.name!r} reads {text!r}, which stage {writer!r} writes: add {writer!r} to its "
                        "needs."
                    )
