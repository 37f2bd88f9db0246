"""The diffusion head of AstroDatacube: noise, what is predicted, guidance, schedulers and ensembles."""

import pytest
import torch
from datacube_batches import cube_batch, randomised, tiny_config
from test_modeling_astro_datacube_heads import LEAD, air_problem, labels_of

from modeling_astrobio import AstroDatacubeForDiffusion
from modeling_astrobio.modeling_astro_datacube_heads import next_window
from modeling_astrobio.training.datacube_diffusion_trainer import noised, training_scheduler
from modeling_astrobio.training.errors import RecipeError


diffusers = pytest.importorskip("diffusers", reason="schedulers are those of diffusers")


def model_of(**fields):
    return randomised(AstroDatacubeForDiffusion(tiny_config(**fields))).eval()


def noisy_batch(model, seed=5):
    batch = cube_batch(model.config)
    generator = torch.Generator().manual_seed(seed)
    noisy = {
        f"noisy_{kind}": torch.randn(batch[f"{kind}_fields"][:, :, -1].shape, generator=generator)
        for kind in ("level", "surface")
    }
    return {**batch, **noisy, **LEAD, "noise_level": torch.tensor([0.3, 0.9])}


def test_gradients_reach_every_parameter_and_weights_come_back(tmp_path):
    model = AstroDatacubeForDiffusion(tiny_config())
    assert model.config.num_read_steps == 2
    batch = noisy_batch(model)
    targets = {name.replace("noisy_", "") + "_targets": batch[name] for name in ("noisy_level", "noisy_surface")}
    output = model(**batch, **targets)
    output.loss.backward()
    idle = [name for name, each in model.named_parameters() if each.grad is None or not each.grad.abs().max() > 1e-8]
    assert not idle
    model.eval().save_pretrained(tmp_path)
    again = AstroDatacubeForDiffusion.from_pretrained(tmp_path).eval()
    assert torch.equal(again(**batch).level_fields, model(**batch).level_fields)


