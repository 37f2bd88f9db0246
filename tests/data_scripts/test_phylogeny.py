"""Trees of GTDB: every genome under its ranks, a species in one split."""

import datasets
import numpy as np
import pyarrow as pa
import pytest
from real_tables import real_table, write_built

from data_scripts.derived.phylogeny import (
    GENOME_FEATURES,
    PHYLOGENY_CARD,
    PHYLOGENY_FEATURES,
    RANKS,
    build_phylogeny,
)
from data_scripts.harness.errors import BuildError
from data_scripts.harness.hub_folder import write_hub_folder
from data_scripts.identity import IDENTITY_SCHEMA, IdentityTable
from data_scripts.splits import SPLIT_NAMES, split_of
from modeling_astrobio.training.loading.array_cells import TableCells


COLUMNS = ("domain", "phylum", "class", "order", "family", "genus", "gtdb_species")


def made_up_genomes(count=211):
    """Genomes of seven families in two domains; the last genome has no species, the one before no genus either."""
    rng = np.random.default_rng(3)
    rows = []
    for number in range(count):
        family = number % 7
        genus = f"Genus{family}{number % 3}"
        domain = "Archaea" if family < 2 else "Bacteria"
        rows.append(
            {
                "domain": domain,
                "phylum": f"Phylum{family // 2}",
                "class": f"Class{family // 2}",
                "order": f"Order{family // 2}",
                "family": f"Family{family}",
                "genus": genus if number != count - 2 else None,
                "gtdb_species": f"{genus} epithet{number // 21}" if number < count - 2 else None,
                "accession": f"RS_GCF_{number:09d}.1",
                "gtdb_representative": [True, False, None][number % 3],
                "source_release": "220",
                "source_sha256": "ab" * 32 if family < 2 else "cd" * 32,
                **{
                    name: None if rng.random() < 0.1 else float(rng.integers(1, 10**7))
                    for name in GENOME_FEATURES
                    if not name.startswith("checkm2")
                },
            }
        )
    order = rng.permutation(count)
    return pa.Table.from_pylist([rows[place] for place in order])


def built(tmp_path, table, config="metadata"):
    return {"gtdb": write_built(tmp_path / "gtdb", config, table)}


def trees(splits):
    return [(name, row) for name in SPLIT_NAMES for row in splits[name]]


def ancestors(row, node):
    """Names by rank, walked up edge by edge."""
    parents = {child: parent for parent, child in np.reshape(row["edge_index"], row["edge_index_shape"]).T.tolist()}
    found = {}
    while node in parents:
        node = parents[node]
        found[RANKS[row["node_rank"][node]]] = row["node_name"][node]
    return found


def test_every_genome_hangs_from_its_ranks(tmp_path):
    table = made_up_genomes()
    expected = {row["accession"]: row for row in table.to_pylist()}
    seen = {}
    for _, row in trees(build_phylogeny(built(tmp_path, table))):
        features = np.reshape(row["genome_features"], row["genome_features_shape"])
        assert row["genome_features_names"] == list(GENOME_FEATURES)
        assert row["edge_index_shape"] == [2, len(row["node_name"]) - 1]
        edges = np.reshape(row["edge_index"], row["edge_index_shape"])
        # A tree: each node but the first has one parent, which stands before it.
        assert sorted(edges[1].tolist()) == list(range(1, len(row["node_name"])))
        assert (edges[0] < edges[1]).all()
        for place, node in enumerate(row["genome_node"]):
            accession = row["node_name"][node]
            genome = expected[accession]
            names = {rank: genome["gtdb_species" if rank == "species" else rank] for rank in RANKS[:-1]}
            assert ancestors(row, node) == {rank: name for rank, name in names.items() if name}
            assert row["genome_is_representative"][place] == bool(genome["gtdb_representative"])
            values = [np.nan if genome.get(name) is None else genome[name] for name in GENOME_FEATURES]
            np.testing.assert_array_equal(features[place], values)
            assert accession not in seen
            seen[accession] = row["family"]
    assert seen == {accession: genome["family"] for accession, genome in expected.items()}


def test_a_species_is_in_one_split(tmp_path):
    found = {}
    splits = build_phylogeny(built(tmp_path, made_up_genomes()))
    for split, row in trees(splits):
        for name, rank, object_id in zip(row["node_name"], row["node_rank"], row["node_object_id"], strict=True):
            if RANKS[rank] == "species":
                assert (object_id, split) == (f"s__{name.casefold()}", split_of(object_id))
                assert found.setdefault(name, split) == split
            elif RANKS[rank] != "genome":
                assert object_id == ""
        # No taxon is a leaf.
        parents = set(row["edge_index"][: row["edge_index_shape"][1]])
        assert {node for node, rank in enumerate(row["node_rank"]) if rank < 7} == parents
    assert set(found.values()) == set(SPLIT_NAMES)
    keys = [(split, row["domain"], row["family"]) for split, row in trees(splits)]
    assert len(set(keys)) == len(keys)


