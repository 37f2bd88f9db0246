"""Sizes of what a process holds, against the tensors themselves, and its peak against a step whose size is known."""

import os
import subprocess
import sys

import pytest
import torch
from torch import nn
from training_builders import small_model

from modeling_astrobio.training.monitoring.memory_use import (
    PeakMemory,
    gradient_bytes,
    host_slack_bytes,
    optimizer_bytes,
    parameter_bytes,
    storage_bytes,
)
from modeling_astrobio.training.optimizers import build_optimizer
from modeling_astrobio.training.strategy import Strategy


CPU = torch.device("cpu")
MIB = 2**20
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the peak of a process")


def optimizer_after_a_step(model, name: str) -> torch.optim.Optimizer:
    options = {"learning_rate": 1e-3, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.1}
    optimizer = build_optimizer(Strategy(optimizer=name), [{"params": list(model.parameters())}], **options)
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 0.01)
    with torch.compiler.set_stance("force_eager"):
        optimizer.step()
    return optimizer


@pytest.mark.parametrize("tied", [False, True])
def test_parameters_are_counted_once_with_buffers(tied):
    model = small_model(vocab_size=701, tie_word_embeddings=tied)
    buffers = sum(buffer.nbytes for buffer in model.buffers())
    assert buffers > 0
    assert parameter_bytes(model, CPU) == 4 * sum(p.numel() for p in model.parameters()) + buffers


def test_gradients_are_those_that_are_there():
    model = small_model()
    assert gradient_bytes(model, CPU) == 0
    model.lm_head.weight.requires_grad_(False)
    model(torch.tensor([[5, 6, 7]]), labels=torch.tensor([[5, 6, 7]])).loss.backward()
    trained = sum(p.nbytes for p in model.parameters() if p.requires_grad)
    assert gradient_bytes(model, CPU) == trained
    model.zero_grad()
    assert gradient_bytes(model, CPU) == 0


# Rows of 4096 values are whole blocks of 8-bit codes: a byte for each, and scales for 256 of them.
@pytest.mark.parametrize(
    ("name", "bytes_per_value", "tolerance"),
    [
        ("adamw", 8, 0.001),
        ("lion", 4, 0.001),
        ("adamw_bnb_8bit", 2, 0.05),
        ("adamw_torchao_8bit", 2, 0.05),
        ("adamw_torchao", 8, 0.001),
    ],
)
def test_states_are_counted_by_the_memory_behind_them(name, bytes_per_value, tolerance):
    model = nn.Linear(4096, 64, bias=False)
    optimizer = optimizer_after_a_step(model, name)
    expected = bytes_per_value * model.weight.numel()
    assert optimizer_bytes(model, optimizer, CPU) == pytest.approx(expected, rel=tolerance)


def test_other_devices_do_not_count():
    model = small_model()
    assert parameter_bytes(model, torch.device("cuda", 0)) == 0
    # Accelerate numbers the host by process.
    assert parameter_bytes(model, torch.device("cpu", 1)) == parameter_bytes(model, CPU) > 0
    assert parameter_bytes(model.to("meta"), CPU) == 0


def test_views_count_as_what_they_keep_alive():
    base = torch.zeros(10, 10)
    assert storage_bytes([base[0], base[3:5], base], CPU) == 400
    assert storage_bytes([base.clone(), base], CPU) == 800
    assert storage_bytes([], CPU) == 0


def test_four_bit_weights_count_with_their_scales():
    bitsandbytes = pytest.importorskip("bitsandbytes")
    layer = bitsandbytes.nn.Linear4bit(1024, 256, bias=False, quant_type="nf4", compress_statistics=True).to("cpu")
    values = 1024 * 256
    # Half a byte each, a scale of a byte for 64, a float for 256 of those, and small tables.
    expected = values // 2 + values // 64 + 4 * values // (64 * 256)
    assert expected < parameter_bytes(layer, CPU) < expected + 8192


_PEAK = """
import sys, torch
from modeling_astrobio.training.monitoring.memory_use import PeakMemory, gradient_bytes, parameter_bytes
MIB = 2**20
waste = torch.ones(300 * MIB // 4); del waste     # a peak of before, which does not count
model = torch.nn.Linear(4096, 2048, bias=False)   # 32 MiB
held = torch.ones(100 * MIB // 4)                 # not of the model
peak = PeakMemory(torch.device("cpu"))
assert peak.read() is None
peak.start(parameter_bytes(model, torch.device("cpu")))
print(peak.read() / MIB)
model(torch.ones(8, 4096)).sum().backward()       # gradients: 32 MiB
print(peak.read() / MIB)
more = torch.ones(200 * MIB // 4); del more
print(peak.read() / MIB)
import mmap
with open(sys.argv[1], "rb") as file:             # pages of a mapped file
    mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    sum(mapped[i] for i in range(0, len(mapped), 4096))
    print(peak.read() / MIB)
"""


@linux_only
def test_the_peak_is_that_of_training_alone(tmp_path):
    file = tmp_path / "mapped"
    file.write_bytes(b"x" * (80 * MIB))
    run = subprocess.run(
        [sys.executable, "-c", _PEAK, str(file)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"},
    )
    at_start, after_step, later, mapped = map(float, run.stdout.split())
    assert at_start == pytest.approx(32, abs=2)
    # oneDNN keeps some memory beside the gradients.
    assert after_step == pytest.approx(64, abs=8)
    assert later == pytest.approx(264, abs=8)
    assert mapped == pytest.approx(later, abs=2)


@linux_only
def test_a_peak_that_cannot_be_reset_is_known_only_when_it_is_passed(tmp_path, monkeypatch):
    from modeling_astrobio.training.monitoring import memory_use

    waste = torch.ones(200 * MIB // 4)
    del waste
    # Containers may forbid to write it; a folder cannot be written either.
    monkeypatch.setattr(memory_use, "_CLEAR_REFS", tmp_path)
    peak = PeakMemory(CPU)
    peak.start(0)
    assert peak.read() is None
    more = torch.ones(900 * MIB // 4)
    assert peak.read() >= more.nbytes


def test_the_host_keeps_freed_blocks_unless_it_was_told_otherwise(monkeypatch):
    monkeypatch.delenv("MALLOC_MMAP_THRESHOLD_", raising=False)
    assert host_slack_bytes(1000 * MIB) == 814 * MIB
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "65536")
    assert host_slack_bytes(1000 * MIB) == 64 * MIB


@pytest.mark.gpu
def test_the_peak_of_a_gpu_is_what_its_allocator_gave_out():
    device = torch.device("cuda", torch.cuda.current_device())
    waste = torch.ones(300 * MIB // 4, device=device)
    del waste
    peak = PeakMemory(device)
    peak.start(0)
    before = torch.cuda.memory_allocated(device)
    more = torch.ones(200 * MIB // 4, device=device)
    del more
    assert peak.read() == before + 200 * MIB
