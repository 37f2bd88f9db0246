"""The Exoplanet Orbit Database of exoplanets.org: one file, frozen since 2018."""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from data_scripts.archives.protocols.delimited import csv_head, csv_rows
from data_scripts.archives.schemas.exoplanets_org import COLUMNS
from data_scripts.harness.archive import Archive, Identity, Request, Selection, Stage, TableConfig


__all__ = ["ARCHIVE"]

DAYS_IN_YEAR = 365.25
JUPITER_IN_SUN = 9.5458e-4
KEPLER_TOLERANCE = 0.1


def first(selection: Selection) -> Iterator[Request]:
    """Ask for the file; the address is the one that the site's own pages and astroquery use."""
    yield Request("http://exoplanets.org/csv-files/exoplanets.csv", stage="file")


def recognise(name: str, head: bytes) -> str | None:
    """Return the stage that reads the database's file."""
    rows = csv_head(head)
    return "file" if rows is not None and {"EOD", "KDE", "PLANETDISCMETH", "MSINI"} <= set(rows.column_names) else None


def third_law(table: pa.Table) -> pa.BooleanArray:
    """Whether (A / AU)^3 = (MSTAR + MASS) (PER / yr)^2 within the tolerance; null where a value is missing or 0."""
    stars = pc.add(table["MSTAR"], pc.fill_null(pc.multiply(table["MASS"], JUPITER_IN_SUN), 0.0))
    years = pc.divide(table["PER"], DAYS_IN_YEAR)
    expected = pc.power(pc.multiply(stars, pc.multiply(years, years)), 1 / 3)
    expected = pc.if_else(pc.greater(expected, 0.0), expected, None)
    holds = pc.less_equal(pc.abs(pc.subtract(pc.divide(table["A"], expected), 1.0)), KEPLER_TOLERANCE)
    return holds.combine_chunks() if isinstance(holds, pa.ChunkedArray) else holds


PLANETS = TableConfig(
    name="planets",
    description="Planets with good orbits and Kepler candidates, one row a planet, with uncertainties and references.",
    columns=COLUMNS,
    key=("NAME",),
    objects=("STAR", "KEPID", "HIPP", "HD"),
    first=first,
    stages={"file": Stage("csv", rows=csv_rows)},
    recognise=recognise,
    identities=(
        Identity(
            name="Kepler's third law",
            holds=third_law,
            source="A^3 = (MSTAR + MASS) PER^2 in AU, solar masses and years, to 10%",
        ),
    ),
)

ARCHIVE = Archive(
    name="exoplanets_org",
    title="Exoplanet Orbit Database",
    homepage="http://exoplanets.org",
    license="other",
    license_name="exoplanets.org-terms",
    license_link="http://exoplanets.org",
    acknowledgement=(
        "This research has made use of the Exoplanet Orbit Database and the Exoplanet Data Explorer at exoplanets.org."
    ),
    citation="""@article{2011PASP..123..412W,
  author = {Wright, J. T. and Fakhouri, O. and Marcy, G. W. and Han, E. and Feng, Y. and others},
  title = {The Exoplanet Orbit Database},
  journal = {Publications of the Astronomical Society of the Pacific},
  volume = {123},
  pages = {412},
  year = {2011},
  doi = {10.1086/659427}
}
@article{2014PASP..126..827H,
  author = {Han, E. and Wang, S. X. and Wright, J. T. and Feng, Y. K. and Zhao, M. and others},
  title = {Exoplanet Orbit Database. II. Updates to Exoplanets.org},
  journal = {Publications of the Astronomical Society of the Pacific},
  volume = {126},
  pages = {827},
  year = {2014},
  doi = {10.1086/678447}
}""",
    tables=(PLANETS,),
    hosts=("exoplanets.org", "www.exoplanets.org"),
    requests_per_second=1.0,
    concurrency=1,
    probe=("planets", {}),
    size="a few thousand planets and Kepler candidates, about 6 MB",
)
