"""What is installed and whether it works: versions, libraries used on a small problem, GPUs that talk, variables."""

import importlib.metadata
import importlib.util
import json
import netrc
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from packaging.requirements import Requirement
from torch import nn

from ..hardware import describe_hardware, package_versions
from ..monitoring.settings import WEBHOOK_VARIABLE
from ..optimizer_specs import OPTIMIZERS, state_tensors
from ..optimizers import build_optimizer
from ..strategy import Strategy
from ..task import TrainingTask
from .context import Context
from .outcome import NotTestable, Outcome, failed, passed


__all__ = [
    "LIBRARIES",
    "check_communication",
    "check_library",
    "check_variables",
    "check_versions",
    "named_trackers",
    "talk",
]


_DISTRIBUTION = "modeling_astrobio"
# An 8-bit step moves weights as torch's own does, but for what 8 bits round away.
_MOST_OFF = 0.05


def check_versions(context: Context) -> Outcome:
    """The required packages are installed in versions that will do."""
    texts = _requirements(context.task.recipes.parent / "pyproject.toml")
    found, wrong = {}, []
    for requirement in map(Requirement, texts):
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{requirement} is not installed")
            continue
        found[requirement.name] = version
        if not requirement.specifier.contains(version, prereleases=True):
            wrong.append(f"{requirement} is required; got {version}")
    evidence = {"required": texts, "found": found, "versions": package_versions(), "hardware": describe_hardware()}
    if wrong:
        return failed("; ".join(wrong), **evidence)
    python = ".".join(map(str, sys.version_info[:3]))
    return passed(f"{len(found)} required packages, torch {found['torch']}, Python {python}", **evidence)


def _requirements(pyproject: Path) -> list[str]:
    if pyproject.is_file():
        project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
        return list(project["dependencies"])
    required = importlib.metadata.requires(_DISTRIBUTION) or []
    return [text for text in required if "extra ==" not in text]


def _exercise_bitsandbytes(device: torch.device) -> str:
    return _optimizer_step("adamw_bnb_8bit", device)


def _exercise_torchao(device: torch.device) -> str:
    # Compiling takes long, and the recipe's own steps compile where they need to.
    with torch.compiler.set_stance("force_eager"):
        return f"{_optimizer_step('adamw_torchao_8bit', device)}, not compiled"


def _optimizer_step(name: str, device: torch.device) -> str:
    """Do three steps beside torch's AdamW; returns how far they are apart."""
    moved = {}
    for each in ("adamw", name):
        generator = torch.Generator().manual_seed(0)
        weight = nn.Parameter(torch.randn(64, 256, generator=generator).to(device))
        before = weight.detach().clone()
        optimizer = build_optimizer(
            Strategy(optimizer=each),
            [{"params": [weight]}],
            learning_rate=1e-2,
            betas=(0.9, 0.95),
            eps=1e-8,
            weight_decay=0.1,
        )
        for _ in range(3):
            weight.grad = torch.randn(64, 256, generator=generator).to(device)
            optimizer.step()
        if "8bit" in each and torch.uint8 not in {tensor.dtype for _, _, tensor in state_tensors(optimizer)}:
            raise RuntimeError(f"{each} keeps no 8-bit state")
        moved[each] = weight.detach() - before
    apart = float((moved[name] - moved["adamw"]).norm() / moved["adamw"].norm())
    if not apart <= _MOST_OFF:
        raise RuntimeError(f"three steps of {name} are {apart:.1%} from AdamW's, at most {_MOST_OFF:.0%} are allowed")
    return f"three 8-bit steps of 64 x 256 weights on {device.type}, {apart:.2%} from AdamW's"


def _exercise_flash_attention(device: torch.device) -> str:
    if device.type != "cuda":
        raise NotTestable("installed; it needs a CUDA device")
    from flash_attn import flash_attn_func

    queries, keys, values = (torch.randn(2, 37, 4, 64, device=device, dtype=torch.bfloat16) for _ in range(3))
    found = flash_attn_func(queries, keys, values, causal=True)
    exact = [part.transpose(1, 2).float() for part in (queries, keys, values)]
    expected = nn.functional.scaled_dot_product_attention(exact[0], exact[1], exact[2], is_causal=True).transpose(1, 2)
    apart = float((found.float() - expected).abs().max())
    if not apart < 0.05:
        raise RuntimeError(f"it is {apart:.3f} from exact attention, at most 0.05 are allowed")
    return f"causal attention of 37 tokens, {apart:.1e} from exact"


def _exercise_pyg(device: torch.device) -> str:
    from torch_geometric.data import Batch, Data

    edges = torch.tensor([[0, 1, 2], [1, 2, 0]])
    batch = Batch.from_data_list(
        [Data(x=torch.ones(3, 5), edge_index=edges), Data(x=torch.ones(4, 5), edge_index=edges)]
    )
    batch = batch.to(device)
    if batch.edge_index.max().item() != 5 or batch.batch.bincount().tolist() != [3, 4]:
        raise RuntimeError(f"a batch of two graphs has wrong indices: {batch.edge_index.tolist()}")
    return f"a batch of two graphs on {device.type}"


