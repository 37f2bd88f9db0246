"""The table of GPUs is consistent, GPUs are found by their names, and absurd machines are refused."""

import math
import os
from pathlib import Path

import pytest
import torch

from modeling_astrobio.training import gpu_specs
from modeling_astrobio.training.errors import HardwareError, UserError
from modeling_astrobio.training.gpu_specs import GIB, GPUS, find_gpu, parse_hardware, this_machine


GDDR = {"RTX 3090", "RTX A5000", "RTX A6000", "A10", "A40", "RTX 4090", "RTX 6000 Ada", "L4", "L40", "L40S"}
GDDR |= {"RTX 5090", "RTX PRO 6000"}


@pytest.mark.parametrize("spec", GPUS.values(), ids=lambda spec: spec.name)
def test_figures_of_a_gpu_agree_with_one_another(spec):
    assert 0.9 * spec.vram_gb < spec.usable_gib < spec.vram_gb
    assert spec.fp32_tflops < spec.bf16_tflops
    # Float8 came with compute capability 8.9 and is computed twice as fast.
    has_fp8 = spec.compute_capability is None or spec.compute_capability >= (8, 9)
    assert (spec.fp8_tflops is not None) == has_fp8
    if has_fp8:
        assert spec.fp8_tflops == pytest.approx(2 * spec.bf16_tflops, rel=0.02)
    assert spec.interconnect_gb_per_s >= spec.pcie_gb_per_s
    assert spec.pcie_gb_per_s < spec.memory_gb_per_s
    assert spec.source


@pytest.mark.parametrize("name", sorted(GDDR))
def test_peaks_are_dense_and_sum_in_float32(name):
    """One tensor core is 16 or 32 multipliers for each of the CUDA cores' two; a sparse peak would double that."""
    ratio = GPUS[name].bf16_tflops / GPUS[name].fp32_tflops
    consumer = name.startswith("RTX") and name[4].isdigit() and "Ada" not in name
    assert ratio == pytest.approx(2 if consumer or name == "L40" else 4, rel=0.02)


@pytest.mark.parametrize(
    ("reported", "name"),
    [
        ("NVIDIA GeForce RTX 4090", "RTX 4090"),
        ("NVIDIA RTX A6000", "RTX A6000"),
        ("NVIDIA RTX 6000 Ada Generation", "RTX 6000 Ada"),
        ("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", "RTX PRO 6000"),
        ("Tesla T4", "T4"),
        ("Tesla V100-SXM2-16GB", "V100 16GB SXM"),
        ("Tesla V100-PCIE-32GB", "V100 32GB PCIe"),
        ("NVIDIA A100-PCIE-40GB", "A100 40GB PCIe"),
        ("NVIDIA A100-SXM4-80GB", "A100 80GB SXM"),
        ("NVIDIA A100 80GB PCIe", "A100 80GB PCIe"),
        ("NVIDIA H100 80GB HBM3", "H100 SXM"),
        ("NVIDIA H100 PCIe", "H100 PCIe"),
        ("NVIDIA H100 NVL", "H100 NVL"),
        ("NVIDIA H200", "H200 SXM"),
        ("NVIDIA B200", "B200"),
        ("AMD Instinct MI300X", "MI300X"),
        ("a100 80 gb sxm", "A100 80GB SXM"),
        ("4090", "RTX 4090"),
    ],
)
def test_gpu_is_found_by_what_torch_and_people_call_it(reported, name):
    assert find_gpu(reported) is GPUS[name]


def test_every_name_of_the_table_finds_its_own_row():
    assert [find_gpu(name.upper()).name for name in GPUS] == list(GPUS)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("h100", "got 'h100'. Did you mean H100 PCIe or H100 SXM or H100 NVL"),
        ("6000", "Did you mean RTX 6000 Ada or RTX PRO 6000"),
        ("RTX 40900", "Did you mean RTX 4090"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "Did you mean RTX PRO 6000"),
        ("abacus", "Known: T4, .*MI300X"),
        ("", "Known: T4"),
        ("NVIDIA", "Known: T4"),
        (4090, "got 4090. Known"),
    ],
)
def test_unknown_gpu_is_refused_with_near_names(name, message):
    with pytest.raises(HardwareError, match=message):
        find_gpu(name)


