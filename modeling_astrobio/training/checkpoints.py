"""Checkpoints that are whole or absent: written aside, listed with their digests, then renamed."""

import hashlib
import json
import logging
import math
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from .errors import CheckpointError


__all__ = [
    "MANIFEST_NAME",
    "find_checkpoints",
    "last_good_checkpoint",
    "publish_folder",
    "remove_checkpoint",
    "resolve_resume",
    "restore_unpublished",
    "supersede_later",
    "verify_checkpoint",
    "write_whole",
]


MANIFEST_NAME = "manifest.json"
_OLD = ".old"
_NAME = re.compile(r"checkpoint-(\d+)")

logger = logging.getLogger(__name__)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fsync(path: Path) -> None:
    if os.name == "nt":  # has no fsync of a file opened for reading, nor of a folder
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def publish_folder(staging: Path, target: Path) -> None:
    """List a folder's files with size and SHA-256, force them to disk, and give the folder its name.

    Args:
        staging: A complete folder on the same file system as `target`.
        target: Its name from now on. An earlier folder of this name stands aside meanwhile; `restore_unpublished`
            gives it back where the process is killed in between.
    """
    files = sorted(path for path in staging.rglob("*") if path.is_file() and path.name != MANIFEST_NAME)
    manifest = {
        path.relative_to(staging).as_posix(): {"bytes": path.stat().st_size, "sha256": _digest(path)} for path in files
    }
    (staging / MANIFEST_NAME).write_text(json.dumps({"files": manifest}, indent=1), encoding="utf-8")
    for path in (*files, staging / MANIFEST_NAME):
        _fsync(path)
    old = target.with_name(f".{target.name}{_OLD}")
    restore_unpublished(target.parent)
    if target.exists():
        target.rename(old)
    try:
        staging.rename(target)
    except BaseException:
        restore_unpublished(target.parent)
        raise
    _fsync(target.parent)
    shutil.rmtree(old, ignore_errors=True)


def restore_unpublished(folder: Path) -> None:
    """Give those folders their names back that stood aside for others which never came."""
    for old in folder.glob(f".*{_OLD}"):
        target = old.with_name(old.name.removeprefix(".").removesuffix(_OLD))
        if target.exists():
            shutil.rmtree(old, ignore_errors=True)
        else:
            old.rename(target)


def remove_checkpoint(checkpoint: Path) -> None:
    """Remove a checkpoint; one that cannot be removed is named in the log, and is no checkpoint any more."""
    condemned = checkpoint.with_name(f".removing-{checkpoint.name}")
    try:
        shutil.rmtree(condemned, ignore_errors=True)
        # Half of it must not stand under its name if the process is killed now.
        checkpoint.rename(condemned)
        shutil.rmtree(condemned)
    except OSError as error:
        logger.warning("the old checkpoint %s cannot be removed: %s", checkpoint.name, error)


def supersede_later(checkpoint: Path) -> None:
    """Rename the checkpoints of later steps than the one that a run goes on from: they are of another attempt."""
    for later in find_checkpoints(checkpoint.parent):
        if _step(later) > _step(checkpoint):
            aside = later.with_name(f"superseded-{later.name}")
            shutil.rmtree(aside, ignore_errors=True)
            later.rename(aside)
            print(f"{later.name} is of another attempt: it is now {aside.name}", flush=True)


@contextmanager
def write_whole(target: Path) -> Iterator[Path]:
    """Yield a folder to write into; it becomes `target` if the block ends well, and vanishes if it does not.

    Raises:
        CheckpointError: If the disk is full or a file cannot be written; `target` is then as it was.
    """
    staging = target.with_name(f".{target.name}.partial")
    shutil.rmtree(staging, ignore_errors=True)
    try:
        staging.mkdir(parents=True)
        yield staging
        publish_folder(staging, target)
    except BaseException as error:
        shutil.rmtree(staging, ignore_errors=True)
        if is_write_failure(error):
            raise write_failure(target, error) from error
        raise


def is_write_failure(error: BaseException) -> bool:
    """Whether an exception is what the libraries raise where a file cannot be written."""
    torch_writer = isinstance(error, RuntimeError) and (
        "PytorchStreamWriter" in str(error) or "inline_container" in str(error)
    )
    return isinstance(error, (OSError, SafetensorError)) or torch_writer


