"""Ensembl: from names of genomes over regions to genes and sequences; look-ups and EMBL flat files."""

import dataclasses
import json

import pytest
from biology_walk import file_answer, walk_with_headers
from replays.ensembl_genomes import GENES, LIMITS, REPLAYS, SPECIES
from walk_replay import answer_of, rows_of, select

from data_scripts.archives.ensembl_genomes import ARCHIVE
from data_scripts.archives.protocols.ensembl_rest import WALK
from data_scripts.harness.archive import Request
from data_scripts.harness.body_formats import check_body
from data_scripts.harness.errors import BadBodyError, BuildError
from data_scripts.harness.pages import page_schema, read_page


CONTEXT = (("species", "s"), ("region", "c"), ("start", "5000001"))


@pytest.mark.parametrize("replay", REPLAYS, ids=lambda replay: replay.table)
def test_a_walk_gives_every_row_once_and_in_order(replay, tmp_path):
    rows, reasons = rows_of(ARCHIVE, replay.table, walk_with_headers(ARCHIVE, replay, tmp_path))
    assert rows == replay.expected
    assert reasons == []


@pytest.mark.parametrize("replay", REPLAYS, ids=lambda replay: replay.table)
def test_a_walk_refuses_other_bodies(replay, tmp_path):
    with pytest.raises(BadBodyError, match=r"must have (assembly_name|seq)"):
        walk_with_headers(ARCHIVE, replay, tmp_path, replay.changed_schema)
    with pytest.raises(BadBodyError, match="No connection to the database"):
        walk_with_headers(ARCHIVE, replay, tmp_path, lambda reply: replay.error_page)


def test_a_gene_across_two_stretches_is_asked_for_once(tmp_path):
    across = GENES[5]
    assert across["start"] <= 5_000_000 < across["end"]
    answers = walk_with_headers(ARCHIVE, REPLAYS[0], tmp_path)
    stretches = [answer for answer in answers if answer.request.stage == "region"]
    holding = [answer for answer in stretches if across["id"] in answer.text]
    batches = [json.loads(answer.request.body)["ids"] for answer in answers if answer.request.stage == "lookup"]
    assert [len(stretches), len(holding)] == [4, 2]
    assert sum(across["id"] in batch for batch in batches) == 1
    assert stretches[0].headers["x-ratelimit-remaining"] == LIMITS["x-ratelimit-remaining"]


@pytest.mark.parametrize(("kind", "sizes"), [("", [1000, 1000, 301]), ("protein", [50] * 46 + [1])])
def test_genes_are_asked_for_in_batches(kind, sizes, tmp_path):
    request = Request("https://rest.ensembl.org/x", "region", context=(*CONTEXT[:2], ("start", "1"), ("type", kind)))
    genes = [{"id": f"G{n}", "start": n, "end": n + 7, "seq_region_name": "c"} for n in range(2301)]
    requests = WALK["region"].follow(answer_of(request, json.dumps(genes).encode(), tmp_path))
    assert [len(json.loads(request.body)["ids"]) for request in requests] == sizes
    assert [name for request in requests for name in json.loads(request.body)["ids"]] == [gene["id"] for gene in genes]
    assert dict(requests[0].params).get("multiple_sequences") == ("1" if kind else None)


@pytest.mark.parametrize(
    ("gene", "asked"),
    [
        ({"start": 5_000_001, "end": 5_000_009, "seq_region_name": "c"}, ["G"]),
        ({"start": 4_999_999, "end": 5_000_001, "seq_region_name": "c"}, []),
        ({"start": 6_999_999, "end": 13, "seq_region_name": "c"}, ["G"]),
        ({"start": 4_000_000, "end": 5_000_000, "seq_region_name": "c"}, None),
        ({"start": 10_000_001, "end": 10_000_007, "seq_region_name": "c"}, None),
        ({"start": 5_000_001, "end": 5_000_009, "seq_region_name": "d"}, None),
    ],
)
def test_genes_of_another_stretch_are_refused(gene, asked, tmp_path):
    request = Request("https://rest.ensembl.org/x", "region", context=(*CONTEXT, ("type", "")))
    answer = answer_of(request, json.dumps([{"id": "G", **gene}]).encode(), tmp_path)
    if asked is None:
        with pytest.raises(BadBodyError, match="genes must lie on c from 5000001; got G on"):
            WALK["region"].follow(answer)
    else:
        assert [name for request in WALK["region"].follow(answer) for name in json.loads(request.body)["ids"]] == asked


def test_a_gene_that_a_look_up_left_out_is_missed(tmp_path):
    def without_one(reply):
        found = json.loads(reply.body)
        if isinstance(found, dict) and "TEST_00003" in found:
            found["TEST_00003"] = None
        return dataclasses.replace(reply, body=json.dumps(found).encode())

    with pytest.raises(BadBodyError, match="it lacks 1: TEST_00003") as caught:
        walk_with_headers(ARCHIVE, REPLAYS[0], tmp_path, without_one)
    assert caught.value.again


def test_a_sequence_that_was_left_out_is_missed(tmp_path):
    def without_one(reply):
        found = json.loads(reply.body)
        if isinstance(found, list) and found and "seq" in found[0]:
            found.pop()
        return dataclasses.replace(reply, body=json.dumps(found).encode())

    with pytest.raises(BadBodyError, match="1 sequences are missing, among them TEST_0000"):
        walk_with_headers(ARCHIVE, REPLAYS[1], tmp_path, without_one)


