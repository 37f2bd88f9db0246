"""recipes/train_graph_vae.py from data to card, resumed, and what it says to each mistake."""

import json
import signal
from pathlib import Path

import pytest
import torch
import yaml
from recipe_runs import ROOT, interrupt_at, kill_after, load_script, read_run
from transformers import AutoModel, AutoProcessor

from modeling_astrobio import AstroGraphVAEModel
from modeling_astrobio.training.checkpoints import verify_checkpoint
from modeling_astrobio.training.gpu_specs import parse_hardware
from modeling_astrobio.training.graph_recipe import GraphRecipe
from modeling_astrobio.training.graph_step import graph_step
from modeling_astrobio.training.memory_plan import plan_step
from modeling_astrobio.training.recipe import load_recipe


pytest.importorskip("rdkit", reason="RDKit reads the molecules: pip install 'modeling_astrobio[chem]'")

SCRIPT = ROOT / "recipes" / "train_graph_vae.py"
RECIPES = ROOT / "recipes" / "graph_vae"
train_graph_vae = load_script(SCRIPT)
# Chains, branches and rings of up to seven atoms, written here.
TAILS = ("", "C", "O", "N", "CC", "C=C", "C#C", "C=O", "C#N", "CO", "CN", "C(C)C", "CF", "C1CC1", "OC")
HEADS = ("C", "CC", "C(O)", "C(=O)", "N", "O", "C1CC1", "CCC", "C(C)(C)")


def molecules() -> list[str]:
    return [f"{head}{tail}" for head in HEADS for tail in TAILS if "1" not in head or "1" not in tail]


