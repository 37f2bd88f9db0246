"""What is said of a graph VAE when it is trained: its bound, what it rebuilds, and what it draws."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from modeling_astrobio import AstroGraphVAEModel, AstroGraphVAEProcessor
from modeling_astrobio.graph_latent import LatentPosterior
from modeling_astrobio.graph_record import GraphRecord

from .constraint_terms import constraint_residuals
from .graph_metrics.active_units import active_units
from .graph_metrics.generation_report import generation_report, split_half_floor
from .graph_metrics.molecule_set import MoleculeSet
from .graph_metrics.reconstruction import reconstruction_rate
from .graph_recipe import GraphRecipe
from .preset_model import random_preset_model


__all__ = ["draw_smiles", "evaluate_graph_model", "held_out_figures", "sample_residuals"]

# Of these, the samples of a molecule decoder have a residual.
_MOLECULE_CONSTRAINTS = ("valence", "connectedness")


def draw_smiles(
    model: AstroGraphVAEModel,
    processor: AstroGraphVAEProcessor,
    count: int,
    batch_size: int,
    seed: int,
    temperature: float = 1.0,
    on_batch: Callable[[dict[str, torch.Tensor]], None] = lambda batch: None,
) -> list[str | None]:
    """Return the SMILES of molecules drawn from the prior, None for what is no molecule.

    Args:
        model: The model, in evaluation mode.
        processor: Its processor.
        count: Number of molecules.
        batch_size: Molecules drawn at one time.
        seed: Of the random numbers.
        temperature: Divides the scores of the decoder.
        on_batch: Called with the tensors of each batch.
    """
    generator = torch.Generator(model.device).manual_seed(seed)
    drawn: list[str | None] = []
    while len(drawn) < count:
        batch = model.sample(min(batch_size, count - len(drawn)), generator=generator, temperature=temperature)
        on_batch(batch)
        drawn += processor.batch_decode(**batch)
    return drawn


@torch.no_grad()
def held_out_figures(
    model: AstroGraphVAEModel,
    processor: AstroGraphVAEProcessor,
    records: Sequence[GraphRecord],
    batch_size: int,
    seed: int,
) -> dict[str, float]:
    """Return the negative evidence lower bound of molecules, in nats, and the share that is rebuilt exactly.

    The bound is that of the model that samples come from: `divergence_nats` is from the model's prior, by one draw of
    the latents of each molecule; `standard_divergence_nats` is from the standard normal, exactly.

    Args:
        model: The model, in evaluation mode.
        processor: Its processor.
        records: Molecules.
        batch_size: Molecules at one time.
        seed: Of the noise of the latents.
    """
    prior = model.latent_prior
    assert prior is not None
    generator = torch.Generator().manual_seed(seed)
    totals, means = [], []
    decoded: list[str | None] = []
    known: list[str | None] = []
    for start in range(0, len(records), batch_size):
        batch = processor.pad(records[start : start + batch_size]).to(model.device)
        noise = torch.randn(len(batch["node_types"]), *prior.shape, generator=generator).to(model.device, model.dtype)
        output = model(**batch, latent_noise=noise)
        posterior = LatentPosterior(output.mean, output.log_variance)
        divergence = posterior.log_density(noise) - prior.log_density(posterior.draw(noise))
        totals.append(torch.stack((-output.log_likelihood, divergence, output.divergence.sum(1))).cpu())
        means.append(output.mean.flatten(1).float().cpu())
        decoded += processor.batch_decode(**model.reconstruct(**batch))
        known += processor.batch_decode(**batch)
    reconstruction, divergence, standard = torch.cat(totals, 1).double().mean(1).tolist()
    return {
        "molecules": len(records),
        "nats": reconstruction + divergence,
        "reconstruction_nats": reconstruction,
        "divergence_nats": divergence,
        "standard_divergence_nats": standard,
        "reconstruction": reconstruction_rate(decoded, [smiles or "" for smiles in known]),
        **active_units(torch.cat(means).numpy()),
    }


def sample_residuals(
    model: AstroGraphVAEModel, batches: Sequence[dict[str, torch.Tensor]]
) -> dict[str, dict[str, float]]:
    """Return, of each constraint on molecules, mean and greatest residual of samples and the share that keeps it."""
    # Only what the residuals of molecules read; the number of its kind is all that counts of the features.
    features = torch.zeros(1, device=model.device)
    found = [
        constraint_residuals(_MOLECULE_CONSTRAINTS, model, {**batch, "node_features": features}, {})
        for batch in batches
    ]
    sizes = [len(batch["node_types"]) for batch in batches]

    def mean(name: str, figure: str) -> float:
        return sum(size * each[name][figure] for size, each in zip(sizes, found, strict=True)) / sum(sizes)

    return {
        name: {
            "mean": mean(name, "mean"),
            "greatest": max(each[name]["greatest"] for each in found),
            "share_kept": mean(name, "share_kept"),
        }
        for name in _MOLECULE_CONSTRAINTS
    }


def evaluate_graph_model(
    model: AstroGraphVAEModel,
    processor: AstroGraphVAEProcessor,
    recipe: GraphRecipe,
    training: Sequence[str],
    held_out: Sequence[GraphRecord],
) -> dict[str, Any]:
    """Evaluate a model beside a decoder of random weights with the same masks, and two halves of the held-out set.

    Args:
        model: The trained model.
        processor: Its processor.
        recipe: Says how much is drawn and rebuilt.
        training: SMILES that it was trained on.
        held_out: Molecules that it was not.

    Returns:
        `held_out`, `generation` by row, `constraints` of the samples, and some `samples`.
    """
    settings, seed = recipe.evaluation, recipe.training["seed"]
    was_training = model.training
    model.eval()
    found: dict[str, Any] = {}
    if settings.reconstructions:
        rebuilt = held_out[: settings.reconstructions]
        found["held_out"] = held_out_figures(model, processor, rebuilt, settings.batch_size, seed)
    if settings.samples:
        atom_types = model.config.atom_types
        reference = MoleculeSet.known(
            [smiles or "" for smiles in _smiles_of(processor, held_out[: settings.reference])], "held-out molecules"
        )
        known = MoleculeSet.known(list(training), "training molecules")
        start = random_preset_model(recipe, model.config).eval()
        start.to(device=model.device)
        generation = {"split-half floor": split_half_floor(reference, seed)}
        for name, drawer in (("untrained, with masks", start), ("trained", model)):
            batches: list[dict[str, torch.Tensor]] = []
            samples = draw_smiles(
                drawer, processor, settings.samples, settings.batch_size, seed, settings.temperature, batches.append
            )
            generation[name] = generation_report(samples, known, reference, atom_types=atom_types)
            if drawer is model:
                found["constraints"] = sample_residuals(model, batches)
                found["samples"] = samples[: settings.drawn_molecules]
        found["generation"] = generation
    model.train(was_training)
    return found


def _smiles_of(processor: AstroGraphVAEProcessor, records: Sequence[GraphRecord]) -> list[str | None]:
    return processor.batch_decode(**processor.pad(records))
