"""Ensembles about a forecast: what departures are counted from and in which scale, what is trained, what is saved."""

import dataclasses

import pytest
import torch
from datacube_batches import cube_batch, randomised, tiny_config
from huggingface_hub.errors import StrictDataclassError
from test_modeling_astro_datacube_diffusion import Known, noisy_batch
from test_modeling_astro_datacube_heads import LEAD, labels_of

from modeling_astrobio import AstroDatacubeForDiffusion, AstroDatacubeForForecasting, AstroDatacubeModel
from modeling_astrobio.sphere_grid import area_mean, sphere_grid
from modeling_astrobio.training.datacube_data import ClimateTrajectory
from modeling_astrobio.training.forecast_departures import add_departure_shares, share_with_forecast


diffusers = pytest.importorskip("diffusers", reason="schedulers are those of diffusers")

LEVEL_SHARES, SURFACE_SHARES = (0.1, 0.2, 0.3, 0.4), (0.5, 0.6, 0.7)


def forecast_model(**fields):
    # Another architecture than that of the network about it.
    return randomised(AstroDatacubeForForecasting(tiny_config(depths=[1, 1, 1], **fields)), seed=3).eval()


def departing_config(forecast):
    config = tiny_config()
    share_with_forecast(config, forecast.config)
    variables = config.statistics["variables"]
    for name, share in zip(config.level_variables, LEVEL_SHARES, strict=True):
        variables[name] = {**variables[name], "departure_share": [share] * 3}
    for name, share in zip(config.surface_variables, SURFACE_SHARES, strict=True):
        variables[name] = {**variables[name], "departure_share": share}
    return config


def departing(forecast, kind=AstroDatacubeForDiffusion):
    model = randomised(kind(departing_config(forecast)))
    model.forecast.load_state_dict(forecast.state_dict())
    return model.eval()


def test_departures_are_counted_from_the_forecast_in_shares_of_what_it_changes():
    forecast = forecast_model()
    model = departing(forecast)
    batch = {**cube_batch(model.config), **LEAD}
    predicted = forecast(**batch)
    origin = model.origin(**batch)
    assert torch.equal(origin.fields[0], predicted.level_fields)
    assert torch.equal(origin.fields[1], predicted.surface_fields)
    weights = sphere_grid(batch["latitude_deg"][0], batch["longitude_deg"][0]).cell_weights
    for fields, last, found, shares in (
        (predicted.level_fields, batch["level_fields"][:, :, -1], origin.scales[0], LEVEL_SHARES),
        (predicted.surface_fields, batch["surface_fields"][:, :, -1], origin.scales[1], SURFACE_SHARES),
    ):
        for place, share in enumerate(shares):
            change = (fields[:, place] - last[:, place]).double()
            wanted = share * area_mean(change.square(), weights).sqrt()
            torch.testing.assert_close(found[:, place].double(), wanted, rtol=2e-3, atol=0)
    assert all(change.abs().max() == 0 for change in model.changes(origin, origin.fields))


def test_a_forecast_of_no_change_and_a_missing_variable_have_a_scale():
    forecast = forecast_model()
    torch.nn.init.zeros_(forecast.head.surface.conv.weight)
    torch.nn.init.zeros_(forecast.head.surface.conv.bias)
    model = departing(forecast)
    batch = {**cube_batch(model.config), **LEAD}
    batch["surface_fields"][:, 1] = torch.nan
    scales = model.origin(**batch).scales[1][0]
    torch.testing.assert_close(scales, torch.tensor([0.5 * 1e-3 * 200.0, 0.6 * 15.0, 0.7 * 1e-3 * 3e-5]))
    sample = model.sample(diffusers.FlowMatchEulerDiscreteScheduler(), 2, 2, **batch)
    assert sample.surface_fields.isfinite().all()


def test_sampling_ends_where_the_network_says():
    model = departing(forecast_model(), Known)
    batch = {**cube_batch(model.config), **LEAD}
    labels = labels_of(batch)
    pair = (labels["level_labels"], labels["surface_labels"])
    model.kind, model.clean = "flow", model.changes(model.origin(**batch), pair)
    drawn = model.sample(diffusers.FlowMatchEulerDiscreteScheduler(), num_inference_steps=10, **batch)
    for field, label in zip((drawn.level_fields, drawn.surface_fields), pair, strict=True):
        assert (field - label).std() < 0.02 * (label - label.mean()).std()


def test_the_forecast_is_read_as_a_state_and_is_not_trained(tmp_path):
    forecast = forecast_model()
    model = departing(forecast)
    assert model.config.num_read_steps == 3
    batch = noisy_batch(model)
    alone = model(**batch)
    origin = model.origin(**cube_batch(model.config), **LEAD)
    told = model(**batch, level_forecast=origin.fields[0], surface_forecast=origin.fields[1])
    assert torch.equal(alone.level_fields, told.level_fields)
    other = model(**batch, level_forecast=origin.fields[0] + 10, surface_forecast=origin.fields[1])
    assert (alone.level_fields - other.level_fields).abs().max() > 1e-3
    model.train()
    assert model.training
    assert not any(module.training for module in model.forecast.modules())
    targets = {name.replace("noisy_", "") + "_targets": batch[name] for name in ("noisy_level", "noisy_surface")}
    model(**batch, **targets).loss.backward()
    for name, each in model.named_parameters():
        is_reached = each.grad is not None and bool(each.grad.abs().max() > 1e-9)
        assert is_reached != name.startswith("forecast."), name


