"""A saved AstroDatacube and its processor open where the package is not installed, with the same results."""

import json

import pytest
import torch
from datacube_batches import randomised
from remote_reader import read_elsewhere
from test_processing_astro_datacube import NAMES, climate, fitted

from modeling_astrobio import (
    AstroDatacubeForForecasting,
    AstroDatacubeForMaskedReconstruction,
    AstroDatacubeForSteadyState,
    AstroDatacubeProcessor,
)
from modeling_astrobio.configuration_astro_datacube import AstroDatacubeConfig


HEADS = {
    "AutoModelForTimeSeriesPrediction": AstroDatacubeForForecasting,
    "AutoModelForMaskedImageModeling": AstroDatacubeForMaskedReconstruction,
    "AutoModelForImageToImage": AstroDatacubeForSteadyState,
}
READER = """
import transformers
import xarray as xr

data = xr.open_dataset(exchange / "climate.nc", decode_times=False)
auto = (exchange / "auto.txt").read_text()
config = transformers.AutoConfig.from_pretrained(source, trust_remote_code=True)
processor = transformers.AutoProcessor.from_pretrained(source, trust_remote_code=True)
model = getattr(transformers, auto).from_pretrained(source, trust_remote_code=True)
trunk = transformers.AutoModel.from_pretrained(source, trust_remote_code=True)
for each in (config, processor, model, trunk):
    assert type(each).__module__.startswith("transformers_modules."), type(each)
batch = dict(processor(data))
told = {"lead_time_s": torch.tensor([21600.0])} if "TimeSeries" in auto else {}
found = {"trunk": trunk(**batch, **told).last_hidden_state.detach()}
found |= {f"batch.{name}": value for name, value in batch.items()}
with torch.no_grad():
    output = model(**batch, **told)
found |= {"level": output.level_fields, "surface": output.surface_fields}
processor.decode(output.level_fields[0], output.surface_fields[0], like=data).to_netcdf(exchange / "out.nc")
try:
    processor(data["ta"])
except ValueError as error:
    assert "must be an xarray.Dataset; got DataArray" in str(error), error
else:
    raise AssertionError("a DataArray was read")
model.save_pretrained(exchange / "saved_again")
processor.save_pretrained(exchange / "saved_again")
again = getattr(transformers, auto).from_pretrained(exchange / "saved_again", trust_remote_code=True)
with torch.no_grad():
    found["again"] = again(**batch, **told).level_fields
save_file({key: value.contiguous() for key, value in found.items()}, exchange / "found.safetensors")
"""


@pytest.mark.parametrize("auto", HEADS)
def test_results_there_equal_those_here(auto, tmp_path):
    source, exchange = tmp_path / "saved", tmp_path / "exchange"
    exchange.mkdir()
    reader = fitted(num_input_steps=HEADS[auto].decided.get("num_input_steps", 1))
    config = AstroDatacubeConfig.from_preset("tiny", **NAMES)
    config.statistics = reader.statistics
    randomised(HEADS[auto](config)).save_pretrained(source)
    reader.save_pretrained(source)
    climate().to_netcdf(exchange / "climate.nc")
    (exchange / "auto.txt").write_text(auto)
    found = read_elsewhere(READER, source, exchange)

    model = HEADS[auto].from_pretrained(source)
    batch = AstroDatacubeProcessor.from_pretrained(source)(climate())
    for name, value in batch.items():
        assert torch.equal(found[f"batch.{name}"].nan_to_num(-1), value.nan_to_num(-1)), name
    inputs = dict(batch)
    if auto == "AutoModelForTimeSeriesPrediction":
        inputs["lead_time_s"] = torch.tensor([21600.0])
    with torch.no_grad():
        output = model(**inputs)
        trunk = model.model(**inputs).last_hidden_state
    assert torch.equal(found["trunk"], trunk)
    assert torch.equal(found["level"], output.level_fields)
    assert torch.equal(found["surface"], output.surface_fields)
    assert torch.equal(found["again"], output.level_fields)
    for folder in (source, exchange / "saved_again"):
        files = {path.name for path in folder.glob("*.py")}
        assert {"modeling_astro_datacube.py", "sphere_grid.py", "processing_astro_datacube.py"} <= files
        assert not [name for name in files if "graph" in name or "llm" in name or "molecule" in name]
        auto_map = json.loads((folder / "config.json").read_text())["auto_map"]
        assert auto_map == {
            "AutoConfig": "configuration_astro_datacube.AstroDatacubeConfig",
            "AutoModel": "modeling_astro_datacube.AstroDatacubeModel",
            auto: f"modeling_astro_datacube_heads.{HEADS[auto].__name__}",
        }
