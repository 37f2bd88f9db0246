"""Heads of AstroDatacube: what they predict, losses against loops, roll-outs and their constraints."""

import pytest
import torch
from climate_states import ALL, climate_state, climate_system
from datacube_batches import cube_batch, randomised, tiny_config

from modeling_astrobio.climate_residuals import PLANET_READ
from modeling_astrobio.configuration_astro_datacube import PLANET_PARAMETERS, AstroDatacubeConfig
from modeling_astrobio.datacube_grid import work_grid
from modeling_astrobio.datacube_physics import CubePhysics
from modeling_astrobio.datacube_statistics import level_statistic
from modeling_astrobio.modeling_astro_datacube_heads import (
    AstroDatacubeForForecasting,
    AstroDatacubeForMaskedReconstruction,
    AstroDatacubeForSteadyState,
)
from modeling_astrobio.sphere_grid import sphere_grid


LEAD = {"lead_time_s": torch.tensor([21600.0, 21600.0])}
AIR = {
    "level_variables": ["ta", "ua", "va", "hus", "zg", "rho"],
    "surface_variables": ["ps", "ts", "pr", "evap", "rst", "rlut", "rss", "rls", "hfss", "hfls"],
    "forcing_variables": ["sg"],
}


def labels_of(batch, seed=3):
    generator = torch.Generator().manual_seed(seed)
    return {
        name.replace("fields", "labels"): batch[name][:, :, -1]
        * (1 + 0.1 * torch.randn(batch[name][:, :, -1].shape, generator=generator))
        for name in ("level_fields", "surface_fields")
    }


def naive_loss(fields, labels, scales, weights, hidden=None):
    """Mean over the variables and levels with a label of the area mean of what is known."""
    terms = []
    for field, label, scale in zip(fields, labels, scales, strict=True):
        scale = scale.expand(label.shape[:-2])
        for place in torch.cartesian_prod(*(torch.arange(size) for size in label.shape[:-2])):
            place = tuple(place.tolist())
            known = label[place].isfinite()
            if known.any():
                error = ((field[place] - label[place]) / scale[place]).square()
                terms.append((error[known] * weights[known]).sum() / weights[known].sum())
    return torch.stack(terms).mean()


@pytest.mark.parametrize("head", [AstroDatacubeForForecasting, AstroDatacubeForMaskedReconstruction])
def test_losses_are_area_means_in_the_scale_of_each_variable_and_level(head):
    model = randomised(head(tiny_config())).eval()
    batch = cube_batch(model.config)
    labels = labels_of(batch)
    labels["surface_labels"][:, 1] = torch.nan
    labels["level_labels"][0, 2, 3, 4:9] = torch.nan
    told = LEAD if head is AstroDatacubeForForecasting else {}
    if not told:
        batch["level_fields"][:, 1:3, :, :, 2:9] = torch.nan
        batch["surface_fields"][:, 0] = torch.nan
    output = model(**batch, **told, **labels)
    # Of a reconstruction too all but the surface variable that is not known at all are departures.
    kinds = ["difference_scale"] * len(model.config.surface_variables)
    if not told:
        kinds[0] = "scale"
    rows = [model.config.statistics["variables"][name] for name in model.config.surface_variables]
    scales = [
        level_statistic(model.config.statistics, model.config.level_variables, "difference_scale", batch["levels"]),
        torch.tensor([row[kind] for row, kind in zip(rows, kinds, strict=True)]),
    ]
    weights = sphere_grid(batch["latitude_deg"][0], batch["longitude_deg"][0]).cell_weights.float()
    wanted = [labels["level_labels"], labels["surface_labels"]]
    if not told:
        wanted = [
            label.masked_fill(batch[name][:, :, -1].isfinite(), torch.nan)
            for label, name in zip(wanted, ("level_fields", "surface_fields"), strict=True)
        ]
    expected = naive_loss([output.level_fields, output.surface_fields], wanted, scales, weights)
    torch.testing.assert_close(output.loss, expected, rtol=1e-5, atol=0)


