"""Fields and records: digits, units, uncertainties, limits, and nothing for null, for every table of every archive."""

import datetime
import random
import re

import pyarrow as pa
import pytest
from text_rows import made_up_cells, made_up_text_row, text_row

from data_scripts.derived.text_fields import number_text, text_fields
from data_scripts.derived.text_records import shown_sequence, text_record
from data_scripts.harness.archive import Column, TableConfig
from data_scripts.registry import ARCHIVES, archive_named


TABLES = [(source, table.name) for source in sorted(ARCHIVES) for table in archive_named(source).tables]
F64 = pa.float64()


def fields_of(*columns):
    config = TableConfig("t", "Rows.", columns, ("id",), ("id",), lambda selection: (), {})
    return {field.column: field for field in text_fields(config)}


def measured(name, suffixes, unit="d"):
    return [
        Column(f"{name}{suffix}", F64, f"Orbital period{suffix and ': upper uncertainty'}", unit)
        for suffix in suffixes
    ]


@pytest.mark.parametrize(
    ("suffixes", "row", "expected"),
    [
        (("", "err1", "err2"), (3.5, 0.25, -0.5), "3.5 (+0.25 −0.5) days"),
        (("", "_err1", "_err2"), (3.5, 0.25, -0.25), "3.5 ± 0.25 days"),
        (("", "UPPER", "LOWER"), (3.5, 0.25, 0.125), "3.5 (+0.25 −0.125) days"),
        (("", "_err"), (3.5, 0.25), "3.5 ± 0.25 days"),
        (("", " err"), (3.5, 0.25), "3.5 ± 0.25 days"),
        ((" Value", " Error"), (3.5, 0.25), "3.5 ± 0.25 days"),
        ((" Value", " Uncertainty"), (3.5, 0.25), "3.5 ± 0.25 days"),
        # Without an uncertainty, or with the -1 of a fit that has none, the value stands alone.
        (("", "err1", "err2"), (3.5, None, -0.5), "3.5 days"),
        (("", "_err"), (3.5, -1.0), "3.5 days"),
        (("",), (3.5,), "3.5 days"),
    ],
)
def test_uncertainties_stand_with_their_value(suffixes, row, expected):
    columns = measured("P", suffixes)
    fields = fields_of(*columns)
    assert list(fields) == [columns[0].name]
    cells = dict(zip([column.name for column in columns], row, strict=True))
    assert fields[columns[0].name].whole(cells) == expected
    assert fields[columns[0].name].value(cells) == "3.5 days"


def test_uncertainty_named_before_its_value():
    fields = fields_of(Column("rad", F64, "Radius", "solRad"), Column("e_rad", F64, "Uncertainty of rad", "solRad"))
    assert {name: field.whole({"rad": 1.2, "e_rad": 0.1}) for name, field in fields.items()} == {"rad": "1.2 ± 0.1 R☉"}


def test_a_limit_is_no_value():
    row = {"pl_name": "Test-1 b", "pl_orbeccen": 0.08, "pl_orbeccenlim": 1, "pl_bmasse": 5.0, "pl_bmasselim": -1}
    row = text_row("nasa_exoplanet_archive", "pscomppars", row | {"pl_rade": 2.5, "pl_radelim": 0})
    text = text_record(row, random.Random(1))
    assert "at most 0.08" in text
    assert "at least 5 M⊕" in text
    assert {column: row.values.get(column) for column in ("pl_orbeccen", "pl_bmasse", "pl_rade")} == {
        "pl_orbeccen": None,
        "pl_bmasse": None,
        "pl_rade": "2.5 R⊕",
    }


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (3, "3"),
        (-0.0, "0"),
        (6065.0, "6065"),
        (3.8e-07, "0.00000038"),
        (1e-09, "1e-09"),
        (2452826.629, "2452826.629"),
        (1e22, "1e+22"),
        (0.1 + 0.2, "0.30000000000000004"),
        (123456789012345678, "123456789012345678"),
    ],
)
def test_numbers_keep_their_digits(value, expected):
    assert number_text(value) == expected
    assert type(value)(number_text(value)) == value


def test_numbers_are_read_back_as_they_were():
    rng = random.Random(3)
    for _ in range(2000):
        value = rng.uniform(-10, 10) * 10 ** rng.randrange(-30, 30)
        assert type(value)(number_text(value)) == value
        assert not re.search("0{9}", number_text(value))


@pytest.mark.parametrize(
    ("description", "dtype", "unit", "label", "shown"),
    [
        ("Disposition: CANDIDATE, CONFIRMED", pa.string(), None, "Disposition", "CANDIDATE"),
        ("Trapezoidal fit: orbital period", F64, "d", "Trapezoidal fit, orbital period", "1.5 days"),
        ("The existence is disputed (1: yes, 0: no)", pa.int64(), None, "The existence is disputed", "yes"),
        ("Whether it is real", pa.bool_(), None, "Whether it is real", "yes"),
        ("STAR or EXTENDED", pa.string(), None, "Some name", "STAR"),
        ("0 and 1: raw, 2: reduced", pa.int64(), None, "Some name", "1"),
        ("Start of the exposure, MJD", F64, "d", "Start of the exposure, MJD", "1.5"),
        ("Time of transit, BJD - 2454833", F64, "d", "Time of transit, BJD - 2454833", "1.5 days"),
        ("Year of the publication", pa.int64(), "yr", "Year of the publication", "1"),
        ("Insolation", F64, "0.07957747154594767 solLum / AU2", "Insolation", "1.5 S⊕"),
        ("Class of the gene, such as protein_coding", pa.string(), None, "Class of the gene", "lncRNA"),
    ],
)
def test_labels_and_units(description, dtype, unit, label, shown):
    field = fields_of(Column("some_name", dtype, description, unit))["some_name"]
    cell = {"double": 1.5, "int64": 1, "bool": True}.get(str(dtype), shown)
    assert (field.label, field.whole({"some_name": cell})) == (label, shown)


