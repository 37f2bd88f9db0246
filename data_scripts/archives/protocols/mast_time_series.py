"""Tables of missions that watch stars from space: their observations at MAST, and the light curves of these."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

from data_scripts.archives.protocols import light_curves, mast
from data_scripts.archives.schemas.caom import TIME_SERIES_OBSERVATIONS
from data_scripts.harness.archive import Column, Option, Request, Selection, Stage, TableConfig


__all__ = ["MASHUP_PAGES", "light_curves_table", "observations_table"]

MASHUP_PAGES = Stage("json", rows=mast.mashup_rows, follow=mast.next_page, total=mast.mashup_total)


def observations_table(description: str, options: Mapping[str, Option], collection: str = "") -> TableConfig:
    """Return the table of observations with light curves.

    Args:
        description: Of the table.
        options: Columns of MAST that a build may choose by; `collection` is for `obs_collection`.
        collection: The collection, where it is no option.
    """
    return TableConfig(
        name="observations",
        description=description,
        columns=TIME_SERIES_OBSERVATIONS,
        key=("obsid",),
        objects=("target_name",),
        first=_first(collection),
        stages={"observations": MASHUP_PAGES},
        recognise=mast.recognise_time_series,
        options=options,
    )


def light_curves_table(
    keywords: Sequence[Column],
    key: tuple[str, ...],
    kinds: Sequence[str],
    telescope: str,
    options: Mapping[str, Option],
    collection: str = "",
) -> TableConfig:
    """Return the table of light curves, the files of those observations.

    Args:
        keywords: Columns from the headers of a file.
        key: Of a row.
        kinds: MAST's names of the kinds of files.
        telescope: What the headers state.
        options: As for the observations.
        collection: The collection, where it is no option.
    """

    def recognise(name: str, head: bytes) -> str | None:
        return "light_curve" if light_curves.is_light_curve(head, telescope) else None

    return TableConfig(
        name="light_curves",
        description="Light curves on the full grid of cadences with quality bits and mask, one row a FITS file.",
        columns=light_curves.light_curve_columns(keywords),
        key=key,
        objects=("OBJECT",),
        first=_first(collection),
        stages={
            "observations": Stage("json", follow=mast.follow_to_products),
            "products": Stage("json", follow=partial(mast.follow_to_files, kinds=kinds, stage="light_curve")),
            "light_curve": Stage("fits", rows=partial(light_curves.light_curve_rows, keywords=keywords)),
        },
        recognise=recognise,
        options=options,
        default=False,
    )


def _first(collection: str) -> Callable[[Selection], Iterator[Request]]:
    """Ask for the first page of observations."""

    def first(selection: Selection) -> Iterator[Request]:
        chosen = dict(selection.options)
        filters = [
            *mast.one_of("obs_collection", collection or chosen.pop("collection")),
            *mast.one_of("dataproduct_type", "timeseries"),
            *(each for name, values in chosen.items() for each in mast.one_of(name, values)),
            *mast.released_since(selection.since),
        ]
        size = mast.page_size(selection.limit)
        yield mast.filtered("Mast.Caom.Filtered", TIME_SERIES_OBSERVATIONS, filters, "observations", size)

    return first
