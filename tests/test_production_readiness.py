"""What a long run stands on, once through each: data, a step, memory, checkpoints, processes, and no loose ends."""

import ast
import io
import json
import os
import re
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest
import torch
from datasets import Dataset, load_dataset
from training_builders import mixed_rows, small_model, small_tokenizer
from transformers import AutoModelForCausalLM, TrainingArguments

from data_scripts.derived.embedded_planets import NAME_SEPARATOR, build_embedded_planets
from modeling_astrobio.training.checkpoints import resolve_resume, verify_checkpoint
from modeling_astrobio.training.llm_data import collate_packed, packed_rows, tokenize_rows
from modeling_astrobio.training.llm_recipe import DataSection, LLMRecipe
from modeling_astrobio.training.llm_step import llm_step
from modeling_astrobio.training.memory_plan import trace_training_step
from modeling_astrobio.training.monitoring.memory_use import optimizer_bytes, parameter_bytes
from modeling_astrobio.training.optimizer_specs import OPTIMIZERS
from modeling_astrobio.training.recipe import recipe_from_dict
from modeling_astrobio.training.trainer import AstroTrainer


ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("modeling_astrobio", "data_scripts", "recipes")


def trainer(folder: Path, steps: int = 4, **options) -> AstroTrainer:
    data = DataSection(sequence_length=48)
    rows = packed_rows(Dataset.from_list(mixed_rows(40)), small_tokenizer(), data)
    arguments = TrainingArguments(
        output_dir=str(folder),
        use_cpu=True,
        max_steps=steps,
        per_device_train_batch_size=3,
        learning_rate=5e-3,
        logging_steps=1,
        save_steps=2,
        report_to="none",
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        disable_tqdm=True,
    )
    return AstroTrainer(
        model=small_model().train(), args=arguments, train_dataset=rows, data_collator=collate_packed, **options
    )


def test_data_pipeline_end_to_end(tmp_path):
    """From the builder to batches, and back: every text that went in comes out of the rows."""
    command = [sys.executable, "-m", "data_scripts", "build", "embedded_planets", "--out", str(tmp_path / "planets")]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    splits = load_dataset(str(tmp_path / "planets"))
    built = build_embedded_planets()
    assert {name: rows.num_rows for name, rows in splits.items()} == {k: v.num_rows for k, v in built.items()}
    # A row that compares two planets names both stars.
    stars = {
        name: {star for names in rows["host_star_name"] for star in names.split(NAME_SEPARATOR)}
        for name, rows in splits.items()
    }
    assert all(stars.values())
    assert not stars["train"] & (stars["validation"] | stars["test"])
    some = splits["train"].select(range(60))
    tokenizer, data = small_tokenizer(), DataSection(sequence_length=64)
    documents = list(tokenize_rows(some, tokenizer, data))
    rows = packed_rows(some, tokenizer, data)
    batch = collate_packed([rows[index] for index in range(5)])
    assert {name: tuple(value.shape) for name, value in batch.items()} == dict.fromkeys(
        ("input_ids", "labels", "position_ids"), (5, 64)
    )
    # As many tokens as the documents have; what fills the rows is not learned.
    packed = sum(sum(token != tokenizer.pad_token_id for token in row) for row in rows["input_ids"])
    assert packed == sum(len(document["input_ids"]) for document in documents)
    texts = [row["text"] for row in some if row["text"] is not None]
    decoded = [tokenizer.decode(document["input_ids"], skip_special_tokens=True) for document in documents]
    assert set(texts) <= set(decoded)


def test_model_training_step(tmp_path):
    """A step reaches every weight, and a few of them lower the loss."""
    running = trainer(tmp_path, steps=12)
    before = {name: weight.detach().clone() for name, weight in running.model.named_parameters()}
    running.train()
    assert [name for name, weight in running.model.named_parameters() if torch.equal(weight, before[name])] == []
    losses = [row["loss"] for row in running.state.log_history if "loss" in row]
    assert len(losses) == 12
    assert sum(losses[-3:]) < 0.9 * sum(losses[:3])


def test_memory_usage(tmp_path):
    """Weights and the optimizer's state have the bytes that the plan says."""
    recipe = recipe_from_dict(
        LLMRecipe, {"model": {"preset": "tiny", "config": {"vocab_size": 700}}, "data": {"sequence_length": 48}}
    )
    trace = trace_training_step(llm_step(recipe), "cpu")
    spec = OPTIMIZERS["adamw"]
    planned = sum(spec.state_bytes(p.shape, p.dtype, is_embedding=p.is_embedding) for p in trace.parameters)
    model = llm_step(recipe).make_model()
    weights = sum(p.nbytes for p in trace.parameters)
    assert weights == sum(weight.nbytes for weight in model.parameters())
    # With the buffers, each of which the plan rounds up to 64 bytes.
    assert weights < parameter_bytes(model, torch.device("cpu")) <= weights + trace.components["buffers"]
    running = trainer(tmp_path)
    running.model_wrapped = running.model = model
    running.train()
    measured = optimizer_bytes(running.model, running.optimizer, torch.device("cpu"))
    assert measured == planned + spec.shared_state_bytes


