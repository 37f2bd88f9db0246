"""Call an archive's parsers: whatever they fail with, the body is not what they need."""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from data_scripts.harness.errors import BadBodyError, BuildError


__all__ = ["call_parser"]

P = ParamSpec("P")
T = TypeVar("T")


def call_parser(parser: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a parser.

    Raises:
        BadBodyError: If the parser fails, with its error as the cause.
        BuildError: If the parser raises one.
        OSError: If the system refused something, such as a full disk; that is no fault of the body.
    """
    try:
        return parser(*args, **kwargs)
    except (BadBodyError, BuildError, MemoryError):
        raise
    except Exception as error:
        # Parsers raise OSError too, for a file that they do not understand; those have no number of the system's.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise BadBodyError(f"the parser failed with {type(error).__name__}: {error}") from error
