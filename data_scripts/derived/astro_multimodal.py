"""The data set `astro_multimodal`: what several sources say of one object, in one row."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from datasets import DatasetDict, Features, List, Value

from data_scripts.derived.astro_text import ASTRO_TEXT_SOURCES
from data_scripts.derived.multimodal_parts import (
    NODE_FEATURES,
    PLANET_PARAMETERS,
    climate_cells,
    graph_cells,
    parameters_of_cube,
    parameters_of_planet,
    rows_of_parquet,
    short_hash,
    spectrum_cells,
    text_qualities,
)
from data_scripts.derived.split_writer import SplitWriter
from data_scripts.harness.errors import BuildError
from data_scripts.harness.hub_folder import DatasetCard
from data_scripts.identity import IdentityTable, split_rows
from data_scripts.splits import SPLIT_NAMES, split_of


__all__ = [
    "ASTRO_MULTIMODAL_CARD",
    "ASTRO_MULTIMODAL_FEATURES",
    "ASTRO_MULTIMODAL_SOURCES",
    "build_astro_multimodal",
]

_IDENTITY = "object_identity"
_WITH_ROWS = ("nasa_exoplanet_archive", "jwst_mast", "climate_cubes", "metabolic_networks", "astro_text", _IDENTITY)
# Of the others only the quality of their tables is read, for the texts that are from them.
ASTRO_MULTIMODAL_SOURCES = (*_WITH_ROWS, *(name for name in ASTRO_TEXT_SOURCES if name not in _WITH_ROWS))
_PLANET_NAMES = ("hostname", "hd_name", "hip_name", "tic_id")
_SPECTRUM_NAMES = ("TARGNAME",)

_COLUMNS: dict[str, tuple[Any, str]] = {
    "row_id": (Value("string"), "16 hex digits that name the row"),
    "object_id": (Value("string"), "star, species or simulated planet, by which rows are split"),
    "kind": (Value("string"), "`planet`, `simulated planet` or `organism`"),
    "name": (Value("string"), "the planet, run or model"),
    "planet_parameters": (List(Value("float64")), f"NaN where unknown, in this order: {', '.join(PLANET_PARAMETERS)}"),
    "planet_parameters_quality": (Value("float32"), "share of the parameters that is known; null where absent"),
    "climate": (List(Value("float32")), "state of the atmosphere, flattened from (V, T, L, Y, X); NaN where missing"),
    "climate_shape": (List(Value("int32")), "the shape (V, T, L, Y, X)"),
    "climate_variables": (List(Value("string")), "short names of CMIP6, in the order of V"),
    "climate_quality": (Value("float32"), "share of the values that are there; null where absent"),
    "node_features": (
        List(Value("float32")),
        f"metabolites, then reactions, flattened from (N, {len(NODE_FEATURES)}): {', '.join(NODE_FEATURES)}",
    ),
    "node_features_shape": (List(Value("int32")), "the shape"),
    "edge_index": (List(Value("int64")), "metabolite and reaction of each edge, flattened from (2, E)"),
    "edge_index_shape": (List(Value("int32")), "the shape"),
    "edge_features": (List(Value("float32")), "stoichiometric coefficient, flattened from (E, 1)"),
    "edge_features_shape": (List(Value("int32")), "the shape"),
    "metabolic_graph_quality": (
        Value("float32"),
        "share of the reactions that balance, of those that can be judged; null where absent",
    ),
    "wavelength_um": (List(Value("float64")), "wavelengths of the spectrum, um, in vacuum"),
    "flux": (List(Value("float64")), "flux density, Jy; NaN where missing"),
    "flux_error": (List(Value("float64")), "its standard deviation, Jy; NaN where missing"),
    "spectrum_mask": (List(Value("bool")), "true where usable"),
    "spectrum_quality": (Value("float32"), "share of usable points; null where absent"),
    "text": (Value("string"), "a record about the object from `astro_text`"),
    "text_source": (Value("string"), "its archive and table"),
    "text_license": (Value("string"), "its licence"),
    "text_quality": (Value("float32"), "overall quality score of that table's build; null where absent"),
    "source_sha256": (List(Value("string")), "SHA-256 of each body or file that the row is from, sorted"),
}
ASTRO_MULTIMODAL_FEATURES = Features({name: dtype for name, (dtype, _) in _COLUMNS.items()})
ASTRO_MULTIMODAL_CARD = DatasetCard(
    name="astro_multimodal",
    pretty_name="Planets and organisms in several modalities",
    summary=(
        "One row a planet, simulated planet or organism, with what there is of five modalities: planet parameters, "
        "climate cube, metabolic graph, spectrum and text; each with a quality from 0 to 1, absent ones null."
    ),
    columns={name: description for name, (_, description) in _COLUMNS.items()},
    source=(
        "Built folders of `nasa_exoplanet_archive` (`pscomppars`), `jwst_mast` (`spectra`), `climate_cubes`, "
        "`metabolic_networks` and `astro_text`; the acknowledgements of their cards hold for what is from them."
    ),
    method=(
        "A planet has the parameters of its row, the spectrum with the greatest quality of its star, and a record "
        "of its star; a simulated planet has the parameters and the climate of its run; an organism has its "
        "metabolic network and a record of its species. Texts are of the archives whose built folders were given, for "
        "the quality of their tables; of several records the one with the least hash is taken. "
        "Nothing is joined by resemblance: a climate stands only beside the planet that was simulated. Rows are split "
        "by `object_identity`, as in every other data set of this project."
    ),
    limits=(
        "No row has all five modalities: there is no planet with a known climate and a known metabolism. A spectrum "
        "is of the star's system and may be of the star alone."
    ),
    license="other",
    license_name="terms-of-the-sources",
    license_link="https://exoplanetarchive.ipac.caltech.edu/docs/acknowledge.html",
    license_note="The terms of each source hold for what is from it.",
    citation="Cite the sources named in their cards.",
    count_by="kind",
)


def build_astro_multimodal(inputs: Mapping[str, Path], seed: int = 0) -> DatasetDict:
    """Join the folders by object.

    Args:
        inputs: Built folders of `ASTRO_MULTIMODAL_SOURCES`: `object_identity`, and at least one of the first, third
            and fourth, which the rows are of.
        seed: Not used: nothing is drawn.

    Raises:
        BuildError: If a folder is missing or holds no rows for this.
    """
    if _IDENTITY not in inputs or not {"nasa_exoplanet_archive", "climate_cubes", "metabolic_networks"} & set(inputs):
        raise BuildError(
            f"--from-folder must give {_IDENTITY} and one of nasa_exoplanet_archive, climate_cubes and "
            f"metabolic_networks; got {', '.join(sorted(inputs)) or 'nothing'}."
        )
    identity = IdentityTable.load(inputs[_IDENTITY])
    texts, spectra = _texts(inputs), _spectra(inputs, identity)
    with SplitWriter(ASTRO_MULTIMODAL_FEATURES, SPLIT_NAMES) as writer:
        for row in _objects(inputs, identity):
            found = {**row, **texts.get(row["object_id"], {})}
            if row["kind"] == "planet":
                found |= spectra.get(row["object_id"], {})
            hashes = {row["source_sha256"], found.pop("spectrum_sha256", None), found.pop("text_sha256", None)}
            cells = dict.fromkeys(ASTRO_MULTIMODAL_FEATURES) | found | {"source_sha256": sorted(hashes - {None})}
            writer.write(split_of(row["object_id"]), [cells])
        return writer.finish()


def _objects(folders: Mapping[str, Path], identity: IdentityTable) -> Iterator[dict[str, Any]]:
    if "nasa_exoplanet_archive" in folders:
        columns = ["pl_name", *_PLANET_NAMES, *filter(None, PLANET_PARAMETERS.values()), "source_sha256"]
        for row in _with_objects(
            _config(folders["nasa_exoplanet_archive"], "pscomppars"), columns, _PLANET_NAMES, identity
        ):
            yield _object("planet", row["pl_name"], row) | parameters_of_planet(row)
    if "climate_cubes" in folders:
        for row in rows_of_parquet(_files(folders["climate_cubes"])):
            yield _object("simulated planet", row["name"], row) | parameters_of_cube(row) | climate_cells(row)
    if "metabolic_networks" in folders:
        for row in rows_of_parquet(_files(folders["metabolic_networks"])):
            yield _object("organism", row["model_id"], row) | (graph_cells(row) or {})


def _object(kind: str, name: str, row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "row_id": short_hash(f"{kind}:{name}:{row['source_sha256']}"),
        "object_id": row["object_id"],
        "kind": kind,
        "name": name,
        "source_sha256": row["source_sha256"],
    }


def _spectra(folders: Mapping[str, Path], identity: IdentityTable) -> dict[str, dict[str, Any]]:
    """The best spectrum by star."""
    best: dict[str, dict[str, Any]] = {}
    if "jwst_mast" not in folders:
        return best
    columns = [*_SPECTRUM_NAMES, "WAVELENGTH", "FLUX", "FLUX_ERROR", "mask", "source_sha256"]
    for row in _with_objects(_config(folders["jwst_mast"], "spectra"), columns, _SPECTRUM_NAMES, identity):
        cells = spectrum_cells(row)
        # Of equal ones the first in the order of the files.
        if (
            cells
            and cells["spectrum_quality"] > best.get(row["object_id"], {"spectrum_quality": 0})["spectrum_quality"]
        ):
            best[row["object_id"]] = {**cells, "spectrum_sha256": row["source_sha256"]}
    return best


def _texts(folders: Mapping[str, Path]) -> dict[str, dict[str, Any]]:
    """A record by object: of those whose table has a quality score, the one with the least hash."""
    qualities = text_qualities(folders)
    found: dict[str, tuple[str, dict[str, Any]]] = {}
    if "astro_text" in folders:
        for row in rows_of_parquet(_files(folders["astro_text"])):
            if row["kind"] != "record" or row["source"] not in qualities:
                continue
            order = short_hash(row["text"])
            if row["object_id"] not in found or order < found[row["object_id"]][0]:
                found[row["object_id"]] = (
                    order,
                    {
                        "text": row["text"],
                        "text_source": row["source"],
                        "text_license": row["license"],
                        "text_quality": qualities[row["source"]],
                        "text_sha256": row["source_sha256"],
                    },
                )
    return {object_id: cells for object_id, (_, cells) in found.items()}


def _with_objects(
    paths: list[Path], columns: list[str], names: tuple[str, ...], identity: IdentityTable
) -> Iterator[dict[str, Any]]:
    """Rows with their object as this identity has it, whatever the folder was built with."""
    for path in paths:
        file = pq.ParquetFile(path)
        there = [column for column in columns if column in file.schema_arrow.names]
        for group in range(file.num_row_groups):
            table = file.read_row_group(group, columns=there)
            objects, _ = split_rows(table, [name for name in names if name in there], identity)
            for row, object_id in zip(table.to_pylist(), objects, strict=True):
                yield row | {"object_id": object_id}


def _config(folder: Path, config: str) -> list[Path]:
    paths = sorted((folder / config).glob("*.parquet"))
    if not paths:
        raise BuildError(f"{folder} must hold the configuration {config}. Build it with --config {config}.")
    return paths


def _files(folder: Path) -> list[Path]:
    paths = sorted(folder.rglob("*.parquet"))
    paths = [path for path in paths if path.relative_to(folder).parts[0] != "rejected"]
    if not paths:
        raise BuildError(f"{folder} must be a folder that python -m data_scripts build wrote; it has no Parquet file.")
    return paths
