"""recipes/train_diffusion.py from worlds to card, resumed, killed, beside a deterministic forecast, and mistakes."""

import json
import signal

import numpy as np
import pytest
import torch
from recipe_runs import ROOT, interrupt_at, kill_after, load_script, read_run
from transformers import AutoModelForPreTraining


pytest.importorskip("diffusers", reason="noise is that of diffusers: pip install 'modeling_astrobio[climate]'")

from diffusers import DPMSolverMultistepScheduler

from modeling_astrobio import AstroDatacubeConfig, AstroDatacubeForDiffusion, AstroDatacubeForForecasting
from modeling_astrobio.modeling_astro_datacube_heads import CubePrediction
from modeling_astrobio.training.datacube_diffusion_trainer import sampling_scheduler
from modeling_astrobio.training.datacube_step import diffusion_config, diffusion_step
from modeling_astrobio.training.diffusion_evaluation import draw_ensemble
from modeling_astrobio.training.diffusion_recipe import DiffusionRecipe
from modeling_astrobio.training.errors import RecipeError
from modeling_astrobio.training.recipe import load_recipe


SCRIPT = ROOT / "recipes" / "train_diffusion.py"
RECIPES = ROOT / "recipes" / "diffusion"
train_diffusion = load_script(SCRIPT)
ARGUMENTS = ["tiny", "device=cpu", "cpu_threads=1", "model.config.hidden_dropout=0.1", "ema_decay=0.9"]

CORRELATIONS = "evaluation.noise_correlation=[0.0,0.9]"


def make_task(*changes):
    return train_diffusion.DiffusionTask(
        load_recipe(DiffusionRecipe, RECIPES / "tiny.yaml", [*ARGUMENTS[1:], *changes])
    )


@pytest.fixture(scope="module")
def forecast(tmp_path_factory):
    task = make_task()
    task.prepare(None)
    folder = tmp_path_factory.mktemp("forecast")
    AstroDatacubeForForecasting(task.config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory, forecast):
    """A run of departures from a forecast."""
    folder = tmp_path_factory.mktemp("diffusion") / "run"
    arguments = [*ARGUMENTS, f"diffusion.forecast={forecast}", CORRELATIONS, f"output_dir={folder}"]
    assert train_diffusion.main(arguments) == 0
    return folder


def test_run_leaves_a_model_and_its_scores(run, forecast):
    assert {"model", "loss.png", "result.json", "plan.json", "report.html"} <= {path.name for path in run.iterdir()}
    model = AutoModelForPreTraining.from_pretrained(run / "model")
    assert isinstance(model, AstroDatacubeForDiffusion)
    kept = AstroDatacubeForForecasting.from_pretrained(forecast).state_dict()
    assert all(torch.equal(value, kept[name]) for name, value in model.forecast.state_dict().items())
    evaluation = json.loads((run / "result.json").read_text(encoding="utf-8"))["evaluation"]
    assert evaluation["members"] == 3
    assert set(evaluation["noise_correlation"]) == {"h", "u", "v"}
    assert set(evaluation["noise_correlation"].values()) <= {0.0, 0.9}
    for score in ("fair_crps", "mae_of_mean", "mae_deterministic", "spread_skill_ratio"):
        assert set(evaluation[score]) == {"h", "u", "v"}
        assert all(len(values) == 2 and np.isfinite(values).all() for values in evaluation[score].values())
    assert max(evaluation["residuals"]["shallow_water"]) <= 1e-6
    card = (run / "model" / "README.md").read_text(encoding="utf-8")
    assert f"| fair CRPS | {evaluation['fair_crps']['h'][0]:.3f} |" in card
    assert "mean absolute error of a deterministic forecast" in card
    assert "by flow matching" in card
    assert "departure from a forecast" in card
    scheduler = DPMSolverMultistepScheduler.from_pretrained(run / "model")
    wanted = sampling_scheduler("flow").config
    assert {name: scheduler.config[name] for name in wanted if name[0] != "_"} == {
        name: value for name, value in wanted.items() if name[0] != "_"
    }


@pytest.mark.parametrize("way", ["interrupted", "killed"])
def test_a_stopped_run_goes_on_as_if_it_had_not_been(run, forecast, tmp_path, monkeypatch, way):
    arguments = [*ARGUMENTS, f"diffusion.forecast={forecast}", CORRELATIONS, f"output_dir={tmp_path / 'run'}"]
    if way == "interrupted":
        with monkeypatch.context() as patch:
            interrupt_at(patch, 5, script=train_diffusion, trainer="DiffusionTrainer")
            assert train_diffusion.main(arguments) == 130
    else:
        assert kill_after(4, SCRIPT, arguments, tmp_path / "run") == -signal.SIGKILL
    assert train_diffusion.main([*arguments, "--resume", "auto"]) == 0
    read_run(tmp_path / "run").assert_same(read_run(run), without_evaluation=(5,))


@pytest.mark.parametrize("kind", ["ddpm", "flow"])
def test_evaluation_is_the_same_each_time_and_training_is_not(kind, tmp_path):
    task = make_task(f"diffusion.kind={kind}", f"output_dir={tmp_path}")
    task.prepare(tmp_path)
    from modeling_astrobio.training.run_setup import training_arguments

    trainer = task.build_trainer(training_arguments(task.recipe))
    first, second = (trainer.evaluate()["eval_loss"] for _ in range(2))
    assert first == second
    batch = trainer.data_collator([task.rows["train"][place] for place in range(4)])
    trainer.model.train()
    losses = [trainer.compute_loss(trainer.model, dict(batch)).item() for _ in range(2)]
    assert losses[0] != losses[1]
    # The network starts without knowing: it misses about what is to be predicted.
    assert 0.3 < first < 10