def test_a_forecast_is_a_change_of_the_last_state_and_of_the_mean_where_there_is_none():
    model = AstroDatacubeForForecasting(tiny_config(num_input_steps=3)).eval()
    torch.nn.init.zeros_(model.head.level.conv.weight)
    torch.nn.init.zeros_(model.head.surface.conv.weight)
    batch = cube_batch(model.config)
    batch["level_fields"][:, 0, -1, 2] = torch.nan
    output = model(**batch, **LEAD)
    assert torch.equal(output.surface_fields, batch["surface_fields"][:, :, -1])
    assert torch.equal(output.level_fields[:, 1:], batch["level_fields"][:, 1:, -1])
    mean = level_statistic(model.config.statistics, ["ta"], "mean", batch["levels"])[:, 0, 2]
    assert torch.equal(output.level_fields[:, 0, 2], mean[:, None, None].expand(-1, 16, 32))
    for lead, got in ((None, "None"), (torch.ones(3), r"shape \(3,\)")):
        with pytest.raises(ValueError, match=rf"lead_time_s must be given, with axes \(batch 2\); got {got}"):
            model(**batch, lead_time_s=lead)
    with pytest.raises(ValueError, match="lead_time_s must be finite and at least 0"):
        model(**batch, lead_time_s=torch.tensor([-1.0, 1.0]))
    with pytest.raises(ValueError, match=r"surface_labels must have the shape \(2, 3, 16, 32\); got \(2, 1, 16, 32\)"):
        model(**batch, **LEAD, surface_labels=torch.zeros(2, 1, 16, 32))
    with pytest.raises(ValueError, match="num_input_steps must be at least 1 for AstroDatacubeForForecasting; got 0"):
        AstroDatacubeForForecasting(tiny_config(num_input_steps=0))


def test_the_lead_time_changes_a_forecast():
    model = randomised(AstroDatacubeForForecasting(tiny_config())).eval()
    batch = cube_batch(model.config)
    found = [model(**batch, lead_time_s=torch.full((2,), lead)).level_fields for lead in (3600.0, 86400.0)]
    assert (found[0] - found[1]).abs().max() > 1e-3


def test_a_reconstruction_keeps_what_is_known():
    model = randomised(AstroDatacubeForMaskedReconstruction(tiny_config())).eval()
    batch = cube_batch(model.config)
    hidden = torch.rand(batch["level_fields"].shape, generator=torch.Generator().manual_seed(0)) < 0.4
    masked = {**batch, "level_fields": batch["level_fields"].masked_fill(hidden, torch.nan)}
    output = model(**masked)
    known = ~hidden[:, :, -1]
    assert torch.equal(output.level_fields[known], batch["level_fields"][:, :, -1][known])
    assert output.level_fields.isfinite().all()
    assert torch.equal(output.surface_fields, batch["surface_fields"][:, :, -1])
    # No label is hidden: nothing is left to reconstruct.
    assert model(**batch, level_labels=batch["level_fields"][:, :, -1]).loss == 0


def test_what_is_partly_known_is_filled_from_its_mean_over_area_and_the_rest_from_that_of_the_statistics():
    model = AstroDatacubeForMaskedReconstruction(tiny_config()).eval()
    for head in (model.head.level, model.head.surface):
        torch.nn.init.zeros_(head.conv.weight)
    batch = cube_batch(model.config)
    hidden = torch.rand(16, 32, generator=torch.Generator().manual_seed(0)) < 0.4
    batch["surface_fields"][:, 0, :, hidden] = torch.nan
    batch["surface_fields"][:, 1] = torch.nan
    output = model(**batch).surface_fields
    weights = sphere_grid(batch["latitude_deg"][0], batch["longitude_deg"][0]).cell_weights.masked_fill(hidden, 0.0)
    for row, field in enumerate(batch["surface_fields"][:, 0, -1].double()):
        mean = (weights * field.nan_to_num()).sum() / weights.sum()
        torch.testing.assert_close(output[row, 0][hidden].double(), mean.expand(int(hidden.sum())), rtol=1e-6, atol=0)
    assert (output[:, 1] == model.config.statistics["variables"]["ts"]["mean"]).all()


def test_a_steady_climate_reads_no_state():
    model = AstroDatacubeForSteadyState(tiny_config())
    assert model.config.num_input_steps == 0
    batch = cube_batch(model.config, states=1)
    labels = labels_of(batch)
    inputs = {name: value for name, value in batch.items() if name not in ("level_fields", "surface_fields")}
    output = model(**inputs, **labels)
    assert output.level_fields.shape == (2, 4, 5, 16, 32)
    assert output.surface_fields.shape == (2, 3, 16, 32)
    output.loss.backward()
    idle = [name for name, each in model.named_parameters() if each.grad is None or not each.grad.abs().max() > 0]
    assert not idle
    dark = model(**{**inputs, "planet": inputs["planet"] * 0.1})
    assert (dark.level_fields - output.level_fields).abs().max() > 1e-3


