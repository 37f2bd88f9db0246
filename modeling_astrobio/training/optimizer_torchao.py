"""torchao's 8-bit AdamW for bfloat16 weights that are sharded; import it only where torchao is installed."""

from typing import Any

import torch
from torchao.optim import AdamW8bit
from torchao.optim.subclass_8bit import OptimState8bit


__all__ = ["ShardableAdamW8bit"]


class ShardableAdamW8bit(AdamW8bit):
    """torchao's AdamW8bit, whose averages say that they are float32.

    That is what their codes stand for. torchao gives them the dtype of the weights, and the update of a bfloat16
    DTensor then fails, for torch does not interpolate between a bfloat16 DTensor and the float32 gradient. Codes,
    scales and so memory and results are the same.
    """

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
