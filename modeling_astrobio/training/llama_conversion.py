"""Convert checkpoints between AstroLLM and transformers' Llama, Mistral, Qwen2 and Qwen3, a piece at a time.

The tensors have one name and one layout in all of them, so a conversion copies bytes, unless it casts or extends the
vocabulary, and writes another configuration.
"""

import json
import math
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from tqdm.auto import tqdm
from transformers import (
    AutoTokenizer,
    LlamaForCausalLM,
    MistralForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2ForCausalLM,
    Qwen3ForCausalLM,
)
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, logging

from ..modeling_astro_llm import AstroLLMForCausalLM
from .errors import CheckpointError, RunFolderError
from .llama_configs import from_astro_llm_config, read_config, to_astro_llm_config
from .safetensors_stream import CheckpointReader, TensorSpec, write_shard


__all__ = ["ConversionReport", "convert_checkpoint"]

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
# Standard deviation of a new row about the mean row, as a fraction of the existing rows' own: enough that rounding to
# bfloat16 does not make the new tokens identical, too little to matter beside the mean.
NEW_ROW_SPREAD = 0.01
_NEW_ROWS_AT_ONCE = 1024

_MODEL_CLASSES: dict[str, type[PreTrainedModel]] = {
    "astro_llm": AstroLLMForCausalLM,
    "llama": LlamaForCausalLM,
    "mistral": MistralForCausalLM,
    "qwen2": Qwen2ForCausalLM,
    "qwen3": Qwen3ForCausalLM,
}
_TOKENIZER_FILES = (
    "tokenizer*.json",
    "tokenizer.model*",
    "*.tiktoken",
    "added_tokens.json",
    "chat_template*",
    "merges.txt",
    "special_tokens_map.json",
    "spiece.model",
    "tekken.json",
    "vocab.json",
    "vocab.txt",
)
# Open weights are lent on the condition that their licence travels with them.
_OTHER_FILES = ("generation_config.json", "LICENSE*", "LICENCE*", "NOTICE*", "USE_POLICY*")


@dataclass
class ConversionReport:
    """What a conversion did.

    Attributes:
        source_type: Model type of the source.
        target_type: Model type of the result.
        dest: The folder written.
        tensors: Number of tensors written.
        parameters: Number of values in them.
        size_bytes: Bytes they fill.
        shards: Number of files they fill.
        dtypes: The dtypes in which they are stored.
        vocab_sizes: Number of tokens before and after.
        dropped: Tensors of the source that were left out, each with the reason.
        copied: Files copied along.
        ignored_keys: Keys of the source's config.json that its own class does not use.
        warnings: What the user should look at.
    """

    source_type: str
    target_type: str
    dest: Path
    tensors: int = 0
    parameters: int = 0
    size_bytes: int = 0
    shards: int = 0
    dtypes: list[str] = field(default_factory=list)
    vocab_sizes: tuple[int, int] = (0, 0)
    dropped: dict[str, str] = field(default_factory=dict)
    copied: list[str] = field(default_factory=list)
    ignored_keys: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def load_command(self) -> str:
        """Return the Python expression that loads the result."""
        trust = ", trust_remote_code=True" if self.target_type == "astro_llm" else ""
        return f"AutoModelForCausalLM.from_pretrained({str(self.dest)!r}{trust})"

    def __str__(self) -> str:
        before, after = self.vocab_sizes
        size = tqdm.format_sizeof(self.size_bytes, "B")
        lines = [
            f"Converted {self.source_type} to {self.target_type}: {self.tensors} tensors, {self.parameters:,} "
            f"parameters, {size} {' and '.join(self.dtypes)} in {self.shards} file(s).",
        ]
        if after != before:
            lines.append(
                f"Vocabulary {before:,} -> {after:,}: new rows are the mean row plus {NEW_ROW_SPREAD:.0%} of the "
                "rows' spread in seeded noise. The tokenizer is not extended."
            )
        lines += [f"Left out {name}: {reason}." for name, reason in self.dropped.items()]
        if self.ignored_keys:
            lines.append(f"Not used by {self.source_type}, so not carried over: {', '.join(self.ignored_keys)}.")
        lines.append(f"Copied along: {', '.join(self.copied) or 'nothing'}.")
        lines += [f"Warning: {warning}" for warning in self.warnings]
        return "\n".join([*lines, f"Load with {self.load_command()}"])


