"""What is wrong with a climate cube."""

__all__ = ["CubeError"]


class CubeError(ValueError):
    """A cube that cannot be read; the message names the axis or variable, its need, what it got, and the remedy."""
