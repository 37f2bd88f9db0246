"""Single checks on what they are given."""

import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from modeling_astrobio.training.errors import RecipeError
from modeling_astrobio.training.llm_recipe import LLMRecipe
from modeling_astrobio.training.preflight import environment
from modeling_astrobio.training.preflight.context import child_overrides
from modeling_astrobio.training.preflight.credentials import secrets_in
from modeling_astrobio.training.preflight.data_quality import check_quality
from modeling_astrobio.training.preflight.environment import LIBRARIES, check_library, check_variables, talk
from modeling_astrobio.training.preflight.memory import Measured, judge_memory
from modeling_astrobio.training.preflight.outcome import FAIL, NOT_TESTED, PASS, NotTestable, guarded
from modeling_astrobio.training.preflight.source import Source, recipe_digest
from modeling_astrobio.training.preflight.throughput import judge_throughput
from modeling_astrobio.training.preflight.whole_run import check_folder
from modeling_astrobio.training.recipe import load_recipe


ROOT = Path(__file__).resolve().parents[4]
SCRIPT = str(ROOT / "recipes" / "train_llm.py")
MIB = 2**20
CPU = torch.device("cpu")


def task(*overrides: str):
    return Source(SCRIPT, "tiny", ("device=cpu", *overrides)).load()


def context(*overrides: str, folder: Path | None = None):
    examined = task(*overrides)
    return SimpleNamespace(task=examined, recipe=examined.recipe, folder=folder)


def plan(peak: int, parameters: int, optimizer: int = 0, processes: int = 1, **strategy):
    """What of a plan is judged."""
    step = SimpleNamespace(strategy=replace(task().recipe.strategy, **strategy), quantization=None)
    return SimpleNamespace(
        device_bytes=peak, device={"parameters": parameters, "optimizer": optimizer}, step=step, processes=processes
    )


@pytest.mark.parametrize(
    ("planned", "found", "status"),
    [
        (1000, 1000, PASS),
        # A tenth of what was measured, and 32 MiB, in both directions.
        (1131, 1000, PASS),
        (1134, 1000, FAIL),
        (869, 1000, PASS),
        (866, 1000, FAIL),
        (3, 30, PASS),
        (0, 40, FAIL),
    ],
)
def test_peak_may_be_a_tenth_and_32_mib_off(planned, found, status):
    measured = Measured(found * MIB, 5 * MIB, 0, 0.1, None, 0.2)
    outcome = judge_memory(plan(planned * MIB, 5 * MIB), measured)
    assert outcome.status == status
    assert f"measured {found:,.1f} MiB" in outcome.text


def test_parameters_are_judged_where_they_stay():
    measured = Measured(1000 * MIB, 400 * MIB, 0, 0.1, 1.0, 0.2)
    outcome = judge_memory(plan(1000 * MIB, 200 * MIB), measured)
    assert outcome.status == FAIL
    assert "parameters: 200.0 MiB less planned than measured" in outcome.text
    assert judge_memory(plan(1000 * MIB, 0, parameter_offload=True), measured).status == PASS


def test_parameters_and_optimizer_have_no_room_of_a_peak():
    """What is small beside 32 MiB is judged too."""
    measured = Measured(3 * MIB, MIB, 2 * MIB, 0.1, None, 0.2)
    assert judge_memory(plan(3 * MIB, MIB + 14_000, 2 * MIB), measured).status == PASS
    outcome = judge_memory(plan(3 * MIB, MIB + 15_000, 2 * MIB), measured)
    assert outcome.status == FAIL
    assert "parameters: 0.0 MiB more planned than measured" in outcome.text
    outcome = judge_memory(plan(3 * MIB, MIB, MIB), measured)
    assert outcome.status == FAIL
    assert "optimizer: 1.0 MiB less planned than measured" in outcome.text
    # Parts of what is sharded are not equally large.
    assert judge_memory(plan(3 * MIB, MIB, MIB, processes=2), measured).status == PASS
    assert judge_memory(plan(3 * MIB, MIB, 0, optimizer_offload=True), measured).status == PASS


@pytest.mark.parametrize(
    ("rate", "workers", "status"), [(5.1, 2, PASS), (4.9, 2, FAIL), (20.1, 0, PASS), (19.9, 0, FAIL)]
)
def test_loader_needs_a_quarter_more_than_is_eaten_or_five_times_as_much_alone(rate, workers, status):
    """Two micro-batches in half a second are four in a second."""
    loader = {"batches": 20, "seconds": 20 / rate, "workers": workers, "batches_per_second": rate}
    outcome = judge_throughput(loader, 0.5, 2, 37, "token")
    assert outcome.status == status
    assert outcome.evidence["tokens_per_second_of_steps"] == pytest.approx(4 * 37)
    assert outcome.evidence["ratio"] == pytest.approx(rate / 4)


