"""A few-shot adapter: from some labelled graphs, how to predict a property that no head was trained for.

It reads the tokens of `AstroGraphVAEForPropertyPrediction.embed`. What is learned across properties are two layers,
the start of the modulation below, and the rates of its steps. What is adapted to a task, in an inner loop of gradient
steps (Finn et al. 2017, arXiv:1703.03400), is a scale and a shift of every feature of the tokens (Perez et al. 2018,
arXiv:1709.07871), the weights of the feature blocks and the noise, at learned rates (Li et al. 2017,
arXiv:1707.09835). The head, a Bayesian linear regression on the adapted features, is solved exactly in every step
(Bertinetto et al. 2019, arXiv:1805.08136), and a step descends what that head says of each support label from the
others alone.

Shape suffixes: B tasks, S support graphs, Q query graphs, T tokens, D their width, F features.
"""

import math
from typing import NamedTuple

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import nn
from torch.func import functional_call, grad, vmap


__all__ = ["FewShotFeatures", "FewShotPrediction", "GraphFewShotAdapter", "leave_one_out_loss"]

# Of the variance of a standardised label.
_LEAST_NOISE = 1e-3


class FewShotPrediction(NamedTuple):
    """Gaussians of query labels: mean, and variance with the noise of a label, each (B, Q), in the label's units."""

    mean: torch.Tensor
    variance: torch.Tensor


