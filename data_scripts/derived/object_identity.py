"""The data set `object_identity`: which names of stars and species mean one object, across archives."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, DatasetDict, Features, List, Value

from data_scripts.derived.source_tables import config_names, read_config, read_schema
from data_scripts.embedded.planets import load_planets
from data_scripts.harness.errors import BuildError
from data_scripts.harness.hub_folder import DatasetCard
from data_scripts.identifier_columns import GTDB_COLUMNS, SKY_COLUMN, TAXON_COLUMNS, column_key, names_objects
from data_scripts.identity import IdentityTable
from data_scripts.sky_positions import SAME_STAR_ARCSEC, sky_groups
from data_scripts.splits import SPLIT_NAMES, split_of


__all__ = [
    "OBJECT_IDENTITY_CARD",
    "OBJECT_IDENTITY_FEATURES",
    "OBJECT_IDENTITY_SOURCES",
    "build_object_identity",
    "identity_of_tables",
]

OBJECT_IDENTITY_SOURCES = (
    "nasa_exoplanet_archive",
    "exoplanets_org",
    "kepler_k2",
    "planet_hunters",
    "tess",
    "ensembl_genomes",
    "gtdb",
    "ncbi_genbank",
    "uniprotkb",
)
OBJECT_IDENTITY_FEATURES = Features(
    {
        "object_id": Value("string"),
        "kind": Value("string"),
        "value": Value("string"),
        "named_in": List(Value("string")),
        "conflict": Value("string"),
    }
)
OBJECT_IDENTITY_CARD = DatasetCard(
    name="object_identity",
    pretty_name="Object identity: aliases of stars and species across archives",
    summary=(
        "One row for each identifier of a star or species that an archive's table uses, with the object that it names "
        "and by which every data set of this project is split."
    ),
    columns={
        "object_id": "the object, called by its best identifier; its SHA-256 gives the split",
        "kind": "catalogue of the identifier: `kic`, `tic`, `epic`, `gaia dr2`, `hd`, `name`, `sky`, `taxon`, ...",
        "value": "the identifier, spelled in one way: a key for comparison, not a name to print",
        "named_in": "source, table and column of every table that uses it",
        "conflict": "what the archives say of the object that cannot be true of one star, and what was done; or null",
    },
    source=(
        "Identifiers of the archives named in `named_in`, from the folders that this data set was built from, and of "
        "the planets that ship with the package. This research has made use of the NASA Exoplanet Archive, which is "
        "operated by the California Institute of Technology, under contract with the National Aeronautics and Space "
        "Administration under the Exoplanet Exploration Program, and of data from MAST, NCBI, EMBL-EBI, UniProt and "
        "GTDB where those are named."
    ),
    method=(
        "Identifiers that stand in one row name one object, and objects that share an identifier are one (connected "
        f"components). Stars of tables of planets and candidates that stand within {SAME_STAR_ARCSEC:g} arcsec of "
        "each other are one too: that is a pixel of Kepler, so they share their light. An object is called by the "
        "host's name as planet catalogues give it, else KIC, EPIC, TIC, Gaia DR3, HD, HIP, 2MASS; a species by its "
        "NCBI taxon, else by GTDB's species, else by its name. A species of GTDB is joined with the NCBI species of "
        "its representative genome only, since genomes are filed under wrong names too often to join by each. Two "
        "entries of KIC, EPIC or TIC in one object are kept as one, so that no split parts them, and named in "
        "`conflict`; an alias beside more than four such entries is a placeholder and is set aside."
    ),
    limits=(
        "An alias that no table states and no position shows is not known: two tables that share only it may call one "
        "star by two names. Build from all archives at once, and again when an archive is renewed; a star that is "
        "given a planet's name then changes its label, and with it its split. Components of binaries stay apart "
        "where the archives' positions do. A genome that GTDB files under another species than NCBI belongs to the "
        "one or the other, by what its table states first."
    ),
    license="other",
    license_name="terms-of-the-archives",
    license_link="https://exoplanetarchive.ipac.caltech.edu/docs/acknowledge.html",
    license_note=(
        "Names and numbers of the archives, public under each one's terms; rows named in `gtdb` are CC BY-SA 4.0, "
        "rows named in `uniprotkb` CC BY 4.0."
    ),
    citation=(
        "@article{akeson2013,\n"
        "  author  = {Akeson, R. L. and Chen, X. and Ciardi, D. and others},\n"
        "  title   = {The NASA Exoplanet Archive: Data and Tools for Exoplanet Research},\n"
        "  journal = {Publications of the Astronomical Society of the Pacific},\n"
        "  volume  = {125}, number = {930}, pages = {989}, year = {2013}, doi = {10.1086/672273}\n"
        "}"
    ),
)

# Right ascension and declination, as `column_key` writes them.
_POSITIONS = (
    ("ra", "dec"),
    ("ticrightascension", "ticdeclination"),
    ("ticrightascension20155", "ticdeclination20155"),
)
_REPRESENTATIVE = "gtdbrepresentative"
# Has every star of a field, so that neighbours would be joined by chance.
_DENSE_TABLES = frozenset({"tess.tic"})


def build_object_identity(inputs: Mapping[str, Path], seed: int = 0) -> DatasetDict:
    """Build the data set from folders that were built from archives.

    Args:
        inputs: Source to folder, any of `OBJECT_IDENTITY_SOURCES`, at least one.
        seed: Nothing is random here; must be 0.

    Returns:
        Splits `train`, `validation` and `test` with `OBJECT_IDENTITY_FEATURES`: each object in its own split.

    Raises:
        BuildError: If there is no input, one of another source, a folder without tables, or a seed.
    """
    unknown = sorted(set(inputs) - set(OBJECT_IDENTITY_SOURCES))
    if unknown or not inputs:
        raise BuildError(
            f"from-folder must name at least one of {', '.join(OBJECT_IDENTITY_SOURCES)}; got "
            f"{', '.join(unknown) or 'none'}. Pass --from-folder SOURCE=DIR."
        )
    if seed != 0:
        raise BuildError(f"seed must be 0 for object_identity, where nothing is random; got {seed}. Leave it out.")
    tables = {}
    for source, folder in sorted(inputs.items()):
        for config in config_names(folder):
            columns = [name for name in read_schema(folder, config).names if _is_read(name)]
            if any(names_objects(name) for name in columns):
                tables[f"{source}.{config}"] = read_config(folder, config, columns)
    if not tables:
        raise BuildError(
            f"from-folder must hold tables that name stars or species; got {', '.join(map(str, inputs.values()))} "
            "without such columns. Build the default tables of the archives."
        )
    rows = identity_of_tables(tables).rows
    splits = np.array([split_of(object_id) for object_id in rows["object_id"].to_pylist()])
    schema = OBJECT_IDENTITY_FEATURES.arrow_schema
    return DatasetDict({split: Dataset(rows.filter(pa.array(splits == split)).cast(schema)) for split in SPLIT_NAMES})


def identity_of_tables(tables: Mapping[str, pa.Table]) -> IdentityTable:
    """Join the identifiers and positions of archives' tables, and the stars of the table that ships with the package.

    Args:
        tables: `source.table` to rows. A right ascension is in degrees unless its field's metadata says `hourangle`.
    """
    planets = load_planets()
    embedded = pa.table(
        {
            "host_star_name": [planet.host_star_name for planet in planets],
            "planet_name": [planet.planet_name for planet in planets],
        }
    )
    by_species = {name: _gtdb_by_representative(table) for name, table in tables.items()}
    return IdentityTable.from_tables(_with_sky_positions(by_species) | {"embedded.planets": embedded})


def _is_read(column: str) -> bool:
    return names_objects(column) or column_key(column) in {*sum(_POSITIONS, ()), _REPRESENTATIVE}


def _gtdb_by_representative(table: pa.Table) -> pa.Table:
    """Part the species of GTDB from the taxa of NCBI, but for representative genomes."""
    named = {column_key(name): name for name in table.column_names}
    if _REPRESENTATIVE not in named or not named.keys() & GTDB_COLUMNS:
        return table
    representative = pc.is_in(
        pc.utf8_lower(pc.cast(table[named[_REPRESENTATIVE]], pa.string())), pa.array(["t", "true", "yes", "1"])
    )
    taxonomy = [name for name in table.column_names if column_key(name) not in GTDB_COLUMNS]
    only_ncbi = table.select(taxonomy)
    of_gtdb = table
    for name in taxonomy:
        # The representative's species tells of GTDB's; its strain or name would tell no more.
        keep = representative if TAXON_COLUMNS.get(column_key(name)) == 0 else pa.scalar(False)
        nothing = pa.nulls(table.num_rows, table.schema.field(name).type)
        of_gtdb = of_gtdb.set_column(table.schema.get_field_index(name), name, pc.if_else(keep, table[name], nothing))
    return pa.concat_tables([only_ncbi, of_gtdb], promote_options="default")


def _with_sky_positions(tables: Mapping[str, pa.Table]) -> dict[str, pa.Table]:
    """Add a column that is equal for rows at one place in the sky; a row with two positions comes twice."""
    blocks = [
        (name, *position)
        for name, table in sorted(tables.items())
        if name not in _DENSE_TABLES
        for position in _positions(table)
    ]
    groups = sky_groups(
        np.concatenate([ra for _, ra, _ in blocks] or [np.empty(0)]),
        np.concatenate([dec for _, _, dec in blocks] or [np.empty(0)]),
    )
    placed: dict[str, list[pa.Table]] = {}
    start = 0
    for name, ra, _ in blocks:
        places = pa.array(groups[start : start + len(ra)], pa.string())
        placed.setdefault(name, []).append(tables[name].append_column(SKY_COLUMN, places))
        start += len(ra)
    return dict(tables) | {name: pa.concat_tables(parts) for name, parts in placed.items()}


def _positions(table: pa.Table) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    named = {column_key(name): name for name in table.column_names}
    for ra, dec in _POSITIONS:
        if ra in named and dec in named:
            unit = (table.schema.field(named[ra]).metadata or {}).get(b"unit")
            yield _numbers(table, named[ra]) * (15.0 if unit == b"hourangle" else 1.0), _numbers(table, named[dec])


def _numbers(table: pa.Table, column: str) -> np.ndarray:
    numbers: np.ndarray = table[column].cast(pa.float64()).to_numpy()
    return numbers
