"""What `python -m data_scripts` can build, by name: archives and data sets derived from them."""

import contextlib
import functools
import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from datasets import DatasetDict

import data_scripts.archives
from data_scripts.harness.archive import Archive
from data_scripts.harness.errors import BuildError
from data_scripts.harness.hub_folder import DatasetCard


__all__ = ["ARCHIVES", "BUILDERS", "Builder", "archive_named", "builder_named", "needs_extra"]


@dataclass(frozen=True)
class Builder:
    """How a data set is made.

    Attributes:
        build: Takes folders by the source's name, and a seed; returns the splits.
        card: Description that is written beside the data.
        sources: Names of the folders that it can be made from; empty if it needs none.
    """

    build: Callable[[Mapping[str, Path], int], DatasetDict]
    card: DatasetCard
    sources: tuple[str, ...] = ()


# Packages that an extra brings, and which; those of `archives` are all others.
EXTRAS = {
    "cf_xarray": "climate",
    "cobra": "chem",
    "pint": "climate",
    "rdkit": "chem",
    "xarray": "climate",
    "zarr": "climate",
}


@contextlib.contextmanager
def needs_extra(name: str) -> Iterator[None]:
    """Say which extra brings a package that is imported here and absent.

    Raises:
        BuildError: If it is absent.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("data_scripts"):
            raise
        extra = EXTRAS.get(error.name.partition(".")[0], "archives")
        raise BuildError(
            f"{name} needs the package {error.name}, which is not installed. Install modeling_astrobio[{extra}]."
        ) from error


def _embedded_planets() -> Builder:
    from data_scripts.derived.embedded_planets import EMBEDDED_PLANETS_CARD, build_embedded_planets

    return Builder(lambda inputs, seed: build_embedded_planets(seed), EMBEDDED_PLANETS_CARD)


def _embedded_molecules() -> Builder:
    with needs_extra("embedded_molecules"):
        from data_scripts.derived.embedded_molecules import EMBEDDED_MOLECULES_CARD, build_embedded_molecules

    return Builder(lambda inputs, seed: build_embedded_molecules(seed), EMBEDDED_MOLECULES_CARD)


def _derived(name: str, sources: tuple[str, ...] = ()) -> Builder:
    with needs_extra(name):
        module = importlib.import_module(f"data_scripts.derived.{name}")
    sources = sources or getattr(module, f"{name.upper()}_SOURCES")
    return Builder(getattr(module, f"build_{name}"), getattr(module, f"{name.upper()}_CARD"), sources)


BUILDERS: dict[str, Callable[[], Builder]] = {
    "astro_multimodal": functools.partial(_derived, "astro_multimodal"),
    "astro_text": functools.partial(_derived, "astro_text"),
    "climate_cubes": functools.partial(_derived, "climate_cubes", ("cubes",)),
    "embedded_molecules": _embedded_molecules,
    "embedded_planets": _embedded_planets,
    "koi_disposition": functools.partial(_derived, "koi_disposition"),
    "metabolic_networks": functools.partial(_derived, "metabolic_networks"),
    "molecules": functools.partial(_derived, "molecules"),
    "object_identity": functools.partial(_derived, "object_identity"),
    "phylogeny": functools.partial(_derived, "phylogeny"),
    "reaction_networks": functools.partial(_derived, "reaction_networks"),
}
"""The data sets made here; each is imported when it is asked for."""


def _load(name: str) -> Archive:
    with needs_extra(name):
        archive: Archive = importlib.import_module(f"data_scripts.archives.{name}").ARCHIVE
    return archive


ARCHIVES: dict[str, Callable[[], Archive]] = {
    module.name: functools.partial(_load, module.name)
    for module in pkgutil.iter_modules(data_scripts.archives.__path__)
    if not module.ispkg
}
"""Every module of `data_scripts.archives`, which is imported when its archive is asked for."""


def archive_named(name: str) -> Archive:
    """Return an archive.

    Raises:
        BuildError: If there is none of this name, or a package that it needs is not installed.
    """
    if name not in ARCHIVES:
        raise BuildError(
            f"name must be one of {', '.join(sorted(ARCHIVES))}; got {name!r}. See python -m data_scripts list."
        )
    return ARCHIVES[name]()


def builder_named(name: str) -> Builder:
    """Return a builder.

    Raises:
        ValueError: If there is no data set of this name, or a package that it needs is not installed.
    """
    if name not in BUILDERS:
        raise ValueError(
            f"name must be one of {', '.join(sorted(BUILDERS))}; got {name!r}. See python -m data_scripts list."
        )
    return BUILDERS[name]()