def test_named_gpu_has_its_own_size_and_rates():
    hardware = parse_hardware(2, 48, 128, 500, gpu="A6000")
    assert hardware.gpus == 2
    assert hardware.gpu is GPUS["RTX A6000"]
    assert hardware.vram_bytes == int(47.4 * GIB)
    assert hardware.usable_vram_bytes == int(47.4 * GIB) - GIB // 2
    assert hardware.ram_bytes == int(128 * 0.97 * GIB)
    assert hardware.disk_bytes == 500 * 10**9
    assert parse_hardware(gpu="A6000").vram_bytes == hardware.vram_bytes


def test_size_without_a_name_is_the_least_that_such_a_card_leaves():
    """48 GB are 47.4 GiB on an A6000 and 44.3 on an A40, whose error correction is on."""
    hardware = parse_hardware(2, 48)
    assert hardware.vram_bytes == int(44.3 * GIB)
    assert (hardware.gpu, hardware.ram_bytes, hardware.disk_bytes) == (None, None, None)
    for vram in sorted({spec.vram_gb for spec in GPUS.values()}):
        least = min(spec.usable_gib for spec in GPUS.values() if spec.vram_gb == vram)
        assert parse_hardware(1, vram).vram_bytes == int(least * GIB)
    # A size that none of the table has: no better than the worst.
    assert parse_hardware(1, 45).vram_bytes < 0.92 * 45 * GIB


def test_part_of_a_named_gpu():
    whole, part = parse_hardware(gpu="H200"), parse_hardware(vram=47, gpu="H200")
    assert part.vram_bytes == pytest.approx(whole.vram_bytes / 3, rel=1e-6)
    assert part.gpu is whole.gpu


def test_interconnect_replaces_the_usual_one():
    assert parse_hardware(2, gpu="RTX 3090").gpu.interconnect_gb_per_s == GPUS["RTX 3090"].pcie_gb_per_s
    assert parse_hardware(2, gpu="RTX 3090", interconnect=56.2).gpu.interconnect_gb_per_s == 56.2
    assert parse_hardware(2, gpu="H100 SXM").gpu.interconnect_gb_per_s == 450
    assert GPUS["RTX 3090"].interconnect_gb_per_s == GPUS["RTX 3090"].pcie_gb_per_s


def test_cpu_alone():
    hardware = parse_hardware(0, ram=64)
    assert (hardware.gpus, hardware.vram_bytes, hardware.usable_vram_bytes) == (0, 0, 0)
    assert hardware.ram_bytes == int(64 * 0.97 * GIB)


def test_numbers_may_be_text():
    assert parse_hardware("2", "48", "128", "500") == parse_hardware(2, 48, 128, 500)


