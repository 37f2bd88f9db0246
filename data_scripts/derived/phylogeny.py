"""The data set `phylogeny`: the taxonomy of GTDB as trees, from the domain to the genomes of a family."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import DatasetDict, Features, List, Value

from data_scripts.derived.source_tables import config_names, read_config, read_schema
from data_scripts.derived.split_writer import SplitWriter
from data_scripts.harness.errors import BuildError
from data_scripts.harness.hub_folder import DatasetCard
from data_scripts.identity import IdentityTable, split_rows
from data_scripts.splits import SPLIT_NAMES


__all__ = [
    "GENOME_FEATURES",
    "PHYLOGENY_CARD",
    "PHYLOGENY_FEATURES",
    "PHYLOGENY_SOURCES",
    "RANKS",
    "build_phylogeny",
]

PHYLOGENY_SOURCES = ("gtdb", "object_identity")
_METADATA, _TAXONOMY = "metadata", "taxonomy"
# The code of a rank is its place; genomes come last.
RANKS = ("domain", "phylum", "class", "order", "family", "genus", "species", "genome")
_SPECIES = "gtdb_species"
_TREE_COLUMNS = RANKS[:5]
_RANK_COLUMNS = (*RANKS[:6], _SPECIES)
_REPRESENTATIVE = "gtdb_representative"
_PROVENANCE = ("source_release", "source_sha256")
# Column of GTDB's metadata to unit and description; one that a release lacks is NaN.
GENOME_FEATURES = {
    "genome_size": ("bp", "bases of the assembly"),
    "gc_percentage": ("%", "share of G and C among the known bases"),
    "coding_density": ("%", "share of bases in coding sequences"),
    "checkm_completeness": ("%", "completeness by CheckM"),
    "checkm_contamination": ("%", "contamination by CheckM"),
    "checkm2_completeness": ("%", "completeness by CheckM 2, since release 220"),
    "checkm2_contamination": ("%", "contamination by CheckM 2, since release 220"),
    "ambiguous_bases": ("bp", "bases that are neither known nor in gaps"),
    "n50_contigs": ("bp", "N50 of the contigs"),
    "contig_count": ("count", "contigs"),
    "scaffold_count": ("count", "scaffolds"),
    "protein_count": ("count", "proteins predicted"),
    "trna_count": ("count", "transfer RNAs"),
    "ssu_count": ("count", "16S ribosomal RNAs"),
}

PHYLOGENY_FEATURES = Features(
    {
        **{rank: Value("string") for rank in _TREE_COLUMNS},
        "node_name": List(Value("string")),
        "node_rank": List(Value("int8")),
        "node_object_id": List(Value("string")),
        "edge_index": List(Value("int32")),
        "edge_index_shape": List(Value("int32")),
        "genome_node": List(Value("int32")),
        "genome_features": List(Value("float64")),
        "genome_features_shape": List(Value("int32")),
        "genome_features_names": List(Value("string")),
        "genome_features_units": List(Value("string")),
        "genome_is_representative": List(Value("bool")),
        "source_release": List(Value("string")),
        "source_sha256": List(Value("string")),
    }
)
_FEATURES_TEXT = "; ".join(f"`{name}`: {text}, {unit}" for name, (unit, text) in GENOME_FEATURES.items())
PHYLOGENY_CARD = DatasetCard(
    name="phylogeny",
    pretty_name="Taxonomy of bacteria and archaea as trees",
    summary=(
        "Trees of the Genome Taxonomy Database: for each family the path from its domain, its genera, species and "
        "genomes, with what was measured of each genome."
    ),
    columns={
        **{rank: f"{rank} of the tree" for rank in _TREE_COLUMNS},
        "node_name": "per node: name of the taxon, accession of the genome",
        "node_rank": f"per node: {', '.join(f'{code} {rank}' for code, rank in enumerate(RANKS))}",
        "node_object_id": "per node: of species and genomes, the species as splits know it; empty above",
        "edge_index": "parent and child of each edge, flattened from (2, edges); parents come before their children",
        "edge_index_shape": "the shape (2, edges)",
        "genome_node": "per genome: its node",
        "genome_features": f"per genome, (G, F), NaN where GTDB has none. {_FEATURES_TEXT}",
        "genome_features_shape": "the shape (G, F)",
        "genome_features_names": "names of the features, in the order of F",
        "genome_features_units": "their units",
        "genome_is_representative": "per genome: whether it represents its species; false where that is not known",
        "source_release": "releases of GTDB",
        "source_sha256": "SHA-256 of the files that the genomes were read from",
    },
    source="Genome Taxonomy Database, https://gtdb.ecogenomic.org/, metadata and taxonomy of the release named.",
    method=(
        "A row is the tree of a family, of those of its species that are in the split; with the path from the domain, "
        "rows can be joined by name to one tree. A species of GTDB is in one split with all its genomes, under the "
        "name that `object_identity` gives it where that was used. A genome whose species has no name hangs from the "
        "lowest rank that has one, and all of these are in one split."
    ),
    limits=(
        "Edges are ranks and have no length. Species of one genus are in different splits, so a test asks for new "
        "species, not for new families. A genome that NCBI files under another species than GTDB follows GTDB here."
    ),
    license="cc-by-sa-4.0",
    license_name="",
    license_link="https://gtdb.ecogenomic.org/about",
    license_note="Data of GTDB, CC BY-SA 4.0: name it, and share what is made of it alike.",
    citation=(
        "@article{parks2022gtdb,\n"
        "  author  = {Parks, Donovan H. and Chuvochina, Maria and Rinke, Christian and Mussig, Aaron J. and\n"
        "             Chaumeil, Pierre-Alain and Hugenholtz, Philip},\n"
        "  title   = {{GTDB}: an ongoing census of bacterial and archaeal diversity through a phylogenetically\n"
        "             consistent, rank normalized and complete genome-based taxonomy},\n"
        "  journal = {Nucleic Acids Research},\n"
        "  volume  = {50}, number = {D1}, pages = {D785--D794}, year = {2022}, doi = {10.1093/nar/gkab776}\n"
        "}"
    ),
)


def build_phylogeny(inputs: Mapping[str, Path], seed: int = 0) -> DatasetDict:
    """Build the data set from a built folder of `gtdb`.

    Args:
        inputs: `gtdb`: the folder; its `metadata`, and its `taxonomy` for genomes that have no other, which then have
            no features. `object_identity`: its folder, if there is one, so that species are named as in other data
            sets.
        seed: Not used: nothing is drawn.

    Returns:
        Splits `train`, `validation` and `test` with `PHYLOGENY_FEATURES`.

    Raises:
        BuildError: If a folder is absent, lacks columns, or has a genome twice.
    """
    if "gtdb" not in inputs or not set(inputs) <= set(PHYLOGENY_SOURCES):
        raise BuildError(
            f"from-folder must name gtdb, and may name object_identity; got {', '.join(sorted(inputs)) or 'none'}. "
            "Pass --from-folder gtdb=DIR."
        )
    folder = inputs["gtdb"]
    table = _genomes(folder)
    if pc.count_distinct(table["accession"]).as_py() != table.num_rows:
        raise BuildError(f"accession must be of one genome each in {folder}. Build gtdb again.")
    identity = IdentityTable.load(inputs["object_identity"]) if "object_identity" in inputs else None
    objects, splits = split_rows(table, (_SPECIES,), identity)
    table = table.append_column("object_id", pa.array(objects)).append_column("split", pa.array(splits))
    with SplitWriter(PHYLOGENY_FEATURES, SPLIT_NAMES) as writer:
        for split, tree in _trees(table):
            writer.write(split, [tree])
        return writer.finish()


def _genomes(folder: Path) -> pa.Table:
    """Genomes of the metadata, and without features those of which only the taxonomy is there."""
    found: list[pa.Table] = []
    for config in (_METADATA, _TAXONOMY):
        if config in config_names(folder):
            has = set(read_schema(folder, config).names)
            optional = [name for name in (*GENOME_FEATURES, _REPRESENTATIVE) if name in has]
            table = read_config(folder, config, ("accession", *_RANK_COLUMNS, *optional, *_PROVENANCE))
            for other in found:
                table = table.filter(pc.invert(pc.is_in(table["accession"], value_set=other["accession"])))
            found.append(table)
    if not found:
        raise BuildError(f"gtdb must hold {_METADATA} or {_TAXONOMY}; got {folder}. Build gtdb and pass its folder.")
    return pa.concat_tables(found, promote_options="default")


def _trees(table: pa.Table) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every split's part of every family, in the order of names."""
    for name in _RANK_COLUMNS:
        table = table.set_column(table.schema.get_field_index(name), name, pc.fill_null(table[name], ""))
    order = ("split", *_RANK_COLUMNS, "accession")
    table = table.sort_by([(name, "ascending") for name in order]).combine_chunks()
    families = ("split", *_TREE_COLUMNS)
    is_first = np.zeros(table.num_rows, bool)
    is_first[:1] = True
    for name in families:
        is_first[1:] |= pc.not_equal(table[name][1:], table[name][:-1]).to_numpy()
    starts = np.flatnonzero(is_first)
    for start, stop in zip(starts, [*starts[1:], table.num_rows], strict=True):
        part = table.slice(start, stop - start)
        yield part["split"][0].as_py(), _tree(part)


