"""The data sets that `python -m data_scripts` can build, by name."""

from collections.abc import Callable
from dataclasses import dataclass

from datasets import DatasetDict

from data_scripts.derived.embedded_planets import EMBEDDED_PLANETS_CARD, build_embedded_planets
from data_scripts.harness.hub_folder import DatasetCard


__all__ = ["BUILDERS", "Builder", "builder_named"]


@dataclass(frozen=True)
class Builder:
    """How a data set is made.

    Attributes:
        build: Takes a seed and returns the splits.
        card: Description that is written beside the data.
    """

    build: Callable[[int], DatasetDict]
    card: DatasetCard


BUILDERS: dict[str, Builder] = {
    EMBEDDED_PLANETS_CARD.name: Builder(build_embedded_planets, EMBEDDED_PLANETS_CARD),
}


def builder_named(name: str) -> Builder:
    """Return a builder.

    Raises:
        ValueError: If there is no data set of this name.
    """
    if name not in BUILDERS:
        raise ValueError(
            f"name must be one of {', '.join(sorted(BUILDERS))}; got {name!r}. See python -m data_scripts list."
        )
    return BUILDERS[name]