@pytest.mark.parametrize(
    "head", [AstroDatacubeForForecasting, AstroDatacubeForMaskedReconstruction, AstroDatacubeForSteadyState]
)
def test_gradients_reach_every_parameter_and_weights_come_back(head, tmp_path):
    model = head(tiny_config())
    batch = cube_batch(model.config, states=1)
    labels = labels_of(batch)
    if head is AstroDatacubeForForecasting:
        batch |= LEAD
    elif head is AstroDatacubeForMaskedReconstruction:
        for name in ("level_fields", "surface_fields"):
            batch[name] = batch[name].masked_fill(torch.rand(batch[name].shape) < 0.5, torch.nan)
    else:
        batch = {name: value for name, value in batch.items() if name not in ("level_fields", "surface_fields")}
    model(**batch, **labels).loss.backward()
    idle = [name for name, each in model.named_parameters() if each.grad is None or not each.grad.abs().max() > 0]
    assert not idle
    model.eval().save_pretrained(tmp_path)
    again, report = head.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert torch.equal(again.eval()(**batch).level_fields, model(**batch).level_fields)


def air_problem(constraints=ALL, step=0.1):
    """A balanced state of climate_states as a batch, and a model that changes it at random."""
    system = climate_system(columns=14)
    state = climate_state(system)
    planet = torch.full((2, len(PLANET_PARAMETERS)), torch.nan, dtype=torch.float64)
    for name, value in system.planet._asdict().items():
        planet[:, PLANET_PARAMETERS.index(name)] = value
    state["rho"] = torch.ones_like(state["ta"])
    levels = system.levels.mid.expand(2, -1)

    def spread(name):
        field = state[name].double()
        axes = (0, 2, 3) if field.ndim == 4 else (0, 1, 2)
        size = (0.01 * field.abs().mean(axes)).tolist()
        mean = field.mean(axes).tolist()
        return {"mean": mean, "scale": size, "difference_scale": size}

    config = AstroDatacubeConfig.from_preset("tiny", **AIR, constraints=list(constraints))
    config.statistics = {
        "levels": system.levels.mid.tolist(),
        "variables": {
            **{name: spread(name) for name in AIR["level_variables"] + AIR["surface_variables"]},
            "sg": {"mean": 0.0, "scale": 1e3, "difference_scale": 1.0},
        },
        "planet": {name: {"mean": 5.0, "scale": 3.0} for name in PLANET_PARAMETERS},
    }
    batch = {
        "level_fields": torch.stack([state[name] for name in AIR["level_variables"]], 1)[:, :, None],
        "surface_fields": torch.stack([state[name] for name in AIR["surface_variables"]], 1)[:, :, None],
        "forcing_fields": system.surface_geopotential[:, None],
        "levels": levels,
        "latitude_deg": torch.linspace(90, -90, 7, dtype=torch.float64).expand(2, -1),
        "longitude_deg": (torch.arange(14, dtype=torch.float64) * 360 / 14).expand(2, -1),
        "planet": planet,
        **LEAD,
    }
    model = randomised(AstroDatacubeForForecasting(config)).eval()
    # Else random weights leave what is physical within a few steps.
    for head in (model.head.level, model.head.surface):
        head.conv.weight.data *= step
        head.conv.bias.data *= step
    return model, batch


@pytest.mark.parametrize("name", [name for name in PLANET_READ if name != "shallow_water"])
def test_a_constraint_needs_no_more_of_a_planet_than_it_reads(name):
    model, batch = air_problem([name])
    whole = model(**batch)
    read = [PLANET_PARAMETERS.index(each) for each in PLANET_READ[name]]
    known = torch.full_like(batch["planet"], torch.nan)
    known[:, read] = batch["planet"][:, read]
    physics = {
        kind: CubePhysics(
            model.config,
            work_grid(batch["latitude_deg"][0], batch["longitude_deg"][0], model.config),
            batch["levels"],
            planet,
            batch["forcing_fields"],
            batch["lead_time_s"],
        )
        for kind, planet in (("whole", batch["planet"]), ("read", known))
    }
    before = [batch[fields][:, :, -1] for fields in ("level_fields", "surface_fields")]
    after = [whole.level_fields.detach(), whole.surface_fields.detach()]
    found = {kind: each.corrected(before, after, None, training=False) for kind, each in physics.items()}
    for one, other in zip(found["whole"][0], found["read"][0], strict=True):
        assert torch.equal(one, other)
    assert torch.equal(found["whole"][1][name], found["read"][1][name])
    for place in read:
        less = known.clone()
        less[:, place] = torch.nan
        with pytest.raises(ValueError, match=f"planet must hold {PLANET_PARAMETERS[place]} where constraints are on"):
            model(**{**batch, "planet": less})


