"""Fixtures that every test may use."""

import os
from pathlib import Path


# Read when huggingface_hub is imported: a test that names an absent folder must not wait for a network.
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
import torch


# Tiny models lose more to two threads' synchronisation than they gain.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Return the folder of real archive samples, which no checkout contains; skip where it is absent.

    It is the folder `shared` beside the checkout, or the one that ASTROBIO_SHARED_DIR names.
    """
    default = Path(__file__).resolve().parents[2] / "shared"
    folder = Path(os.environ.get("ASTROBIO_SHARED_DIR", default))
    if not folder.is_dir():
        pytest.skip(f"real archive samples are absent: no folder {folder}; set ASTROBIO_SHARED_DIR")
    return folder
