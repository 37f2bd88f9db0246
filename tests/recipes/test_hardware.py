"""Files of recipes/hardware: what Accelerate makes of them, the check of communication, the set-up of a machine."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import FullyShardedDataParallelPlugin
from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env
from packaging.specifiers import SpecifierSet
from torch.distributed.fsdp import CPUOffloadPolicy
from torch.distributed.fsdp.wrap import transformer_auto_wrap_policy

from modeling_astrobio import AstroLLMForCausalLM


ROOT = Path(__file__).resolve().parents[2]
HARDWARE = ROOT / "recipes" / "hardware"
CHECK = HARDWARE / "check_communication.py"
SETUP = HARDWARE / "setup_gpu_box.sh"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def launch_arguments(name: str):
    arguments = launch_command_parser().parse_args(["--config_file", str(HARDWARE / name), "script.py"])
    return _validate_launch_command(arguments)


@pytest.mark.parametrize("path", sorted(HARDWARE.glob("*.yaml")), ids=lambda path: path.stem)
def test_precision_is_left_to_the_recipe(path):
    """With "bf16" here Accelerate would turn bfloat16 weights under FSDP2 into float32."""
    arguments, *_ = launch_arguments(path.name)
    assert arguments.mixed_precision == "no"
    assert arguments.num_processes == (1 if path.stem in ("cpu", "one_gpu") else 2)


@pytest.mark.parametrize("name", ["fsdp2", "fsdp2_offload"])
def test_fsdp_files_become_the_plugin_that_is_meant(name, monkeypatch):
    arguments, *_ = launch_arguments(f"{name}.yaml")
    assert arguments.use_fsdp
    for key, value in prepare_multi_gpu_env(arguments).items():
        if key.startswith("FSDP_"):
            monkeypatch.setenv(key, value)
    plugin = FullyShardedDataParallelPlugin()
    assert plugin.fsdp_version == 2
    assert plugin.reshard_after_forward is True
    assert plugin.auto_wrap_policy is transformer_auto_wrap_policy
    assert plugin.transformer_cls_names_to_wrap == AstroLLMForCausalLM._no_split_modules
    assert plugin.state_dict_type.name == "SHARDED_STATE_DICT"
    assert plugin.cpu_ram_efficient_loading is True
    assert plugin.activation_checkpointing is False
    assert isinstance(plugin.cpu_offload, CPUOffloadPolicy) == (name == "fsdp2_offload")
    assert plugin.mixed_precision_policy is None


def test_zero3_file_becomes_the_plugin_that_is_meant(monkeypatch):
    if importlib.util.find_spec("deepspeed") is None:
        pytest.skip("deepspeed is not installed")
    from accelerate.utils import DeepSpeedPlugin

    arguments, defaults, _ = launch_arguments("zero3_offload.yaml")
    assert arguments.use_deepspeed
    arguments.deepspeed_fields_from_accelerate_config = ",".join(defaults.deepspeed_config)
    monkeypatch.setenv("PYTHONPATH", os.environ.get("PYTHONPATH", ""))
    for key, value in prepare_deepspeed_cmd_env(arguments)[1].items():
        if key.startswith("ACCELERATE_"):
            monkeypatch.setenv(key, value)
    config = DeepSpeedPlugin().deepspeed_config
    assert config["zero_optimization"]["stage"] == 3
    for part in ("offload_param", "offload_optimizer"):
        assert config["zero_optimization"][part]["device"] == "cpu"
    assert config["zero_optimization"]["stage3_gather_16bit_weights_on_model_save"] is True
    assert config["gradient_accumulation_steps"] == config["gradient_clipping"] == "auto"


# One process is enough: what happens to the weights does not depend on how many share them.
UPCAST = """
import sys, types, torch, torch.distributed as dist
from accelerate import PartialState
from accelerate.utils import FullyShardedDataParallelPlugin
from accelerate.utils.fsdp_utils import fsdp2_prepare_model
from torch.distributed.device_mesh import init_device_mesh
from modeling_astrobio import AstroLLMConfig, AstroLLMForCausalLM
PartialState(cpu=True)
dist.init_process_group("gloo", init_method=f"file://{sys.argv[1]}", rank=0, world_size=1)
mesh = init_device_mesh("cpu", (1,), mesh_dim_names=("dp",))
for precision in ("no", "bf16"):
    plugin = FullyShardedDataParallelPlugin(
        fsdp_version=2,
        auto_wrap_policy="transformer_based_wrap",
        transformer_cls_names_to_wrap=["AstroLLMDecoderLayer"],
        cpu_ram_efficient_loading=True,
    )
    if precision != "no":
        plugin.set_mixed_precision(precision)
    accelerator = types.SimpleNamespace(
        state=types.SimpleNamespace(fsdp_plugin=plugin),
        mixed_precision=precision,
        is_main_process=True,
        device=torch.device("cpu"),
        torch_device_mesh=mesh,
        parallelism_config=types.SimpleNamespace(fsdp_dim_names=("dp",)),
    )
    model = AstroLLMForCausalLM(AstroLLMConfig.from_preset("tiny")).to(torch.bfloat16)
    model = fsdp2_prepare_model(accelerator, model)
    print(precision, *{type(p).__name__ for p in model.parameters()}, *{str(p.dtype) for p in model.parameters()})
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_accelerate_widens_bfloat16_weights_where_mixed_precision_is_on(tmp_path):
    """The reason for what fsdp2.yaml says; if this fails, Accelerate has changed and the file should too."""
    done = subprocess.run(
        [sys.executable, "-c", UPCAST, str(tmp_path / "store")],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "no DTensor torch.bfloat16\n" in done.stdout
    assert "bf16 DTensor torch.float32\n" in done.stdout


def constraint(package: str) -> str:
    """The version that constraints.txt pins."""
    return re.search(rf"^{package}==(.+)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)[1]


def torchrun(*arguments: str, processes: int = 2, seconds: float = 120) -> subprocess.CompletedProcess:
    return subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)),
            *arguments,
        ],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


