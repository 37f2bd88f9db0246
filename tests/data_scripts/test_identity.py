"""Aliases that stand in one row name one object, in whatever order they are read, and its split is one."""

import itertools
import random

import pyarrow as pa
import pytest

from data_scripts.harness.errors import BuildError
from data_scripts.identifiers import parse_identifier
from data_scripts.identity import IDENTITY_SCHEMA, IdentityTable, split_rows
from data_scripts.splits import split_of


def label_of(identity, **cells):
    return identity.canonical([parse_identifier(cell, column) for column, cell in cells.items()])


# A chain through four tables: no table but the last two has both ends.
CHAIN = {
    "made_up.kepler": pa.table({"kepid": [11, 12], "kepoi_name": ["K00007.01", "K00008.01"]}),
    "made_up.input_catalogue": pa.table({"ID": ["21", "22"], "KIC": ["11", None], "GAIA": ["31", "32"]}),
    "made_up.planets": pa.table(
        {"pl_name": ["Test-1 b", "Test-1 c"], "hostname": ["Test-1", "Test-1"], "gaia_id": ["Gaia DR2 31", None]}
    ),
    "made_up.old_planets": pa.table({"NAME": ["HD 5 b"], "STAR": ["HD 5"], "OTHERNAME": ["Test 1b"]}),
}


def test_chain_of_catalogues_is_one_star():
    identity = IdentityTable.from_tables(CHAIN)
    for cells in (
        {"kepid": 11},
        {"kepoi_name": "K00007.02"},
        {"TIC": 21},
        {"GAIA": "31"},
        {"pl_name": "TEST-1 d"},
        {"HD": "5"},
        {"object": "HD5"},
    ):
        assert label_of(identity, **cells) == "test-1", cells
    assert label_of(identity, kepid=12) == "kic 12"
    assert label_of(identity, tid=22) == "tic 22"
    assert identity.conflicts == ()


def test_order_of_tables_and_rows_does_not_matter():
    expected = IdentityTable.from_tables(CHAIN).rows
    rng = random.Random(3)
    for _ in range(7):
        names = list(CHAIN)
        rng.shuffle(names)
        shuffled = {}
        for name in names:
            order = list(range(CHAIN[name].num_rows))
            rng.shuffle(order)
            columns = list(CHAIN[name].column_names)
            rng.shuffle(columns)
            shuffled[name] = CHAIN[name].select(columns).take(pa.array(order))
        assert IdentityTable.from_tables(shuffled).rows.equals(expected)


def test_objects_are_those_of_the_naive_search():
    rng = random.Random(5)
    for _ in range(11):
        rows = [
            {"kepid": rng.choice([None, *range(1, 38)]), "tid": rng.choice([None, *range(1, 38)])} for _ in range(29)
        ]
        identity = IdentityTable.from_tables({"made_up.rows": pa.Table.from_pylist(rows)})
        groups = [{f"{column} {cell}" for column, cell in row.items() if cell} for row in rows]
        for _ in groups:
            groups = [set().union(*(other for other in groups if other & group)) for group in groups]
        labels = [split_rows(pa.Table.from_pylist([row]), ("kepid", "tid"), identity)[0][0] for row in rows]
        for one, other in itertools.combinations([i for i in range(29) if groups[i]], 2):
            assert (labels[one] == labels[other]) == (groups[one] == groups[other])


def test_label_is_the_host_then_the_catalogues_in_order():
    row = {
        "hostname": "Zeta Star",
        "kepler_name": "Kepler-9000 b",
        "kepid": 1,
        "epic_name": "EPIC 2",
        "tid": 3,
        "gaia_dr3_id": "4",
        "HD": "5",
        "HIPP": "6",
        "TWOMASS": "16573094-0405387",
        "gj_name": "GJ 7",
    }
    labels = ["zeta star", "kepler-9000", "kic 1", "epic 2", "tic 3", "gaia dr3 4", "hd 5", "hip 6"]
    for label in (*labels, "2mass j16573094-0405387"):
        identity = IdentityTable.from_tables({"made_up.rows": pa.Table.from_pylist([row])})
        assert label_of(identity, gj_name="GJ 7") == label
        row.pop(next(iter(row)))
    assert label_of(IdentityTable.from_tables({"a.b": pa.Table.from_pylist([row])}), gj_name="Gl 7") == "gj 7"


