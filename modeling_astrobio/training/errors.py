"""Errors a user can mend; the recipes print their message and stop, without a traceback."""

__all__ = [
    "CheckpointError",
    "DataError",
    "HardwareError",
    "RecipeError",
    "RunFolderError",
    "StrategyError",
    "TrainingFault",
    "UserError",
]


class UserError(ValueError):
    """Base of the errors below; each message has the name, what it needs, what it got, and the remedy."""


class RecipeError(UserError):
    """A recipe with an unknown key, a wrong value, or values that contradict one another."""


class DataError(UserError):
    """A data set that is missing, empty, or without the columns asked for."""


class HardwareError(UserError):
    """A device or precision that this machine does not have."""


class StrategyError(UserError):
    """A strategy that cannot work, or that does not fit the hardware."""


class RunFolderError(UserError):
    """An output folder that cannot be used."""


class CheckpointError(UserError):
    """A checkpoint that is damaged, missing, or could not be written."""


class TrainingFault(UserError):
    """A run whose loss went wrong too often."""