def test_a_saved_ensemble_brings_its_forecast_along(tmp_path, caplog):
    forecast = forecast_model()
    model = departing(forecast)
    batch = {**cube_batch(model.config), **LEAD}
    model.save_pretrained(tmp_path)
    again = AstroDatacubeForDiffusion.from_pretrained(tmp_path).eval()
    assert torch.equal(again.origin(**batch).fields[0], forecast(**batch).level_fields)
    assert not any(each.requires_grad for each in again.forecast.parameters())
    assert torch.equal(again(**noisy_batch(again)).level_fields, model(**noisy_batch(model)).level_fields)
    _, notes = AstroDatacubeModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not notes["unexpected_keys"]
    assert not notes["missing_keys"]


def test_a_config_that_does_not_fit_its_forecast_is_refused():
    forecast = forecast_model()
    config = departing_config(forecast)
    with pytest.raises(StrictDataclassError, match=r"surface_variables must be that of forecast_config, \['ps', 'ts'"):
        AstroDatacubeForDiffusion(tiny_config(surface_variables=["ps"], forecast_config=config.forecast_config))
    with pytest.raises(StrictDataclassError, match="forecast_config must be that of a forecast, which has none"):
        tiny_config(forecast_config=config.to_dict())


def climates_of(states):
    return [
        ClimateTrajectory(
            name=str(place),
            surface_fields=states["surface_fields"][place],
            level_fields=states["level_fields"][place],
            forcing_fields=states["forcing_fields"][place],
            levels=states["levels"][place],
            latitude_deg=states["latitude_deg"][place],
            longitude_deg=states["longitude_deg"][place],
            planet=states["planet"][place],
            step_s=LEAD["lead_time_s"][0].item(),
        )
        for place in range(len(states["planet"]))
    ]


def test_statistics_must_say_how_far_the_forecast_errs():
    forecast = forecast_model()
    config = departing_config(forecast)
    config.statistics["variables"]["ta"] = {**config.statistics["variables"]["ta"], "departure_share": [1.0]}
    with pytest.raises(StrictDataclassError, match="ta must have 3 numbers, one for each level, for departure_share"):
        config.validate()
    del config.statistics["variables"]["ta"]["departure_share"]
    with pytest.raises(StrictDataclassError, match="for departure_share; got None"):
        config.validate()


def test_climates_too_short_and_variables_never_known_do_not_count():
    forecast = forecast_model()
    states = cube_batch(forecast.config, batch=3, states=4)
    states["surface_fields"][:, 2] = torch.nan
    climates = climates_of(states)
    short = dataclasses.replace(
        climates[0], surface_fields=climates[0].surface_fields[:, :1], level_fields=climates[0].level_fields[:, :1]
    )
    unknown = dataclasses.replace(climates[1], surface_fields=climates[1].surface_fields.clone())
    unknown.surface_fields[1] = torch.nan
    found = []
    for several in (climates[:1], [climates[0], short, unknown]):
        config = departing_config(forecast)
        add_departure_shares(config, forecast, several)
        found.append({name: each.get("departure_share") for name, each in config.statistics["variables"].items()})
    assert found[0]["pr"] == found[1]["pr"] == 1.0
    assert found[0]["ts"] == found[1]["ts"] != 1.0


def test_a_state_forecast_to_rest_does_not_blow_up_the_share():
    forecast = forecast_model()
    torch.nn.init.zeros_(forecast.head.surface.conv.weight)
    torch.nn.init.zeros_(forecast.head.surface.conv.bias)
    config = departing_config(forecast)
    states = cube_batch(forecast.config, batch=1, states=3)
    add_departure_shares(config, forecast, climates_of(states))
    # Errors over a thousandth of difference_scale, as targets will be.
    model = AstroDatacubeForDiffusion(config)
    model.forecast.load_state_dict(forecast.state_dict())
    row = {name: value for name, value in states.items() if not name.endswith("l_fields") and name != "surface_fields"}
    row |= {name: states[name][:, :, 1:2] for name in ("level_fields", "surface_fields")}
    origin = model.origin(**row, lead_time_s=LEAD["lead_time_s"][:1])
    target = model.changes(origin, (None, states["surface_fields"][:, :, 2]))[1]
    assert 0.5 < target.square().mean().sqrt() < 2


def test_shares_are_those_of_the_median_climate():
    forecast = forecast_model()
    states = cube_batch(forecast.config, batch=3, states=6)
    config = departing_config(forecast)
    add_departure_shares(config, forecast, climates_of(states))
    weights = sphere_grid(states["latitude_deg"][0], states["longitude_deg"][0]).cell_weights
    naive = []
    for place in range(3):
        squares = []
        for start in range(5):
            row = {name: value[place : place + 1] for name, value in states.items()}
            row["level_fields"], row["surface_fields"] = (
                row[name][:, :, start : start + 1] for name in ("level_fields", "surface_fields")
            )
            with torch.no_grad():
                field = forecast(**row, lead_time_s=LEAD["lead_time_s"][:1]).surface_fields[0, 1].double()
            error = field - states["surface_fields"][place, 1, start + 1]
            change = field - states["surface_fields"][place, 1, start]
            squares.append(area_mean(error.square(), weights) / area_mean(change.square(), weights))
        naive.append(torch.stack(squares).mean().sqrt())
    found = config.statistics["variables"]["ts"]["departure_share"]
    assert found == pytest.approx(torch.stack(naive).median().item(), rel=5e-3)
    assert len(config.statistics["variables"]["ta"]["departure_share"]) == 3
