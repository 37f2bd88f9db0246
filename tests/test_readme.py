"""The README says what the code and the result files say."""

import re
import sys
from pathlib import Path

import torch

from modeling_astrobio import (
    ASTRO_DATACUBE_PRESETS,
    ASTRO_GRAPH_VAE_PRESETS,
    ASTRO_LLM_PRESETS,
    AstroDatacubeConfig,
    AstroDatacubeModel,
    AstroGraphVAEConfig,
    AstroGraphVAEModel,
    AstroLLMConfig,
    AstroLLMForCausalLM,
)
from modeling_astrobio.training.datacube_recipe import DatacubeRecipe
from modeling_astrobio.training.datacube_step import datacube_step
from modeling_astrobio.training.graph_recipe import GraphRecipe
from modeling_astrobio.training.graph_step import graph_step
from modeling_astrobio.training.memory_trace import trace_step
from modeling_astrobio.training.recipe import load_recipe


ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_figures_come_from_the_result_files(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "recipes" / "benchmarks"))
    import update_readme

    section = README.split(update_readme.BEGIN, 1)[1].split(update_readme.END, 1)[0]
    assert section.strip() == update_readme.results_section()
    sys.modules.pop("update_readme")


def test_preset_sizes_are_those_of_the_models():
    # Of each model one table, in this order.
    tables = [
        re.findall(r"^\| `(\w+)` \| ([\d,]+) \|", table, flags=re.MULTILINE)
        for table in README.split("| preset | parameters | for |")[1:]
    ]
    models = (
        (AstroLLMConfig, AstroLLMForCausalLM, ASTRO_LLM_PRESETS),
        (AstroGraphVAEConfig, AstroGraphVAEModel, ASTRO_GRAPH_VAE_PRESETS),
        (AstroDatacubeConfig, AstroDatacubeModel, ASTRO_DATACUBE_PRESETS),
    )
    for rows, (config_class, model_class, presets) in zip(tables, models, strict=True):
        assert [preset for preset, _ in rows] == list(presets)
        for preset, count in rows:
            with torch.device("meta"):
                model = model_class(config_class.from_preset(preset))
            assert sum(parameter.numel() for parameter in model.parameters()) == int(count.replace(",", "")), preset


def test_flops_of_graph_presets_are_those_of_a_step():
    rows = re.findall(r"^\| `(\w+)` \| [\d,]+ \| [^|]+ \| (\d+) \| (\S+) \|$", README, flags=re.MULTILINE)
    assert [preset for preset, *_ in rows] == list(ASTRO_GRAPH_VAE_PRESETS)
    for preset, atoms, flops in rows:
        changes = [f"model.preset={preset}", f"data.batch_nodes={atoms}"]
        recipe = load_recipe(GraphRecipe, "tiny", changes, ROOT / "recipes" / "graph_vae")
        step = graph_step(recipe)
        # One graph of as many atoms as the preset draws.
        assert (step.items, AstroGraphVAEConfig.from_preset(preset).max_nodes) == (1, int(atoms))
        assert f"{trace_step(step.make_model, step.make_batch, device='cpu').model_flops:.2e}" == flops, preset


def cube_flops(preset, shape):
    changes = [
        *(f"model.preset={preset}", "data.folder=files", "training.per_device_train_batch_size=1"),
        "forecast.constraints=[]",
    ]
    recipe = load_recipe(DatacubeRecipe, "tiny", changes, ROOT / "recipes" / "datacube")
    step = datacube_step(recipe, shape)
    return f"{trace_step(step.make_model, step.make_batch, device='cpu').model_flops:.2e}"


def test_flops_of_datacube_presets_are_those_of_a_step():
    table = README.split("a cube of 10 levels, 32 latitudes, 64 longitudes |")[1].split("\n\n")[0]
    rows = re.findall(r"^\| `(\w+)` \| [\d,]+ \| [^|]+ \| (\S+) \|$", table, flags=re.MULTILINE)
    assert [preset for preset, _ in rows] == list(ASTRO_DATACUBE_PRESETS)
    for preset, flops in rows:
        assert cube_flops(preset, (10, 32, 64)) == flops, preset
    (large,) = re.findall(r"13 levels, 181 latitudes and 360 longitudes takes (\S+) FLOPs in `2b5`", README)
    assert cube_flops("2b5", (13, 181, 360)) == large


def test_ci_runs_the_test_command_of_the_readme():
    assert "<!-- test-command -->\n```bash\n" in README
    assert "pytest" in README.split("<!-- test-command -->", 1)[1].split("```")[1]