def test_communication_of_two_processes(tmp_path):
    done = torchrun(str(CHECK), "--device", "cpu", "--json", str(tmp_path / "report.json"))
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert (report["status"], report["world_size"], report["backend"]) == ("PASS", 2, "gloo")
    # Five operations, three dtypes, three sizes.
    assert len(report["checks"]) == 45
    assert all(check["wrong_elements_by_rank"] == [0, 0] for check in report["checks"])
    shares = {"all_reduce": 1.0, "all_gather": 0.5, "reduce_scatter": 0.5, "broadcast": 1.0, "ring": 1.0}
    assert {row["operation"] for row in report["bandwidth"]} == set(shares)
    for row in report["bandwidth"]:
        assert row["algbw_gb_per_s"] == pytest.approx(row["bytes"] / row["seconds"] / 1e9)
        assert row["busbw_gb_per_s"] == pytest.approx(shares[row["operation"]] * row["algbw_gb_per_s"])
    assert re.search(r"communication +PASS", done.stdout)


# The second process misbehaves in the fourth operation; the script itself is as it is.
FAULTY = """
import importlib.util, os, sys, time
import torch.distributed as dist
spec = importlib.util.spec_from_file_location("check", sys.argv[1])
check = importlib.util.module_from_spec(spec)
spec.loader.exec_module(check)
fault, broadcast = sys.argv[2], dist.broadcast
def faulty(tensor, **options):
    if fault == "dies":
        os._exit(9)
    if fault == "hangs":
        time.sleep(600)
    broadcast(tensor, **options)
    if tensor.numel() == 1013:
        tensor[7] += 1
if os.environ["RANK"] == "1":
    dist.broadcast = faulty
sys.argv[1:] = sys.argv[3:]
sys.exit(check.main())
"""


