"""recipes/train_datacube.py from worlds to card, resumed, killed, and what it says to each mistake."""

import json
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml
from recipe_runs import ENVIRONMENT, ROOT, interrupt_at, kill_after, load_script, read_run
from transformers import AutoModelForTimeSeriesPrediction, AutoProcessor

from data_scripts.climate.trajectories import shallow_water_worlds
from modeling_astrobio import AstroDatacubeConfig, AstroDatacubeForForecasting, AstroDatacubeProcessor
from modeling_astrobio.climate_residuals import PLANET_READ
from modeling_astrobio.configuration_astro_datacube import PLANET_PARAMETERS
from modeling_astrobio.modeling_astro_datacube_heads import next_window
from modeling_astrobio.training.checkpoints import verify_checkpoint
from modeling_astrobio.training.datacube_baselines import RidgeForecast, climatology, persistence
from modeling_astrobio.training.datacube_data import ForecastRows, collate_climates
from modeling_astrobio.training.datacube_evaluation import forecast_figures
from modeling_astrobio.training.datacube_recipe import DatacubeRecipe
from modeling_astrobio.training.datacube_step import datacube_step
from modeling_astrobio.training.datacube_trainer import rate_by_depth, rollout_steps_at
from modeling_astrobio.training.errors import DataError
from modeling_astrobio.training.memory_trace import trace_step
from modeling_astrobio.training.recipe import load_recipe
from modeling_astrobio.training.run_setup import training_arguments


SCRIPT = ROOT / "recipes" / "train_datacube.py"
RECIPES = ROOT / "recipes" / "datacube"
train_datacube = load_script(SCRIPT)
STEPS = 9
ARGUMENTS = [
    "tiny",
    "device=cpu",
    "cpu_threads=1",
    "model.config.hidden_dropout=0.1",
    "forecast.rollout_steps=2",
    "forecast.rollout_rise=0.5",
    "forecast.layer_decay=0.8",
    "forecast.physics.shallow_water=0.1",
    f"training.max_steps={STEPS}",
]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("datacube") / "run"
    assert train_datacube.main([*ARGUMENTS, f"output_dir={folder}"]) == 0
    return folder


@pytest.fixture(scope="module")
def worlds():
    return shallow_water_worlds(10, 8, 9, 21600.0, 0, PLANET_PARAMETERS)


def task_of(*changes):
    task = train_datacube.DatacubeTask(load_recipe(DatacubeRecipe, RECIPES / "tiny.yaml", [*ARGUMENTS[1:], *changes]))
    return task


