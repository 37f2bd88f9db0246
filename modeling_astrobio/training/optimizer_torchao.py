"""torchao's 8-bit AdamW with two repairs; import it only where torchao is installed."""

from typing import Any

import torch
from torchao.optim import AdamW8bit
from torchao.optim.subclass_8bit import OptimState8bit


__all__ = ["ShardableAdamW8bit"]


class ShardableAdamW8bit(AdamW8bit):
    """torchao's AdamW8bit for sharded bfloat16 weights, and with groups whose averages are not quantised.

    Its averages say that they are float32, which is what their codes stand for. torchao gives them the dtype of the
    weights, and the update of a bfloat16 DTensor then fails, for torch does not interpolate between a bfloat16 DTensor
    and the float32 gradient. Codes, scales and so memory and results are the same.

    Groups with `is_quantised=False` keep plain averages in the dtype of the weights. Embeddings need it: the row of a
    token that has not come for a while has averages near 0, of which 8 bits keep that of the gradient longer than
    that of its square, and their quotient moves the row far.
    """

    def _new_buffer(self, p: torch.Tensor, signed: bool) -> torch.Tensor:
        # By group, since Accelerate puts shards in the place of parameters before the first step.
        plain = (group for group in self.param_groups if not group.get("is_quantised", True))
        if any(p is other for group in plain for other in group["params"]):
            return torch.zeros_like(p)
        return super()._new_buffer(p, signed)

    @staticmethod
    def _subclass_zeros(p: torch.Tensor, signed: bool, block_size: int) -> torch.Tensor:
        return OptimState8bit.zeros(p.shape, signed, block_size, p.device, dtype=torch.float32)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load; torch gives the averages the dtype of the weights, which is taken back."""
        super().load_state_dict(state_dict)
        for state in self.state.values():
            for name, value in state.items():
                if isinstance(getattr(value, "_local_tensor", value), OptimState8bit):
                    state[name] = value.to(torch.float32)