@pytest.mark.parametrize(
    ("fault", "reason", "last"),
    [
        ("corrupts", "3 of 45 checks received wrong elements", 45),
        ("dies", "broadcast of 1 elements", 27),
        pytest.param("hangs", "no answer within 5 s: broadcast of 1 elements", 27, marks=pytest.mark.slow),
    ],
)
def test_faulty_process_is_found_in_time(tmp_path, fault, reason, last):
    script, path = tmp_path / "faulty.py", tmp_path / "report.json"
    script.write_text(FAULTY, encoding="utf-8")
    done = torchrun(
        *(str(script), str(CHECK), fault, "--device", "cpu", "--timeout", "5", "--json", str(path)), seconds=90
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert re.search(r"FAIL on rank \d: ", done.stderr)
    report = json.loads(path.read_text(encoding="utf-8"))
    assert report["status"] == "FAIL"
    assert reason in report["reason"]
    assert len(report["checks"]) == last
    failed = {(check["operation"], check["elements"]) for check in report["checks"] if check["status"] == "FAIL"}
    assert failed == ({("broadcast", 1013)} if fault == "corrupts" else set())
    if fault == "corrupts":
        assert {tuple(c["wrong_elements_by_rank"]) for c in report["checks"] if c["status"] == "FAIL"} == {(0, 1)}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "two processes or more must be started; got one"),
        (("--timeout", "0"), "--timeout must be above 0"),
        (("--timeout", "nan"), "--timeout must be above 0"),
    ],
)
def test_check_without_sense_is_refused(arguments, message, monkeypatch, capsys):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setattr(sys, "argv", ["check_communication.py", *arguments])
    spec = importlib.util.spec_from_file_location("check_communication", CHECK)
    check = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(check)
    try:
        status = check.main()
    except SystemExit as error:
        status = error.code
    assert status == 2
    assert message in capsys.readouterr().err


bash = pytest.mark.skipif(
    sys.platform == "win32" or shutil.which("bash") is None, reason="the set-up script needs bash"
)


def set_up(*arguments: str, path: Path | None = None, **environment: str) -> subprocess.CompletedProcess:
    found = {**os.environ, **environment}
    if path is not None:
        found["PATH"] = f"{path}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["bash", str(SETUP), *arguments], env=found, capture_output=True, text=True, timeout=60, check=False
    )


def table(done: subprocess.CompletedProcess) -> dict[str, str]:
    lines = re.findall(r"^([\w-]+) +(PASS|FAIL|NOT TESTED)\b", done.stdout, flags=re.MULTILINE)
    return dict(lines)


def program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)


STEPS = ["driver", "disk", "python", "environment", "torch", "package", "flash-attn", "xformers", "features"]
STEPS += ["communication"]


@bash
def test_dry_run_prints_every_command_and_does_nothing(tmp_path):
    venv = tmp_path / "venv"
    done = set_up("--dry-run", "--flash-attn", "--xformers", "--install-only", "--venv", str(venv))
    assert done.returncode == 0, done.stderr
    assert list(table(done)) == STEPS
    assert set(table(done).values()) == {"NOT TESTED"}
    commands = "\n".join(line for line in done.stdout.splitlines() if line.startswith("would run:"))
    assert f"torch=={constraint('torch')}+cu130 --extra-index-url https://download.pytorch.org/whl/cu130" in commands
    assert commands.count("-c constraints.txt") == 4
    assert "flash-attn" in commands
    assert "xformers" in commands
    assert not venv.exists()


def test_constraint_admits_the_builds_of_torch_for_cuda():
    pinned = SpecifierSet(f"=={constraint('torch')}")
    for build in ("", "+cu126", "+cu130", "+cpu"):
        assert pinned.contains(f"{constraint('torch')}{build}")
    assert not pinned.contains("2.12.0+cu130")


@bash
@pytest.mark.parametrize(
    ("driver", "capability", "cuda"),
    [
        ("580.95.05", "8.6", "cu130"),
        ("590.10", "12.0", "cu130"),
        ("580.95.05", "7.0", "cu126"),
        ("550.54", "9.0", "cu126"),
        ("550.54", "12.0", None),
        ("470.82", "8.6", None),
    ],
)
def test_build_of_torch_suits_driver_and_gpu(tmp_path, driver, capability, cuda):
    program(tmp_path / "nvidia-smi", f"echo '{driver}, {capability}, NVIDIA Test'; echo '{driver}, 8.6, NVIDIA Test'")
    done = set_up("--dry-run", "--venv", str(tmp_path / "venv"), path=tmp_path)
    if cuda is None:
        assert done.returncode == 1
        assert re.search(r"^driver +FAIL .*rent a machine with driver 580 or later", done.stdout, re.MULTILINE)
        assert "pip install" not in done.stdout
    else:
        assert done.returncode == 0, done.stdout
        assert f"+{cuda} --extra-index-url https://download.pytorch.org/whl/{cuda}" in done.stdout
        assert "--nproc-per-node 2" in done.stdout


