"""Open what was saved in a process that has neither the package nor a network."""

import os
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file


_BEGINNING = """
import socket, sys
from pathlib import Path

for name in ("modeling_astrobio", "data_scripts"):
    sys.modules[name] = None

def refused(*args, **kwargs):
    raise OSError("the network is not to be used")

socket.socket.connect = refused
socket.getaddrinfo = refused

import torch
from safetensors.torch import load_file, save_file

torch.set_num_threads(1)
source, exchange = Path(sys.argv[1]), Path(sys.argv[2])
"""


def read_elsewhere(script: str, source: Path, exchange: Path) -> dict[str, torch.Tensor]:
    """Run a script in a fresh process, in another folder, with an empty module cache, offline.

    Args:
        script: Reads `source`, writes tensors to `exchange / "found.safetensors"`; has `torch`, `load_file` and
            `save_file`.
        source: Folder of a saved model.
        exchange: Empty but for what the script reads.

    Returns:
        The tensors that it wrote.
    """
    elsewhere = exchange / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "reader.py").write_text(_BEGINNING + script)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment |= {
        "HF_HOME": str(exchange / "hf_home"),
        "HF_MODULES_CACHE": str(exchange / "hf_modules"),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, "reader.py", str(source), str(exchange)],
        cwd=elsewhere,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return load_file(exchange / "found.safetensors")