def test_embedded_host_names_come_before_newer_ones():
    tables = {
        "made_up.planets": pa.table({"hostname": ["Alpha-1"], "hd_name": ["HD 1"]}),
        "embedded.planets": pa.table({"host_star_name": ["HD 1"]}),
    }
    assert label_of(IdentityTable.from_tables(tables), hostname="Alpha-1") == "hd 1"


def test_contradicting_entries_stay_together_and_are_reported():
    tables = {
        "made_up.one": pa.table({"kepid": [1, 2], "kepler_name": ["Kepler-7000 b", "Kepler-7000 c"]}),
        "made_up.other": pa.table({"hostname": ["Kepler-7000"]}),
    }
    identity = IdentityTable.from_tables(tables)
    # Whichever star is meant by the name alone, it cannot be on the other side of a split.
    assert {label_of(identity, kepid=1), label_of(identity, kepid=2)} == {label_of(identity, hostname="Kepler-7000")}
    (conflict,) = identity.conflicts
    assert conflict.object_id == "kepler-7000"
    assert conflict.reason == "kept as one object: KIC 1, 2"


def test_two_hosts_of_one_object_are_reported():
    rows = pa.table({"hostname": ["Test-1 A", "Test-1 B"], "hip_name": ["HIP 9", "HIP 9"]})
    (conflict,) = IdentityTable.from_tables({"made_up.rows": rows}).conflicts
    assert conflict.reason == "kept as one object: hosts test-1 a, test-1 b"


def test_placeholder_joins_nothing_and_is_reported():
    rows = pa.table({"kepid": [1, 2, 3, 4, 5], "STAR": ["unknown"] * 5})
    identity = IdentityTable.from_tables({"made_up.rows": rows})
    assert {label_of(identity, kepid=number) for number in range(1, 6)} == {f"kic {number}" for number in range(1, 6)}
    (conflict,) = identity.conflicts
    assert conflict.reason == "set aside: stands beside 5 entries of KIC"
    # One fewer may be a crowded star.
    assert len(set(IdentityTable.from_tables({"a.b": rows.slice(1)}).rows["object_id"].to_pylist())) == 1


def test_target_with_a_planets_letter_is_the_star():
    identity = IdentityTable.from_tables({"made_up.planets": pa.table({"hostname": ["WASP-9007", "WASP-9094 B"]})})
    assert label_of(identity, targprop="WASP-9007B") == "wasp-9007"
    assert label_of(identity, target_name="WASP-9007b") == "wasp-9007"
    assert label_of(identity, target_name="WASP-9094B") == "wasp-9094 b"
    assert label_of(identity, target_name="WASP-9008b") == "wasp9008b"


@pytest.mark.parametrize(
    ("known", "other"),
    [
        ("HD 5", "HD 5 A"),
        ("HD 5", "hd5 A b"),
        ("Test-9 A", "TEST 9"),
        ("Test-9 A", "Test-9 AB"),
        ("GJ 7 C", "GJ 7 C c"),
        ("GJ 7 C", "GJ7Cc"),
        ("bet Tst", "β Tst b"),
    ],
)
def test_letters_of_components_and_planets_lead_to_the_star(known, other):
    identity = IdentityTable.from_tables({"made_up.planets": pa.table({"hostname": [known, "Other-1"]})})
    assert label_of(identity, target_name=other) == known.casefold()
    # A component that is known is its own star.
    both = IdentityTable.from_tables({"made_up.planets": pa.table({"hostname": ["HD 5 A", "HD 5 B"]})})
    assert label_of(both, target_name="HD 5B") == "hd 5 b"


def test_spellings_of_an_unknown_target_are_one_object():
    identity = IdentityTable.from_tables(CHAIN)
    names = ["FIELD-77", "Field 77", "field77", "field\u201077", "FIELD_77"]
    labels, splits = split_rows(pa.table({"object": names}), ["object"], identity)
    assert len(set(labels)) == len(set(splits)) == 1