LIBRARIES: dict[str, tuple[str, str, Callable[[torch.device], str]]] = {
    "bitsandbytes": ("bitsandbytes", "bitsandbytes", _exercise_bitsandbytes),
    "torchao": ("torchao", "torchao", _exercise_torchao),
    "flash_attention": ("flash_attn", "flash-attn", _exercise_flash_attention),
    "pyg": ("torch_geometric", "torch_geometric", _exercise_pyg),
}
"""Name of the check: module, distribution, and what exercises it on a device and returns what was seen."""


def check_library(name: str, task: TrainingTask, device: torch.device) -> Outcome:
    """Use an installed library on a small problem; one that is absent is wrong only where the recipe needs it."""
    module, distribution, exercise = LIBRARIES[name]
    needed = _reason_for_library(name, task)
    if importlib.util.find_spec(module) is None:
        if needed:
            remedy = f"pip install {distribution}"
            return failed(f"{distribution} is not installed, and the recipe needs it: {needed}. {remedy}")
        raise NotTestable(f"{distribution} is not installed, and the recipe does not need it")
    seen = exercise(device)
    version = importlib.metadata.version(distribution)
    return passed(f"{distribution} {version}: {seen}", version=version, needed=needed)


def _reason_for_library(name: str, task: TrainingTask) -> str:
    """Return which setting of the recipe needs a library; empty where none does."""
    step = task.step()
    strategy = step.strategy
    package = OPTIMIZERS[strategy.optimizer].package
    reasons = {
        "bitsandbytes": (package == "bitsandbytes" and f"strategy.optimizer={strategy.optimizer}")
        or (step.quantization and f"model.quantization={step.quantization}"),
        "torchao": (package == "torchao" and f"strategy.optimizer={strategy.optimizer}")
        or (strategy.fp8 and "strategy.fp8=true")
        or (strategy.optimizer_offload and "strategy.optimizer_offload=true"),
        "flash_attention": "flash" in (step.attn_implementation or "")
        and f"model.attn_implementation={step.attn_implementation}",
        "pyg": task.recipe.kind == "graph_vae" and "a model of graphs",
    }
    return reasons[name] or ""


def check_communication(context: Context) -> Outcome:
    """Let the GPUs of this machine exchange tensors, and compare every element."""
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if gpus < 2:
        raise NotTestable(f"two GPUs are needed; there are {gpus}")
    script = context.task.recipes / "hardware" / "check_communication.py"
    return talk(script, gpus, "cuda", context.folder / "logs")


def talk(script: Path, processes: int, device: str, folder: Path) -> Outcome:
    """Run recipes/hardware/check_communication.py and read its report."""
    folder.mkdir(parents=True, exist_ok=True)
    report = folder / "communication.json"
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    done = subprocess.run(
        [*launch, str(script), "--device", device, "--json", str(report)], capture_output=True, text=True, check=False
    )
    if not report.is_file():
        return failed(f"it ended with status {done.returncode} and no report: {' '.join(done.stderr.split())[-500:]}")
    content = json.loads(report.read_text(encoding="utf-8"))
    if done.returncode or content["status"] != "PASS":
        return failed(f"{processes} processes on {device}: {content['reason']}", report=content)
    best = max(row["busbw_gb_per_s"] for row in content["bandwidth"])
    text = f"{processes} processes, {content['backend']}: {len(content['checks'])} checks, up to {best:.1f} GB/s"
    return passed(text, report=content)


def check_variables(context: Context) -> Outcome:
    """The environment variables that the recipe needs are set; values are never shown."""
    trackers = named_trackers(context.recipe.training)
    is_set = {WEBHOOK_VARIABLE: bool(os.environ.get(WEBHOOK_VARIABLE))}
    if "wandb" in trackers:
        is_set["WANDB_API_KEY"] = bool(os.environ.get("WANDB_API_KEY")) or _in_netrc("api.wandb.ai")
        if os.environ.get("WANDB_MODE") in ("offline", "disabled"):
            is_set["WANDB_API_KEY (not needed offline)"] = is_set.pop("WANDB_API_KEY")
    said = ", ".join(f"{name} is {'' if found else 'not '}set" for name, found in is_set.items())
    if is_set.get("WANDB_API_KEY") is False:
        return failed(f"training.report_to=wandb needs WANDB_API_KEY or `wandb login`: {said}", is_set=is_set)
    if trackers & {"wandb"}:
        return passed(said, is_set=is_set)
    if is_set[WEBHOOK_VARIABLE]:
        return passed(f"{said}; the recipe needs no other", is_set=is_set)
    raise NotTestable(f"the recipe needs none; {said}, so that alerts go to the log and the trackers only")


def named_trackers(training: Mapping[str, Any]) -> set[str]:
    """Return the trackers that a run reports to."""
    named = training.get("report_to") or []
    return {
        name for name in (re.split(r"[,\s]+", named) if isinstance(named, str) else named) if name and name != "none"
    }


def _in_netrc(host: str) -> bool:
    try:
        return netrc.netrc().authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False