def test_levels_of_pressure_need_the_nominal_pressure():
    model, batch = air_problem(["hydrostatic"])
    model.config.level_kind = "pressure"
    planet = batch["planet"].clone()
    planet[:, PLANET_PARAMETERS.index("surface_pressure_pa")] = torch.nan
    with pytest.raises(ValueError, match="planet must hold surface_pressure_pa where constraints are on"):
        model(**{**batch, "planet": planet})


def test_constraints_hold_of_every_state_of_a_rollout():
    model, batch = air_problem()
    rolled = model.rollout(20, **batch)
    assert rolled.level_fields.shape == (2, 6, 20, 5, 7, 14)
    limits = {"positive_water": 0.0, "hydrostatic": 1e-4, "ideal_gas": 1e-6}
    for name in ALL:
        assert rolled.residuals[name].shape == (20, 2)
        assert rolled.residuals[name].max() <= limits.get(name, 1e-6), name
    assert (rolled.level_fields[:, 3] >= 0).all()
    # The state did change.
    assert (rolled.level_fields[:, 0, -1] - batch["level_fields"][:, 0, 0]).abs().max() > 1.0


@pytest.mark.slow
def test_constraints_hold_after_a_thousand_steps():
    model, batch = air_problem(step=0.005)
    # A week of steady fluxes without rain: random ones would use up the water, and of none none can be taken.
    batch["surface_fields"][:, AIR["surface_variables"].index("pr")] = 0.0
    model.head.surface.conv.weight.data[2:] = 0.0
    model.head.surface.conv.bias.data[2:] = 0.0
    rolled = model.rollout(1000, **{**batch, "lead_time_s": torch.full((2,), 600.0)})
    for name in ALL:
        assert rolled.residuals[name][[0, 99, 999]].max() <= {"positive_water": 0.0, "hydrostatic": 1e-4}.get(
            name, 1e-6
        )
        assert rolled.residuals[name].isfinite().all()
    assert (rolled.level_fields[:, 0, -1] - batch["level_fields"][:, 0, 0]).abs().max() > 1.0


def test_constraints_refuse_what_they_cannot_hold_of():
    model, batch = air_problem()
    wrong = {**batch, "forcing_fields": batch["forcing_fields"] * torch.nan}
    with pytest.raises(ValueError, match="forcing_fields must hold sg, the surface geopotential, everywhere"):
        model(**wrong)
    # Rain in metres a second of liquid water.
    wrong = {**batch, "surface_fields": batch["surface_fields"].clone()}
    wrong["surface_fields"][:, AIR["surface_variables"].index("evap")] *= 1e-3
    with pytest.raises(ValueError, match="evap must carry about the latent heat of hfls"):
        model(**wrong)
    model, batch = air_problem(["ideal_gas"])
    model.config.level_kind = "pressure"
    with pytest.raises(ValueError, match="planet must have one surface_pressure_pa for the whole batch"):
        model(**batch)


@pytest.mark.slow
def test_a_compiled_forecast_is_corrected_too():
    model, batch = air_problem()
    found = torch.compile(model, backend="eager")(**batch)
    expected = model(**batch)
    assert found.residuals.keys() == expected.residuals.keys()
    torch.testing.assert_close(found.surface_fields, expected.surface_fields, rtol=1e-5, atol=1e-3)


def test_weights_of_one_head_open_as_another(tmp_path):
    AstroDatacubeForForecasting(tiny_config()).save_pretrained(tmp_path)
    other = AstroDatacubeForMaskedReconstruction.from_pretrained(tmp_path).eval()
    batch = cube_batch(other.config)
    assert other(**batch).level_fields.isfinite().all()
    assert other.config.conditioned_on == []


