"""Networks of what a species' proteins catalyse: reactions once, sides and coefficients as written."""

import math
from collections import Counter

import datasets
import numpy as np
import pyarrow as pa
import pytest
from real_tables import real_table, write_built

from data_scripts.archives.schemas.uniprotkb import ACTIVITIES
from data_scripts.chemistry.rhea_equations import parse_equation
from data_scripts.derived.reaction_networks import (
    REACTION_NETWORKS_CARD,
    REACTION_NETWORKS_FEATURES,
    build_reaction_networks,
)
from data_scripts.harness.errors import BuildError
from data_scripts.harness.hub_folder import write_hub_folder
from data_scripts.identity import IDENTITY_SCHEMA, IdentityTable
from data_scripts.splits import SPLIT_NAMES, split_of
from modeling_astrobio.training.loading.array_cells import TableCells


SCHEMA = pa.schema(
    [
        *((column.name, column.dtype) for column in ACTIVITIES),
        *((name, pa.string()) for name in ("source", "source_release", "source_sha256")),
    ]
)


def activity(accession, reaction, rhea_id=None, species="Testella prima", **cells):
    return {
        "accession": accession,
        "reaction": reaction,
        "rhea_id": rhea_id,
        "species": species,
        "organism_id": 900037,
        "source_sha256": "ab" * 32,
        **cells,
    }


KINASE = "ATP + testol = ADP + H(+) + testol 5'-phosphate"
ROWS = [
    activity("T0", KINASE, "RHEA:100", chebi_ids=["CHEBI:3", "CHEBI:1"], ec_number="2.7.1.1"),
    activity("T1", KINASE, "RHEA:100", chebi_ids=["CHEBI:1"], ec_number="2.7.1.2", direction=["left-to-right"]),
    activity("T1", "2 H2O2 = 2 H2O + O2", "RHEA:20", direction=["left-to-right", "right-to-left"]),
    activity("T2", "H(+)(in) + Na(+)(out) = H(+)(out) + Na(+)(in)", organism_id=900038),
    activity("T2", "Hydrolyzes test bonds.", rhea_compounds=["RHEA-COMP:9"]),
    activity("T3", "2 H2O2 = 2 H2O + O2", "RHEA:20", species="Testella secunda", source_release="2026_01"),
]


def built(tmp_path, rows=ROWS):
    return {"uniprotkb": write_built(tmp_path, "catalytic_activities", pa.Table.from_pylist(rows, schema=SCHEMA))}


def networks(splits):
    return {row["object_id"]: (name, row) for name in SPLIT_NAMES for row in splits[name]}


def edges_of(row, column, nodes):
    pairs = np.reshape(row[column], row[f"{column}_shape"]).T.tolist()
    return [(row[nodes][node], reaction) for node, reaction in pairs]


@pytest.mark.parametrize(
    ("text", "participants"),
    [
        (KINASE, [("ATP", -1), ("testol", -1), ("ADP", 1), ("H(+)", 1), ("testol 5'-phosphate", 1)]),
        ("2 H2O2 = 2 H2O + O2.", [("H2O2", -2), ("H2O", 2), ("O2", 1)]),
        ("H(+)(in) = H(+)(out)", [("H(+)(in)", -1), ("H(+)(out)", 1)]),
        ("a 2-oxo acid + 12 NAD(+) = 3 x", [("a 2-oxo acid", -1), ("NAD(+)", -12), ("x", 3)]),
        ("Hydrolyzes test bonds", []),
        ("a = b = c", []),
        ("a + = b", []),
        (" = b", []),
        ("", []),
    ],
)
def test_equations(text, participants):
    assert parse_equation(text) == participants


def test_coefficients_that_are_letters_are_not_numbers():
    found = parse_equation("n UDP + (n+1) x + 2n y + m z = [polymer](n)")
    assert [name for name, _ in found] == ["UDP", "x", "y", "z", "[polymer](n)"]
    assert [math.isnan(coefficient) for _, coefficient in found] == [True, True, True, True, False]


