"""recipes/train_metabolic.py from models to card, resumed, and what it says to each mistake."""

import json
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml
from recipe_runs import ENVIRONMENT, ROOT, interrupt_at, kill_after, load_script, read_run
from remote_reader import read_elsewhere
from safetensors.torch import save_file
from transformers import AutoModelForMultipleChoice


pytest.importorskip("cobra", reason="cobra reads the models: pip install 'modeling_astrobio[chem]'")
import cobra
from metabolic_models import small_network

from modeling_astrobio import AstroGraphVAEForReactionCompletion
from modeling_astrobio.metabolic_files import network_to_cobra
from modeling_astrobio.training.checkpoints import verify_checkpoint
from modeling_astrobio.training.gpu_specs import parse_hardware
from modeling_astrobio.training.graph_model import graph_config
from modeling_astrobio.training.memory_plan import plan_step
from modeling_astrobio.training.metabolic_completion import CompletionSettings, completion_config
from modeling_astrobio.training.metabolic_losses import completion_losses
from modeling_astrobio.training.metabolic_ranking import RECALL_AT
from modeling_astrobio.training.metabolic_recipe import MetabolicRecipe
from modeling_astrobio.training.metabolic_step import metabolic_step
from modeling_astrobio.training.recipe import load_recipe
from modeling_astrobio.training.run_setup import training_arguments


SCRIPT = ROOT / "recipes" / "train_metabolic.py"
RECIPES = ROOT / "recipes" / "metabolic"
train_metabolic = load_script(SCRIPT)
SPECIES = {"Planta alba": ("ADK", "FBP"), "Planta nigra": ("PPS", "FBP"), "Planta rubra": ("ADK",)}
HELD_OUT = {"Planta viridis": ("PPS", "LDH", "TPI")}
STEPS = 9


