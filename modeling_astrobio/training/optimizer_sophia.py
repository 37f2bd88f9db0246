"""Sophia-G: momentum divided by an estimate of the curvature and clipped, after Liu et al. 2023, arXiv:2305.14342.

Every `HESSIAN_INTERVAL` steps, on the first micro-batch, call `estimate_hessian` before the step's own gradients.
"""

from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from .errors import StrategyError


__all__ = ["HESSIAN_INTERVAL", "Sophia", "estimate_hessian"]


# k of the paper's Algorithm 3.
HESSIAN_INTERVAL = 10
_IGNORE_INDEX = -100


class Sophia(torch.optim.Optimizer):
    """Algorithm 3 of the paper, with the curvature from `update_hessian`.

    m <- beta1 m + (1 - beta1) g; weight <- weight (1 - lr weight_decay) - lr clip(m / max(gamma h, eps), 1).
    Averages are kept in float32, or float64 for float64 weights, through saving and loading too.

    Args:
        params: Parameters or groups.
        lr: Learning rate, and the largest change of a weight in a step.
        betas: Decay rates of the averages of gradient and curvature.
        eps: Least value of the divisor.
        weight_decay: Decoupled from the gradient.
        gamma: Scale of the curvature; larger means that fewer weights are clipped.

    Raises:
        ValueError: If a value is outside its range.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.96, 0.99),
        eps: float = 1e-12,
        weight_decay: float = 0.1,
        gamma: float = 0.05,
    ) -> None:
        for name, value, low, high in (
            ("lr", lr, 0.0, float("inf")),
            ("betas[0]", betas[0], 0.0, 1.0),
            ("betas[1]", betas[1], 0.0, 1.0),
            ("weight_decay", weight_decay, 0.0, float("inf")),
        ):
            if not low <= value < high:
                raise ValueError(f"{name} must be at least {low} and less than {high}; got {value}.")
        for name, value in (("eps", eps), ("gamma", gamma)):
            if not value > 0.0:
                raise ValueError(f"{name} must be above 0; got {value}.")
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "gamma": gamma}
        super().__init__(params, defaults)

    def _averages(self, parameter: nn.Parameter) -> dict[str, torch.Tensor]:
        state = self.state[parameter]
        if not state:
            dtype = torch.promote_types(parameter.dtype, torch.float32)
            for name in ("exp_avg", "hessian"):
                state[name] = torch.zeros_like(parameter, dtype=dtype)
        return state

    @torch.no_grad()
    def step(self, closure=None):
        """Update every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self._averages(parameter)
                mean = state["exp_avg"]
                mean.lerp_(parameter.grad.to(mean.dtype), 1 - group["betas"][0])
                change = state["hessian"].mul(group["gamma"]).clamp_(min=group["eps"])
                torch.div(mean, change, out=change).clamp_(-1, 1)
                # Narrow weights are rounded once.
                wide = parameter.to(mean.dtype)
                wide.mul_(1 - group["lr"] * group["weight_decay"]).sub_(change, alpha=group["lr"])
                if wide is not parameter:
                    parameter.copy_(wide)
        return loss

    @torch.no_grad()
    def update_hessian(self, batch_size: int) -> None:
        """Take the gradients that the parameters have now into the average of the curvature.

        Gauss-Newton-Bartlett estimate, Algorithm 2 of the paper: batch_size * gradient^2.

        Args:
            batch_size: Labels over which the loss was the mean.

        Raises:
            ValueError: If it is less than 1.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1; got {batch_size}. Pass the number of labels.")
        for group in self.param_groups:
            beta = group["betas"][1]
            for parameter in group["params"]:
                if parameter.grad is not None:
                    hessian = self._averages(parameter)["hessian"]
                    gradient = parameter.grad.to(hessian.dtype)
                    hessian.mul_(beta).addcmul_(gradient, gradient, value=(1 - beta) * batch_size)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load; averages keep their precision, where torch would give them that of the weights."""
        super().load_state_dict(state_dict)
        parameters = [parameter for group in self.param_groups for parameter in group["params"]]
        for index, state in state_dict["state"].items():
            parameter = parameters[index]
            dtype = torch.promote_types(parameter.dtype, torch.float32)
            self.state[parameter] = {
                name: value.to(parameter.device, dtype, copy=True) for name, value in state.items()
            }


def estimate_hessian(optimizer: Any, model: nn.Module, inputs: dict[str, Any], *, seed: int) -> None:
    """Update Sophia's curvature from one micro-batch, with labels drawn from the model's own predictions.

    Gradients accumulated so far and the state of the random generators are left as they were. Whole logits are
    made, without chunks. With several processes, each passes its own micro-batch.

    Args:
        optimizer: A `Sophia`, wrapped by Accelerate or not.
        model: As it is trained: prepared by Accelerate or not. Returns `logits`, shape (B, T, V), which predict the
            label one place further on.
        inputs: The model's, with `labels`, shape (B, T), int64; -100 where no prediction counts.
        seed: Of the draw; another one for every call, such as the seed of the run plus the number of the step.

    Raises:
        StrategyError: If the optimizer is another.
        ValueError: If there are no labels.
    """
    while not isinstance(optimizer, Sophia):
        if not hasattr(optimizer, "optimizer"):
            raise StrategyError(f"a curvature needs the optimizer Sophia; got {type(optimizer).__name__}.")
        optimizer = optimizer.optimizer
    if inputs.get("labels") is None:
        raise ValueError(f"inputs must have labels, which say where a prediction counts; got {sorted(inputs)}.")
    rank, processes = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    labels = inputs["labels"]
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    kept = [parameter.grad for parameter in parameters]
    for parameter in parameters:
        parameter.grad = None
    # The first micro-batch of several comes where gradients are not exchanged yet.
    replicas = [module for module in model.modules() if isinstance(module, DistributedDataParallel)]
    exchanged = [replica.require_backward_grad_sync for replica in replicas]
    for replica in replicas:
        replica.require_backward_grad_sync = True
    # The forward pass may draw for dropout.
    with torch.random.fork_rng(devices=[labels.device] if labels.device.type == "cuda" else []):
        logits = model(**{name: value for name, value in inputs.items() if name != "labels"}).logits
        predictions = logits[:, :-1][labels[:, 1:] != _IGNORE_INDEX].float()
        # Processes must not draw alike: the estimate needs labels that are independent.
        generator = torch.Generator(labels.device).manual_seed(seed * processes + rank)
        drawn = torch.multinomial(predictions.detach().softmax(-1), 1, generator=generator).squeeze(1)
        count = torch.tensor(len(drawn), device=labels.device)
        if processes > 1:
            dist.all_reduce(count)
        # Data parallelism takes the mean of the processes' gradients.
        loss = F.cross_entropy(predictions, drawn, reduction="sum") * processes / count.clamp(min=1)
        loss.backward()
    for replica, was_exchanged in zip(replicas, exchanged, strict=True):
        replica.require_backward_grad_sync = was_exchanged
    if count > 0:
        optimizer.update_hessian(int(count))
    for parameter, gradient in zip(parameters, kept, strict=True):
        parameter.grad = gradient
