"""Errors of the harness; the command line prints their message and stops, without a traceback."""

__all__ = ["BadBodyError", "BuildError", "RequestFailedError"]


class BuildError(ValueError):
    """A build that cannot go on; the message has the name, what it needs, what it got, and the remedy."""


class RequestFailedError(BuildError):
    """A request that got no usable answer after every attempt; names the address without credentials."""


class BadBodyError(ValueError):
    """A body that is not what its stage needs: an error page, a truncated file, a column that vanished.

    Attributes:
        again: Whether asking again may help.
    """

    def __init__(self, reason: str, *, again: bool = False) -> None:
        super().__init__(reason)
        self.again = again