MISTAKES = {
    "nothing": ({}, "gpus must be given; got neither"),
    "no size": ({"gpus": 2}, "vram or gpu must be given; got neither"),
    "negative gpus": ({"gpus": -1, "vram": 48}, "gpus must be a number from 0 to 4096; got -1"),
    "half a gpu": ({"gpus": 1.5, "vram": 48}, "gpus must be a whole number; got 1.5"),
    "gpus of text": ({"gpus": "two", "vram": 48}, "gpus must be a number .*got 'two'"),
    "boolean": ({"gpus": True, "vram": 48}, "gpus must be a number .*got True"),
    "list": ({"gpus": [2], "vram": 48}, r"gpus must be a number .*got \[2\]"),
    "no vram": ({"gpus": 1, "vram": 0}, "vram must be a number from 1 to 1024 GB; got 0"),
    "negative vram": ({"gpus": 1, "vram": -48}, "vram must be a number .*got -48"),
    "tiny vram": ({"gpus": 1, "vram": 0.001}, "vram must be a number .*got 0.001"),
    "huge vram": ({"gpus": 1, "vram": 10**6}, "vram must be a number .*got 1000000"),
    "huge integer": ({"gpus": 1, "vram": 10**400}, "vram must be a number from 1 to 1024 GB"),
    "nan": ({"gpus": 1, "vram": math.nan}, "vram must be a number .*got nan"),
    "infinite": ({"gpus": 1, "vram": "inf"}, "vram must be a number .*got 'inf'"),
    "unit": ({"gpus": 1, "vram": "48GB"}, "vram must be a number .*got '48GB'"),
    "negative ram": ({"gpus": 1, "vram": 48, "ram": -1}, "ram must be a number from 1 to 65536 GiB; got -1"),
    "no disk": ({"gpus": 1, "vram": 48, "disk": 0}, "disk must be a number from 1 to .*got 0"),
    "cpu without ram": ({"gpus": 0}, "ram must be given where gpus=0"),
    "cpu with vram": ({"gpus": 0, "ram": 64, "vram": 24}, "vram must be left out where gpus=0; got 24"),
    "cpu with gpu": ({"gpus": 0, "ram": 64, "gpu": "L4"}, "gpu must be left out where gpus=0; got 'L4'"),
    "unknown gpu": ({"gpus": 1, "gpu": "RTX 4080"}, "gpu must be a known GPU; got 'RTX 4080'. Did you mean RTX 4090"),
    "contradiction": ({"gpu": "RTX 4090", "vram": 48}, "vram must be at most the 24 GB of the RTX 4090; got 48"),
    "interconnect alone": ({"vram": 24, "interconnect": 32}, "interconnect=32 needs a GPU's name"),
    "no interconnect": ({"gpu": "L4", "interconnect": 0}, "interconnect must be a number .*GB/s; got 0"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_refused(mistake):
    arguments, message = MISTAKES[mistake]
    with pytest.raises(HardwareError, match=message) as caught:
        parse_hardware(**arguments)
    assert isinstance(caught.value, UserError)


def test_this_machine(tmp_path):
    hardware = this_machine("cpu", tmp_path / "not" / "yet" / "there")
    assert (hardware.gpus, hardware.vram_bytes, hardware.gpu) == (0, 0, None)
    assert GIB // 2 < hardware.ram_bytes < 2**46
    assert hardware.disk_bytes > 0
    if hasattr(os, "sysconf"):
        assert hardware.ram_bytes <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def test_limit_of_a_container_counts(tmp_path, monkeypatch):
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(gpu_specs, "_CONTAINER_LIMITS", (str(limit),))
    free = this_machine("cpu").ram_bytes
    limit.write_text("max\n", encoding="ascii")
    assert this_machine("cpu").ram_bytes == free
    limit.write_text("123456789\n", encoding="ascii")
    assert this_machine("cpu").ram_bytes == 123456789


def test_memory_is_read_where_there_is_no_sysconf(monkeypatch):
    """As on Windows."""
    monkeypatch.setattr(gpu_specs, "_CONTAINER_LIMITS", ())
    here = this_machine("cpu").ram_bytes
    monkeypatch.delattr(os, "sysconf")
    monkeypatch.delattr(os, "sysconf_names", raising=False)
    assert this_machine("cpu").ram_bytes == pytest.approx(here, rel=0.01)
    monkeypatch.setitem(__import__("sys").modules, "psutil", None)
    assert this_machine("cpu").ram_bytes is None


@pytest.mark.gpu
def test_this_machine_with_a_gpu():
    hardware = this_machine("auto", Path.cwd())
    assert hardware.gpus == torch.cuda.device_count() > 0
    smallest = min(torch.cuda.get_device_properties(i).total_memory for i in range(hardware.gpus))
    assert hardware.vram_bytes == smallest
    if hardware.gpu is not None:
        assert hardware.gpu.usable_gib * GIB <= smallest <= hardware.gpu.vram_gb * GIB
