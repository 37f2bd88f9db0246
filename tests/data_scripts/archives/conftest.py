"""Recorded answers of the archives, where they lie beside the repository."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest


REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture
def archive_samples() -> Callable[[str], Path]:
    """Folder with the recorded answers of a source; the test is skipped where there is none.

    `ASTROBIO_SAMPLES` names another folder than `../shared/archive_samples` beside the repository.
    """

    def folder_of(source: str) -> Path:
        root = Path(os.environ.get("ASTROBIO_SAMPLES") or REPOSITORY.parent / "shared" / "archive_samples")
        folder = root / source
        if not folder.is_dir():
            pytest.skip(f"no recorded answers of {source}: {folder} is absent (ASTROBIO_SAMPLES names another folder)")
        return folder

    return folder_of