def test_first_known_identifier_decides():
    identity = IdentityTable.from_tables({"made_up.rows": pa.table({"kepid": [1], "tid": [2]})})
    assert label_of(identity, kepid=99, tid=2) == "kic 1"
    assert label_of(identity, kepid=99, tid=98) == "kic 99"


def test_strains_join_their_species():
    identity = IdentityTable.from_tables(
        {
            "ncbi_genbank.records": pa.table(
                {"organism": ["Escherichia coli K-12", "Homo sapiens"], "taxid": [83333, 9606]}
            ),
            "uniprotkb.entries": pa.table({"organism_name": ["Escherichia coli (strain S)"], "organism_id": [511145]}),
            "gtdb.metadata": pa.table(
                {
                    "ncbi_species_taxid": ["562", None],
                    "gtdb_taxonomy": ["d__B;s__Escherichia coli", "s__Escherichia x"],
                }
            ),
            "ensembl_genomes.species": pa.table({"species": ["escherichia_coli_k12"], "species_taxonomy_id": [562]}),
        }
    )
    for cells in (
        {"taxid": 83333},
        {"organism_id": 511145},
        {"species": "Escherichia coli"},
        {"gtdb_taxonomy": "d__B;s__Escherichia coli"},
    ):
        assert label_of(identity, **cells) == "taxon 562", cells
    assert label_of(identity, organism="Homo sapiens") == "taxon 9606"
    assert label_of(identity, gtdb_taxonomy="s__Escherichia x") == "s__escherichia x"


def test_saved_table_is_the_same(tmp_path):
    identity = IdentityTable.from_tables(CHAIN)
    identity.save(tmp_path / "one.parquet")
    IdentityTable.from_tables(CHAIN).save(tmp_path / "two.parquet")
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()
    loaded = IdentityTable.load(tmp_path / "one.parquet")
    assert loaded.rows.equals(identity.rows)
    assert label_of(loaded, tid=21) == "test-1"


def test_what_is_no_identity_is_refused(tmp_path):
    with pytest.raises(BuildError, match="identity must be the folder or the Parquet file"):
        IdentityTable.load(tmp_path / "absent")
    (tmp_path / "text.parquet").write_text("no Parquet")
    with pytest.raises(BuildError, match="identity must be Parquet"):
        IdentityTable.load(tmp_path / "text.parquet")
    pa.parquet.write_table(pa.table({"object_id": ["a"]}), tmp_path / "other.parquet")
    with pytest.raises(BuildError, match="without conflict, kind, named_in, value"):
        IdentityTable.load(tmp_path / "other.parquet")


def test_empty_tables_give_an_empty_identity():
    identity = IdentityTable.from_tables({"a.b": pa.table({"kepid": pa.array([], pa.int64())}), "a.c": pa.table({})})
    assert identity.rows.schema == IDENTITY_SCHEMA
    assert label_of(identity, kepid=3) == "kic 3"


def test_rows_are_split_by_the_first_column_that_names_something():
    rows = pa.table(
        {
            "kepid": [5, 5, None, None],
            "kepler_name": ["Kepler-8000 b", None, "Kepler-8000 c", " "],
            "koi_period": [1.0, 2.0, 3.0, 4.0],
        }
    )
    object_ids, splits = split_rows(rows, ("kepid", "kepler_name"))
    # The second row has no planet's name: the star's number, which both have, keeps the two together.
    assert object_ids == ["kic 5", "kic 5", "kepler-8000", "unnamed"]
    assert splits == [split_of(object_id) for object_id in object_ids]
    joined, _ = split_rows(rows, ("kepid", "kepler_name"), IdentityTable.from_tables({"made_up.rows": rows}))
    assert joined == ["kepler-8000", "kepler-8000", "kepler-8000", "unnamed"]


@pytest.mark.parametrize("objects", [(), ("kepid", "star")])
def test_objects_that_the_table_lacks_are_refused(objects):
    with pytest.raises(BuildError, match="objects must name at least one column"):
        split_rows(pa.table({"kepid": [1]}), objects)