def test_run_leaves_everything(run):
    assert sorted(path.name for path in run.iterdir()) == [
        "checkpoint-8",
        "checkpoint-9",
        "errors.png",
        "forecast.png",
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
    model = AutoModelForTimeSeriesPrediction.from_pretrained(run / "model")
    assert isinstance(model, AstroDatacubeForForecasting)
    assert model.config.constraints == ["shallow_water"]
    processor = AutoProcessor.from_pretrained(run / "model")
    assert isinstance(processor, AstroDatacubeProcessor)
    assert processor.statistics == model.config.statistics


def test_result_and_card_have_the_model_beside_its_baselines(run):
    result = json.loads((run / "result.json").read_text(encoding="utf-8"))
    assert result["status"] == "finished"
    assert (result["data"]["train"], result["data"]["validation"], result["data"]["test"]) == (7, 1, 2)
    evaluation = result["evaluation"]
    assert set(evaluation["relative_rmse"]) == {"persistence", "climatology", "ridge", "model"}
    for values in evaluation["relative_rmse"].values():
        assert set(values) == {"h", "u", "v"}
        assert all(len(errors) == 5 and np.isfinite(errors).all() for errors in values.values())
    assert max(evaluation["residuals"]["shallow_water"]) <= 1e-6
    card = (run / "model" / "README.md").read_text(encoding="utf-8")
    assert f"| model | {evaluation['relative_rmse']['model']['h'][0]:.3f} |" in card
    assert "single layers of fluid" in card


def test_losses_of_each_step_and_of_physics_are_logged(run):
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    trained = [row for row in rows if "loss_step_1" in row]
    assert [row["step"] for row in trained] == list(range(1, STEPS + 1))
    # The second step of a roll-out begins half-way through the rise.
    assert [row["loss_step_2"] > 0 for row in trained] == [step >= 2 for step in range(STEPS)]
    for row in trained:
        steps = [row["loss_step_1"], row["loss_step_2"]]
        mean = sum(steps) / (2 if steps[1] else 1)
        assert row["loss"] == pytest.approx(mean + 0.1 * row["loss_shallow_water"], rel=1e-4)
    assert sum("eval_loss" in row for row in rows) == 3


@pytest.mark.parametrize("way", ["interrupted", "killed"])
def test_a_stopped_run_goes_on_as_if_it_had_not_been(run, tmp_path, monkeypatch, way):
    arguments = [*ARGUMENTS, f"output_dir={tmp_path / 'run'}"]
    if way == "interrupted":
        with monkeypatch.context() as patch:
            interrupt_at(patch, 6, script=train_datacube, trainer="CNNViTTrainer")
            assert train_datacube.main(arguments) == 130
    else:
        assert kill_after(6, SCRIPT, arguments, tmp_path / "run") == -signal.SIGKILL
    assert train_datacube.main([*arguments, "--resume", "auto"]) == 0
    read_run(tmp_path / "run").assert_same(read_run(run), without_evaluation=(6,))


def test_the_saved_model_forecasts_a_dataset(run):
    xarray = pytest.importorskip("xarray", reason="climates are xarray Datasets")
    world = shallow_water_worlds(10, 8, 3, 21600.0, 5, PLANET_PARAMETERS)["test"][0]
    axes = {
        "time": ("time", [0, 1, 2], {"axis": "T"}),
        "lat": ("lat", world.latitude_deg.numpy(), {"units": "degrees_north", "axis": "Y"}),
        "lon": ("lon", world.longitude_deg.numpy(), {"units": "degrees_east", "axis": "X"}),
    }
    fields = {
        name: (("time", "lat", "lon"), world.surface_fields[place].numpy(), {"units": unit})
        for place, (name, unit) in enumerate((("h", "m"), ("u", "m s-1"), ("v", "m s-1")))
    }
    data = xarray.Dataset(fields, coords=axes)
    model = AutoModelForTimeSeriesPrediction.from_pretrained(run / "model").eval()
    processor = AutoProcessor.from_pretrained(run / "model")
    planet = {"radius_m": 6e6, "gravity_m_s2": 9.0, "rotation_period_s": 9e4}
    rolled = model.rollout(2, **processor(data, planet), lead_time_s=torch.tensor([21600.0]))
    forecast = processor.decode(surface_fields=rolled.surface_fields[0], like=data)
    assert forecast["h"].dims == ("step", "lat", "lon")
    assert forecast["u"].attrs == {"units": "m s-1"}
    assert np.isfinite(forecast["v"]).all()


def test_rows_hold_states_and_those_that_follow(worlds):
    (world,) = worlds["validation"]
    rows = ForecastRows([world], num_input_steps=2, num_label_steps=3)
    assert len(rows) == 9 - 5 + 1
    for first in range(len(rows)):
        assert torch.equal(rows[first]["surface_fields"], world.surface_fields[:, first : first + 2])
        assert torch.equal(rows[first]["surface_labels"], world.surface_fields[:, first + 2 : first + 5])
    batch = collate_climates([rows[0], rows[3]])
    assert batch["surface_labels"].shape == (2, 3, 3, 8, 16)
    with pytest.raises(DataError, match="climates must have at least 10 states one after another"):
        ForecastRows([world], 5, 5)


def test_planets_are_apart_in_the_splits(worlds):
    planets = {split: {tuple(world.planet[2:5].tolist()) for world in several} for split, several in worlds.items()}
    assert [len(found) for found in planets.values()] == [7, 1, 2]
    assert not planets["train"] & planets["test"]
    assert not planets["train"] & planets["validation"]


def test_ridge_is_the_least_squares_of_its_inputs(worlds):
    ridge = RidgeForecast(worlds["train"], [1, 2], 1e-12)
    features, changes = [], []
    for world in worlds["train"]:
        features.append(ridge._inputs(world, world.surface_fields[:, :-1].double())[3])
        change = world.surface_fields.double().diff(dim=1)[:, :, 3] / ridge.scale[:, None, None]
        changes.append(change.permute(1, 2, 0).flatten(0, 1))
    expected = np.linalg.lstsq(torch.cat(features).numpy(), torch.cat(changes).numpy(), rcond=None)[0]
    predicted = torch.cat(features).numpy() @ expected
    np.testing.assert_allclose(torch.cat(features) @ ridge.weights[3], predicted, atol=1e-4)


def test_figures_are_one_where_a_forecast_is_the_mean(worlds):
    class Mean:
        config = type("config", (), {"num_input_steps": 1, "surface_variables": ["h", "u", "v"]})
        device = "cpu"

        def rollout(self, steps, **batch):
            world = next(each for each in worlds["test"] if torch.equal(each.planet[2:5], batch["planet"][0, 2:5]))
            fields = climatology(world, 0, steps)[None].expand(len(batch["planet"]), -1, -1, -1, -1)
            return type("rolled", (), {"surface_fields": fields + 1e-3, "residuals": None})

    figures = forecast_figures(Mean(), worlds["test"], persistence, 4, 3)
    for name in ("h", "u", "v"):
        assert figures["relative_rmse"]["model"][name] == pytest.approx(
            figures["relative_rmse"]["climatology"][name], rel=1e-2
        )
        mean_square = np.square(figures["relative_rmse"]["climatology"][name]).mean()
        assert mean_square == pytest.approx(1.0, rel=0.1)
        # What stood in the place of ridge was persistence.
        assert figures["relative_rmse"]["ridge"] == figures["relative_rmse"]["persistence"]


def test_rates_fall_with_the_distance_from_the_head():
    task = task_of()
    task.prepare(None)
    trainer = task.build_trainer(training_arguments(task.recipe))
    rates = {id(p): group["lr"] for group in trainer.create_optimizer().param_groups for p in group["params"]}
    named = dict(trainer.model.named_parameters())
    assert set(rates) == {id(parameter) for parameter in named.values()}
    full = task.recipe.training["learning_rate"]
    expected = {
        "head.surface.conv.weight": 0,
        "model.level_readout.value_proj.weight": 1,
        "model.up_blocks.1.0.conv.up_conv.weight": 2,
        "model.up_blocks.0.0.conv.up_conv.weight": 3,
        "model.down_blocks.2.0.mlp.up_proj.weight": 3,
        "model.down_blocks.0.0.conv.up_conv.weight": 5,
        "model.stem.surface_conv.weight": 7,
    }
    for name, distance in expected.items():
        assert rates[id(named[name])] == pytest.approx(full * 0.8**distance), name
        assert rate_by_depth(name, 3, 0.8) == pytest.approx(0.8**distance)


def test_rollouts_lengthen_at_even_intervals():
    assert [rollout_steps_at(step, 3, 6) for step in range(8)] == [1, 1, 2, 2, 3, 3, 3, 3]
    assert rollout_steps_at(0, 3, 0) == 3


def test_the_planner_counts_every_step_of_a_rollout():
    peaks = []
    for steps in (1, 3):
        changes = [*ARGUMENTS[1:], f"forecast.rollout_steps={steps}"]
        step = datacube_step(load_recipe(DatacubeRecipe, RECIPES / "tiny.yaml", changes))
        trace = trace_step(step.make_model, step.make_batch, device="cpu")
        peaks.append(trace.components["activations"])
    assert 2.0 < peaks[1] / peaks[0] < 3.2
    model, batch = step.make_model().eval(), step.make_batch()
    labels, window, losses, ledger = batch.pop("surface_labels"), (None, batch.pop("surface_fields")), [], None
    batch["planet"] = batch["planet"].clone()
    for place in range(3):
        one = AstroDatacubeForForecasting.forward(
            model, surface_fields=window[1], surface_labels=labels[:, :, place], ledger=ledger, **batch
        )
        losses.append(one.loss)
        ledger, window = one.ledger, next_window(window, one)
    torch.testing.assert_close(model(**step.make_batch()).loss, torch.stack(losses).mean())


def test_the_planner_sees_the_step_that_is_trained():
    recipe = load_recipe(DatacubeRecipe, RECIPES / "tiny.yaml", ARGUMENTS[1:])
    step = datacube_step(recipe)
    with torch.device("cpu"):
        loss = step.make_model()(**step.make_batch()).loss
    assert step.items == 3
    assert loss.isfinite()
    large = datacube_step(load_recipe(DatacubeRecipe, RECIPES / "2b5.yaml", ["data.folder=files"]))
    with torch.device("meta"):
        assert sum(each.numel() for each in large.make_model().parameters()) == pytest.approx(2.50e9, abs=5e6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("data.worlds=3", "data.worlds must be at least 8; got 3"),
        ("data.step_s=0", "data.step_s must be above 0; got 0"),
        ("forecast.layer_decay=1.5", "forecast.layer_decay must be above 0 and at most 1; got 1.5"),
        ("forecast.constraints=[ether]", "forecast.constraints must be of positive_water"),
        ("forecast.physics.ether=1", "forecast.physics must be of positive_water"),
        ("evaluation.ridge=[]", "evaluation.ridge must name strengths above 0"),
        ("model.config.hidden_sizes=[8]", "hidden_sizes must name at least 3 scales"),
        ("data.folder=nowhere", "data.folder='nowhere' cannot be read: nowhere must be a folder with files"),
        ("data.states=3", "climates must have at least 5 states one after another"),
        ("data.colour=red", "unknown recipe key 'data.colour'"),
    ],
)
def test_mistakes_end_in_one_line(change, message, tmp_path, capsys):
    assert train_datacube.main([*ARGUMENTS, change, f"output_dir={tmp_path / 'run'}"]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert message in error
    assert error.startswith("error: ")


def test_recipes_are_read():
    for path in RECIPES.glob("*.yaml"):
        recipe = load_recipe(DatacubeRecipe, path, [])
        assert recipe.to_dict()["data"].keys() >= yaml.safe_load(path.read_text()).get("data", {}).keys()


def test_real_climates_are_read_and_trained_on(tmp_path):
    samples = ROOT.parent / "shared" / "climate_samples" / "exoplasim"
    if not samples.is_dir():
        pytest.skip("no climate samples beside the repository")
    pytest.importorskip("xarray", reason="climates are xarray Datasets")
    from data_scripts.climate.trajectories import read_climates

    config = AstroDatacubeConfig.from_preset("tiny")
    splits = read_climates(samples, config, 2_592_000.0)
    # Three planets, one with two files.
    assert sorted(len(each) for each in splits.values()) == [1, 1, 2]
    twice = next(climates for climates in splits.values() if len(climates) == 2)
    assert torch.allclose(twice[0].planet, twice[1].planet, equal_nan=True)
    arguments = ["tiny", "device=cpu", "cpu_threads=1", f"data.folder={samples}", "data.step_s=2592000.0"]
    laws = "forecast.constraints=[positive_water,dry_mass]"
    assert train_datacube.main([*arguments, laws, "evaluation.starts=2", f"output_dir={tmp_path / 'run'}"]) == 0
    evaluation = json.loads((tmp_path / "run" / "result.json").read_text())["evaluation"]
    assert np.isfinite(list(evaluation["relative_rmse"]["model"].values())).all()
    assert max(evaluation["residuals"]["dry_mass"]) <= 1e-6
    assert max(evaluation["residuals"]["positive_water"]) == 0
    # What the recipe tells of the planet is enough for every law.
    planet = splits["test"][0].planet.tolist()
    told = dict(zip(config.planet_parameters, planet, strict=True))
    assert all(np.isfinite(told[name]) for names in PLANET_READ.values() for name in names)
    assert told["gas_constant_dry_j_kg_k"] / told["heat_capacity_dry_j_kg_k"] == pytest.approx(0.286)
    assert (tmp_path / "run" / "levels.png").is_file()


def test_help_names_the_recipes():
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--help"], env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert "recipes/datacube" in done.stdout