def test_what_no_constraint_touches_is_bit_equal_and_what_one_touches_is_not():
    model, batch = air_problem()
    corrected = model(**batch)
    model.config.constraints = []
    free = model(**batch)
    assert free.residuals is None
    names = AIR["level_variables"]
    for name in ("ua", "va"):
        assert torch.equal(corrected.level_fields[:, names.index(name)], free.level_fields[:, names.index(name)])
    assert torch.equal(corrected.surface_fields[:, 1:], free.surface_fields[:, 1:])
    for name in ("ta", "hus", "zg", "rho"):
        assert not torch.equal(corrected.level_fields[:, names.index(name)], free.level_fields[:, names.index(name)])


def test_a_rollout_is_forecast_after_forecast():
    model = randomised(AstroDatacubeForForecasting(tiny_config(num_input_steps=2))).eval()
    batch = cube_batch(model.config)
    rolled = model.rollout(3, **batch, **LEAD)
    for step in range(3):
        output = model(**batch, **LEAD)
        assert torch.equal(rolled.surface_fields[:, :, step], output.surface_fields)
        for name in ("level_fields", "surface_fields"):
            batch[name] = torch.cat((batch[name][:, :, 1:], getattr(output, name)[:, :, None]), 2)
    with pytest.raises(ValueError, match="num_steps must be at least 1; got 0"):
        model.rollout(0, **batch, **LEAD)
    del batch["surface_fields"]
    with pytest.raises(ValueError, match="surface_fields must be given to a roll-out; got None"):
        model.rollout(1, **batch, **LEAD)


def test_gradients_flow_through_the_constraints():
    model, batch = air_problem()
    model.train()
    output = model(
        **batch, level_labels=batch["level_fields"][:, :, 0], surface_labels=batch["surface_fields"][:, :, 0]
    )
    output.loss.backward()
    idle = [name for name, each in model.named_parameters() if each.grad is None or not each.grad.isfinite().all()]
    assert not idle


@pytest.mark.parametrize("num_latent_levels", [1, 3])
def test_shallow_water_keeps_mass_and_energy(num_latent_levels):
    config = AstroDatacubeConfig.from_preset(
        "tiny",
        level_variables=[],
        surface_variables=["h", "u", "v"],
        forcing_variables=[],
        num_latent_levels=num_latent_levels,
        constraints=["shallow_water"],
        is_closed_system=True,
    )
    sizes = {"h": (8e3, 50.0), "u": (0.0, 2.0), "v": (0.0, 2.0)}
    config.statistics = {
        "levels": [],
        "variables": {name: {"mean": m, "scale": s, "difference_scale": s} for name, (m, s) in sizes.items()},
        "planet": {name: {"mean": 5.0, "scale": 3.0} for name in PLANET_PARAMETERS},
    }
    model = randomised(AstroDatacubeForForecasting(config)).eval()
    generator = torch.Generator().manual_seed(0)
    fields = torch.stack([m + s * torch.randn(2, 1, 17, 32, generator=generator) for m, s in sizes.values()], 1)
    planet = torch.full((2, len(PLANET_PARAMETERS)), torch.nan)
    planet[:, PLANET_PARAMETERS.index("gravity_m_s2")] = torch.tensor([3.7, 24.8])
    batch = {
        "surface_fields": fields,
        "latitude_deg": torch.linspace(-90, 90, 17, dtype=torch.float64).expand(2, -1),
        "longitude_deg": (torch.arange(32, dtype=torch.float64) * 11.25).expand(2, -1),
        "planet": planet,
        **LEAD,
    }
    model.train()(**batch, surface_labels=fields[:, :, 0] + 1).loss.backward()
    idle = [name for name, each in model.named_parameters() if each.grad is None or not each.grad.abs().max() > 0]
    assert not idle
    rolled = model.eval().rollout(30, **batch)
    assert rolled.level_fields is None
    assert rolled.residuals["shallow_water"].max() <= 1e-6
    with pytest.raises(ValueError, match="planet must hold gravity_m_s2 where constraints are on"):
        model(**{**batch, "planet": torch.full_like(planet, torch.nan)})
    with pytest.raises(ValueError, match="lead_time_s must be the same for the whole batch"):
        model(**{**batch, "lead_time_s": torch.tensor([1.0, 2.0])})