def test_members_go_their_own_ways_from_one_start():
    task = make_task()
    task.prepare(None)
    model = AstroDatacubeForDiffusion(task.config).eval()
    (climate, *_) = task.climates["test"]
    ensemble, residuals = draw_ensemble(
        model, sampling_scheduler("flow"), climate, [0, 2], 3, 4, num_inference_steps=2
    )
    assert ensemble.shape == (4, 2, 3, 3, 8, 16)
    assert residuals["shallow_water"].shape == (3,)
    spread = ensemble.std(0).mean((0, 1, 3, 4))
    assert (spread > 0).all()
    again, _ = draw_ensemble(model, sampling_scheduler("flow"), climate, [0, 2], 3, 4, num_inference_steps=2)
    assert torch.equal(again, ensemble)


def test_noise_of_a_member_persists_as_much_as_is_asked_for():
    task = make_task()
    task.prepare(None)
    model = AstroDatacubeForDiffusion(task.config).eval()
    begun = []
    model.sample = lambda *_, noise, surface_fields, **__: (
        begun.append(noise[1]) or CubePrediction(surface_fields=surface_fields[:, :, -1])
    )
    (climate, *_) = task.climates["test"]
    for correlation in (0.0, 0.6, 1.0):
        begun.clear()
        draw_ensemble(model, None, climate, [0], 3, 64, noise_correlation={"u": correlation})
        for apart in (1, 2):
            found = (begun[apart] * begun[0]).mean((0, 2, 3))
            assert found.tolist() == pytest.approx([0.0, correlation**apart, 0.0], abs=0.04)
        assert begun[2].std() == pytest.approx(1.0, abs=0.03)


def test_the_planner_counts_the_forecast(forecast):
    plain, about = (
        diffusion_step(load_recipe(DiffusionRecipe, RECIPES / "tiny.yaml", [*ARGUMENTS[1:], *change])).make_model()
        for change in ([], [f"diffusion.forecast={forecast}"])
    )
    assert plain.forecast is None
    assert sum(each.numel() for each in about.parameters()) > 1.9 * sum(each.numel() for each in plain.parameters())


def test_the_planner_sees_the_step_that_is_trained():
    step = diffusion_step(load_recipe(DiffusionRecipe, RECIPES / "tiny.yaml", ARGUMENTS[1:]))
    assert step.make_model()(**step.make_batch()).loss.isfinite()
    assert step.items == 3


def test_a_forecast_that_does_not_fit_ends_in_one_line(run, tmp_path, capsys):
    other = AstroDatacubeConfig.from_preset("tiny")
    AstroDatacubeForForecasting(other).save_pretrained(tmp_path / "air")
    for changes, message in (
        ([f"diffusion.forecast={run / 'model'}"], "must be a forecasting AstroDatacube; got ['AstroDatacubeForDiff"),
        ([f"evaluation.deterministic={run / 'model'}"], "must be a forecasting AstroDatacube; got"),
        (
            [f"evaluation.deterministic={tmp_path / 'air'}"],
            "evaluation.deterministic must have surface_variables ['h'",
        ),
        ([f"diffusion.forecast={tmp_path / 'air'}"], "must be of the variables of worlds of shallow water"),
    ):
        assert train_diffusion.main([*ARGUMENTS, *changes, f"output_dir={tmp_path / 'run'}"]) == 2
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert error.startswith("error: ")
        assert message in error


def test_an_ensemble_about_a_forecast_is_not_sharded(forecast):
    changes = [*ARGUMENTS[1:], f"diffusion.forecast={forecast}", "strategy.sharding=fsdp2"]
    with pytest.raises(RecipeError, match=r"strategy\.sharding='fsdp2' cannot train an ensemble about a forecast"):
        diffusion_config(load_recipe(DiffusionRecipe, RECIPES / "tiny.yaml", changes))


def test_an_ensemble_goes_on_from_its_own_checkpoint_with_new_constraints(run, tmp_path):
    changes = ["model.preset=null", "model.config={}", f"model.checkpoint={run / 'model'}", "diffusion.constraints=[]"]
    arguments = [*ARGUMENTS[:3], *changes, "training.max_steps=3", f"output_dir={tmp_path / 'run'}"]
    assert train_diffusion.main(arguments) == 0
    before, after = (AstroDatacubeForDiffusion.from_pretrained(each / "model") for each in (run, tmp_path / "run"))
    kept = before.forecast.state_dict()
    assert all(torch.equal(value, kept[name]) for name, value in after.forecast.state_dict().items())
    assert json.loads((tmp_path / "run" / "result.json").read_text())["evaluation"]["departs_from_forecast"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("diffusion.kind=magic", "diffusion.kind must be of ddpm, flow; got 'magic'"),
        ("diffusion.planet_dropout=1.0", "diffusion.planet_dropout must be at least 0 and below 1; got 1.0"),
        ("diffusion.constraints=[ether]", "diffusion.constraints must be of positive_water"),
        ("evaluation.members=1", "evaluation.members must be at least 2; got 1"),
        (
            "evaluation.noise_correlation=[1.5]",
            "evaluation.noise_correlation must name numbers from 0 to 1; got [1.5]",
        ),
        ("diffusion.forecast=nowhere", "diffusion.forecast='nowhere' cannot be loaded"),
        ("evaluation.deterministic=nowhere", "evaluation.deterministic='nowhere' cannot be loaded"),
    ],
)
def test_mistakes_end_in_one_line(change, message, tmp_path, capsys):
    assert train_diffusion.main([*ARGUMENTS, change, f"output_dir={tmp_path / 'run'}"]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert message in error