def convert_checkpoint(
    source: str | os.PathLike,
    dest: str | os.PathLike,
    *,
    to: str | None = None,
    vocab_size: int | None = None,
    dtype: torch.dtype | None = None,
    max_shard_size: int | str = "5GB",
    progress: bool = True,
) -> ConversionReport:
    """Convert a checkpoint folder; `dest` appears only once it is complete.

    Args:
        source: Folder of an AstroLLM, Llama, Mistral, Qwen2 or Qwen3 in safetensors.
        dest: Folder to make; an empty one may be there.
        to: Model type of the result; `None` turns an AstroLLM into the first of Llama, Mistral, Qwen2 and Qwen3 that
            computes the same function, and anything else into an AstroLLM.
        vocab_size: Number of tokens of the result. New rows of the embedding and the head are the mean of the existing
            rows, so that a new token starts at the average logit and takes little probability from the old ones
            (Hewitt 2021, https://nlp.stanford.edu/~johnhew/vocab-expansion.html), plus noise of `NEW_ROW_SPREAD` times
            each column's standard deviation from a fixed seed; statistics are summed in float64, rows made in float32.
        dtype: Dtype of every tensor; `None` keeps each tensor's own, bit for bit.
        max_shard_size: Bytes in one file, as an integer or as "5GB"; a larger tensor has a file to itself.
        progress: Whether to show a progress bar for each file.

    Raises:
        CheckpointError: If the source cannot be read, is not what its configuration says, or cannot be expressed, or
            if there is no room; `dest` is then not made.
        RunFolderError: If `dest` is there and is not an empty folder.
    """
    source, dest = Path(source), Path(dest)
    if dest.exists() and (not dest.is_dir() or any(dest.iterdir())):
        raise RunFolderError(f"dest must be new or an empty folder; {dest} exists. Remove it or choose another.")
    source_config, ignored_keys = read_config(source)
    config = to_astro_llm_config(source_config)
    if vocab_size is not None and vocab_size < config.vocab_size:
        raise CheckpointError(
            f"vocab_size must be at least the source's ({config.vocab_size}); got {vocab_size}. "
            "Tokens cannot be removed."
        )
    target_config = from_astro_llm_config(
        to_astro_llm_config(config, vocab_size=vocab_size),
        to=to or (None if source_config.model_type == "astro_llm" else "astro_llm"),
    )
    report = ConversionReport(
        source_config.model_type,
        target_config.model_type,
        dest,
        vocab_sizes=(config.vocab_size, target_config.vocab_size),
        ignored_keys=ignored_keys,
    )
    reader = CheckpointReader(source)
    origin = _match(reader, config, report)
    model = _meta_model(target_config, dtype or _saved_dtype(source_config, reader))
    specs = {name: (dtype or reader.specs[origin[name]][0], shape) for name, shape in _shapes(model).items()}
    plan = _plan_shards(specs, max_shard_size)

    report.tensors, report.shards = len(specs), len(plan.filename_to_tensors)
    report.parameters = sum(math.prod(shape) for _, shape in specs.values())
    report.size_bytes = sum(math.prod(shape) * kind.itemsize for kind, shape in specs.values())
    report.dtypes = sorted({str(kind).removeprefix("torch.") for kind, _ in specs.values()})

    dest.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(dest.parent).free
    if free < report.size_bytes:
        raise CheckpointError(f"{dest.parent} must have {report.size_bytes:,} bytes free; it has {free:,}.")
    partial_dest = dest.parent / f".{dest.name}.partial-{os.getpid()}"
    partial_dest.mkdir()
    try:
        _save_config_and_code(model, partial_dest)
        pieces = partial(_target_pieces, reader, origin, specs)
        for file, names in plan.filename_to_tensors.items():
            shard = {name: specs[name] for name in names}
            size = sum(math.prod(shape) * kind.itemsize for kind, shape in shard.values())
            with tqdm(total=size, unit="B", unit_scale=True, desc=file, disable=not progress) as bar:
                write_shard(partial_dest / file, shard, pieces, bar.update)
        if plan.is_sharded:
            index = {"metadata": plan.metadata, "weight_map": plan.tensor_to_filename}
            text = json.dumps(index, indent=2, sort_keys=True) + "\n"
            (partial_dest / SAFE_WEIGHTS_INDEX_NAME).write_text(text, encoding="utf-8")
        written = CheckpointReader(partial_dest).specs
        if written != specs:
            raise CheckpointError(f"{dest} was not written as planned: {_difference(written, specs)}.")
        _copy_files(source, partial_dest, report)
        if dest.exists():
            dest.rmdir()
        partial_dest.rename(dest)
    finally:
        shutil.rmtree(partial_dest, ignore_errors=True)
    return report


