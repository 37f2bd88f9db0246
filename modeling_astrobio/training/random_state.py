"""The state of every random generator that training draws from."""

import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch


__all__ = ["RandomState"]


@dataclass(frozen=True)
class RandomState:
    """A moment's state of Python's, NumPy's and torch's generators, CUDA's among them."""

    python: Any
    numpy: Any
    cpu: torch.Tensor
    cuda: list[torch.Tensor]

    @classmethod
    def now(cls) -> "RandomState":
        """Return the state of this moment."""
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        return cls(random.getstate(), np.random.get_state(), torch.get_rng_state(), cuda)

    def restore(self) -> None:
        """Make it the state again."""
        random.setstate(self.python)
        np.random.set_state(self.numpy)
        torch.set_rng_state(self.cpu)
        if self.cuda:
            torch.cuda.set_rng_state_all(self.cuda)