def _tree(genomes: pa.Table) -> dict[str, Any]:
    """The tree of genomes that are sorted by rank."""
    names: list[str] = []
    ranks: list[int] = []
    object_ids: list[str] = []
    edges: list[tuple[int, int]] = []
    nodes: dict[tuple[str, ...], int] = {}

    def add(name: str, rank: int, object_id: str, parent: int | None) -> int:
        node = len(names)
        names.append(name)
        ranks.append(rank)
        object_ids.append(object_id)
        if parent is not None:
            edges.append((parent, node))
        return node

    species = RANKS.index("species")
    genome_nodes = []
    columns = (genomes[name].to_pylist() for name in (*_RANK_COLUMNS, "accession", "object_id"))
    for *path, accession, object_id in zip(*columns, strict=True):
        parent: int | None = None
        for rank, name in enumerate(path):
            taxon = tuple(path[: rank + 1])
            if name and taxon not in nodes:
                nodes[taxon] = add(name, rank, object_id if rank == species else "", parent)
            parent = nodes[taxon] if name else parent
        genome_nodes.append(add(accession, species + 1, object_id, parent))
    return {
        **{rank: genomes[rank][0].as_py() for rank in _TREE_COLUMNS},
        "node_name": names,
        "node_rank": ranks,
        "node_object_id": object_ids,
        "edge_index": [edge[end] for end in (0, 1) for edge in edges],
        "edge_index_shape": [2, len(edges)],
        "genome_node": genome_nodes,
        "genome_features": _features(genomes).reshape(-1),
        "genome_features_shape": [genomes.num_rows, len(GENOME_FEATURES)],
        "genome_features_names": list(GENOME_FEATURES),
        "genome_features_units": [unit for unit, _ in GENOME_FEATURES.values()],
        "genome_is_representative": _representative(genomes),
        **{name: sorted({text for text in genomes[name].to_pylist() if text}) for name in _PROVENANCE},
    }


def _features(genomes: pa.Table) -> np.ndarray:
    """Shape (genomes, features)."""
    missing = np.full(genomes.num_rows, np.nan)
    columns = [
        pc.fill_null(genomes[name].cast(pa.float64()), np.nan).to_numpy() if name in genomes.column_names else missing
        for name in GENOME_FEATURES
    ]
    return np.stack(columns, axis=1)


def _representative(genomes: pa.Table) -> list[bool]:
    if _REPRESENTATIVE not in genomes.column_names:
        return [False] * genomes.num_rows
    flags: list[bool] = pc.fill_null(genomes[_REPRESENTATIVE], False).to_pylist()
    return flags