def _match(reader: CheckpointReader, config: PreTrainedConfig, report: ConversionReport) -> dict[str, str]:
    """For each tensor the model needs, the source's tensor that fills it; refuses any other source."""
    expected = _shapes(_meta_model(config, torch.float32))
    found = dict(reader.specs)
    for name in [name for name in found if name.endswith("rotary_emb.inv_freq")]:
        report.dropped[name] = "rotary frequencies are computed from rope_parameters"
        del found[name]

    origin = {name: name for name in expected}
    if config.tie_word_embeddings and HEAD in found:
        if EMBEDDING not in found:
            origin[EMBEDDING] = HEAD
        elif _equal(reader, EMBEDDING, HEAD):
            report.dropped[HEAD] = "it equals the embedding, to which tie_word_embeddings ties it"
            del found[HEAD]
        else:
            raise CheckpointError(
                f"{reader.file_of(HEAD)}: tensor {HEAD!r} must equal {EMBEDDING!r}, since config.json has "
                "tie_word_embeddings; it differs. Set tie_word_embeddings to false if both were trained."
            )

    needed = {origin[name]: shape for name, shape in expected.items()}
    for name in found:
        if name not in needed:
            raise CheckpointError(
                f"{reader.file_of(name)}: tensor {name!r} is unexpected in a {report.source_type} of this config."
            )
    for name, shape in needed.items():
        if name not in found:
            raise CheckpointError(f"{reader.folder}: tensor {name!r}, shape {shape}, is missing.")
        if found[name][1] != shape:
            raise CheckpointError(
                f"{reader.file_of(name)}: tensor {name!r} must have shape {shape} by config.json; "
                f"got {found[name][1]}."
            )
    return origin


def _meta_model(config: PreTrainedConfig, dtype: torch.dtype) -> PreTrainedModel:
    with torch.device("meta"):
        model = _MODEL_CLASSES[config.model_type](config)
    return model.to(dtype=dtype)  # type: ignore[call-arg]


def _shapes(model: PreTrainedModel) -> dict[str, tuple[int, ...]]:
    tied = model.all_tied_weights_keys
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items() if name not in tied}


def _saved_dtype(config: PreTrainedConfig, reader: CheckpointReader) -> torch.dtype:
    """The dtype in which the source asks to be loaded: its config's, or the one that most values are stored in."""
    if config.dtype is not None:
        return getattr(torch, config.dtype) if isinstance(config.dtype, str) else config.dtype
    values: dict[torch.dtype, int] = {}
    for dtype, shape in reader.specs.values():
        values[dtype] = values.get(dtype, 0) + math.prod(shape)
    return max(values, key=lambda dtype: values[dtype])


def _plan_shards(specs: dict[str, TensorSpec], max_shard_size: int | str):
    tensors = {name: torch.empty(shape, dtype=dtype, device="meta") for name, (dtype, shape) in specs.items()}
    try:
        return split_torch_state_dict_into_shards(
            tensors, filename_pattern="model{suffix}.safetensors", max_shard_size=max_shard_size
        )
    except ValueError as error:
        raise CheckpointError(f"max_shard_size must be bytes or a size as '5GB'; got {max_shard_size!r}.") from error


def _equal(reader: CheckpointReader, first: str, second: str) -> bool:
    if reader.specs[first] != reader.specs[second]:
        return False
    return all(torch.equal(a, b) for a, b in zip(reader.pieces(first), reader.pieces(second), strict=True))


