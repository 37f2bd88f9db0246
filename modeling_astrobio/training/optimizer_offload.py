"""AdamW whose moments and update are in host memory, for one GPU; import it only where torchao is installed."""

from typing import Any

import torch
from torchao.optim import CPUOffloadOptimizer


__all__ = ["OffloadedOptimizer"]


class OffloadedOptimizer(CPUOffloadOptimizer):
    """torchao's offloaded optimizer, which goes on with what is loaded into it.

    In torchao's own, learning-rate schedules no longer reach the parameters too small to be offloaded once a state
    dict was loaded, which Accelerate does in every run; and the host's copies of the weights, made when it is built,
    overwrite weights that were loaded since.
    """

    @property
    def state(self) -> dict[torch.Tensor, Any]:
        """The moments, by the parameters that they belong to, which for offloaded ones are the host's copies."""
        optimizers = [*self.optim_dict.values(), *([self.d_opt] if self.d_opt else [])]
        return {parameter: state for optimizer in optimizers for parameter, state in optimizer.state.items()}

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load moments and groups, and take over the weights that the model has now."""
        super().load_state_dict(state_dict)
        if self.d_opt:
            self.d_param_groups = self.d_opt.param_groups
        for on_device, on_host in self.param_d2h_map.items():
            on_host.copy_(on_device)