@bash
@pytest.mark.parametrize("broken", [None, "torchrun", "python"])
def test_table_and_status_say_what_failed(tmp_path, broken):
    """Programs that record what they are asked stand in for the machine's; the script is the real one."""
    log, venv = tmp_path / "log", tmp_path / "venv"
    gpus = "580.95.05, 8.9, NVIDIA L40S"
    program(tmp_path / "bin" / "nvidia-smi", f"echo '{gpus}'; echo '{gpus}'")
    for name in ("python", "torchrun"):
        wrong = "case $* in *gpu,track*) exit 3;; esac" if name == "python" else "exit 3"
        program(venv / "bin" / name, f'echo "{name} $*" >> {log}\n{wrong if name == broken else ""}')
    done = set_up("--venv", str(venv), "--cuda", "cu126", path=tmp_path / "bin")
    expected = dict.fromkeys(STEPS, "PASS") | dict.fromkeys(["flash-attn", "xformers"], "NOT TESTED")
    if broken == "torchrun":
        expected["communication"] = "FAIL"
    elif broken == "python":
        expected |= {"package": "FAIL", "features": "NOT TESTED", "communication": "NOT TESTED"}
    assert table(done) == expected, done.stdout + done.stderr
    assert done.returncode == (0 if broken is None else 1)
    said = log.read_text(encoding="utf-8")
    assert f"torch=={constraint('torch')}+cu126" in said
    # The environment was there and is not made again.
    assert "-m venv" not in said
    assert ("check_communication.py --device cuda" in said) == (broken != "python")


@bash
def test_machine_without_a_driver_is_refused_before_anything_is_installed(tmp_path):
    if shutil.which("nvidia-smi") is not None:
        pytest.skip("this machine has nvidia-smi")
    done = set_up("--venv", str(tmp_path / "venv"))
    assert done.returncode == 1
    assert "no nvidia-smi: rent a machine with NVIDIA's driver" in done.stdout
    assert list(table(done).values()) == ["FAIL"] + ["NOT TESTED"] * (len(STEPS) - 1)
    assert not (tmp_path / "venv").exists()


@bash
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--fast"], "unknown option --fast; see --help"),
        (["--venv"], "--venv needs a value"),
        (["--cuda", "13"], "--cuda must be like cu130; got 13"),
    ],
)
def test_wrong_options_are_refused(arguments, message):
    done = set_up(*arguments)
    assert done.returncode == 2
    assert message in done.stderr


@bash
def test_help_is_the_head_of_the_script():
    done = set_up("--help")
    assert done.returncode == 0
    for option in ("--flash-attn", "--xformers", "--venv DIR", "--cuda TAG", "--install-only", "--dry-run"):
        assert option in done.stdout
    assert "pipefail" not in done.stdout


@bash
def test_scripts_are_clean_to_shellcheck():
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed")
    done = subprocess.run(["shellcheck", str(SETUP)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@bash
def test_image_is_pinned_and_calls_the_script_with_options_it_has(tmp_path):
    text = (HARDWARE / "Dockerfile").read_text(encoding="utf-8")
    image, tag = re.search(r"^FROM ([\w/]+):(\S+)$", text, flags=re.MULTILINE).groups()
    assert image == "nvidia/cuda"
    cuda = re.search(r"^ARG TORCH_CUDA=(\w+)$", text, flags=re.MULTILINE)[1]
    # nvcc must be of the CUDA that torch was built for.
    assert tag.startswith(f"{cuda[2:4]}.{cuda[4:]}.")
    assert "devel" in tag
    options = re.findall(r"(--[a-z][a-z-]+)", "".join(re.findall(r"set -- (.*?)(?:$|;)", text, flags=re.MULTILINE)))
    assert set(options) == {"--install-only", "--venv", "--cuda", "--flash-attn", "--xformers"}
    known = (HARDWARE / "setup_gpu_box.sh").read_text(encoding="utf-8")
    assert all(option in known for option in options)
    for name in re.findall(r"recipes/hardware/\w+\.\w+", text):
        assert (ROOT / name).is_file()


def test_no_file_names_an_unknown_key():
    """Accelerate takes keys of `fsdp_config` and `deepspeed_config` that it does not know without a word."""
    known = vars(launch_command_parser().parse_args(["script.py"]))
    for path in HARDWARE.glob("*.yaml"):
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        for section in ("fsdp_config", "deepspeed_config"):
            for key in values.get(section, {}):
                assert key in known, f"{path.name}: {key}"