def _target_pieces(
    reader: CheckpointReader, origin: dict[str, str], specs: dict[str, TensorSpec], name: str
) -> Iterator[torch.Tensor]:
    """Yield a tensor of the result in runs of rows: the source's, then the rows of new tokens."""
    source_name, (dtype, shape) = origin[name], specs[name]
    old_rows = reader.specs[source_name][1][0]
    extends = shape[0] > old_rows
    if extends:
        # Before the copy, whose pieces keep the file mapped: the tensor would be in memory twice.
        mean, deviation = _row_statistics(reader, source_name)
    for piece in reader.pieces(source_name):
        yield _cast(piece, dtype, source_name, reader)
    if not extends:
        return
    # The embedding and the head of a new token must not be the same noise.
    generator = torch.Generator().manual_seed((EMBEDDING, HEAD).index(name))
    for begin in range(old_rows, shape[0], _NEW_ROWS_AT_ONCE):
        rows = min(_NEW_ROWS_AT_ONCE, shape[0] - begin)
        noise = torch.randn(rows, shape[1], generator=generator)
        yield (mean + NEW_ROW_SPREAD * deviation * noise).to(dtype)


def _cast(piece: torch.Tensor, dtype: torch.dtype, name: str, reader: CheckpointReader) -> torch.Tensor:
    result = piece.to(dtype)
    if not _is_finite(result):
        if _is_finite(piece):
            raise CheckpointError(f"tensor {name!r} overflows {dtype}. Use bfloat16 or float32.")
        raise CheckpointError(
            f"{reader.file_of(name)}: tensor {name!r} holds infinities or NaN: the file is corrupted or the model "
            "diverged."
        )
    return result


def _is_finite(tensor: torch.Tensor) -> bool:
    # Extremes propagate NaN, and unlike torch.isfinite need no memory and a tenth of the time.
    return all(math.isfinite(extreme) for extreme in torch.aminmax(tensor))


def _row_statistics(reader: CheckpointReader, name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of each column of a matrix, float32."""
    rows, columns = reader.specs[name][1]
    total = torch.zeros(columns, dtype=torch.float64)
    squares = torch.zeros(columns, dtype=torch.float64)
    for piece in reader.pieces(name):
        wide = piece.double()
        total += wide.sum(0)
        squares += wide.square().sum(0)
    mean = total / rows
    return mean.float(), (squares / rows - mean.square()).clamp_min(0).sqrt().float()


def _save_config_and_code(model: PreTrainedModel, folder: Path) -> None:
    """Have transformers write what a saved model has beside its weights: config, generation config, remote code."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        model.save_pretrained(folder, state_dict={})
    finally:
        if shown:
            logging.enable_progress_bar()


def _copy_files(source: Path, folder: Path, report: ConversionReport) -> None:
    """Copy the tokenizer, the generation config and the licence, and check that the tokenizer stays the same one."""
    tokenizer_files = sorted({path.name for pattern in _TOKENIZER_FILES for path in source.glob(pattern)})
    other_files = sorted({path.name for pattern in _OTHER_FILES for path in source.glob(pattern)})
    for name in [*tokenizer_files, *other_files]:
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)
            report.copied.append(name)
    templates = "additional_chat_templates"
    if (source / templates).is_dir():
        shutil.copytree(source / templates, folder / templates, copy_function=shutil.copyfile)
        report.copied.append(templates)
    if not tokenizer_files:
        report.warnings.append(f"{source} has no tokenizer.")
        return

    # transformers chooses the tokenizer's class by the model type too, and some classes replace what tokenizer.json
    # says: the same files can cut text otherwise under another model type.
    try:
        before = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
        if _same_tokenizer(before, folder):
            return
        before.save_pretrained(folder)
        if not _same_tokenizer(before, folder):
            report.warnings.append(
                f"AutoTokenizer cuts text otherwise under model type {report.target_type!r} than under "
                f"{report.source_type!r}. Load the tokenizer with {type(before).__name__}.from_pretrained instead."
            )
    except Exception as error:
        report.warnings.append(f"the tokenizer was copied but not checked, as it does not load here: {error}")


def _same_tokenizer(tokenizer, folder: Path) -> bool:
    other = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    if not hasattr(tokenizer, "backend_tokenizer") or not hasattr(other, "backend_tokenizer"):
        return type(tokenizer) is type(other)
    return tokenizer.backend_tokenizer.to_str() == other.backend_tokenizer.to_str()


def _difference(written: dict[str, TensorSpec], planned: dict[str, TensorSpec]) -> str:
    names = sorted(name for name in written.keys() | planned.keys() if written.get(name) != planned.get(name))
    return f"{names[0]!r} is {written.get(names[0])}, not {planned.get(names[0])}"
