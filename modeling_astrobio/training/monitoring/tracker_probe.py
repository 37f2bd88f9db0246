"""Tries one tracker in a process of its own: `python -P tracker_probe.py wandb FOLDER`; prints what happened as JSON.

It imports nothing of this package, which takes seconds. Without -P its folder's modules would hide standard ones.
"""

import importlib
import json
import os
import sqlite3
import struct
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any


__all__ = ["read_wandb_records"]


_VALUE = 0.8125  # exact in any floating-point format
_REMEDY = "pip install 'modeling_astrobio[track]'"
_SECONDS = 10  # for an answer of a server
_WANDB_HEADER = b":W&B"
_BLOCK = 32768  # bytes
_BLOCK_HEADER = struct.Struct("<IHB")  # CRC-32, length, and 1 whole, 2 first, 3 middle, 4 last part of a record


class ProbeError(Exception):
    """A tracker that does not keep what it is given."""


def read_wandb_records(path: Path) -> Iterator[Any]:
    """Yield the records of a `.wandb` file, protocol buffers in LevelDB's log format.

    Source: github.com/google/leveldb, doc/log_format.md; the file begins with 7 bytes of its own.
    """
    # Its classes are made when it is imported.
    messages: Any = importlib.import_module("wandb.proto.wandb_internal_pb2")

    data = path.read_bytes()
    if data[:4] != _WANDB_HEADER:
        raise ProbeError(f"{path.name} does not begin like a .wandb file")
    position, record = 7, b""
    while position + _BLOCK_HEADER.size <= len(data):
        left = _BLOCK - position % _BLOCK
        if left < _BLOCK_HEADER.size:
            position += left
            continue
        _, length, kind = _BLOCK_HEADER.unpack_from(data, position)
        position += _BLOCK_HEADER.size
        if position + length > len(data):  # is being written
            return
        record += data[position : position + length]
        position += length
        if kind in (1, 4):
            yield messages.Record.FromString(record)
            record = b""


def _tensorboard(folder: Path) -> str:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder)) as writer:
        writer.add_scalar("probe", _VALUE, 1)
    events = EventAccumulator(str(folder)).Reload()
    _check([(event.step, event.value) for event in events.Scalars("probe")], [(1, _VALUE)])
    return f"an event file of {_size(folder, '*tfevents*')} bytes was written and read back"


def _wandb(folder: Path) -> str:
    import wandb

    mode = os.environ["PROBE_WANDB_MODE"]
    with wandb.init(project="probe", dir=str(folder), mode="offline") as run:
        run.log({"probe": _VALUE}, step=1)
    # Its service may write a little later than the run ends.
    wandb.teardown()
    (path,) = folder.rglob("run-*.wandb")
    end = time.monotonic() + _SECONDS
    rows: list[dict[str, Any]] = []
    while not rows and time.monotonic() < end:
        rows = [
            {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
            for record in read_wandb_records(path)
            if record.WhichOneof("record_type") == "history"
        ]
        time.sleep(0.02)
    _check([row.get("probe") for row in rows], [_VALUE])
    offline = f"an offline run of {path.stat().st_size} bytes was written and read back"
    if mode != "online":
        return f"{offline}; WANDB_MODE={mode}, so that no server was asked"
    if wandb.Api(timeout=_SECONDS).viewer is None:
        raise ProbeError("the server does not know the API key")
    return f"{offline}; the server at {wandb.Api().settings['base_url']} accepts the API key"


def _trackio(folder: Path) -> str:
    import trackio

    trackio.init(project="probe", name="probe", embed=False)
    trackio.log({"probe": _VALUE})
    trackio.finish()
    values = []
    for path in folder.rglob("*.db"):
        with sqlite3.connect(path) as database:
            values += [json.loads(row[0]).get("probe") for row in database.execute("SELECT metrics FROM metrics")]
    _check(values, [_VALUE])
    evidence = f"a database of {_size(folder, '*.db')} bytes was written and read back"
    if not os.environ.get("PROBE_TRACKIO_SPACE"):
        return f"{evidence}; no Space is named, so that no server was asked"
    from huggingface_hub import HfApi

    HfApi().whoami()
    return f"{evidence}; the Hugging Face Hub accepts the token"


def _check(got: list, expected: list) -> None:
    if got != expected:
        raise ProbeError(f"it gave back {got} instead of {expected}")


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "of unknown version"


def _size(folder: Path, pattern: str) -> int:
    return sum(path.stat().st_size for path in folder.rglob(pattern))


_PROBES: dict[str, Callable[[Path], str]] = {"tensorboard": _tensorboard, "wandb": _wandb, "trackio": _trackio}


def _main(name: str, folder: Path) -> None:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name == name:
            answer = False, f"{name} is not installed: {_REMEDY}"
        else:
            answer = (
                False,
                f"{name} {_version(name)} lacks {error.name}. Install another version of it, or report elsewhere",
            )
    except Exception as error:
        answer = False, f"{name} cannot be imported: {type(error).__name__}: {error}"
    else:
        try:
            answer = True, _PROBES[name](folder)
        except Exception as error:
            answer = False, f"{type(error).__name__}: {error}"
    (folder / "answer.json").write_text(json.dumps(answer), encoding="utf-8")


if __name__ == "__main__":
    _main(sys.argv[1], Path(sys.argv[2]))
