"""A folder that appears whole or not at all, and that one process at a time makes."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from data_scripts.harness.errors import BuildError


try:
    import fcntl
except ImportError:
    # Windows has no such locks: there nobody keeps a second process away.
    fcntl = None  # type: ignore[assignment]


__all__ = ["new_folder", "refuse_used_folder"]


def refuse_used_folder(out_dir: str | Path) -> Path:
    """Return the absolute path of a folder that does not exist or is empty.

    Raises:
        FileExistsError: If it has content, or is a file.
    """
    out_dir = Path(out_dir).absolute()
    if out_dir.exists() and (not out_dir.is_dir() or any(out_dir.iterdir())):
        raise FileExistsError(
            f"out_dir must be a new or an empty folder; got {out_dir}, which has content. "
            "Choose another folder or remove this one."
        )
    return out_dir


@contextlib.contextmanager
def new_folder(out_dir: str | Path) -> Iterator[Path]:
    """Give a folder to write into that is renamed to `out_dir` at the end, and removed after an error.

    It lies beside `out_dir`, as `.<name>.partial`. What a killed process left there is removed first.

    Raises:
        FileExistsError: If `out_dir` has content, or is a file.
        BuildError: If another process makes it.
    """
    out_dir = refuse_used_folder(out_dir)
    out_dir.parent.mkdir(parents=True, exist_ok=True)
    with _held(out_dir.with_name(f".{out_dir.name}.lock"), out_dir):
        # Another process may have finished it before the lock was free.
        refuse_used_folder(out_dir)
        partial = out_dir.with_name(f".{out_dir.name}.partial")
        try:
            if partial.exists():
                shutil.rmtree(partial)
            partial.mkdir()
            yield partial
            if out_dir.exists():
                out_dir.rmdir()
            partial.rename(out_dir)
        finally:
            # Nothing is left to remove after the rename.
            shutil.rmtree(partial, ignore_errors=True)


@contextlib.contextmanager
def _held(lock: Path, out_dir: Path) -> Iterator[None]:
    """Hold a lock that the system takes from a process that dies; its file goes when it is released."""
    if fcntl is None:
        yield
        return
    while True:
        with lock.open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BuildError(
                    f"out_dir must be made by one process at a time; got {out_dir}, which another is making. "
                    "Wait for it, or choose another folder."
                ) from None
            # The process that held it may have removed the file after it was opened here.
            if not lock.exists() or not os.path.samestat(lock.stat(), os.fstat(file.fileno())):
                continue
            try:
                yield
            finally:
                lock.unlink(missing_ok=True)
            return
