"""The table of features says what each platform lacks, without importing what it names."""

import dataclasses
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from modeling_astrobio.training.features import Machine, available_features, features_table, read_machine


ROOT = Path(__file__).resolve().parents[3]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
PACKAGES = ("bitsandbytes", "deepspeed", "flash_attn", "liger_kernel", "torchao", "triton", "xformers")

TWO_GPUS = Machine(
    system="Linux",
    device="cuda",
    gpus=2,
    compute_capability=(8, 9),
    compiler="/usr/bin/g++",
    backends=frozenset({"gloo", "nccl"}),
    packages=dict.fromkeys(PACKAGES, "1.2"),
)
WINDOWS = Machine(system="Windows", device="cpu", backends=frozenset({"gloo"}))
MAC = Machine(system="Darwin", device="mps", compiler="/usr/bin/clang++", backends=frozenset({"gloo"}))


def absent(machine: Machine) -> dict[str, str]:
    return {feature.name: feature.reason for feature in available_features(machine) if not feature.available}


def test_machine_with_everything_lacks_nothing():
    assert absent(TWO_GPUS) == {}
    reasons = {feature.name: feature.reason for feature in available_features(TWO_GPUS)}
    assert reasons["torchao optimizers"] == "on cuda, torchao 1.2"


def test_windows_trains_on_the_cpu_and_says_what_it_lacks():
    missing = absent(WINDOWS)
    assert missing["NCCL"] == missing["FSDP2"] == missing["DeepSpeed ZeRO-3"] == "made for Linux"
    assert missing["torch.compile"] == "torch.compile finds no C++ compiler"
    assert missing["bitsandbytes optimizers"] == "bitsandbytes is not installed"
    assert "bf16" not in missing
    assert "several processes on the CPU (gloo)" not in missing


def test_mac_says_what_it_lacks():
    missing = absent(dataclasses.replace(MAC, packages={"bitsandbytes": "1.2", "torchao": "1.2"}))
    assert missing["CUDA"] == missing["fp8 (torchao)"] == "torch sees no CUDA device"
    assert missing["bitsandbytes optimizers"] == "bitsandbytes has no optimizer for Apple's GPU"
    assert "torchao optimizers" not in missing
    assert "fp16" not in missing
    assert "bf16" in absent(dataclasses.replace(MAC, has_bfloat16=False))


@pytest.mark.parametrize(
    ("change", "lost"),
    [
        ({"gpus": 1}, {"FSDP2"}),
        ({"compute_capability": (8, 6)}, {"fp8 (torchao)"}),
        ({"compute_capability": (7, 0), "has_bfloat16": False}, {"fp8 (torchao)", "FlashAttention", "bf16"}),
        ({"compute_capability": None}, {"fp8 (torchao)", "FlashAttention"}),
        ({"backends": frozenset({"gloo"})}, {"NCCL", "FSDP2", "DeepSpeed ZeRO-3"}),
        (
            {"compiler": None},
            {"torch.compile", "torchao optimizers", "fp8 (torchao)", "DeepSpeed ZeRO-3"},
        ),
    ],
)
def test_each_need_is_looked_at(change, lost):
    assert set(absent(dataclasses.replace(TWO_GPUS, **change))) == lost


@pytest.mark.parametrize("package", PACKAGES)
def test_absent_package_is_named_with_its_remedy(package):
    packages = {name: version for name, version in TWO_GPUS.packages.items() if name != package}
    missing = [f for f in available_features(dataclasses.replace(TWO_GPUS, packages=packages)) if not f.available]
    assert missing
    for feature in missing:
        assert feature.reason == f"{package.replace('_', '-')} is not installed"
        assert "install" in feature.remedy


def test_every_absent_feature_has_a_remedy():
    for machine in (WINDOWS, MAC, read_machine()):
        for feature in available_features(machine):
            assert bool(feature.remedy) != feature.available


def test_this_machine_is_read():
    machine = read_machine()
    assert machine.device == ("cuda" if torch.cuda.is_available() else machine.device)
    assert (machine.gpus > 0) == (machine.device == "cuda")
    assert ("gloo" in machine.backends) == torch.distributed.is_gloo_available()
    for package in PACKAGES:
        assert (package in machine.packages) == (importlib.util.find_spec(package) is not None)


def test_compiler_that_is_named_and_absent_counts_as_none(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert read_machine().compiler is None


def test_table_has_one_line_for_each_feature():
    features = available_features(WINDOWS)
    first, *lines = features_table(features).splitlines()
    assert first.startswith("feature")
    assert [line.split("  ")[0] for line in lines] == [feature.name for feature in features]
    assert all(("absent" in line) != ("available" in line) for line in lines)


# transformers imports some of the packages by itself, so it comes before the folder that must not be touched.
RUN_MODULE = """
import runpy, sys
import modeling_astrobio
sys.path.insert(0, sys.argv[1])
runpy.run_module("modeling_astrobio.training.features", run_name="__main__")
"""


def test_module_prints_the_table_without_importing_what_it_names(tmp_path):
    for name in ("xformers", "flash_attn"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('touched')\n", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", RUN_MODULE, str(tmp_path)],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("feature ")
    assert "several processes on the CPU" in done.stdout