def test_an_identity_names_the_species(tmp_path):
    inputs = built(tmp_path, made_up_genomes())
    alias = [["taxon 7"], ["gtdb species"], ["genus00 epithet0"], [[]], [None]]
    rows = pa.Table.from_arrays(alias, schema=IDENTITY_SCHEMA)
    IdentityTable(rows).save(tmp_path / "identity.parquet")
    splits = build_phylogeny({**inputs, "object_identity": tmp_path / "identity.parquet"})
    objects = {
        (name, object_id): split
        for split, row in trees(splits)
        for name, object_id in zip(row["node_name"], row["node_object_id"], strict=True)
    }
    assert objects["Genus00 epithet0", "taxon 7"] == split_of("taxon 7")
    assert ("Genus00 epithet0", "s__genus00 epithet0") not in objects


def test_the_folder_opens_and_gives_arrays(tmp_path):
    splits = build_phylogeny(built(tmp_path, made_up_genomes()))
    folder = write_hub_folder(splits, PHYLOGENY_CARD, tmp_path / "out")
    loaded = datasets.load_dataset(str(folder), "phylogeny", cache_dir=str(tmp_path / "cache"))
    assert loaded["validation"].features == PHYLOGENY_FEATURES
    cells = TableCells(loaded["train"].data.table).rows([0])[0]
    assert cells["genome_features"].shape == (len(cells["genome_node"]), len(GENOME_FEATURES))
    assert cells["edge_index"].shape == (2, len(cells["node_rank"]) - 1)
    # The order of the genomes in the source does not matter.
    mixed = made_up_genomes().take(np.random.default_rng(1).permutation(211))
    again = build_phylogeny({"gtdb": write_built(tmp_path / "mixed", "metadata", mixed)})
    assert trees(again).__repr__() == trees(splits).__repr__()


def test_a_taxonomy_has_no_features(tmp_path):
    table = made_up_genomes().select([*COLUMNS, "accession", "source_release", "source_sha256"])
    found = trees(build_phylogeny(built(tmp_path, table, "taxonomy")))
    assert sum(len(row["genome_node"]) for _, row in found) == 211
    assert all(np.isnan(row["genome_features"]).all() for _, row in found)
    assert not any(any(row["genome_is_representative"]) for _, row in found)


def test_genomes_of_the_taxonomy_alone_are_not_lost(tmp_path):
    table = made_up_genomes()
    both = built(tmp_path, table.slice(0, 100))
    of_taxonomy = ["accession", *COLUMNS, "source_release", "source_sha256"]
    write_built(both["gtdb"], "taxonomy", table.slice(50).select(of_taxonomy))
    found = {}
    for _, row in trees(build_phylogeny(both)):
        features = np.reshape(row["genome_features"], row["genome_features_shape"])
        for place, node in enumerate(row["genome_node"]):
            found[row["node_name"][node]] = np.isnan(features[place]).all()
    accessions = table["accession"].to_pylist()
    assert found == {accession: place >= 100 for place, accession in enumerate(accessions)}


def test_what_is_wrong_is_named(tmp_path):
    with pytest.raises(BuildError, match="from-folder must name gtdb, and may name object_identity; got ncbi"):
        build_phylogeny({"ncbi": tmp_path})
    with pytest.raises(BuildError, match="which has no configuration"):
        build_phylogeny({"gtdb": tmp_path})
    table = made_up_genomes()
    with pytest.raises(BuildError, match="accession must be of one genome each"):
        build_phylogeny(built(tmp_path / "twice", pa.concat_tables([table, table.slice(5, 1)])))
    with pytest.raises(BuildError, match="must have the columns genus; got a table without them"):
        build_phylogeny(built(tmp_path / "short", table.drop_columns("genus")))


def test_real_genomes_of_archaea(tmp_path):
    table = real_table("gtdb", "metadata", "ar122_metadata_r202.head.tsv")
    found = trees(build_phylogeny(built(tmp_path, table)))
    genomes = {
        row["node_name"][node]: (ancestors(row, node), dict(zip(GENOME_FEATURES, values, strict=True)))
        for _, row in found
        for node, values in zip(
            row["genome_node"], np.reshape(row["genome_features"], row["genome_features_shape"]), strict=True
        )
    }
    assert len(genomes) == 4
    path, features = genomes["GB_GCA_000200715.1"]
    assert path == {
        "domain": "Archaea",
        "phylum": "Thermoproteota",
        "class": "Nitrososphaeria",
        "order": "Nitrososphaerales",
        "family": "Nitrosopumilaceae",
        "genus": "Cenarchaeum",
        "species": "Cenarchaeum symbiosum",
    }
    assert (features["genome_size"], features["checkm_completeness"]) == (2_045_086, 99.03)
    assert features["gc_percentage"] == pytest.approx(57.38, abs=0.01)
    assert np.isnan(features["checkm2_completeness"])


def test_real_taxonomy_of_bacteria(tmp_path):
    table = real_table("gtdb", "taxonomy", "bac120_taxonomy_r202.head.tsv")
    ((split, row),) = trees(build_phylogeny(built(tmp_path, table, "taxonomy")))
    assert (split, row["family"], len(row["genome_node"])) == (
        split_of("s__escherichia flexneri"),
        "Enterobacteriaceae",
        5,
    )
