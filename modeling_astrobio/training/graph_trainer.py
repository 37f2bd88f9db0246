"""The trainer of graph VAEs: the shared one, with a warm-up of the divergence and samples at each evaluation."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from modeling_astrobio import AstroGraphVAEProcessor

from .loss_terms import LossTerm
from .trainer import AstroTrainer


__all__ = ["GraphTransformerTrainer", "SampleReport", "kl_weight_at"]

SampleReport = Callable[[Sequence[str | None], Path | None], Mapping[str, float]]


def kl_weight_at(step: float, kl_weight: float, warmup_steps: float) -> float:
    """Return the factor of the divergence at a step, counted from 0: it rises with the square of the step.

    Where training is given time, both are shares of the time.

    Pressed early, latents that say nothing yet never learn to.
    """
    return kl_weight * min(1.0, step / warmup_steps) ** 2 if warmup_steps else kl_weight


class GraphTransformerTrainer(AstroTrainer):
    """`AstroTrainer` of an `AstroGraphVAEModel`.

    The divergence and the negative log-likelihood are logged apart as `loss_divergence` and `loss_reconstruction`, in
    nats of a graph. The evaluated loss is the negative evidence lower bound with noise that is the same at every
    evaluation and the whole `kl_weight`, so that it can be compared across steps.

    Args:
        *args: As for `AstroTrainer`.
        kl_weight: Factor of the divergence after its warm-up.
        kl_warmup_steps: Steps over which it rises.
        constraints: Further terms of the loss, such as residuals of biochemical constraints.
        samples: Molecules drawn at each evaluation; 0 draws none.
        sampling: Arguments of the model's `sample`.
        report_samples: Judges the SMILES of the samples (`None` for one that is no molecule), and draws them where a
            path of a picture is given.
        **kwargs: As for `AstroTrainer`.
    """

    evaluates_loss_alone = True

    def __init__(
        self,
        *args,
        kl_weight: float = 1.0,
        kl_warmup_steps: int = 0,
        constraints: Sequence[LossTerm] = (),
        samples: int = 0,
        sampling: Mapping[str, Any] | None = None,
        report_samples: SampleReport | None = None,
        **kwargs,
    ):
        # With a weight of zero a term is logged and changes nothing.
        parts = (
            LossTerm("reconstruction", lambda model, inputs, outputs: -outputs["log_likelihood"].mean(), 0.0),
            LossTerm("divergence", lambda model, inputs, outputs: outputs["divergence"].sum(-1).mean(), 0.0),
        )
        super().__init__(*args, loss_terms=(*parts, *constraints), **kwargs)
        self.kl_weight, self.kl_warmup_steps = kl_weight, kl_warmup_steps
        self.samples, self.sampling, self.report_samples = samples, dict(sampling or {}), report_samples

    def compute_loss(self, model, inputs, *args, **kwargs):
        """Return the loss with the divergence's factor of this step."""
        weight = self.kl_weight
        if self.model.training:
            weight = kl_weight_at(self.state.global_step, self.kl_weight, self.kl_warmup_steps)
        return super().compute_loss(model, {**inputs, "kl_weight": weight}, *args, **kwargs)

    def prediction_step(self, model, inputs, *args, **kwargs):
        """Evaluate a batch with latent tokens that are drawn, by the evaluation's own random numbers."""
        whole = self.accelerator.unwrap_model(model)
        shape = (len(inputs["node_types"]), whole.config.num_latent_tokens, whole.config.latent_size)
        noise = torch.randn(shape, generator=self._noise).to(self.args.device, whole.dtype)
        return super().prediction_step(model, {**inputs, "latent_noise": noise}, *args, **kwargs)

    def evaluation_loop(self, *args, metric_key_prefix="eval", **kwargs):
        """Evaluate the bound, and judge samples."""
        self._noise = torch.Generator().manual_seed(self.args.seed + self.args.process_index)
        output = super().evaluation_loop(*args, metric_key_prefix=metric_key_prefix, **kwargs)
        if self.samples and self.report_samples is not None:
            found = self._judge_samples()
            output.metrics.update({f"{metric_key_prefix}_{name}": value for name, value in found.items()})
        return output

    def _judge_samples(self) -> Mapping[str, float]:
        assert self.report_samples is not None
        assert isinstance(self.processing_class, AstroGraphVAEProcessor)
        model = self.accelerator.unwrap_model(self.model)
        generator = torch.Generator(self.args.device).manual_seed(self.args.seed)
        drawn = model.sample(self.samples, generator=generator, **self.sampling)
        # Every process draws, since shards are gathered by all; one keeps the picture.
        picture = None
        if self.args.should_save:
            picture = Path(str(self.args.output_dir)) / "samples" / f"step-{self.state.global_step}.png"
            picture.parent.mkdir(parents=True, exist_ok=True)
        return self.report_samples(self.processing_class.batch_decode(**drawn), picture)