def write_models(folder, species):
    folder.mkdir()
    lines = ["file,species"]
    for name, left_out in species.items():
        network = small_network(name.replace(" ", "_"), left_out, ("glc", "lac", "h", "h2o", "pi"))
        file = f"{network.id}.json"
        cobra.io.save_json_model(network_to_cobra(network), folder / file)
        lines.append(f"{file},{name}")
    (folder / "species.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("metabolic")


@pytest.fixture(scope="module")
def arguments(folder):
    return [
        "tiny",
        "device=cpu",
        "cpu_threads=1",
        f"data.folder={write_models(folder / 'models', SPECIES | HELD_OUT)}",
        "model.config.hidden_dropout=0.1",
        "objective.constraints.element_balance=0.5",
        f"training.max_steps={STEPS}",
        "training.eval_steps=4",
        "training.save_steps=4",
    ]


@pytest.fixture(scope="module")
def run(folder, arguments):
    (folder / "models" / "broken.json").write_text("{", encoding="utf-8")
    assert train_metabolic.main([*arguments, f"output_dir={folder / 'run'}"]) == 0
    return folder / "run"


def test_run_leaves_everything(run):
    assert sorted(path.name for path in run.iterdir()) == [
        "checkpoint-8",
        "checkpoint-9",
        "logs",
        "loss.png",
        "metrics.jsonl",
        "model",
        "plan.json",
        "recipe.yaml",
        "report.html",
        "result.json",
    ]
    assert all(verify_checkpoint(run / name) is None for name in ("checkpoint-8", "checkpoint-9"))
    assert isinstance(AutoModelForMultipleChoice.from_pretrained(run / "model"), AstroGraphVAEForReactionCompletion)


def test_result_and_card_have_the_model_beside_its_baselines(run):
    result = json.loads((run / "result.json").read_text(encoding="utf-8"))
    assert result["status"] == "finished"
    assert result["data"]["species"] == list(SPECIES)
    assert result["data"]["held_out"] == list(HELD_OUT)
    assert list(result["data"]["files_left_out"]) == ["broken.json"]
    evaluation = result["evaluation"]
    assert evaluation["is_held_out"]
    (figures,) = evaluation["organisms"].values()
    recall = figures["ranking"]["recall"]
    assert {"frequency", "nearest_organism", "priors_alone", "model"} <= set(recall)
    assert all(set(found) == {f"top_{k}" for k in RECALL_AT} for found in recall.values())
    assert figures["proposals"]["proposed"] > 0
    assert figures["proposals"]["unbalanced"] == 0
    assert figures["completed_network"]["added"] == 2
    assert 0 <= figures["completed_network"]["share_that_can_carry_flux"] <= 1
    # The model starts from the fit, and has learned since.
    learned, alone = evaluation["learned_prior_weights"], evaluation["prior_weights_alone"]
    assert learned != pytest.approx(alone, rel=1e-7)
    assert learned == pytest.approx(alone, rel=0.1, abs=0.1)
    card = (run / "model" / "README.md").read_text(encoding="utf-8")
    cells = " | ".join(f"{recall['model'][f'top_{k}']:.3f}" for k in RECALL_AT)
    assert f"| this model | {cells} |" in card
    assert "### Planta viridis\n\nThe species was held out" in card
    assert f"Of {figures['proposals']['proposed']} reactions composed of compounds" in card


def test_parts_of_the_loss_are_logged_and_add_up(run):
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    trained = [row for row in rows if "loss_candidate" in row]
    assert [row["step"] for row in trained] == list(range(1, STEPS + 1))
    parts = ("loss_candidate", "loss_direction", "loss_pointer", "loss_element_balance")
    for row in trained:
        assert row["loss"] == pytest.approx(sum(row[part] for part in parts), rel=1e-5)
    for part in parts[1:]:
        assert all(row[part] > 0 for row in trained)
    assert sum("eval_loss" in row for row in rows) == 3


def test_a_step_of_the_trainer_is_the_shared_one(arguments, tmp_path):
    settings = [*arguments[1:], f"output_dir={tmp_path / 'run'}"]
    task = train_metabolic.MetabolicTask(load_recipe(MetabolicRecipe, RECIPES / "tiny.yaml", settings))
    task.prepare(tmp_path)
    trainer = task.build_trainer(training_arguments(task.recipe))
    assert len(trainer.train_dataset) == STEPS
    batch = trainer.train_dataset[3]
    assert set(batch) == {"candidate", "direction", "pointer"}
    parts = completion_losses(trainer.model.eval(), batch, 0.05, task.constraints)
    assert torch.equal(trainer.compute_loss(trainer.model, batch), torch.stack(list(parts.values())).sum())


def test_interrupted_and_resumed_run_is_the_uninterrupted_one(run, arguments, tmp_path, monkeypatch):
    step = 6

    out = [*arguments, f"output_dir={tmp_path / 'run'}"]
    with monkeypatch.context() as patch:
        interrupt_at(patch, step, script=train_metabolic, trainer="CompletionTrainer")
        assert train_metabolic.main(out) == 130
    assert train_metabolic.main([*out, "--resume", "auto"]) == 0
    read_run(tmp_path / "run").assert_same(read_run(run), without_evaluation=(step,))


@pytest.mark.slow
def test_killed_run_goes_on(run, arguments, tmp_path):
    out = [*arguments, f"output_dir={tmp_path / 'run'}"]
    assert kill_after(5, SCRIPT, out, tmp_path / "run") == -signal.SIGKILL
    assert train_metabolic.main([*out, "--resume", "auto"]) == 0
    whole, resumed = read_run(run), read_run(tmp_path / "run")
    assert whole.log == resumed.log
    assert all(torch.equal(weight, resumed.weights[name]) for name, weight in whole.weights.items())


READER = """
from transformers import AutoModelForMultipleChoice

model = AutoModelForMultipleChoice.from_pretrained(source, trust_remote_code=True)
assert type(model).__module__.startswith("transformers_modules."), type(model)
with torch.no_grad():
    output = model(**load_file(exchange / "batch.safetensors"))
save_file({"logits": output.candidate_logits, "loss": output.loss}, exchange / "found.safetensors")
"""


def test_saved_model_opens_without_the_package(run, arguments, tmp_path):
    recipe = load_recipe(MetabolicRecipe, RECIPES / "tiny.yaml", [*arguments[1:], f"output_dir={tmp_path / 'run'}"])
    task = train_metabolic.MetabolicTask(recipe)
    task.prepare(tmp_path)
    batch = task.questions.draw(np.random.default_rng(0))["candidate"]
    (tmp_path / "exchange").mkdir()
    save_file({name: value.contiguous() for name, value in batch.items()}, tmp_path / "exchange/batch.safetensors")
    found = read_elsewhere(READER, run / "model", tmp_path / "exchange")
    model = AutoModelForMultipleChoice.from_pretrained(run / "model")
    with torch.no_grad():
        output = model(**batch)
    assert torch.equal(found["logits"], output.candidate_logits)
    assert torch.equal(found["loss"], output.loss)


def test_two_species_are_both_trained_on_and_the_card_says_so(folder, arguments, tmp_path):
    data = write_models(tmp_path / "models", dict(list(SPECIES.items())[:2]))
    out = tmp_path / "run"
    changes = [f"data.folder={data}", "training.max_steps=2", "objective.constraints={}", f"output_dir={out}"]
    assert train_metabolic.main([*arguments, *changes]) == 0
    result = json.loads((out / "result.json").read_text(encoding="utf-8"))
    assert not result["evaluation"]["is_held_out"]
    assert result["data"]["held_out"] == []
    assert list(result["evaluation"]["organisms"]) == ["Planta nigra"]
    assert "is one that the model was trained on" in (out / "model" / "README.md").read_text(encoding="utf-8")
    assert not read_run(out).evaluations


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["data.folder=nowhere"], "data.folder='nowhere' cannot be read: models must be a folder with .json"),
        (["data.held_out=[Planta lutea]"], "got ['Planta lutea']. Name one of these."),
        (["data.held_out=Planta alba"], "data.held_out must be list or NoneType"),
        (
            ["data.held_out=[Planta alba, Planta rubra, Planta nigra]"],
            "at least two species must be left to train on, since each is asked about with the others as the known "
            "ones; got ['Planta viridis']",
        ),
        (["questions.shares=[0.4, 0.2]"], "questions.shares must be two shares above 0 and below 1, the least first"),
        (["questions.shares=[0.001, 0.002]"], "share must be between 0 and 1 and remove a reaction"),
        (["evaluation.share=0.01"], "share must be between 0 and 1 and remove a reaction"),
        (["evaluation.share=1"], "evaluation.share must be above 0 and below 1"),
        (["questions.question=3"], "Did you mean 'questions'"),
        (["objective.constraints.valence=1"], "objective.constraints must be of element_balance, charge_balance"),
        (["training.max_steps=-1"], "training.max_steps must be at least 1"),
        (["training.per_device_train_batch_size=4"], "per_device_eval_batch_size must be 1"),
        (["model.preset=null", "model.config={}", "model.checkpoint=nowhere"], "cannot be loaded"),
    ],
)
def test_mistakes_end_in_one_line(run, arguments, changes, message, tmp_path, capsys):
    assert train_metabolic.main([*arguments, *changes, f"output_dir={tmp_path / 'run'}"]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert message in errors[0]
    assert not (tmp_path / "run").exists()


def test_folders_that_do_not_do_end_in_one_line(arguments, tmp_path, capsys):
    def error_of(data):
        assert train_metabolic.main([*arguments, f"data.folder={data}", f"output_dir={tmp_path / 'run'}"]) == 2
        (error,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
        return error

    one = write_models(tmp_path / "one", HELD_OUT)
    assert "got ['Planta viridis'], held out []. Put models of other species into data.folder" in error_of(one)
    (one / "species.csv").unlink()
    assert "its species is not known; name it in species.csv" in error_of(one)
    alike = tmp_path / "alike"
    shutil.copytree(one, alike)
    shutil.copy(alike / "Planta_viridis.json", alike / "b.json")
    (alike / "species.csv").write_text("file,species\nPlanta_viridis.json,A a\nb.json,B b\n", encoding="utf-8")
    assert "must lack reactions of other organisms, some removed from it and some it never had; got" in error_of(alike)


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_parses_and_its_step_is_planned(path):
    assert yaml.safe_load(path.read_text(encoding="utf-8"))
    recipe = load_recipe(MetabolicRecipe, path)
    step = metabolic_step(recipe)
    questions = recipe.questions
    asked = questions.questions * (1 + questions.wrong_candidates) + questions.directions + questions.pointers
    assert asked <= step.items < asked + questions.questions
    plan = plan_step(step, parse_hardware("0", None, "64", "500", None), 1)
    with torch.device("meta"):
        assert plan.device["parameters"] == 4 * step.make_model().num_parameters()


def test_the_default_recipe_is_what_the_benchmark_trains():
    recipe, settings = load_recipe(MetabolicRecipe, RECIPES / "nano.yaml"), CompletionSettings()
    assert graph_config(recipe).to_dict() == completion_config().to_dict()
    assert all(getattr(settings, name) == value for name, value in vars(recipe.questions).items())
    assert recipe.objective.pointer_weight == settings.pointer_weight
    for name, value in (
        ("max_steps", settings.steps),
        ("learning_rate", settings.learning_rate),
        ("weight_decay", settings.weight_decay),
    ):
        assert recipe.training[name] == value


@pytest.mark.slow
def test_two_processes_learn_what_one_does_that_accumulates(run, arguments, tmp_path):
    # Weights that no question reaches, those of directions, must not keep the processes waiting for one another.
    changes = ["model.config.hidden_dropout=0", "questions.directions=0", "training.max_steps=4"]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(SCRIPT)]
    two = [*launcher, *arguments, *changes, f"output_dir={tmp_path / 'two'}"]
    done = subprocess.run(two, env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    accumulated = [*changes, "training.gradient_accumulation_steps=2", f"output_dir={tmp_path / 'one'}"]
    assert train_metabolic.main([*arguments, *accumulated]) == 0
    assert read_run(tmp_path / "two").result["plan"]["processes"] == 2
    found, expected = read_run(tmp_path / "two").log, read_run(tmp_path / "one").log
    assert found.keys() == expected.keys() == {1, 2, 3, 4}
    for step, row in expected.items():
        assert found[step]["loss"] == pytest.approx(row["loss"], rel=1e-5)
        assert found[step]["grad_norm"] == pytest.approx(row["grad_norm"], rel=1e-4)


@pytest.mark.slow
def test_without_a_folder_the_models_of_cobra_are_trained_on(tmp_path):
    out = tmp_path / "run"
    changes = ["device=cpu", "cpu_threads=1", "questions.draws=1", "evaluation.draws=1", "training.max_steps=2"]
    assert train_metabolic.main(["tiny", *changes, f"output_dir={out}"]) == 0
    result = json.loads((out / "result.json").read_text(encoding="utf-8"))
    assert result["data"]["species"] == ["Escherichia coli", "Salmonella enterica"]