@pytest.mark.parametrize("name", ["bitsandbytes", "torchao"])
def test_installed_libraries_are_used(name):
    pytest.importorskip(LIBRARIES[name][0], reason=f"needs {name}")
    outcome = check_library(name, task(), CPU)
    assert outcome.status == PASS
    assert "three 8-bit steps" in outcome.text


def test_a_library_without_8_bits_fails(monkeypatch):
    monkeypatch.setattr(
        environment,
        "build_optimizer",
        lambda strategy, groups, *, learning_rate, betas, eps, weight_decay: torch.optim.AdamW(
            groups, lr=learning_rate, betas=betas, eps=eps, weight_decay=weight_decay
        ),
    )
    pytest.importorskip("bitsandbytes", reason="needs bitsandbytes")
    outcome = guarded(lambda: check_library("bitsandbytes", task(), CPU))
    assert outcome.status == FAIL
    assert "adamw_bnb_8bit keeps no 8-bit state" in outcome.text


def test_a_library_that_computes_wrongly_fails(monkeypatch):
    monkeypatch.setattr(environment, "_MOST_OFF", 1e-9)
    pytest.importorskip("bitsandbytes", reason="needs bitsandbytes")
    outcome = guarded(lambda: check_library("bitsandbytes", task(), CPU))
    assert outcome.status == FAIL
    assert "from AdamW's, at most" in outcome.text


@pytest.mark.parametrize(
    ("name", "override", "reason"),
    [
        ("bitsandbytes", "strategy.optimizer=lion", "strategy.optimizer=lion"),
        ("torchao", "strategy.optimizer=adamw_torchao", "strategy.optimizer=adamw_torchao"),
        ("torchao", "strategy.fp8=true", "strategy.fp8=true"),
        ("flash_attention", "model.attn_implementation=flash_attention_2", "model.attn_implementation"),
    ],
)
def test_an_absent_library_is_wrong_only_where_it_is_needed(monkeypatch, name, override, reason):
    monkeypatch.setitem(LIBRARIES, name, ("no_such_module", f"absent-{name}", LIBRARIES[name][2]))
    outcome = guarded(lambda: check_library(name, task(), CPU))
    assert outcome.status == NOT_TESTED
    outcome = guarded(lambda: check_library(name, task(override), CPU))
    assert outcome.status == FAIL
    assert f"absent-{name} is not installed, and the recipe needs it: {reason}" in outcome.text


def test_versions_are_compared_with_the_project(monkeypatch):
    assert environment.check_versions(context()).status == PASS
    asked = ["torch>=99", "numpy", "no-such-package-of-ours>=1", "torch<1; sys_platform == 'none'"]
    monkeypatch.setattr(environment, "_requirements", lambda pyproject: asked)
    outcome = environment.check_versions(context())
    assert outcome.status == FAIL
    assert f"torch>=99 is required; got {torch.__version__}" in outcome.text
    assert "no-such-package-of-ours>=1 is not installed" in outcome.text
    assert "torch<1" not in outcome.text