@pytest.mark.parametrize(
    ("table", "options", "message"),
    [
        ("genomes", {"divisions": "EnsemblMars"}, "divisions must be among .*; got 'EnsemblMars'"),
        ("genomes", {"divisions": " "}, "divisions must be among"),
        ("genes", {"species": "Homo sapiens"}, "species must be names such as"),
        ("genes", {"species": ""}, "species must be names such as"),
        ("sequences", {"type": "rna"}, "type must be one of genomic, cdna, cds, protein; got 'rna'"),
        ("records", {}, "files must name flat files"),
    ],
)
def test_options_are_checked(table, options, message):
    with pytest.raises(BuildError, match=message):
        ARCHIVE.table(table).first(select(ARCHIVE, table, **options))


def test_several_genomes_and_files_are_asked_for():
    genes = ARCHIVE.table("genes").first(select(ARCHIVE, "genes", species=f"{SPECIES}, homo_sapiens"))
    assert [request.url.rpartition("/")[2] for request in genes] == [SPECIES, "homo_sapiens"]
    files = ARCHIVE.table("records").first(select(ARCHIVE, "records", files="pub/a.dat.gz pub/b.dat"))
    assert [(request.url, request.stage) for request in files] == [
        ("https://ftp.ensemblgenomes.ebi.ac.uk/pub/a.dat.gz", "packed"),
        ("https://ftp.ensemblgenomes.ebi.ac.uk/pub/b.dat", "flat"),
    ]


def test_no_column_takes_a_name_of_the_harness():
    for table in ARCHIVE.tables:
        assert page_schema(table).names[: len(table.columns)] == [column.name for column in table.columns]


def test_a_recorded_look_up_is_read(archive_samples):
    path = archive_samples("ensembl_genomes") / "lookup_id_ENSG00000157764.json"
    table = ARCHIVE.table("genes")
    stage = table.recognise(path.name, path.read_bytes())
    check_body(path, table.stages[stage].body_format)
    page = read_page(table, file_answer(path, stage), "ensembl_genomes")
    row = page.good.to_pylist()[0]
    assert page.rejected.num_rows == 0
    assert (row["id"], row["display_name"], row["species"], row["gene_source"]) == (
        "ENSG00000157764",
        "BRAF",
        "homo_sapiens",
        "ensembl_havana",
    )
    assert (row["start"], row["end"], row["strand"], row["version"]) == (140719327, 140924929, -1, 14)
    assert row["species_taxonomy_id"] is None


def test_an_expanded_look_up_is_of_its_gene(tmp_path):
    place = {"species": "testella_prima", "seq_region_name": "1", "start": 5, "end": 95, "strand": -1}
    shared = {**place, "biotype": "protein_coding", "assembly_name": "T1"}
    exon = {**place, "id": "TESTE1", "object_type": "Exon"}
    transcript = {**shared, "id": "TESTT1", "object_type": "Transcript", "Exon": [exon]}
    transcript["Translation"] = {"id": "TESTP1", "object_type": "Translation", "length": 30}
    gene = {**shared, "Transcript": [transcript], "id": "TESTG1", "object_type": "Gene", "source": "tests"}
    path = tmp_path / "lookup.json"
    path.write_text(json.dumps(gene))
    table = ARCHIVE.table("genes")
    assert table.recognise(path.name, path.read_bytes()) == "lookup"
    assert table.recognise(path.name, json.dumps(transcript).encode()) is None
    page = read_page(table, file_answer(path, "lookup"), "ensembl_genomes")
    (row,) = page.good.to_pylist()
    assert page.rejected.num_rows == 0
    assert (row["id"], row["start"], row["end"], row["gene_source"]) == ("TESTG1", 5, 95, "tests")


def test_a_look_up_of_a_transcript_is_refused(archive_samples, tmp_path):
    text = (archive_samples("ensembl_genomes") / "lookup_id_ENSG00000157764.json").read_bytes()
    other = tmp_path / "lookup.json"
    other.write_bytes(text.replace(b'"Gene"', b'"Transcript"'))
    table = ARCHIVE.table("genes")
    assert table.recognise(other.name, other.read_bytes()) is None
    with pytest.raises(BadBodyError, match="must be of genes; ENSG00000157764 is 'Transcript'"):
        read_page(table, file_answer(other, "lookup"), "ensembl_genomes")


def test_a_recorded_flat_file_is_read(archive_samples):
    path = archive_samples("ensembl_genomes") / "AE017046.embl"
    table = ARCHIVE.table("records")
    stage = table.recognise(path.name, path.read_bytes()[:65_536])
    check_body(path, table.stages[stage].body_format)
    page = read_page(table, file_answer(path, stage), "ensembl_genomes")
    row = page.good.to_pylist()[0]
    assert (page.good.num_rows, page.rejected.num_rows) == (1, 0)
    assert (row["accession_version"], row["length"], row["topology"]) == ("AE017046.1", 9609, "circular")
    assert (row["species"], row["taxid"], row["plasmid"]) == ("Yersinia pestis", 229193, "pPCP1")
    lines = [line for line in path.read_text().splitlines() if line.startswith("FT   ") and line[5] != " "]
    assert row["feature_type"] == [line.split()[1] for line in lines]
    assert row["feature_location"] == [line.split()[2] for line in lines]


@pytest.mark.parametrize(
    "name", ["map_cdna_TAIR10.json", "gget_test_info.json", "gget_test_seq.json", "PROVENANCE.md"]
)
def test_other_recorded_bodies_are_refused(name, archive_samples):
    head = (archive_samples("ensembl_genomes") / name).read_bytes()[:65_536]
    assert [table.recognise(name, head) for table in ARCHIVE.tables] == [None] * 4