def test_words_are_cleaned_and_addresses_left_out():
    fields = fields_of(
        Column("ref", pa.string(), "Reference"),
        Column("url", pa.string(), "Address of the file"),
        Column("md5", pa.string(), "MD5 of the file"),
        Column("words", pa.list_(pa.string()), "Keywords"),
        Column("flux", pa.list_(F64), "Flux"),
        Column("day", pa.date32(), "Day"),
    )
    assert list(fields) == ["ref", "words", "day"]
    cells = {
        "ref": "<a refstr=X href=http://a.b/c target=ref> Smith &amp;  Jones 2016 </a>",
        "words": ["one", None, "two"],
        "day": datetime.date(2020, 2, 3),
    }
    assert [field.whole(cells) for field in fields.values()] == ["Smith & Jones 2016", "one; two", "2020-02-03"]
    assert fields["ref"].whole({"ref": "https://a.b/c"}) is None
    # Signs of comparison are no tags.
    assert fields["ref"].whole({"ref": "p < 0.1 and q > 3"}) == "p < 0.1 and q > 3"
    many = fields["words"].whole({"words": [str(number) for number in range(31)]})
    assert many.endswith("22; 23; and 7 more")


@pytest.mark.parametrize(("source", "config"), TABLES, ids=".".join)
def test_records_of_every_table_say_what_is_there_and_nothing_else(source, config):
    table = archive_named(source).table(config)
    rng = random.Random(5)
    for number in range(5):
        row = made_up_text_row(source, config, number)
        text = text_record(row, rng)
        assert row.name in text
        assert not re.search(r"\b(None|nan|inf|NaT)\b|\{|\}", text)
        shown = [field for field in row.table.fields if field.whole(row.cells) is not None]
        assert {field.column for field in shown} <= {column.name for column in table.columns}
        has_template = row.table.name in (
            "gtdb.taxonomy",
            "uniprotkb.entries",
            "uniprotkb.catalytic_activities",
            "ncbi_genbank.records",
            "ensembl_genomes.records",
        )
        for field in shown if not has_template else ():
            assert field.whole(row.cells) in text, field.column


def test_every_floating_column_is_a_field_or_belongs_to_one():
    for source, config in TABLES:
        table = archive_named(source).table(config)
        fields = text_fields(table)
        used = {name for field in fields for name in (field.column, field.upper, field.lower)}
        floats = {column.name for column in table.columns if pa.types.is_floating(column.dtype)}
        left = {name for name in floats - used if not name.startswith("U")}
        assert left <= {"e_" + name for name in used if name}, (source, config, left)


def test_templates_of_biology():
    cells = made_up_cells(archive_named("uniprotkb").table("entries"), 1) | {
        "id": "TEST_ECOLI",
        "accession": "X00001",
        "protein_name": "Test protein",
        "sequence": "MK" * 700,
        "length": 1400,
        "reviewed": False,
        "ec": [],
        "gene_names": ["tstA", "b0001"],
        "cc_function": None,
    }
    text = text_record(text_row("uniprotkb", "entries", cells), random.Random(0))
    assert text.startswith("Protein: TEST_ECOLI (X00001), Test protein\n")
    assert "1400 residues long" in text
    assert "Genes: tstA; b0001" in text
    assert "EC numbers" not in text
    assert "Function" not in text
    assert text.endswith(f"Sequence: {'MK' * 500} (first 1000 of 1400)")
    ranks = {"accession": "GB_GCA_1", "domain": "Archaea", "phylum": "P", "class": None, "gtdb_species": "P one"}
    text = text_record(text_row("gtdb", "taxonomy", ranks), random.Random(0))
    assert text == "In GTDB the genome GB_GCA_1 belongs to the domain Archaea, the phylum P, the species P one."


def test_features_of_a_record():
    cells = made_up_cells(archive_named("ncbi_genbank").table("records"), 1)
    cells |= {
        "feature_type": ["CDS"] * 70,
        "feature_location": [f"{start}..{start + 9}" for start in range(70)],
        "feature_gene": ["abc", None] * 35,
        "feature_locus_tag": [None] * 70,
        "feature_product": ["a protein"] * 70,
        "feature_protein_id": [None] * 70,
    }
    lines = text_record(text_row("ncbi_genbank", "records", cells), random.Random(0)).splitlines()
    assert "- CDS 0..9 abc a protein" in lines
    assert "- CDS 1..10 a protein" in lines
    assert lines[-1] == "and 6 more features"


def test_shown_sequence():
    assert shown_sequence("ACGT", 4) == "ACGT"
    assert shown_sequence("ACGTA", 4) == "ACGT (first 4 of 5)"
