"""GenBank: searches page by page, batches by accession, flat files to rows."""

import dataclasses
import datetime
import io
import pickle

import pytest
from Bio import GenBank, SeqIO
from Bio.SeqFeature import SeqFeature, SimpleLocation
from biology_walk import file_answer, walk_with_headers
from replay import Reply
from replays.ncbi_genbank import REPLAYS, ROWS, TERM, flat_file
from walk_replay import answer_of, rows_of, select

from data_scripts.archives.ncbi_genbank import ARCHIVE
from data_scripts.archives.protocols.entrez import search_follow, search_request, search_total
from data_scripts.archives.protocols.flat_files import location_text
from data_scripts.archives.protocols.species_names import species_name
from data_scripts.harness.archive import Request, Selection
from data_scripts.harness.body_formats import check_body
from data_scripts.harness.errors import BadBodyError, BuildError
from data_scripts.harness.pages import read_page


RECORDS = ARCHIVE.table("records")
REFUSED = (
    "NC_005816.faa",
    "NC_005816.ffn",
    "NC_005816.fna",
    "NC_005816.tsv",
    "entrez_biosample.xml",
    "entrez_einfo1.xml",
    "entrez_einfo2.xml",
    "entrez_elink1.xml",
    "entrez_epost1.xml",
    "entrez_esearch1.xml",
    "entrez_esearch2.xml",
    "entrez_esummary3.xml",
    "entrez_nucleotide1.xml",
    "entrez_protein.xml",
    "entrez_taxonomy.xml",
    "PROVENANCE.md",
)


def search_body(accessions, count, start=0, inside=""):
    ids = "".join(f"<Id>{name}</Id>" for name in accessions)
    return (
        f"<eSearchResult><Count>{count}</Count><RetMax>{len(accessions)}</RetMax><RetStart>{start}</RetStart>"
        f"<IdList>{ids}</IdList>{inside}</eSearchResult>"
    ).encode()


@pytest.mark.parametrize("replay", REPLAYS, ids=lambda replay: replay.table)
def test_a_walk_gives_every_row_once_and_in_order(replay, tmp_path):
    rows, reasons = rows_of(ARCHIVE, replay.table, walk_with_headers(ARCHIVE, replay, tmp_path))
    assert rows == replay.expected
    assert reasons == []


@pytest.mark.parametrize("replay", REPLAYS, ids=lambda replay: replay.table)
@pytest.mark.parametrize("fault", ["changed schema", "error page"])
def test_a_walk_refuses_other_bodies(replay, fault, tmp_path):
    alter = replay.changed_schema if fault == "changed schema" else lambda reply: replay.error_page
    with pytest.raises(BadBodyError, match="lacks version" if fault == "changed schema" else "Unable to obtain"):
        walk_with_headers(ARCHIVE, replay, tmp_path, alter)


def test_a_record_that_efetch_left_out_is_missed(tmp_path):
    text = flat_file(ROWS[2]).encode()

    def without_one(reply: Reply) -> Reply:
        return dataclasses.replace(reply, body=reply.body.replace(text, b""))

    with pytest.raises(BadBodyError, match=r"5 records asked for; 1 are missing \(TEST_000002.3\)") as caught:
        walk_with_headers(ARCHIVE, REPLAYS[0], tmp_path, without_one)
    assert caught.value.again


def test_a_search_is_followed_by_batches_and_by_its_next_page(tmp_path):
    request = search_request("nuccore", "a[orgn]", batch=4000, since=datetime.date(2024, 2, 29))
    names = [f"A{number}.1" for number in range(10_000)]
    answer = answer_of(request, search_body(names, 23_001), tmp_path)
    *batches, following = search_follow(answer)
    assert dict(request.params)["mindate"] == "2024/02/29"
    assert dict(request.params)["datetype"] == "mdat"
    assert [batch.body.count(b"%2C") + 1 for batch in batches] == [4000, 4000, 2000]
    assert dict(following.params) == {**dict(request.params), "retstart": "10000"}
    assert search_total(answer) == 23_001

    last = dataclasses.replace(
        following, params=tuple((k, "20000" if k == "retstart" else v) for k, v in following.params)
    )
    answer = answer_of(last, search_body(names[:3001], 23_001, 20_000), tmp_path)
    assert [request.stage for request in search_follow(answer)] == ["records"]
    assert search_total(answer) is None
    with pytest.raises(BadBodyError, match="found 23001 records on its first page and 23000 on this"):
        search_follow(answer_of(last, search_body(names[:3000], 23_000, 20_000), tmp_path))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (search_body(["A.1"], 2), "must list 2 accessions of 2; got 1"),
        (search_body(["A.1"], 1, start=5), "must answer from retstart=0; got 5"),
        (
            search_body([], 0, inside="<ErrorList><PhraseNotFound>zzz</PhraseNotFound></ErrorList>"),
            "PhraseNotFound zzz",
        ),
        (b"<eSearchResult><IdList/></eSearchResult>", "must state Count"),
        (b"<eFetchResult/>", "the body is eFetchResult"),
        (b"<eSearchResult>", "does not parse"),
    ],
)
def test_searches_that_do_not_add_up_are_refused(body, message, tmp_path):
    with pytest.raises(BadBodyError, match=message):
        search_follow(answer_of(search_request("nuccore", "a", 5), body, tmp_path))