def test_variables_are_named_and_never_shown(monkeypatch, tmp_path):
    for name in ("WANDB_API_KEY", "WANDB_MODE", "MODELING_ASTROBIO_WEBHOOK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    monkeypatch.setenv("HOME", str(tmp_path))
    wandb = "training.report_to=[wandb]"
    with pytest.raises(NotTestable, match="the recipe needs none; MODELING_ASTROBIO_WEBHOOK is not set"):
        check_variables(context())
    outcome = check_variables(context(wandb))
    assert outcome.status == FAIL
    assert "needs WANDB_API_KEY or `wandb login`" in outcome.text
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert check_variables(context(wandb)).status == PASS
    monkeypatch.delenv("WANDB_MODE")
    (tmp_path / ".netrc").write_text("machine api.wandb.ai login user password of-the-file\n", encoding="utf-8")
    (tmp_path / ".netrc").chmod(0o600)
    assert check_variables(context(wandb)).status == PASS
    monkeypatch.setenv("MODELING_ASTROBIO_WEBHOOK", "https://example.org/geheim")
    outcome = check_variables(context())
    assert outcome.status == PASS
    assert "geheim" not in json.dumps(outcome.to_dict())


def quality_report(planets: list[str], *, missing: tuple[str, ...] = ()) -> dict:
    """As a build writes it, of two configurations."""
    return {
        "failed_gates": [f"planets: {gate}" for gate in planets],
        "missing": list(missing),
        "configs": {
            "planets": {"grade": "B" if planets else "A+", "failed_gates": planets},
            "stars": {"grade": "A", "failed_gates": []},
        },
    }


@pytest.mark.parametrize(
    ("report", "config", "status", "said"),
    [
        (quality_report([]), None, PASS, "planets A+, stars A"),
        (quality_report(["accuracy must be above 0.95; got 0.9"]), None, FAIL, "not passed: planets: accuracy"),
        (quality_report(["accuracy must be above 0.95; got 0.9"]), "stars", PASS, "stars A"),
        (quality_report([], missing=("https://a.b: 404",)), "stars", FAIL, "not passed: https://a.b: 404"),
    ],
)
def test_quality_gates(tmp_path, report, config, status, said):
    data = context(f"data.dataset_name={tmp_path}", *([f"data.dataset_config={config}"] if config else []))
    with pytest.raises(NotTestable, match=r"has no quality/quality\.json"):
        check_quality(data)
    path = tmp_path / "quality" / "quality.json"
    path.parent.mkdir()
    path.write_text(json.dumps(report), encoding="utf-8")
    outcome = check_quality(data)
    assert outcome.status == status
    assert said in outcome.text
    with pytest.raises(NotTestable, match="says nothing of comets"):
        check_quality(context(f"data.dataset_name={tmp_path}", "data.dataset_config=comets"))
    path.write_text("{", encoding="utf-8")
    assert guarded(lambda: check_quality(data)).status == FAIL


def test_what_looks_like_a_credential_is_named_without_its_value():
    found = secrets_in(
        {
            "training": {"hub_token": "0123456789abcdef", "max_new_tokens": 24, "run_name": "a-run-of-this-week"},
            "tokenizer": {"path": "outputs/a/long/path/of/a/tokenizer"},
            "data": {"list": ["plain", "https://user:word@example.org"]},
            "model": {"checkpoint": "sk-" + "a1" * 12, "api_key": "short"},
        }
    )
    assert found == [
        "a long value at training.hub_token",
        "a user and password in a URL at data.list[1]",
        "a secret key at model.checkpoint",
    ]


def test_child_runs_log_every_step_and_keep_the_schedule_inside(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "model: {preset: tiny}\nschedule: wsd\n"
        "training: {warmup_steps: 2000, eval_strategy: 'no', lr_scheduler_kwargs: {num_decay_steps: 5000}}\n",
        encoding="utf-8",
    )
    recipe = load_recipe(LLMRecipe, path)
    short = load_recipe(LLMRecipe, path, child_overrides(recipe, 60, 30)).training
    assert short["max_steps"] == 60
    assert (short["save_steps"], short["logging_steps"], short["report_to"]) == (30, 1, "none")
    assert short["warmup_steps"] == 6
    assert short["lr_scheduler_kwargs"] == {"num_decay_steps": 12}
    assert short["eval_strategy"] == "no"
    # A share of the run stays one.
    assert "training.warmup_steps" not in " ".join(child_overrides(task().recipe, 60, 30))


def test_digest_tells_recipes_apart():
    first, same, other = (recipe_digest(task(*more).recipe) for more in ((), (), ("training.seed=1",)))
    assert first == same != other
    assert len(first) == 64


def test_a_script_must_have_one_task(tmp_path):
    script = tmp_path / "empty.py"
    script.write_text("VALUE = 1\n", encoding="utf-8")
    with pytest.raises(RecipeError, match=r"must define one subclass of TrainingTask; got \[\]"):
        Source(str(script), "tiny").task_class()
    broken = tmp_path / "broken.py"
    broken.write_text("raise OSError('no data')\n", encoding="utf-8")
    for _ in range(2):
        with pytest.raises(RecipeError, match=r"broken.py cannot be loaded: OSError: no data"):
            Source(str(broken), "tiny").task_class()


@pytest.mark.slow
def test_two_processes_on_the_cpu_exchange_tensors(tmp_path):
    script = ROOT / "recipes" / "hardware" / "check_communication.py"
    outcome = talk(script, 2, "cpu", tmp_path)
    assert outcome.status == PASS, outcome.text
    assert "2 processes, gloo: 45 checks" in outcome.text
    assert not math.isnan(outcome.evidence["report"]["bandwidth"][0]["busbw_gb_per_s"])
    wrong = tmp_path / "wrong.py"
    wrong.write_text("raise SystemExit('nobody answers')\n", encoding="utf-8")
    (tmp_path / "communication.json").unlink()
    outcome = talk(wrong, 2, "cpu", tmp_path)
    assert outcome.status == FAIL
    assert "no report" in outcome.text


def test_the_runs_folder_can_be_used(tmp_path):
    def found(folder):
        return check_folder(context(f"output_dir={folder}"))

    (tmp_path / "run").mkdir()
    assert found(tmp_path / "new" / "run").status == found(tmp_path / "run").status == PASS
    (tmp_path / "run" / "notes.txt").write_text("mine")
    assert found(tmp_path / "run").status == FAIL
    assert "files that are of no run" in found(tmp_path / "run").text
    (tmp_path / "run" / "recipe.yaml").write_text("")
    assert "gone on with by --resume" in found(tmp_path / "run").text
    below = found(tmp_path / "run" / "notes.txt" / "run")
    assert below.status == FAIL
    assert "notes.txt is a file" in below.text
