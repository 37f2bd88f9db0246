"""The trunk of AstroDatacube: what it must not depend on, what must reach its parameters, and wrong inputs.

Tolerances: float64 1e-10 and float32 1e-5, some dozen layers of roundings.
"""

import pytest
import torch
from datacube_batches import cube_batch, gaussian_latitudes, randomised, tiny_config

from modeling_astrobio.configuration_astro_datacube import AstroDatacubeConfig
from modeling_astrobio.datacube_grid import work_grid
from modeling_astrobio.modeling_astro_datacube import AstroDatacubeModel


EXACT, CLOSE = {"rtol": 0, "atol": 1e-10}, {"rtol": 0, "atol": 1e-5}
FIELDS = ("surface_fields", "level_fields", "forcing_fields")


def model_of(dtype=torch.float64, implementation="sdpa", **fields):
    config = tiny_config(**fields)
    config._attn_implementation = implementation
    return randomised(AstroDatacubeModel(config)).to(dtype).eval()


def features(model, batch, **told):
    with torch.no_grad():
        return model(**batch, **told).last_hidden_state


@pytest.mark.parametrize("cells", [16, 32, 48])
def test_turning_the_planet_turns_the_features(cells):
    # Steps of the coarsest stride times a window of it, 8 * 2: windows of the middle scale have 4 columns of 4 cells.
    model = model_of(torch.float32)
    batch = cube_batch(model.config, columns=64)
    turned = {**batch, **{name: batch[name].roll(cells, -1) for name in FIELDS}}
    expected = features(model, batch).roll(cells // model.config.patch_size, 3)
    torch.testing.assert_close(features(model, turned), expected, **CLOSE)


def test_any_turn_by_the_coarsest_stride_is_one_where_windows_are_whole_rings():
    model = model_of(window_size=[2, 16])
    batch = cube_batch(model.config, columns=64)
    turned = {**batch, **{name: batch[name].roll(8, -1) for name in FIELDS}}
    torch.testing.assert_close(features(model, turned), features(model, batch).roll(4, 3), **EXACT)


def test_the_origin_of_longitude_does_not_matter():
    model = model_of()
    batch = cube_batch(model.config)
    shifted = {**batch, "longitude_deg": batch["longitude_deg"] - 180.0}
    torch.testing.assert_close(features(model, shifted), features(model, batch), **EXACT)


def test_a_planet_that_faces_its_star_turns_with_it_and_not_without():
    model = model_of()
    batch = cube_batch(model.config, columns=64)
    names = model.config.planet_parameters
    batch["planet"][:, names.index("synchronous")] = 1.0
    batch["planet"][:, names.index("substellar_longitude_deg")] = 180.0
    stem = model.stem

    def seen(each):
        work = work_grid(each["latitude_deg"][0], each["longitude_deg"][0], model.config)
        return stem._places(each["planet"], work)[0, :, 1:-1, 1:-1]

    east = torch.arange(64, dtype=torch.float64) * (2 * torch.pi / 64)
    latitude = torch.deg2rad(batch["latitude_deg"][0])[:, None]
    expected = (
        latitude.sin().expand(-1, 64),
        latitude.cos().expand(-1, 64),
        -latitude.cos() * east.cos(),
        -latitude.cos() * east.sin(),
    )
    torch.testing.assert_close(seen(batch), torch.stack(expected).float())
    turned = {**batch, "planet": batch["planet"].clone()}
    turned["planet"][:, names.index("substellar_longitude_deg")] += 90.0
    torch.testing.assert_close(seen(turned), seen(batch).roll(16, -1), rtol=0, atol=1e-6)
    # Without a state to read, day and night differ.
    unknown = {name: value for name, value in batch.items() if name not in FIELDS}
    found = features(model, unknown)
    assert found.std(3).max() > 0.01


def test_rows_may_run_either_way():
    model = model_of()
    for rows in (16, 13):
        batch = cube_batch(model.config, rows=rows)
        if rows == 13:
            batch["latitude_deg"] = torch.linspace(90, -90, rows, dtype=torch.float64).expand(2, -1)
        rising = {**batch, "latitude_deg": batch["latitude_deg"].flip(-1)}
        rising |= {name: batch[name].flip(-2) for name in FIELDS}
        torch.testing.assert_close(features(model, rising), features(model, batch), **EXACT)


@pytest.mark.parametrize("rows", [16, 17, 20, 13, 1])
def test_inside_rows_are_mirrored_at_the_poles_and_fields_come_back(rows):
    config = tiny_config()
    latitude = (
        torch.linspace(90, -90, rows, dtype=torch.float64) if rows % 2 and rows > 1 else gaussian_latitudes(rows)
    )
    longitude = torch.arange(32, dtype=torch.float64) * 11.25
    work = work_grid(latitude, longitude, config)
    inner = work.inner.latitude_deg
    assert len(inner) % config.total_stride == 0
    torch.testing.assert_close(inner, -inner.flip(0), rtol=0, atol=1e-9)
    assert inner.abs().max() < 90
    assert (rows == 16) == (work.inward is None)
    # A field that is linear in the angles within a hemisphere, and one that turns round across the poles.
    field = torch.cos(torch.deg2rad(latitude))[:, None] * torch.cos(torch.deg2rad(longitude))
    smooth = work.restrict(work.extend(field)[..., 1:-1, 1:-1])
    assert (smooth - field).abs().max() < (0.35 if rows < 13 else 0.03)
    wind = torch.sin(torch.deg2rad(longitude)).expand(rows, -1).contiguous()
    inside = work.extend(wind, is_vector=True)
    assert torch.equal(inside[0, 1:-1], -inside[1, 1:-1].roll(16))
    # A uniform flow over the pole, which is a vector, stays one; as a scalar it would not.
    torch.testing.assert_close(work.restrict(inside[1:-1, 1:-1], is_vector=True), wind, rtol=0, atol=1e-6)


def test_a_compiled_model_gives_what_the_model_gives():
    model = AstroDatacubeModel(tiny_config()).eval()
    compiled = torch.compile(model, backend="eager")
    for rows in (16, 17):
        batch = cube_batch(model.config, rows=rows)
        batch["latitude_deg"] = torch.linspace(90, -90, rows, dtype=torch.float64).expand(2, -1)
        if rows == 16:
            batch["latitude_deg"] = gaussian_latitudes(16).expand(2, -1)
        torch.testing.assert_close(features(compiled, batch), features(model, batch), **CLOSE)
    with pytest.raises(ValueError, match="latitude_deg must be the same for the whole batch"):
        compiled(**{**batch, "latitude_deg": torch.stack((batch["latitude_deg"][0], -batch["latitude_deg"][0]))})


def test_cubes_of_a_batch_do_not_know_of_one_another():
    model = model_of()
    batch = cube_batch(model.config, batch=3)
    together = features(model, batch)
    for row in range(3):
        alone = features(model, {name: value[row : row + 1] for name, value in batch.items()})
        torch.testing.assert_close(together[row : row + 1], alone, **EXACT)


def test_a_level_that_is_missing_is_as_one_that_is_not_there():
    model = model_of()
    batch = cube_batch(model.config)
    hidden = {**batch, "level_fields": batch["level_fields"].clone()}
    hidden["level_fields"][:, :, :, 2] = torch.nan
    keep = [0, 1, 3, 4]
    fewer = {**batch, "level_fields": batch["level_fields"][:, :, :, keep], "levels": batch["levels"][:, keep]}
    expected = features(model, fewer)
    found = features(model, hidden)
    torch.testing.assert_close(found[:, [*keep, 5]], expected, **EXACT)
    assert found.isfinite().all()


def test_what_missing_values_hold_has_no_effect_and_that_they_are_missing_has():
    model = model_of()
    batch = cube_batch(model.config)
    found = []
    for value in (torch.nan, torch.inf):
        hidden = {**batch, "level_fields": batch["level_fields"].clone()}
        hidden["level_fields"][:, 1, :, :, 3:6] = value
        found.append(features(model, hidden))
    assert torch.equal(*found)
    assert (found[0] - features(model, batch)).abs().max() > 1e-3
    without = {name: value for name, value in batch.items() if name != "surface_fields"}
    nothing = {**batch, "surface_fields": torch.full_like(batch["surface_fields"], torch.nan)}
    assert torch.equal(features(model, without), features(model, nothing))


@pytest.mark.parametrize("planet_changes", [0, 3, 8])
def test_every_parameter_of_a_planet_changes_the_features(planet_changes):
    model = model_of()
    batch = cube_batch(model.config)
    planet = batch["planet"].clone()
    planet[:, planet_changes] *= 1.5
    changed = features(model, {**batch, "planet": planet})
    planet[:, planet_changes] = torch.nan
    unknown = features(model, {**batch, "planet": planet})
    before = features(model, batch)
    assert (changed - before).abs().max() > 1e-3
    assert (unknown - before).abs().max() > 1e-3
    assert (unknown - changed).abs().max() > 1e-3


def test_winds_change_their_sign_across_a_pole_and_temperature_does_not():
    model = model_of()
    config = model.config
    batch = cube_batch(config, batch=1)
    stem = model.stem.surface_conv
    seen = []
    hook = model.stem.level_conv.register_forward_pre_hook(lambda _module, images: seen.append(images[0]))
    features(model, batch)
    hook.remove()
    images = seen[0].view(5, 2, 4, 18, 34)
    opposite = images[:, 0, :, 1, 1:-1].roll(16, -1)
    signs = torch.tensor([1.0, -1.0, -1.0, 1.0])[:, None]
    assert torch.equal(images[:, 0, :, 0, 1:-1], signs * opposite)
    assert torch.equal(images[:, 0, :, :, 0], images[:, 0, :, :, -2])
    assert (images[:, 1] == 1).all()
    assert stem.weight.shape[1] == 2 * (3 + 2) + 4


@pytest.mark.parametrize(("rows", "columns"), [(17, 32), (15, 30), (33, 66), (16, 33), (9, 20)])
def test_any_grid_gives_features_and_gradients(rows, columns):
    model = model_of(torch.float32)
    batch = cube_batch(model.config, rows=rows, columns=columns, batch=1)
    if rows % 2:
        batch["latitude_deg"] = torch.linspace(-90, 90, rows, dtype=torch.float64)[None]
    output = model(**batch).last_hidden_state
    stride = model.config.total_stride
    assert output.shape[2:4] == (-(-rows // stride) * stride // 2, -(-columns // (2 * stride)) * stride)
    output.square().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_gradients_reach_every_parameter():
    model = AstroDatacubeModel(tiny_config(num_input_steps=2, conditioned_on=["lead_time_s", "noise_level"])).train()
    batch = cube_batch(model.config)
    output = model(**batch, lead_time_s=torch.tensor([3600.0, 9e5]), noise_level=torch.tensor([0.2, 0.8]))
    (output.last_hidden_state * torch.randn(output.last_hidden_state.shape)).sum().backward()
    idle = [name for name, each in model.named_parameters() if each.grad is None or not each.grad.abs().max() > 1e-5]
    assert not idle


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_checkpointed_gradients_are_equal(use_reentrant):
    found = []
    for checkpointing in (False, True):
        model = model_of().train()
        batch = cube_batch(model.config)
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": use_reentrant})
        output = model(**batch).last_hidden_state
        weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        (output * weights).sum().backward()
        found.append([parameter.grad for parameter in model.parameters()])
    for ours, expected in zip(*found, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-6, atol=1e-9)


def test_kernels_agree_in_values_and_gradients():
    found = []
    for implementation in ("eager", "sdpa"):
        model = model_of(implementation=implementation).train()
        output = model(**cube_batch(model.config)).last_hidden_state
        weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        (output * weights).sum().backward()
        found.append([output.detach(), *(parameter.grad for parameter in model.parameters())])
    for ours, oracle in zip(*found, strict=True):
        torch.testing.assert_close(ours, oracle, rtol=1e-8, atol=1e-8)


def test_hidden_states_and_attentions_are_returned_where_asked_for():
    model = model_of(torch.float32, "eager")
    batch = cube_batch(model.config)
    output = model(**batch, output_hidden_states=True, output_attentions=True)
    assert model(**batch).hidden_states is None
    # Of the blocks down and up, window blocks have two attentions each.
    assert len(output.attentions) == 2 * 2 * 2 + 2
    assert len(output.hidden_states) >= model.config.num_hidden_layers
    for weights in output.attentions:
        torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))


def test_bfloat16_is_near_float32():
    model = AstroDatacubeModel(tiny_config()).eval()
    batch = cube_batch(model.config)
    expected = features(model, batch)
    narrow = features(model.to(torch.bfloat16), batch)
    assert narrow.dtype == torch.bfloat16
    assert (narrow.float() - expected).std() < 0.1 * expected.std()


def test_the_largest_preset_has_the_blocks_of_the_small_ones_and_its_parameters():
    with torch.device("meta"):
        config = AstroDatacubeConfig.from_preset("2b5")
        large = AstroDatacubeModel(config)
    assert 2.495e9 <= sum(parameter.numel() for parameter in large.parameters()) < 2.505e9
    small = AstroDatacubeModel(AstroDatacubeConfig.from_preset("nano", depths=config.depths))
    assert large.state_dict().keys() == small.state_dict().keys()


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"planet": None}, r"planet must be given, with axes \(batch, parameter\); got None"),
        ({"latitude_deg": None}, "latitude_deg must be given"),
        ({"level_fields": "transpose"}, r"level_fields must have the axes \(batch 2, variable 4, time 1, level 5"),
        ({"surface_fields": "drop"}, r"surface_fields must have the axes \(batch 2, variable 3"),
        ({"latitude_deg": "differ"}, "latitude_deg must be the same for the whole batch"),
        ({"latitude_deg": "unsorted"}, "latitude_deg must rise or fall"),
        ({"longitude_deg": "uneven"}, "longitude_deg must rise in even steps"),
        ({"levels": "zero"}, "levels must be finite and above 0"),
        ({"levels": None}, r"levels must hold the levels of ta, ua, va, hus; got None"),
        ({"latitude_deg": "region"}, "latitude_deg must reach from pole to pole"),
        ({"forcing_field": "extra"}, "forcing_field is not read; beside fields and axes a model of this config reads"),
    ],
)
def test_wrong_inputs_are_refused(change, match):
    model = model_of(torch.float32)
    batch = cube_batch(model.config)
    ((name, kind),) = change.items()
    value = batch.get(name)
    batch[name] = {
        "region": lambda: value * 0.3,
        "extra": lambda: batch["forcing_fields"],
        None: lambda: None,
        "transpose": lambda: value.transpose(1, 2),
        "drop": lambda: value[:, :2],
        "differ": lambda: torch.stack((value[0], -value[0])),
        "unsorted": lambda: value[:, torch.randperm(16, generator=torch.Generator().manual_seed(0))],
        "uneven": lambda: value**1.01,
        "zero": lambda: value * 0,
    }[kind]()
    with pytest.raises(ValueError, match=match):
        model(**batch)


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"hidden_sizes": [12, 20]}, "hidden_sizes must name at least 3 scales"),
        ({"depths": [1, 2]}, "depths must be 3 whole numbers of at least 1"),
        ({"num_attention_heads": [5, 5, 4]}, "hidden_sizes must be num_attention_heads times a multiple of 4"),
        ({"conv_kernel_size": 4}, "conv_kernel_size must be odd; got 4"),
        ({"surface_variables": ["ps", "ta"]}, r"must name each variable once; got \['ta'\]"),
        ({"level_variables": [], "surface_variables": []}, "must name at least one variable"),
        ({"num_input_steps": -1}, "num_input_steps must be at least 0; got -1"),
        ({"patch_size": 0}, "patch_size must be at least 1; got 0"),
        ({"conditioned_on": ["weather"]}, "conditioned_on must be of lead_time_s and noise_level; got 'weather'"),
        ({"planet_parameters": []}, "planet_parameters must name at least one parameter"),
        ({"statistics": {"levels": [0.5, 0.2]}}, "statistics must have levels that rise"),
        ({"statistics": {"levels": [0.5], "variables": {}}}, "statistics must hold all variables; ta, ua"),
        ({"level_kind": "height"}, "level_kind must be sigma or pressure; got 'height'"),
        ({"constraints": ["perpetual_motion"]}, "perpetual_motion"),
    ],
)
def test_wrong_configurations_are_refused(fields, match):
    with pytest.raises(Exception, match=match):
        AstroDatacubeConfig.from_preset("tiny", **fields)
