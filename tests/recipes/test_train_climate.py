"""recipes/train_climate.py, both tasks, from climates to card, resumed, and what it says to each mistake."""

import json

import numpy as np
import pytest
import torch
from climate_files import write_planets
from recipe_runs import ROOT, interrupt_at, load_script, read_run
from transformers import AutoModelForImageToImage, AutoModelForMaskedImageModeling, AutoProcessor

from data_scripts.climate.trajectories import read_climates
from modeling_astrobio import (
    AstroDatacubeConfig,
    AstroDatacubeForForecasting,
    AstroDatacubeForMaskedReconstruction,
    AstroDatacubeForSteadyState,
)
from modeling_astrobio.training.climate_recipe import ClimateRecipe
from modeling_astrobio.training.datacube_data import climate_statistics
from modeling_astrobio.training.datacube_report import draw_level_forecast
from modeling_astrobio.training.datacube_step import climate_step
from modeling_astrobio.training.recipe import load_recipe


SCRIPT = ROOT / "recipes" / "train_climate.py"
RECIPES = ROOT / "recipes" / "climate"
train_climate = load_script(SCRIPT)
# Dropout and averaging too must go on after a stop as if there had been none.
SHARED = ["device=cpu", "cpu_threads=1", "model.config.hidden_dropout=0.1", "ema_decay=0.9"]


@pytest.fixture(scope="module")
def planets(tmp_path_factory):
    pytest.importorskip("xarray", reason="the extra climate is not installed")
    pytest.importorskip("cf_xarray", reason="the extra climate is not installed")
    return write_planets(tmp_path_factory.mktemp("climates") / "planets", train=7, validation=1, test=2)


@pytest.fixture(scope="module")
def arguments(planets):
    return {"reconstruct": ["tiny", *SHARED], "steady": ["tiny_steady", *SHARED, f"data.folder={planets}"]}