def write_molecules(folder: Path) -> Path:
    every = molecules()
    folder.mkdir()
    for role, rows in (("train", every[:80]), ("validation", every[80:100]), ("test", every[100:])):
        # A line that is no molecule, one in two pieces, and one with an unknown atom.
        broken = ["C(", "C.C", "[Xe]"] if role == "train" else []
        lines = [json.dumps({"smiles": smiles}) for smiles in (*rows, *broken)]
        (folder / f"{role}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("graph_vae")


@pytest.fixture(scope="module")
def arguments(folder):
    data = write_molecules(folder / "data")
    return [
        "tiny",
        "device=cpu",
        "cpu_threads=1",
        f"data.dataset_name={data}",
        "data.max_rows=0",
        "evaluation.training_samples=4",
        "evaluation.samples=12",
        "evaluation.reconstructions=8",
        "training.max_steps=11",
        "training.eval_steps=5",
        "training.save_steps=4",
        "model.config.hidden_dropout=0.1",
    ]


@pytest.fixture(scope="module")
def run(folder, arguments):
    assert train_graph_vae.main([*arguments, f"output_dir={folder / 'run'}"]) == 0
    return folder / "run"


def test_run_leaves_everything(run):
    assert sorted(path.name for path in run.iterdir()) == [
        "checkpoint-11",
        "checkpoint-8",
        "logs",
        "loss.png",
        "metrics.jsonl",
        "model",
        "plan.json",
        "recipe.yaml",
        "report.html",
        "result.json",
        "samples",
    ]
    assert sorted(path.name for path in (run / "samples").iterdir()) == ["step-10.png", "step-11.png", "step-5.png"]
    names = {path.name for path in (run / "model").iterdir()}
    assert {"model.safetensors", "config.json", "processor_config.json", "README.md", "samples.png"} <= names
    assert {"modeling_astro_graph_vae.py", "processing_astro_graph_vae.py"} <= names
    for name in ("model", "checkpoint-8", "checkpoint-11"):
        assert verify_checkpoint(run / name) is None or name == "model"


def test_saved_model_and_processor_open_by_the_auto_classes(run):
    model = AutoModel.from_pretrained(run / "model")
    processor = AutoProcessor.from_pretrained(run / "model")
    assert isinstance(model, AstroGraphVAEModel)
    generator = torch.Generator().manual_seed(3)
    drawn = processor.batch_decode(**model.sample(5, generator=generator))
    assert len(drawn) == 5
    assert None not in drawn


def test_result_has_every_figure(run):
    result = json.loads((run / "result.json").read_text(encoding="utf-8"))
    assert result["status"] == "finished"
    assert result["data"]["coverage"]["train"] == {"rows": 83, "graphs": 80}
    assert result["data"]["name"] == "data"
    evaluation = result["evaluation"]
    assert set(evaluation["generation"]) == {"split-half floor", "untrained, with masks", "trained"}
    assert evaluation["generation"]["trained"]["validity"] == 1.0
    for constraint in ("valence", "connectedness"):
        assert evaluation["constraints"][constraint] == {"mean": 0.0, "greatest": 0.0, "share_kept": 1.0}
    held_out = evaluation["held_out"]
    assert held_out["nats"] == pytest.approx(held_out["reconstruction_nats"] + held_out["divergence_nats"])
    card = (run / "model" / "README.md").read_text(encoding="utf-8")
    assert f"{held_out['nats']:.2f} nats a molecule" in card
    assert f"| trained | 1.0000 | {evaluation['generation']['trained']['uniqueness']:.4f} |" in card
    assert "80 of 83 rows" in card


def test_losses_are_logged_apart_and_the_divergence_is_warmed_up(run):
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    trained = [row for row in rows if "loss_reconstruction" in row]
    assert len(trained) == 11
    free_bits = 2 * 0.1
    for row in trained:
        weight = min(1.0, (row["step"] - 1) / 3) ** 2
        # Between all of the divergence and what free bits leave of it.
        assert row["loss"] >= row["loss_reconstruction"] - 1e-4
        assert row["loss"] <= row["loss_reconstruction"] + weight * (row["loss_divergence"] + free_bits) + 1e-4
    evaluated = [row for row in rows if "eval_loss" in row]
    assert [row["step"] for row in evaluated] == [5, 10, 11]
    assert all(row["eval_validity"] == 1.0 for row in evaluated)


def test_constraints_are_terms_of_the_loss(folder, arguments):
    out = folder / "constrained"
    changed = [
        *arguments,
        "training.max_steps=2",
        "objective.constraints.valence=0.5",
        "model.config.constrain_decoding=false",
        "evaluation.samples=0",
        f"output_dir={out}",
    ]
    assert train_graph_vae.main(changed) == 0
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    first = rows[0]
    assert first["loss_valence"] > 1
    # The divergence has no weight in the first step.
    assert first["loss"] == pytest.approx(first["loss_reconstruction"] + 0.5 * first["loss_valence"], rel=1e-5)


@pytest.mark.parametrize("step", [2, 5, 9])
def test_interrupted_and_resumed_run_is_the_uninterrupted_one(run, arguments, step, tmp_path, monkeypatch):
    out = [*arguments, f"output_dir={tmp_path / 'run'}"]
    with monkeypatch.context() as patch:
        interrupt_at(patch, step, script=train_graph_vae, trainer="GraphTransformerTrainer")
        assert train_graph_vae.main(out) == 130
    assert train_graph_vae.main([*out, "--resume", "auto"]) == 0
    read_run(tmp_path / "run").assert_same(read_run(run), without_evaluation=(step,))


def test_killed_run_goes_on(run, arguments, tmp_path):
    out = [*arguments, f"output_dir={tmp_path / 'run'}"]
    assert kill_after(5, SCRIPT, out, tmp_path / "run") == -signal.SIGKILL
    assert train_graph_vae.main([*out, "--resume", "auto"]) == 0
    whole, resumed = read_run(run), read_run(tmp_path / "run")
    assert whole.log == resumed.log
    assert all(torch.equal(weight, resumed.weights[name]) for name, weight in whole.weights.items())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["data.smiles_column=smile"], "data.smiles_column must be a column"),
        (["data.batch_nodes=3"], "data.batch_nodes does not do"),
        (["data.batch_node=3"], "Did you mean 'batch_nodes'"),
        (["model.preset=2b"], "preset must be one of"),
        (["model.config.hidden_siz=3"], "Did you mean 'hidden_size'"),
        (["model.config.hidden_size=25"], "hidden_size must be a multiple of num_attention_heads"),
        (["objective.kl_weight=-1"], "objective.kl_weight must be at least 0"),
        (["objective.constraints.mass=1"], "constraints must be of"),
        (["evaluation.temperature=0"], "evaluation.temperature must be above 0"),
        (
            ["training.per_device_train_batch_size=4"],
            "per_device_train_batch_size and per_device_eval_batch_size must be 1",
        ),
        (["model.preset=null", "model.config={}", "model.checkpoint=nowhere"], "cannot be loaded"),
        (["model.attn_implementation=flash"], "model.attn_implementation='flash' cannot be used"),
        (["data.dataset_name=nowhere"], "cannot be opened"),
    ],
)
def test_mistakes_end_in_one_line(arguments, changes, message, tmp_path, capsys):
    assert train_graph_vae.main([*arguments, *changes, f"output_dir={tmp_path / 'run'}"]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert message in errors[0]


def test_no_readable_molecule_ends_the_run(arguments, tmp_path, capsys):
    data = tmp_path / "data"
    data.mkdir()
    (data / "train.jsonl").write_text('{"smiles": "C("}\n{"smiles": null}\n', encoding="utf-8")
    changed = [argument for argument in arguments if not argument.startswith("data.dataset_name")]
    assert train_graph_vae.main([*changed, f"data.dataset_name={data}", f"output_dir={tmp_path / 'run'}"]) == 2
    assert "must hold a molecule that the model can read; got none of 2" in capsys.readouterr().err


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_parses_and_its_step_is_planned(path):
    assert yaml.safe_load(path.read_text(encoding="utf-8"))
    recipe = load_recipe(GraphRecipe, path)
    # Batches of like size have losses that differ with the size.
    assert recipe.stability.spike_sigma == 0
    step = graph_step(recipe)
    assert step.items * recipe.model.config.get("max_nodes", 1) <= recipe.data.batch_nodes
    with torch.device("meta"):
        model = step.make_model()
    assert (model.num_parameters() > 1e9) == (path.stem == "1b2")


def test_plan_of_1b2_names_its_parameters():
    step = graph_step(load_recipe(GraphRecipe, RECIPES / "1b2.yaml", ["data.batch_nodes=256"]))
    plan = plan_step(step, parse_hardware("1", "80", "128", "500", None), 1)
    parameters = plan.device["parameters"]
    assert parameters == pytest.approx(2 * 1.2e9, rel=0.01)