def test_the_network_sees_the_noisy_change_itself():
    model = model_of()
    batch = noisy_batch(model)
    seen = []
    hook = model.model.stem.level_conv.register_forward_pre_hook(lambda _module, images: seen.append(images[0]))
    model(**batch)
    hook.remove()
    # Values of variables, read state and noisy one, of each level.
    images = seen[0].view(2, 5, 2, 4, 2, 18, 34)[:, :, 0, :, 1, 1:-1, 1:-1].permute(0, 2, 1, 3, 4)
    torch.testing.assert_close(images, batch["noisy_level"], rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", ["ddpm", "flow"])
def test_noise_and_targets_lead_back_to_what_was_clean(kind):
    scheduler = training_scheduler(kind)
    generator = torch.Generator().manual_seed(0)
    clean, noise = torch.randn(2, 3, 4, 5, 6, generator=generator)
    share = torch.tensor([0.1, 0.5, 0.9])
    noisy, target, level = noised(scheduler, clean, noise, share)
    torch.testing.assert_close(level, share, atol=1e-3, rtol=0)
    if kind == "flow":
        torch.testing.assert_close(noisy - share.view(-1, 1, 1, 1) * target, clean)
        return
    kept = scheduler.alphas_cumprod[(share * 1000).long()].view(-1, 1, 1, 1)
    torch.testing.assert_close(kept.sqrt() * noisy - (1 - kept).sqrt() * target, clean, rtol=0, atol=1e-5)


class Known(AstroDatacubeForDiffusion):
    """Predicts without error what leads to the clean changes that it was told."""

    def forward(self, noise_level, noisy_level, noisy_surface, **inputs):
        found = []
        for noisy, clean in ((noisy_level, self.clean[0]), (noisy_surface, self.clean[1])):
            if self.kind == "flow":
                sigma = noise_level.view(-1, *(1,) * (noisy.ndim - 1)).clamp(min=1e-6)
                found.append((noisy - clean) / sigma)
                continue
            steps = (noise_level * 1000).round().long()
            kept = self.alphas[steps].view(-1, *(1,) * (noisy.ndim - 1))
            noise = (noisy - kept.sqrt() * clean) / (1 - kept).sqrt()
            found.append(kept.sqrt() * noise - (1 - kept).sqrt() * clean)
        return type("denoised", (), {"level_fields": found[0], "surface_fields": found[1]})


@pytest.mark.parametrize(
    ("kind", "name", "options"),
    [
        ("flow", "FlowMatchEulerDiscreteScheduler", {}),
        ("ddpm", "DDIMScheduler", {"clip_sample": False}),
        ("ddpm", "DPMSolverMultistepScheduler", {}),
    ],
)
def test_samplers_find_what_the_network_knows(kind, name, options):
    model = Known(tiny_config()).eval()
    batch = cube_batch(model.config)
    labels = labels_of(batch)
    pair = (labels["level_labels"], labels["surface_labels"])
    model.kind = kind
    model.clean = model.changes(model.origin(**batch, **LEAD), pair)
    if kind == "ddpm":
        training = training_scheduler("ddpm")
        model.alphas = training.alphas_cumprod
        kept = ("beta_schedule", "prediction_type", "num_train_timesteps")
        options = {**options, **{key: training.config[key] for key in kept}}
    scheduler = getattr(diffusers, name)(**options)
    drawn = model.sample(scheduler, num_inference_steps=10, **batch, **LEAD)
    for field, label in zip((drawn.level_fields, drawn.surface_fields), pair, strict=True):
        spread = (label - label.mean()).std()
        assert (field - label).std() < 0.02 * spread


def test_members_differ_are_repeatable_and_belong_to_their_row():
    model = model_of()
    batch = {**cube_batch(model.config), **LEAD}
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler()

    def draw(**others):
        generator = torch.Generator().manual_seed(0)
        return model.sample(scheduler, num_inference_steps=3, generator=generator, **{**batch, **others})

    several = draw(num_members=3)
    assert several.surface_fields.shape == (6, 3, 16, 32)
    assert torch.equal(several.level_fields, draw(num_members=3).level_fields)
    assert (several.surface_fields[0] - several.surface_fields[1]).abs().max() > 1e-3
    # Far noise apart, each is a change of its own row's last state.
    states = batch["surface_fields"][:, :, -1].repeat_interleave(3, 0)
    scale = torch.tensor([200.0, 2.0, 3e-5]).view(1, 3, 1, 1)
    assert ((several.surface_fields - states) / scale).abs().mean() < 5
    guided = draw(guidance_scale=2.0)
    assert (guided.surface_fields - draw().surface_fields).abs().max() > 1e-3
    unknown = draw(planet=torch.full_like(batch["planet"], torch.nan), guidance_scale=2.0)
    torch.testing.assert_close(
        unknown.surface_fields, draw(planet=torch.full_like(batch["planet"], torch.nan)).surface_fields
    )
    with pytest.raises(ValueError, match="num_members and num_inference_steps must be at least 1; got 0 and 20"):
        model.sample(scheduler, num_members=0, **batch)


def test_drawn_states_keep_the_constraints():
    forecasting, batch = air_problem()
    model = randomised(AstroDatacubeForDiffusion(forecasting.config)).eval()
    drawn = model.sample(diffusers.FlowMatchEulerDiscreteScheduler(), 2, 3, **batch)
    assert drawn.residuals["dry_mass"].shape == (4,)
    limits = {"positive_water": 0.0, "hydrostatic": 1e-4}
    assert all(values.max() <= limits.get(name, 1e-6) for name, values in drawn.residuals.items())


def test_states_drawn_one_after_another_keep_the_first_ledger():
    forecasting, batch = air_problem()
    model = randomised(AstroDatacubeForDiffusion(forecasting.config)).eval()
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    first = model.sample(scheduler, 1, 2, **batch)
    window = (batch["level_fields"], batch["surface_fields"])
    level, surface = next_window(window, first)
    after = {**batch, "level_fields": level, "surface_fields": surface}
    second = model.sample(scheduler, 1, 2, ledger=first.ledger, **after)
    # Dry mass is pinned to what the first state held, to the last bit, and not to what rounding left of it.
    assert torch.equal(second.ledger["dry_mass"], first.ledger["dry_mass"])
    assert second.residuals["dry_mass"].max() <= 1e-6
    # What a drawn state holds is not what a climate may: opened anew, it would be refused.
    with pytest.raises(ValueError, match="ps must be in Pa, above 0"):
        model.sample(scheduler, 1, 2, **after)


def test_wrong_inputs_are_refused():
    model = model_of()
    batch = noisy_batch(model)
    with pytest.raises(ValueError, match=r"noisy_level must have the axes of level_fields without time, .*; got None"):
        model(**{**batch, "noisy_level": None})
    with pytest.raises(ValueError, match="noise_level must be given"):
        model(**{**batch, "noise_level": None})
    with pytest.raises(RecipeError, match=r"diffusion\.kind must be of ddpm, flow; got 'magic'"):
        training_scheduler("magic")