@pytest.fixture(scope="module")
def runs(arguments, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for task, several in arguments.items():
        assert train_climate.main([*several, f"output_dir={folder / task}"]) == 0
    return folder


@pytest.mark.parametrize(
    ("task", "auto_class", "model_class"),
    [
        ("reconstruct", AutoModelForMaskedImageModeling, AstroDatacubeForMaskedReconstruction),
        ("steady", AutoModelForImageToImage, AstroDatacubeForSteadyState),
    ],
)
def test_a_run_leaves_model_processor_figures_and_card(runs, task, auto_class, model_class):
    run = runs / task
    assert {"model", "loss.png", "result.json", "plan.json", "recipe.yaml", "checkpoint-6", "report.html"} <= {
        path.name for path in run.iterdir()
    }
    picture = "levels.png" if task == "steady" else "filled.png"
    assert (run / picture).read_bytes()[:4] == b"\x89PNG"
    model = auto_class.from_pretrained(run / "model")
    assert isinstance(model, model_class)
    processor = AutoProcessor.from_pretrained(run / "model")
    assert processor.num_input_steps == model.config.num_input_steps == (task == "reconstruct")
    assert processor.statistics == model.config.statistics
    result = json.loads((run / "result.json").read_text(encoding="utf-8"))
    assert (result["status"], result["data"]["task"]) == ("finished", task)
    assert (result["data"]["train"], result["data"]["validation"], result["data"]["test"]) == (7, 1, 2)
    cases = result["evaluation"]["relative_rmse"]
    if task == "reconstruct":
        assert {kind: sorted(rivals) for kind, rivals in cases.items()} == {
            "patches": ["linear", "model", "nearest"],
            "variables": ["model"],
            "values": ["linear", "model", "nearest"],
        }
        # Winds are smooth: between known neighbours interpolation is better than the mean of all states.
        assert cases["values"]["linear"]["u"] < 1
    else:
        assert list(cases) == ["steady climate"]
        # All fields follow the flux, which tells all but the noise.
        assert cases["steady climate"]["ridge"]["mean"] < 0.3 < cases["steady climate"]["mean of the planets"]["mean"]
        assert result["evaluation"]["radiation_residual_w_m2"]["test"] == [None, None]
    for rivals in cases.values():
        for values in rivals.values():
            assert values.keys() == rivals["model"].keys()
            assert np.isfinite(list(values.values())).all()
    card = (run / "model" / "README.md").read_text(encoding="utf-8")
    variable, error = next(iter(cases[next(iter(cases))]["model"].items()))
    assert f"| model | {error:.3f} |" in card
    assert f" {variable} |" in card
    assert auto_class.__name__ in card


@pytest.mark.parametrize("task", ["reconstruct", "steady"])
def test_a_stopped_run_goes_on_as_if_it_had_not_been(runs, arguments, tmp_path, monkeypatch, task):
    several = [*arguments[task], f"output_dir={tmp_path / 'run'}"]
    with monkeypatch.context() as patch:
        interrupt_at(patch, 5, script=train_climate, trainer="ChangedBatchTrainer")
        assert train_climate.main(several) == 130
    assert train_climate.main([*several, "--resume"]) == 0
    read_run(tmp_path / "run").assert_same(read_run(runs / task), without_evaluation=(5,))


def test_the_saved_model_predicts_a_planet_from_its_file(runs, planets):
    import xarray

    model = AutoModelForImageToImage.from_pretrained(runs / "steady" / "model").eval()
    processor = AutoProcessor.from_pretrained(runs / "steady" / "model")
    with xarray.open_dataset(sorted(planets.glob("*.nc"))[0], decode_times=False) as data:
        batch = processor(data, {"stellar_flux_w_m2": 900.0, "gravity_m_s2": 9.0})
        assert not {"level_fields", "surface_fields"} & set(batch)
        predicted = processor.decode(**_fields(model(**batch)), like=data)
    assert predicted["ts"].shape == (8, 16)
    assert predicted["ta"].shape == (3, 8, 16)
    assert np.isfinite(predicted["ta"]).all()


def test_the_processor_knows_the_units_of_the_training_data(runs, planets):
    import xarray

    # A forecast reads fields; the steady model's statistics are of the same files.
    from modeling_astrobio import AstroDatacubeProcessor

    statistics = AutoProcessor.from_pretrained(runs / "steady" / "model").statistics
    assert statistics["units"]["ps"] == "Pa"
    assert statistics["units"]["ua"] == "m s-1"
    names = {"level_variables": ["ta", "ua"], "surface_variables": ["ps"], "forcing_variables": []}
    processor = AstroDatacubeProcessor(**names, statistics=statistics, num_input_steps=1)
    planet = {"stellar_flux_w_m2": 900.0, "gravity_m_s2": 9.0}
    with xarray.open_dataset(sorted(planets.glob("*.nc"))[0], decode_times=False) as data:
        read = processor(data, planet)["surface_fields"]
        other = data.copy()
        other["ps"] = (data["ps"] / 100).assign_attrs(data["ps"].attrs, units="hPa")
        torch.testing.assert_close(processor(other, planet)["surface_fields"], read)
        other["ps"] = data["ps"].assign_attrs(units="kg")
        with pytest.raises(ValueError, match=r"ps.* must be in a unit of the dimension of 'Pa'; got 'kg'"):
            processor(other, planet)


def test_the_star_of_synchronous_planets_alone_is_told(planets):
    from data_scripts.climate.cube_file import read_cube
    from data_scripts.climate.trajectories import cube_trajectory

    config = AstroDatacubeConfig.from_preset("tiny", planet_parameters=["synchronous", "substellar_longitude_deg"])
    cubes = [read_cube(path) for path in sorted(planets.glob("*.nc"))]
    assert {cube.planet.synchronous for cube in cubes} == {False, True}
    for cube in cubes:
        told = cube_trajectory(cube, config, 1.0).planet
        expected = torch.tensor([1.0, 180.0] if cube.planet.synchronous else [0.0, torch.nan])
        torch.testing.assert_close(told, expected, equal_nan=True)


def _fields(prediction):
    return {name: getattr(prediction, name)[0].detach() for name in ("level_fields", "surface_fields")}


@pytest.mark.parametrize(("name", "changes"), [("tiny", []), ("tiny_steady", ["data.folder=files"])])
def test_the_planner_sees_the_step_that_is_trained(name, changes):
    recipe = load_recipe(ClimateRecipe, RECIPES / f"{name}.yaml", changes)
    step = climate_step(recipe)
    loss = step.make_model()(**step.make_batch()).loss
    assert step.items == 3
    assert loss.isfinite()


def test_recipes_build():
    for path in RECIPES.glob("*.yaml"):
        recipe = load_recipe(ClimateRecipe, path, ["data.folder=files"])
        with torch.device("meta"):
            assert sum(each.numel() for each in climate_step(recipe).make_model().parameters()) > 1e4


@pytest.mark.parametrize(
    ("task", "change", "message"),
    [
        ("reconstruct", "task=guess", "task must be one of ('reconstruct', 'steady'); got 'guess'"),
        ("reconstruct", "task=steady", "reconstruct is read with task=reconstruct alone; got task=steady"),
        ("reconstruct", "steady.states=3", "steady is read with task=steady alone; got task=reconstruct"),
        ("reconstruct", "reconstruct.shares.ether=0.5", "reconstruct.shares must be of patches, variables, values"),
        ("reconstruct", "reconstruct.shares={patches: 0}", "one above 0 at least; got {'patches': 0}"),
        (
            "reconstruct",
            "reconstruct.shares={patches: 1}",
            "reconstruct.shares.patches must be at least 0 and below 1",
        ),
        ("reconstruct", "reconstruct.states=0", "reconstruct.states must be at least 1; got 0"),
        ("reconstruct", "reconstruct.patch_cells=16", "patch_cells must leave more than one patch of 8 rows and 16"),
        ("steady", "data.folder=null", "data.folder must be given with task=steady"),
        ("steady", "steady.states=0", "steady.states must be at least 1; got 0"),
        ("steady", "steady.states=5", "climates must have at least 5 states, whose mean is steady; planet-"),
        ("steady", "steady.mixing=2", "steady.mixing must be from 0 to 1; got 2"),
        ("steady", "steady.ridge=[0]", "steady.ridge must name strengths above 0; got [0]"),
        ("steady", "model.config.level_variables=[zg]", "zg must have a value at some level of the training data"),
    ],
)
def test_mistakes_end_in_one_line(arguments, task, change, message, tmp_path, capsys):
    assert train_climate.main([*arguments[task], change, f"output_dir={tmp_path / 'run'}"]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert message in error
    assert error.startswith("error: ")


def test_the_embedded_planets_are_trained_on(tmp_path):
    pytest.importorskip("cf_xarray", reason="the extra climate is not installed")
    arguments = ["steady", "device=cpu", "cpu_threads=1", "training.max_steps=4", f"output_dir={tmp_path / 'run'}"]
    assert train_climate.main(arguments) == 0
    result = json.loads((tmp_path / "run" / "result.json").read_text(encoding="utf-8"))
    assert result["data"]["name"] == "embedded"
    assert result["data"]["train"] > 8
    # Nobody should take them for climates in equilibrium.
    residuals = [each for several in result["evaluation"]["radiation_residual_w_m2"].values() for each in several]
    assert max(map(abs, residuals)) > 1
    statistics = AutoProcessor.from_pretrained(tmp_path / "run" / "model").statistics
    assert statistics["units"]["rlut"] == "W m-2"
    # Outgoing radiation counts downward, and planets are neither frozen through nor boiling.
    assert statistics["variables"]["rlut"]["mean"] < -100
    assert 200 < statistics["variables"]["ts"]["mean"] < 320


def test_a_forecast_of_planets_with_levels_is_drawn(planets, tmp_path):
    config = AstroDatacubeConfig.from_preset("tiny")
    # A year of 360 days in as many parts as there are states.
    climates = read_climates(planets, config, 30 * 86_400.0)
    config.statistics = climate_statistics(climates["train"], config)
    model = AstroDatacubeForForecasting(config).eval()
    draw_level_forecast(model, climates["test"][0], 20, tmp_path / "levels.png")
    assert (tmp_path / "levels.png").read_bytes()[:4] == b"\x89PNG"