def test_reactions_of_a_species_are_put_together(tmp_path):
    found = networks(build_reaction_networks(built(tmp_path)))
    assert {name: split for name, (split, _) in found.items()} == {
        name: split_of(name) for name in ("testella prima", "testella secunda")
    }
    row = found["testella prima"][1]
    assert (row["species"], row["taxon_ids"]) == (["Testella prima"], [900037, 900038])
    assert row["reaction_rhea_id"] == [None, None, "RHEA:100", "RHEA:20"]
    assert row["reaction_accessions"] == [["T2"], ["T2"], ["T0", "T1"], ["T1"]]
    assert row["reaction_ec_numbers"] == [[], [], ["2.7.1.1", "2.7.1.2"], []]
    assert row["reaction_is_equation"] == [True, False, True, True]
    assert row["reaction_seen_forward"] == [False, False, True, True]
    assert row["reaction_seen_backward"] == [False, False, False, True]
    signed = Counter(dict(zip(edges_of(row, "edge_index", "participant_name"), row["stoichiometry"], strict=True)))
    assert signed == {
        (name, place): coefficient
        for place, equation in enumerate(row["reaction_equation"])
        for name, coefficient in parse_equation(equation)
    }
    assert signed["H2O2", 3] == -2
    assert edges_of(row, "compound_edge_index", "compound_id") == [
        ("RHEA-COMP:9", 1),
        ("CHEBI:1", 2),
        ("CHEBI:3", 2),
    ]
    other = found["testella secunda"][1]
    assert (other["compound_id"], other["compound_edge_index_shape"]) == ([], [2, 0])
    assert (other["source_release"], row["source_release"]) == (["2026_01"], [""])


def test_the_order_of_rows_does_not_matter(tmp_path):
    one = networks(build_reaction_networks(built(tmp_path / "a")))
    other = networks(build_reaction_networks(built(tmp_path / "b", ROWS[::-1])))
    assert one == other


def test_an_identity_names_the_species(tmp_path):
    aliases = [
        ("taxon 7", "species", "testella prima", [], None),
        ("taxon 7", "species", "testella secunda", [], None),
    ]
    columns = [list(column) for column in zip(*aliases, strict=True)]
    IdentityTable(pa.Table.from_arrays(columns, schema=IDENTITY_SCHEMA)).save(tmp_path / "identity.parquet")
    inputs = {**built(tmp_path / "built"), "object_identity": tmp_path / "identity.parquet"}
    ((object_id, (split, row)),) = networks(build_reaction_networks(inputs)).items()
    assert (object_id, split) == ("taxon 7", split_of("taxon 7"))
    assert row["species"] == ["Testella prima", "Testella secunda"]


def test_the_folder_opens_and_gives_arrays(tmp_path):
    rows = [activity(f"T{n}", KINASE, species=f"Testella sp. {n}") for n in range(80)]
    splits = build_reaction_networks(built(tmp_path / "built", rows))
    folder = write_hub_folder(splits, REACTION_NETWORKS_CARD, tmp_path / "out")
    loaded = datasets.load_dataset(str(folder), "reaction_networks", cache_dir=str(tmp_path / "cache"))
    assert sum(len(part) for part in loaded.values()) == 80
    assert loaded["test"].features == REACTION_NETWORKS_FEATURES
    cells = TableCells(loaded["train"].data.table).rows([0])[0]
    assert cells["edge_index"].shape == (2, 5)
    assert cells["stoichiometry"].tolist() == [-1, -1, 1, 1, 1]


def test_what_is_wrong_is_named(tmp_path):
    with pytest.raises(BuildError, match="from-folder must name uniprotkb, and may name object_identity; got none"):
        build_reaction_networks({})
    with pytest.raises(BuildError, match="which has no configuration"):
        build_reaction_networks({"uniprotkb": tmp_path})
    rows = [activity("T0", KINASE, direction=["sideways"])]
    with pytest.raises(BuildError, match=r"direction must be left-to-right or right-to-left .* got sideways for T0"):
        build_reaction_networks(built(tmp_path / "odd", rows))


@pytest.mark.parametrize("file", ["multi_ex.txt", "multi_ex.xml"])
def test_real_activities(tmp_path, file):
    table = real_table("uniprotkb", "catalytic_activities", file)
    assert table.num_rows
    found = networks(build_reaction_networks({"uniprotkb": write_built(tmp_path, "catalytic_activities", table)}))
    reactions = {
        (accession, equation)
        for _, row in found.values()
        for accessions, equation in zip(row["reaction_accessions"], row["reaction_equation"], strict=True)
        for accession in accessions
    }
    assert reactions == set(zip(table["accession"].to_pylist(), table["reaction"].to_pylist(), strict=True))
    chebi = {compound for _, row in found.values() for compound in row["compound_id"]}
    assert chebi == {name for names in table["chebi_ids"].to_pylist() for name in names} | {
        name for names in table["rhea_compounds"].to_pylist() for name in names
    }
    for _, row in found.values():
        assert row["reaction_is_equation"] == [" = " in equation for equation in row["reaction_equation"]]