class FewShotFeatures(nn.Module):
    """Features whose products are the prior covariance of labels; `ADAPTED` names what a task changes."""

    ADAPTED = ("scale", "shift", "log_weights", "log_noise")

    def __init__(self, num_tokens: int, token_size: int, hidden_size: int):
        super().__init__()
        self.token_mean = nn.Buffer(torch.zeros(num_tokens, token_size))
        self.token_std = nn.Buffer(torch.ones(num_tokens, token_size))
        self.scale = nn.Parameter(torch.ones(num_tokens, token_size))
        self.shift = nn.Parameter(torch.zeros(num_tokens, token_size))
        self.first = nn.Linear(num_tokens * token_size, hidden_size)
        self.second = nn.Linear(hidden_size, hidden_size)
        self.log_weights = nn.Parameter(torch.zeros(3))
        self.log_noise = nn.Parameter(torch.tensor(-2.0))

    def forward(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return features (S, F) of tokens (S, T, D), and the variance of the noise, of standardised labels."""
        standard = (tokens - self.token_mean) / self.token_std
        modulated = (self.scale * standard + self.shift).flatten(-2)
        first = nn.functional.gelu(self.first(modulated))
        second = nn.functional.gelu(self.second(first))
        blocks = zip(self.log_weights.exp().unbind(), (modulated, first, second), strict=True)
        features = torch.cat([block * (weight / math.sqrt(block.shape[-1])) for weight, block in blocks], dim=-1)
        return features, self.log_noise.exp() + _LEAST_NOISE


def leave_one_out_loss(features: torch.Tensor, noise: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the negative log-probability of each label given the others, mean, in nats without log(2 pi) / 2.

    Rasmussen and Williams 2006, section 5.4.2: with G = features features^T + noise, the prediction of label i from
    the others has the variance 1 / (G^-1)_ii and misses it by (G^-1 labels)_i / (G^-1)_ii.

    Args:
        features: Shape (S, F).
        noise: Variance of the noise, a number.
        labels: Standardised, shape (S,).
    """
    inverse = _inverse(features, noise)
    precision = inverse.diagonal(dim1=-2, dim2=-1)
    error = (inverse @ labels) / precision
    return 0.5 * (error.square() * precision - precision.log()).mean()


def _inverse(features: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    identity = torch.eye(features.shape[-2], dtype=features.dtype, device=features.device)
    factor = torch.linalg.cholesky(features @ features.transpose(-2, -1) + noise * identity)
    return torch.cholesky_solve(identity, factor)


class GraphFewShotAdapter(nn.Module, PyTorchModelHubMixin):
    """Predict labels of query graphs from labelled support graphs.

    Training is an outer loop over tasks that differentiates through the inner one; see
    `modeling_astrobio.training.few_shot_training`. Gradients reach the tokens too, so that an encoder can be trained
    end to end: the inner loop runs through the adapter alone.

    Args:
        num_tokens: Tokens of a graph, T.
        token_size: Their width, D.
        hidden_size: Width of the two layers.
        inner_steps: Gradient steps on the support.

    Raises:
        ValueError: If a size is below 1, or there are fewer than 0 steps.
    """

    def __init__(self, num_tokens: int, token_size: int, hidden_size: int = 128, inner_steps: int = 3):
        super().__init__()
        for name, size, least in (
            ("num_tokens", num_tokens, 1),
            ("token_size", token_size, 1),
            ("hidden_size", hidden_size, 1),
            ("inner_steps", inner_steps, 0),
        ):
            if size < least:
                raise ValueError(f"{name} must be at least {least}; got {size}.")
        self.num_tokens, self.token_size, self.inner_steps = num_tokens, token_size, inner_steps
        self.features = FewShotFeatures(num_tokens, token_size, hidden_size)
        # The loss is a mean, so that a single one of the T * D features has a small gradient.
        starts = {"scale": 1.0, "shift": 1.0, "log_weights": 0.1, "log_noise": 0.1}
        self.log_rates = nn.ParameterDict(
            {
                name: nn.Parameter(torch.full((inner_steps, *self._adapted()[name].shape), math.log(starts[name])))
                for name in FewShotFeatures.ADAPTED
            }
        )

    @torch.no_grad()
    def set_token_scale(self, tokens: torch.Tensor) -> None:
        """Standardise tokens by mean and standard deviation of these, shape (N, T, D), N at least 2.

        Raises:
            ValueError: If the shape is another.
        """
        self._check_tokens("tokens", tokens, tokens.ndim == 3 and len(tokens) > 1, "N")
        std = tokens.std(0)
        # A feature that never varies stays near 0 instead of being divided by its rounding errors.
        floor = 1e-3 * std.mean() + torch.finfo(std.dtype).tiny
        self.features.token_mean.copy_(tokens.mean(0))
        self.features.token_std.copy_(std.clamp(min=floor))

    def forward(
        self, support_tokens: torch.Tensor, support_labels: torch.Tensor, query_tokens: torch.Tensor
    ) -> FewShotPrediction:
        """Adapt to each task and predict its query labels.

        Args:
            support_tokens: Shape (B, S, T, D), S at least 2, of any precision.
            support_labels: Shape (B, S), in any unit; finite, and not all alike within a task.
            query_tokens: Shape (B, Q, T, D).

        Raises:
            ValueError: If shapes do not fit, labels are not finite or all alike, or the adapter is below float32.
        """
        self._check_tokens("support_tokens", support_tokens, support_tokens.ndim == 4, "B, S")
        tasks, support = support_tokens.shape[:2]
        fits = query_tokens.ndim == 4 and len(query_tokens) == tasks
        self._check_tokens("query_tokens", query_tokens, fits, f"{tasks}, Q")
        if tuple(support_labels.shape) != (tasks, support):
            raise ValueError(
                f"support_labels must have the shape ({tasks}, {support}); got {tuple(support_labels.shape)}."
            )
        if support < 2:
            raise ValueError(f"a task needs at least 2 support graphs to know the scale of its labels; got {support}.")
        dtype = self.features.scale.dtype
        if torch.promote_types(dtype, torch.float32) != dtype:
            raise ValueError(f"the adapter must be float32 or float64 to solve its head; got {dtype}. Call float().")
        labels = support_labels.to(torch.promote_types(support_labels.dtype, dtype))
        if not labels.isfinite().all():
            raise ValueError("support_labels must be finite; got NaN or infinity. Leave unknown labels out.")
        centre, spread = labels.mean(1, keepdim=True), labels.std(1, keepdim=True)
        alike = (labels == labels[:, :1]).all(1)
        if alike.any():
            task = int(alike.nonzero()[0])
            raise ValueError(
                f"support_labels of task {task} are all {labels[task, 0].item()}: they tell nothing apart. Draw "
                "others, or predict that number."
            )
        standard = ((labels - centre) / spread).to(dtype)
        mean, variance = vmap(self._predict)(support_tokens.to(dtype), standard, query_tokens.to(dtype))
        return FewShotPrediction(centre + spread * mean, spread.square() * variance)

    def adapt(self, support_tokens: torch.Tensor, standard_labels: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return what `FewShotFeatures.ADAPTED` names after the inner loop on one task.

        Args:
            support_tokens: Shape (S, T, D).
            standard_labels: Shape (S,), of mean 0 and standard deviation 1.
        """

        def loss(adapted: dict[str, torch.Tensor]) -> torch.Tensor:
            features, noise = functional_call(self.features, adapted, (support_tokens,))
            return leave_one_out_loss(features, noise, standard_labels)

        adapted = self._adapted()
        for step in range(self.inner_steps):
            slopes = grad(loss)(adapted)
            adapted = {
                name: value - self.log_rates[name][step].exp() * slopes[name] for name, value in adapted.items()
            }
        return adapted

    def _predict(
        self, support_tokens: torch.Tensor, standard_labels: torch.Tensor, query_tokens: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        adapted = self.adapt(support_tokens, standard_labels)
        support, noise = functional_call(self.features, adapted, (support_tokens,))
        query, _ = functional_call(self.features, adapted, (query_tokens,))
        across = query @ support.transpose(-2, -1)
        weights = across @ _inverse(support, noise)
        # Rasmussen and Williams 2006, equations 2.25 and 2.26; rounding must not push the first term below 0.
        latent = query.square().sum(-1) - (weights * across).sum(-1)
        return weights @ standard_labels, latent.clamp(min=0.0) + noise

    def _adapted(self) -> dict[str, torch.Tensor]:
        return {name: getattr(self.features, name) for name in FewShotFeatures.ADAPTED}

    def _check_tokens(self, name: str, tokens: torch.Tensor, fits: bool, lead: str) -> None:
        if not fits or tuple(tokens.shape[-2:]) != (self.num_tokens, self.token_size):
            raise ValueError(
                f"{name} must have the shape ({lead}, {self.num_tokens}, {self.token_size}); got "
                f"{tuple(tokens.shape)}. Pass what the encoder's embed gave."
            )