def test_checkpoint_save_and_load(tmp_path):
    """A checkpoint is whole, is found, continues bit by bit, and is refused when it is not whole."""
    whole = trainer(tmp_path / "whole")
    whole.train()
    halves = trainer(tmp_path / "halves", steps=4)
    halves.train()
    checkpoint = tmp_path / "halves" / "checkpoint-2"
    assert verify_checkpoint(checkpoint) is None
    resumed = trainer(tmp_path / "halves")
    resumed.train(resume_from_checkpoint=str(checkpoint))
    for name, weight in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], weight), name
    resumed.save_whole_model(tmp_path / "model")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    tokens = torch.arange(3, 40)[None]
    with torch.no_grad():
        assert torch.equal(loaded(tokens).logits, resumed.model.eval()(tokens).logits)
    newest = tmp_path / "halves" / "checkpoint-4"
    with (newest / "model.safetensors").open("r+b") as file:
        file.seek(500)
        file.write(b"\x55\xaa")
    assert "model.safetensors has other content" in str(verify_checkpoint(newest))
    assert resolve_resume(tmp_path / "halves", "auto") == checkpoint


DISTRIBUTED = """
import sys, json, torch, torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from transformers import TrainingArguments
from training_builders import small_model
from datasets import Dataset
from modeling_astrobio.training.llm_data import collate_packed
from modeling_astrobio.training.trainer import AstroTrainer
arguments = TrainingArguments(output_dir=sys.argv[1], use_cpu=True, max_steps=3, per_device_train_batch_size=1,
    report_to="none", save_strategy="no", remove_unused_columns=False, disable_tqdm=True)
rows = [{"input_ids": list(range(3, 20 + i)), "labels": list(range(3, 20 + i))} for i in range(6)]
rows = [{key: (value + [0] * 6)[:22] for key, value in row.items()} for row in rows]
trainer = AstroTrainer(model=small_model().train(), args=arguments, train_dataset=Dataset.from_list(rows),
    data_collator=collate_packed)
trainer.train()
flat = torch.cat([weight.detach().flatten() for weight in trainer.model.parameters()])
both = [torch.empty_like(flat) for _ in range(dist.get_world_size())]
dist.all_gather(both, flat)
if dist.get_rank() == 0:
    print(json.dumps({"world": dist.get_world_size(), "backend": dist.get_backend(),
        "ddp": isinstance(trainer.model_wrapped, DistributedDataParallel), "same": torch.equal(*both)}))
# Threads of gloo that are still at work at the end abort the process.
dist.barrier()
dist.destroy_process_group()
"""


def test_distributed_training_setup(tmp_path):
    """Two processes find one another and hold the same weights after some steps."""
    (tmp_path / "worker.py").write_text(DISTRIBUTED, encoding="utf-8")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    done = subprocess.run(
        [*launcher, str(tmp_path / "worker.py"), str(tmp_path / "run")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests"))), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))
    assert found == {"world": 2, "backend": "gloo", "ddp": True, "same": True}


def loose_ends(source: str) -> list[str]:
    """Return comments that put work off, and functions without a body that no subclass must give one."""
    found = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        put_off = re.search(r"\b(TODO|FIXME|XXX|HACK)\b", token.string)
        if put_off and token.type in (tokenize.COMMENT, tokenize.STRING):
            found.append(f"line {token.start[0]}: {put_off[0]}")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            if any("abstractmethod" in ast.unparse(decorator) for decorator in node.decorator_list):
                continue
            has_docstring = ast.get_docstring(node) is not None
            body = node.body[1:] if has_docstring else node.body
            is_empty = not body and not has_docstring
            if is_empty or any(_is_stub(statement) for statement in body[:1]):
                found.append(f"line {node.lineno}: {node.name} does nothing")
    return found


def _is_stub(statement: ast.stmt) -> bool:
    is_ellipsis = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    not_implemented = isinstance(statement, ast.Raise) and "NotImplemented" in ast.unparse(statement)
    return isinstance(statement, ast.Pass) or is_ellipsis or not_implemented


@pytest.mark.parametrize("package", PACKAGES)
def test_nothing_is_put_off(package):
    """No TODO, FIXME or stub stands in the code."""
    files = sorted((ROOT / package).rglob("*.py"))
    assert len(files) > 10
    ends = {path.relative_to(ROOT).as_posix(): loose_ends(path.read_text(encoding="utf-8")) for path in files}
    assert {path: found for path, found in ends.items() if found} == {}


@pytest.mark.parametrize(
    "source",
    [
        "# TODO: later",
        "def f():\n    pass",
        "def f():\n    ...",
        "def f():\n    raise NotImplementedError",
        '"""FIXME"""',
    ],
)
def test_loose_ends_are_found(source):
    assert len(loose_ends(source + "\n")) == 1