def write_failure(target: Path, error: BaseException) -> CheckpointError:
    """Say what was not written, why, and what is still there."""
    parent = target.parent
    while not parent.exists():
        parent = parent.parent
    free = shutil.disk_usage(parent).free
    good = last_good_checkpoint(target.parent)
    kept = (
        f"The last good checkpoint is {good}; free space and continue with --resume."
        if good
        else ("There is no earlier checkpoint; free space and start again.")
    )
    return CheckpointError(f"could not write {target}: {error} ({free / 2**30:.2f} GiB are free there). {kept}")


def find_checkpoints(run_dir: Path) -> list[Path]:
    """Return the checkpoints of a run, newest (highest step) first, damaged ones included."""
    if not run_dir.is_dir():
        return []
    found = [path for path in run_dir.iterdir() if _NAME.fullmatch(path.name)]
    return sorted(found, key=_step, reverse=True)


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def verify_checkpoint(checkpoint: Path) -> str | None:
    """Compare a checkpoint with its manifest.

    Returns:
        What is wrong, naming the file, or `None` if it is whole.
    """
    try:
        files = json.loads((checkpoint / MANIFEST_NAME).read_text(encoding="utf-8"))["files"]
        listed = [(name, expected["bytes"], expected["sha256"]) for name, expected in files.items()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"its {MANIFEST_NAME} cannot be read ({type(error).__name__}: {error})"
    if not listed:
        return f"its {MANIFEST_NAME} lists no file"
    for name, size, digest in listed:
        path = checkpoint / name
        try:
            if not path.is_file():
                return f"{name} is missing"
            if path.stat().st_size != size:
                return f"{name} has {path.stat().st_size} bytes instead of {size}"
            if _digest(path) != digest:
                return f"{name} has other content than was written (SHA-256 differs)"
        except OSError as error:
            return f"{name} cannot be read ({error})"
    return None


def last_good_checkpoint(run_dir: Path, before_step: float = math.inf) -> Path | None:
    """Return the newest whole checkpoint of a run, of those written before a step, or `None`."""
    older = (path for path in find_checkpoints(run_dir) if _step(path) < before_step)
    return next((path for path in older if verify_checkpoint(path) is None), None)


def resolve_resume(run_dir: Path, resume: str) -> Path | None:
    """Choose the checkpoint to continue from.

    Args:
        run_dir: Folder of the run.
        resume: "last" takes the newest and insists on it; "auto" takes the newest whole one, or none where none was
            written yet; anything else is the folder of a checkpoint.

    Raises:
        CheckpointError: If there is none, or the one asked for is damaged; the last good one is offered.
    """
    restore_unpublished(run_dir)
    if resume == "auto":
        return _newest_whole(run_dir)
    checkpoints = find_checkpoints(run_dir)
    if resume == "last" and not checkpoints:
        raise CheckpointError(
            f"--resume needs a checkpoint in {run_dir}; got none. Start without --resume, or pass --resume auto, "
            "which starts from the beginning where it must."
        )
    chosen = checkpoints[0] if resume == "last" else Path(resume)
    if not chosen.is_dir():
        raise CheckpointError(f"--resume needs the folder of a checkpoint; got {resume!r}, which is not a folder.")
    fault = verify_checkpoint(chosen)
    if fault is None:
        return chosen
    good = last_good_checkpoint(run_dir)
    remedy = f"The last good one is {good}: pass --resume {good}." if good else "No whole checkpoint is left."
    raise CheckpointError(f"checkpoint {chosen} is damaged: {fault}. {remedy}")


def _newest_whole(run_dir: Path) -> Path | None:
    """Return the newest whole checkpoint; damaged ones are named and get out of the way of those written later."""
    damaged = []
    for path in find_checkpoints(run_dir):
        fault = verify_checkpoint(path)
        if fault is None:
            break
        damaged.append((path, fault))
    else:
        if damaged:
            names = "; ".join(f"{path.name}: {fault}" for path, fault in damaged)
            raise CheckpointError(f"no whole checkpoint is left in {run_dir}: {names}. Start in another output_dir.")
        return None
    for bad, fault in damaged:
        aside = bad.with_name(f"damaged-{bad.name}")
        shutil.rmtree(aside, ignore_errors=True)
        bad.rename(aside)
        print(f"checkpoint {bad} is damaged: {fault}. It is now {aside.name}; {path.name} is used", flush=True)
    return path