def test_a_search_without_results_has_no_rows(tmp_path):
    inside = "<WarningList><OutputMessage>No items found.</OutputMessage></WarningList>"
    assert (
        search_follow(answer_of(search_request("nuccore", "a", 5), search_body([], 0, inside=inside), tmp_path)) == []
    )


def test_a_limit_is_asked_for_and_a_request_is_the_same_each_time():
    selection = select(ARCHIVE, "records", term=TERM)
    limited = RECORDS.first(dataclasses.replace(selection, limit=7))[0]
    assert dict(limited.params)["retmax"] == "7"
    assert RECORDS.first(selection)[0].key == RECORDS.first(selection)[0].key != limited.key


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"db": "sra"}, "db must be nuccore or protein; got 'sra'"),
        ({"batch": "0"}, "batch must be 1 to 10000; got '0'"),
    ],
)
def test_options_are_checked(option, message):
    with pytest.raises(BuildError, match=message):
        RECORDS.first(select(ARCHIVE, "records", **option))


def test_credentials_become_parameters():
    made = {
        name: value
        for item in ARCHIVE.credentials
        for name, value in item.params(dict.fromkeys(item.variables, "x")).items()
    }
    assert made == {"api_key": "x", "email": "x"}


def test_stages_can_be_sent_to_other_processes():
    assert pickle.loads(pickle.dumps(RECORDS.stages["records"])).body_format == "genbank"


@pytest.mark.parametrize("cut", [b"//\n", b"ORIGIN\n"])
def test_cut_flat_files_are_refused(cut, tmp_path):
    path = tmp_path / "cut.gb"
    path.write_bytes(flat_file(ROWS[1]).encode().partition(cut)[0])
    with pytest.raises(BadBodyError, match="0 ends of a record"):
        check_body(path, "genbank")


def test_letters_of_another_encoding_are_read(tmp_path):
    path = tmp_path / "latin.gb"
    path.write_bytes(flat_file(ROWS[1]).encode("latin-1"))
    assert read_page(RECORDS, file_answer(path, "records"), "ncbi_genbank").good["isolation_source"].to_pylist() == [
        "hot spring 1, 71 \u00b0C"
    ]


def test_locations_are_written_as_they_were_read(archive_samples):
    """Biopython's other reader keeps the text of a location."""
    texts = 0
    for path in sorted(archive_samples("ncbi_genbank").glob("*.gb*")):
        with path.open() as handle:
            parsed, written = list(SeqIO.parse(path, "genbank")), list(GenBank.parse(handle))
        for record, raw in zip(parsed, written, strict=True):
            for feature, original in zip(record.features, raw.features, strict=True):
                assert location_text(feature) == original.location.replace(" ", "")
                texts += 1
    assert texts > 300


@pytest.mark.parametrize(
    "text",
    ["467", "<1..>9", "join(1..5,complement(9..12))", "complement(order(3..4,8..9))", "J1.1:2..6", "6^7", "(2.5)..9"],
)
def test_rare_locations_are_written_as_they_were_read(text):
    lines = flat_file(ROWS[1]).replace("join(2..11,21..91)", text)
    record = next(SeqIO.parse(io.StringIO(lines), "genbank"))
    assert location_text(record.features[2]) == text


def test_a_feature_without_place_has_an_empty_one():
    assert location_text(SeqFeature(None, "CDS")) == ""
    assert location_text(SeqFeature(SimpleLocation(4, 5, -1), "CDS")) == "complement(5)"


