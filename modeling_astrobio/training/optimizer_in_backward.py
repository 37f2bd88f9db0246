"""Update each weight as soon as its gradient is there, so that the gradients of a model never exist all at once."""

from typing import Any

import torch
from torch import nn

from .errors import StrategyError


__all__ = ["OptimizerInBackward"]


class OptimizerInBackward(torch.optim.Optimizer):
    """Lets another optimizer work in the backward pass.

    A hook on each parameter steps the optimizer for that parameter alone and frees its gradient. Groups and state stay
    those of the optimizer, so that schedules, checkpoints and resuming are as without this class. Only one backward
    pass between two steps, no clipping, no loss scaling, and only one process: a hook runs before any of these.

    Args:
        optimizer: Steps parameters independently of one another, such as AdamW or Lion.
    """

    # Not torch's __init__, which would make groups and state of its own.
    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer
        self._updated: set[nn.Parameter] = set()
        self._handles: list[Any] = []
        self._group_of: dict[nn.Parameter, int] = {}
        for index in range(len(optimizer.param_groups)):
            self._watch(index)

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Those of the optimizer."""
        return self.optimizer.param_groups

    @param_groups.setter
    def param_groups(self, groups: list[dict[str, Any]]) -> None:
        self.optimizer.param_groups = groups

    @property
    def state(self) -> Any:  # type: ignore[override]
        """That of the optimizer."""
        return self.optimizer.state

    @property
    def defaults(self) -> dict[str, Any]:  # type: ignore[override]
        """Those of the optimizer."""
        return self.optimizer.defaults

    def _watch(self, index: int) -> None:
        for parameter in self.optimizer.param_groups[index]["params"]:
            self._group_of[parameter] = index
            self._handles.append(parameter.register_post_accumulate_grad_hook(self._update))

    def _update(self, parameter: nn.Parameter) -> None:
        if parameter in self._updated:
            raise StrategyError(
                "an optimizer in the backward pass needs one backward pass for each step; got a second one before "
                "step(). Set training.gradient_accumulation_steps=1, or strategy.optimizer_in_backward=false."
            )
        self._updated.add(parameter)
        groups = self.optimizer.param_groups
        self.optimizer.param_groups = [{**groups[self._group_of[parameter]], "params": [parameter]}]
        try:
            self.optimizer.step()
        finally:
            self.optimizer.param_groups = groups
        parameter.grad = None

    def step(self, closure=None) -> None:  # type: ignore[override]
        """End the step; every weight is updated already."""
        if closure is not None:
            raise StrategyError("an optimizer in the backward pass takes no closure; got one. Call step() without.")
        self._updated.clear()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Do nothing; every gradient is freed already."""

    def state_dict(self) -> dict[str, Any]:
        """Return the optimizer's, which it can also load by itself."""
        return self.optimizer.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what the optimizer saved, in the backward pass or not."""
        self.optimizer.load_state_dict(state_dict)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group to the optimizer, and its parameters to those updated in the backward pass."""
        self.optimizer.add_param_group(param_group)
        self._watch(len(self.optimizer.param_groups) - 1)

    def remove_hooks(self) -> None:
        """Leave the parameters alone from now on; the optimizer may then be stepped as usual."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
