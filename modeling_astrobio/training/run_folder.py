"""The folder of a run: one run each, its resolved recipe beside its checkpoints."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml

from .checkpoints import find_checkpoints
from .errors import RunFolderError
from .monitoring.secrets import secret_values
from .monitoring.settings import MonitorSection
from .whole_files import PARTIAL_SUFFIX, write_text_whole


__all__ = ["RECIPE_NAME", "open_run_folder", "print_files"]


RECIPE_NAME = "recipe.yaml"
# What may differ between a run and its continuation without changing which rows a step learns from, and how.
_FREE_ON_RESUME = {
    "output_dir",
    "cpu_threads",
    # Accumulation is adapted, so that a step keeps its number of rows: see `continuation.keep_rows_per_step`.
    "strategy.sharding",
    "strategy.parameter_offload",
    "training.per_device_train_batch_size",
    "stability.max_rollbacks",
    *(f"monitor.{field.name}" for field in fields(MonitorSection)),
    "training.save_steps",
    "training.save_total_limit",
    "training.logging_steps",
    "training.report_to",
    "training.dataloader_num_workers",
    "training.disable_tqdm",
    "training.per_device_eval_batch_size",
}


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _content(folder: Path) -> list[Path]:
    # A run that was killed while it claimed the folder left nothing else.
    return [path for path in folder.iterdir() if not path.name.endswith(PARTIAL_SUFFIX)]


def open_run_folder(output_dir: Path, recipe: dict[str, Any], resume: bool) -> None:
    """Claim a new folder for a run, or check that a resumed run is the one the folder holds.

    Args:
        output_dir: Folder of the run; made if absent.
        recipe: The resolved recipe, written as `recipe.yaml`.
        resume: Whether the run continues.

    Raises:
        RunFolderError: If the folder holds another run, something else, or, on resume, a run of another recipe; if it
            cannot be written; or if the recipe holds the value of a secret environment variable.
    """
    path = output_dir / RECIPE_NAME
    if not resume:
        if output_dir.exists() and (not output_dir.is_dir() or _content(output_dir)):
            holds = "another run" if path.is_file() else "other files"
            checkpoints = find_checkpoints(output_dir)
            remedy = "Continue it with --resume, pass" if checkpoints else "Pass"
            raise RunFolderError(
                f"output_dir must be new or empty; got {output_dir}, which holds {holds}. {remedy} "
                "output_dir=OTHER_FOLDER, or remove it."
            )
        text = yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True)
        for name, value in secret_values().items():
            if value in text:
                raise RunFolderError(
                    f"the recipe must hold no secret, for it is written into {RECIPE_NAME}; got the value of the "
                    f"environment variable {name}. Remove it: what needs it reads the variable."
                )
        try:
            output_dir.mkdir(parents=True, exist_ok=True)
            write_text_whole(path, text)
        except OSError as error:
            raise RunFolderError(f"output_dir must be a folder to write to; got {output_dir}: {error}.") from error
        return
    if not path.is_file():
        raise RunFolderError(
            f"--resume needs a run in {output_dir}; got no {RECIPE_NAME} there. Start without --resume."
        )
    try:
        before, now = _flat(yaml.safe_load(path.read_text(encoding="utf-8"))), _flat(recipe)
    except (yaml.YAMLError, UnicodeDecodeError, AttributeError) as error:
        raise RunFolderError(
            f"{RECIPE_NAME} of the run in {output_dir} cannot be read: {error}. Start a new run in another output_dir."
        ) from error
    changed = [
        f"{key} was {before.get(key)!r} and is {now.get(key)!r}"
        for key in sorted(before.keys() | now.keys())
        if key not in _FREE_ON_RESUME and before.get(key) != now.get(key)
    ]
    if changed:
        raise RunFolderError(
            f"--resume continues the run in {output_dir} as it was; the recipe differs: {'; '.join(changed)}. "
            "Undo the change, or start a new run in another output_dir."
        )


def print_files(run_dir: Path, *of_the_model: tuple[str, str], model: str = "model, processor and card") -> None:
    """Print where everything is that a run has left.

    Args:
        run_dir: The run's folder.
        *of_the_model: Files of this kind of model alone, with what each is.
        model: What the folder of the model holds.
    """
    for name, what in (
        ("model", model),
        ("model/README.md", "model card"),
        *((path.name, "last checkpoint") for path in find_checkpoints(run_dir)[:1]),
        *of_the_model,
        (RECIPE_NAME, "resolved recipe"),
        ("plan.json", "memory plan"),
        ("result.json", "every figure"),
    ):
        print(f"{what:26} {run_dir / name}")