@pytest.mark.parametrize(
    ("organism", "lineage", "species"),
    [
        ("Escherichia coli str. K-12 substr. MG1655", ["Bacteria", "Escherichia"], "Escherichia coli"),
        ("Escherichia coli (strain K12)", [], "Escherichia coli"),
        ("Candidatus Testus primus sp1", ["Candidatus Testus"], "Candidatus Testus primus"),
        ("[Clostridium] innocuum", ["Clostridium"], "[Clostridium] innocuum"),
        ("Pseudomonas sp. (strain C18)", ["Pseudomonas"], "Pseudomonas sp. (strain C18)"),
        ("uncultured bacterium 37", [], "uncultured bacterium 37"),
        ("Tobacco mosaic virus", ["Tobamovirus"], "Tobacco mosaic virus"),
        ("Homo sapiens", [], "Homo sapiens"),
        ("", [], None),
        ("Influenza A virus (A/Brisbane/59/2007(H1N1))", ["Viruses"], "Influenza A virus"),
        (None, [], None),
    ],
)
def test_strains_are_of_their_species(organism, lineage, species):
    assert species_name(organism, lineage) == species


SIZES = {
    "NC_000932.gb": [154478],
    "NC_005816.gb": [9609],
    "NP_416719.gbwithparts": [367],
    "arab1.gb": [86436],
    "cor6_6.gb": [513, 880, 441, 206, 282, 497],
    "protein_refseq.gb": [182],
    "tsa_acropora.gb": [126539],
}


@pytest.mark.parametrize("table", ["records", "sequences"])
@pytest.mark.parametrize("name", SIZES)
def test_recorded_flat_files_are_read(name, table, archive_samples):
    path = archive_samples("ncbi_genbank") / name
    config = ARCHIVE.table(table)
    stage = config.recognise(name, path.read_bytes()[:65_536])
    check_body(path, config.stages[stage].body_format)
    page = read_page(config, file_answer(path, stage), "ncbi_genbank")
    assert page.rejected.num_rows == 0
    assert page.good["length"].to_pylist() == SIZES[name]
    taxa = [record.annotations["organism"] for record in SeqIO.parse(path, "genbank")]
    assert page.good["organism"].to_pylist() == taxa
    assert page.good["taxid"].null_count == 0
    if table == "sequences":
        assert [item.holds(page.good).to_pylist() for item in config.identities] == [
            [None if name.startswith("tsa") else True] * len(SIZES[name])
        ]


def test_recorded_record_in_detail(archive_samples):
    path = archive_samples("ncbi_genbank") / "NC_005816.gb"
    row = read_page(RECORDS, file_answer(path, "records"), "ncbi_genbank").good.to_pylist()[0]
    assert (row["accession_version"], row["species"], row["taxid"]) == ("NC_005816.1", "Yersinia pestis", 229193)
    assert (row["topology"], row["division"], row["date"]) == ("circular", "BCT", datetime.date(2008, 7, 21))
    assert len(row["feature_type"]) == len(row["feature_location"]) == len(row["feature_gene"]) == 41
    assert row["feature_protein_id"].count(None) == 41 - 10


@pytest.mark.parametrize("name", REFUSED)
def test_other_recorded_bodies_are_not_taken_for_flat_files(name, archive_samples):
    head = (archive_samples("ncbi_genbank") / name).read_bytes()[:65_536]
    assert [table.recognise(name, head) for table in ARCHIVE.tables] == [None, None]


@pytest.mark.parametrize(
    ("name", "count", "most"), [("entrez_esearch1.xml", 63, 20), ("entrez_esearch2.xml", 42249, 100)]
)
def test_recorded_searches_are_followed(name, count, most, archive_samples):
    request = search_request("pubmed", "x", batch=30, limit=most)
    body = archive_samples("ncbi_genbank") / name
    answer = dataclasses.replace(file_answer(body, "search"), request=request)
    check_body(body, "xml")
    *batches, following = search_follow(answer)
    assert sum(batch.body.count(b"%2C") + 1 for batch in batches) == most
    assert dict(following.params)["retstart"] == str(most)
    assert dict(following.context)["count"] == str(count)


def test_every_recorded_body_is_accounted_for(archive_samples):
    """A body that is neither read nor refused by name is new here."""
    names = {path.name for path in archive_samples("ncbi_genbank").iterdir()}
    heads = {name: (archive_samples("ncbi_genbank") / name).read_bytes()[:65_536] for name in names}
    assert {name for name in names if RECORDS.recognise(name, heads[name])} >= set(SIZES)
    assert isinstance(RECORDS.first(Selection(options={n: o.default for n, o in RECORDS.options.items()}))[0], Request)
