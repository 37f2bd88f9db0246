"""Starts scripts as two processes under torchrun, as users do; `accelerate launch --cpu` would run one."""

import os
import subprocess
import sys
from pathlib import Path

import torch


ROOT = Path(__file__).resolve().parents[3]
# The package first: from within tests, tests/modeling_astrobio would be found under its name.
SOURCES = (ROOT, ROOT / "tests")
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join(map(str, SOURCES)),
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
}


def run_two_processes(script: str, folder: Path, *arguments: str, timeout: float = 300) -> dict:
    """Run a script beside this file with `folder` and the arguments; returns what rank 0 saved there as found.pt."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    log = folder / "log.txt"
    with log.open("w") as stream:
        launcher = subprocess.Popen(
            [*command, str(Path(__file__).parent / script), str(folder), *arguments],
            env=ENVIRONMENT,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            launcher.wait(timeout=timeout)
        finally:
            if launcher.poll() is None:
                # Stops the two processes too; killing the launcher alone would leave them.
                launcher.terminate()
                launcher.wait(timeout=60)
    assert launcher.returncode == 0, log.read_text()[-6000:]
    return torch.load(folder / "found.pt", weights_only=False)
