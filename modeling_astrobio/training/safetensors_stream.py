"""Read and write safetensors checkpoints piece by piece, so that memory does not grow with the model.

The format (https://huggingface.co/docs/safetensors): eight bytes give the length of a JSON header, the header gives
the dtype, shape and place of every tensor, and the raw little-endian values follow without gaps.
"""

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME

from .errors import CheckpointError


__all__ = ["CheckpointReader", "TensorSpec", "write_shard"]

TensorSpec = tuple[torch.dtype, tuple[int, ...]]

_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_CODES = {dtype: code for code, dtype in _DTYPES.items()}
# 16 MiB in float32: long enough that Python costs nothing, short beside any machine's memory.
_PIECE_ELEMENTS = 2**22


class CheckpointReader:
    """The tensors of a checkpoint folder, checked at once and read on demand.

    Args:
        folder: Holds `model.safetensors`, or `model.safetensors.index.json` and the shards it names.

    Attributes:
        folder: The folder.
        specs: Dtype and shape of each tensor by name.

    Raises:
        CheckpointError: If a file is absent, truncated or corrupted, disagrees with the index, or holds a dtype that
            is not float64, float32, float16 or bfloat16.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.specs: dict[str, TensorSpec] = {}
        self._file_of: dict[str, Path] = {}
        for path, indexed in _shards(folder).items():
            header = _read_header(path)
            if indexed is not None:
                _check_index(path, set(header), indexed)
            for name, spec in header.items():
                self.specs[name] = spec
                self._file_of[name] = path

    def file_of(self, name: str) -> Path:
        """Return the shard that holds tensor `name`."""
        return self._file_of[name]

    def pieces(self, name: str) -> Iterator[torch.Tensor]:
        """Yield tensor `name` in runs of its first dimension, each of about 4 million elements.

        The pieces are views of the mapped file and are valid until the next is asked for.
        """
        path = self._file_of[name]
        # A file opened for one tensor only: its pages stop counting as this process's memory when it is closed.
        with safe_open(path, framework="pt") as shard:
            tensor = shard.get_tensor(name)
            row_elements = max(1, tensor[:1].numel())
            yield from tensor.split(max(1, _PIECE_ELEMENTS // row_elements))


def write_shard(
    path: Path,
    specs: dict[str, TensorSpec],
    pieces: Callable[[str], Iterator[torch.Tensor]],
    progress: Callable[[int], object] = lambda size: None,
) -> None:
    """Write one safetensors file without holding more than a piece of it.

    Args:
        path: The file to write.
        folder: The folder.
        specs: Dtype and shape of each tensor by name.
        pieces: For a name, the tensor in runs of its first dimension, in the dtype of its spec.
        progress: Called with the number of bytes after each piece.

    Raises:
        CheckpointError: If the pieces of a tensor do not add up to its shape.
    """
    # Wide dtypes first, as safetensors itself does, so that every tensor begins at a multiple of its element size.
    order = sorted(specs, key=lambda name: -specs[name][0].itemsize)
    header: dict[str, dict] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name in order:
        dtype, shape = specs[name]
        begin, end = end, end + math.prod(shape) * dtype.itemsize
        header[name] = {"dtype": _CODES[dtype], "shape": list(shape), "data_offsets": [begin, end]}
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)

    with open(path, "wb") as file:
        file.write(len(encoded).to_bytes(8, "little"))
        file.write(encoded)
        for name in order:
            dtype, shape = specs[name]
            needed, written = math.prod(shape) * dtype.itemsize, 0
            for piece in pieces(name):
                if piece.dtype != dtype:
                    raise CheckpointError(f"tensor {name!r} must be written as {dtype}; got {piece.dtype}.")
                written += file.write(piece.contiguous().reshape(-1).view(torch.uint8).numpy().data)
                progress(piece.numel() * dtype.itemsize)
            if written != needed:
                raise CheckpointError(f"tensor {name!r} must fill {needed} bytes of {path.name}; got {written}.")


def _shards(folder: Path) -> dict[Path, set[str] | None]:
    """The checkpoint's files, each with the tensors the index promises, or `None` where there is no index."""
    single, index = folder / SAFE_WEIGHTS_NAME, folder / SAFE_WEIGHTS_INDEX_NAME
    if single.is_file():
        return {single: None}
    if not index.is_file():
        pickled = sorted(path.name for path in folder.glob("*.bin"))
        if pickled:
            raise CheckpointError(
                f"{folder} must hold safetensors; got only pickled weights ({pickled[0]}). Turn them into safetensors "
                'once: python -c "from transformers import AutoModelForCausalLM as Model; '
                f"Model.from_pretrained('{folder}', dtype='auto').save_pretrained('{folder}')\""
            )
        if (folder / "adapter_config.json").is_file():
            raise CheckpointError(f"{folder} holds a PEFT adapter, not a model. Merge it into its base model first.")
        raise CheckpointError(
            f"{folder} must hold {SAFE_WEIGHTS_NAME} or {SAFE_WEIGHTS_INDEX_NAME}; neither is there."
        )
    try:
        weight_map = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        shards: dict[Path, set[str] | None] = {folder / file: set() for file in weight_map.values()}
        for name, file in weight_map.items():
            if Path(file).name != file:
                raise CheckpointError(f"{index.name}: shard {file!r} of tensor {name!r} must be a plain file name.")
            shards[folder / file].add(name)  # type: ignore[union-attr]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{index} must be JSON with a 'weight_map' of file names; got {error!r}.") from error
    return shards


def _check_index(path: Path, found: set[str], indexed: set[str]) -> None:
    for name in sorted(indexed - found):
        raise CheckpointError(f"{path.name}: tensor {name!r} is missing, though the index places it there.")
    for name in sorted(found - indexed):
        raise CheckpointError(f"{path.name}: tensor {name!r} is unexpected: the index does not place it there.")


def _read_header(path: Path) -> dict[str, TensorSpec]:
    """Dtype and shape of each tensor of one file, after checking that the file holds them all."""
    if not path.is_file():
        raise CheckpointError(f"{path} is missing, though the index names it. Fetch the checkpoint again.")
    size = path.stat().st_size
    with open(path, "rb") as file:
        start = file.read(8)
        if start == b"version ":
            raise CheckpointError(f"{path} is a Git LFS pointer, not weights. Run `git lfs pull` in its folder.")
        length = int.from_bytes(start, "little")
        if len(start) < 8 or length > size - 8:
            raise CheckpointError(f"{path} is truncated within its header ({size} bytes). Fetch the file again.")
        try:
            header = json.loads(file.read(length))
            header.pop("__metadata__", None)
            entries = [(e["data_offsets"][1], name, e["dtype"], tuple(e["shape"])) for name, e in header.items()]
        except (ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
            raise CheckpointError(f"{path} has a corrupted header ({error!r}). Fetch the file again.") from error

    specs = {}
    for end, name, code, shape in sorted(entries):
        if 8 + length + end > size:
            raise CheckpointError(
                f"{path}: tensor {name!r} ends at byte {8 + length + end}, but the file is truncated to {size} bytes. "
                "Fetch the file again."
            )
        if code not in _DTYPES:
            raise CheckpointError(
                f"{path}: tensor {name!r} must be one of {sorted(_DTYPES)}; got {code}. Quantised checkpoints are not "
                "converted: start from the unquantised weights."
            )
        specs[name] = (_DTYPES[code], shape)
    try:
        with safe_open(path, framework="pt") as shard:
            shard.keys()
    except SafetensorError as error:
        raise CheckpointError(f"{path} is corrupted: {error}. Fetch the file again.") from error
    return specs
