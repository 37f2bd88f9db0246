"""UniProtKB: pages by cursor, and one entry from JSON, XML and flat text."""

import dataclasses
import datetime
import gzip
import json
import re

import pytest
from Bio.SeqUtils.CheckSum import crc64
from biology_walk import file_answer, walk_with_headers
from replays.uniprotkb import ENTRIES, QUERY, REPLAYS, as_sent
from walk_replay import answer_of, rows_of, select

from data_scripts.archives.protocols.uniprot_entry import activity_rows
from data_scripts.archives.protocols.uniprot_flat import flat_entries
from data_scripts.archives.protocols.uniprot_json import json_entries
from data_scripts.archives.protocols.uniprot_xml import xml_entries
from data_scripts.archives.uniprotkb import ARCHIVE, entries_found, follow
from data_scripts.harness.archive import Request
from data_scripts.harness.body_formats import check_body
from data_scripts.harness.errors import BadBodyError
from data_scripts.harness.pages import read_page


TABLE = ARCHIVE.table("entries")
PARSED = {
    "F2CXE6.txt": 1,
    "F2CXE6.xml": 1,
    "P62258.txt": 1,
    "Q13639.txt": 1,
    "Q13639.xml": 1,
    "multi_ex.txt": 8,
    "multi_ex.xml": 8,
}
REFUSED = (
    "UniRef90_P99999.xml",
    "goa_yeast.gpa.59.gpa",
    "gp_information.goa_yeast.28.gpi",
    "keywlist.txt",
    "multi_ex.fasta",
    "multi_ex.gff",
    "multi_ex.list",
    "multi_ex.rdf",
    "PROVENANCE.md",
)
# A made-up entry in the layout of releases since 2018.
FLAT = """\
ID   TST_TESTP               Reviewed;          12 AA.
AC   T0TE00;
DT   01-MAY-2004, integrated into UniProtKB/Swiss-Prot.
DT   02-MAY-2004, sequence version 2.
DT   03-MAY-2020, entry version 7.
DE   RecName: Full=Testase {ECO:0000303|PubMed:1};
DE            EC=2.7.1.- {ECO:0000269|PubMed:1};
GN   Name=tst {ECO:0000303|PubMed:1}; Synonyms=tstX, tstY;
GN   OrderedLocusNames=T_0001;
OS   Testella prima (strain 37) (Test rod).
OC   Bacteria; Testota; Testella.
OX   NCBI_TaxID=900037;
CC   -!- FUNCTION: Transfers phosphate to 3-oxo-
CC       test (PubMed:1). {ECO:0000269|PubMed:1}.
CC   -!- CATALYTIC ACTIVITY:
CC       Reaction=a test-[protein] + ATP = ADP + H(+) + N-acetyl-beta-D-
CC         test; Xref=Rhea:RHEA:10000, Rhea:RHEA-COMP:9613, ChEBI:CHEBI:15378,
CC         ChEBI:CHEBI:30616; EC=2.7.1.99;
CC         Evidence={ECO:0000269|PubMed:1, ECO:0000305|PubMed:2};
CC       PhysiologicalDirection=left-to-right; Xref=Rhea:RHEA:10001;
CC         Evidence={ECO:0000269|PubMed:1};
CC       PhysiologicalDirection=right-to-left; Xref=Rhea:RHEA:10002;
CC   -!- CATALYTIC ACTIVITY: [Isoform 2]:
CC       Reaction=test = tset; Evidence={ECO:0000255};
PE   1: Evidence at protein level;
KW   ATP-binding.
SQ   SEQUENCE   12 AA;  1318 MW;  0123456789ABCDEF CRC64;
     ACDEFGHIKL MN
//
"""
XML = """\
<?xml version="1.0" encoding="UTF-8"?>
<uniprot xmlns="https://uniprot.org/uniprot"><entry dataset="Swiss-Prot" created="2004-05-01" modified="2020-05-03"
 version="7"><accession>T0TE00</accession><name>TST_TESTP</name><protein><recommendedName><fullName>Testase</fullName>
<ecNumber evidence="1">2.7.1.-</ecNumber></recommendedName></protein><gene><name type="primary">tst</name>
<name type="synonym">tstX</name><name type="synonym">tstY</name><name type="ordered locus">T_0001</name></gene>
<organism><name type="scientific">Testella prima (strain 37)</name><name type="common">Test rod</name>
<dbReference type="NCBI Taxonomy" id="900037"/><lineage><taxon>Bacteria</taxon><taxon>Testota</taxon>
<taxon>Testella</taxon></lineage></organism>
<comment type="function"><text evidence="1">Transfers phosphate to 3-oxo-test (PubMed:1).</text></comment>
<comment type="catalytic activity"><reaction evidence="1 2">
<text>a test-[protein] + ATP = ADP + H(+) + N-acetyl-beta-D-test</text><dbReference type="Rhea" id="RHEA:10000"/>
<dbReference type="Rhea" id="RHEA-COMP:9613"/><dbReference type="ChEBI" id="CHEBI:15378"/>
<dbReference type="ChEBI" id="CHEBI:30616"/><dbReference type="EC" id="2.7.1.99"/></reaction>
<physiologicalReaction direction="left-to-right" evidence="1"><dbReference type="Rhea" id="RHEA:10001"/>
</physiologicalReaction><physiologicalReaction direction="right-to-left"><dbReference type="Rhea" id="RHEA:10002"/>
</physiologicalReaction></comment>
<comment type="catalytic activity"><molecule>Isoform 2</molecule><reaction evidence="3"><text>test = tset</text>
</reaction></comment>
<proteinExistence type="evidence at protein level"/><keyword id="KW-0067">ATP-binding</keyword>
<evidence key="1" type="ECO:0000269"/><evidence key="2" type="ECO:0000305"/><evidence key="3" type="ECO:0000255"/>
<sequence length="12" mass="1318" checksum="0123456789ABCDEF" modified="2004-05-02" version="2">ACDEFGHIKLMN</sequence>
</entry></uniprot>
"""


@pytest.fixture
def written(tmp_path):
    def write(text):
        path = tmp_path / "entry"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return file_answer(path, "flat")

    return write


@pytest.mark.parametrize("replay", REPLAYS, ids=lambda replay: replay.table)
def test_a_walk_gives_every_row_once_and_in_order(replay, tmp_path):
    rows, reasons = rows_of(ARCHIVE, replay.table, walk_with_headers(ARCHIVE, replay, tmp_path))
    assert rows == replay.expected
    assert reasons == []


@pytest.mark.parametrize("replay", REPLAYS, ids=lambda replay: replay.table)
def test_a_walk_refuses_other_bodies(replay, tmp_path):
    with pytest.raises(BadBodyError, match="entry T0TE00 is not as UniProtKB writes it: KeyError 'uniProtkbId'"):
        walk_with_headers(ARCHIVE, replay, tmp_path, replay.changed_schema)
    with pytest.raises(BadBodyError, match="Internal server error"):
        walk_with_headers(ARCHIVE, replay, tmp_path, lambda reply: replay.error_page)


def test_both_tables_are_read_from_the_same_bodies():
    requests = [table.first(select(ARCHIVE, table.name, query=QUERY)) for table in ARCHIVE.tables]
    assert [request.key for request in requests[0]] == [request.key for request in requests[1]]


def test_pages_of_two_releases_are_refused(tmp_path):
    pages = iter(["2020_01", "2020_02"])

    def alter(reply):
        return dataclasses.replace(reply, headers={**reply.headers, "x-uniprot-release": next(pages)})

    with pytest.raises(BadBodyError, match="release must be 2020_01 on each page; got 2020_02"):
        walk_with_headers(ARCHIVE, REPLAYS[0], tmp_path, alter)


def test_the_next_page_is_that_of_the_link(tmp_path):
    link = '<https://rest.uniprot.org/uniprotkb/search?query=a%20b&size=500&cursor=1mkyc%2B%3D>; rel="next"'
    first = answer_of(Request("https://rest.uniprot.org/uniprotkb/search", "search"), b"{}", tmp_path)
    first = dataclasses.replace(first, headers={"link": link, "x-total-results": "37"})
    (following,) = follow(first)
    assert following.url == "https://rest.uniprot.org/uniprotkb/search"
    assert following.params == (("query", "a b"), ("size", "500"), ("cursor", "1mkyc+="))
    assert entries_found(first) == 37
    assert entries_found(dataclasses.replace(first, request=following)) is None
    assert follow(dataclasses.replace(first, headers={})) == []


def test_limit_and_day_are_part_of_the_question():
    selection = select(ARCHIVE, "entries", query=QUERY)
    day = dataclasses.replace(selection, limit=7, since=datetime.date(2024, 2, 29))
    params = dict(TABLE.first(day)[0].params)
    assert params["query"] == f"({QUERY}) AND (date_modified:[2024-02-29 TO *])"
    assert (params["size"], dict(TABLE.first(selection)[0].params)["size"]) == ("7", "500")


def test_flat_text_and_xml_of_one_entry_give_the_same_rows(written):
    (flat,), (xml,) = list(flat_entries(written(FLAT))), list(xml_entries(written(XML)))
    assert flat.cells == xml.cells
    rows, others = activity_rows(flat), activity_rows(xml)
    assert rows == others
    assert rows[0]["rhea_id"] == "RHEA:10000"
    assert rows[0]["rhea_compounds"] == ["RHEA-COMP:9613"]
    assert rows[0]["chebi_ids"] == ["CHEBI:15378", "CHEBI:30616"]
    assert rows[0]["ec_number"] == "2.7.1.99"
    assert rows[0]["direction_rhea_id"] == ["RHEA:10001", "RHEA:10002"]
    assert rows[1]["molecule"] == "Isoform 2"
    assert rows[1]["rhea_id"] is None
    assert flat.cells["cc_function"] == "Transfers phosphate to 3-oxo-test (PubMed:1)"
    assert flat.cells["gene_names"] == ["tst", "tstX", "tstY", "T_0001"]


JSON = json.dumps({"results": [as_sent({**ENTRIES[1], "accession": "T0TE00"}, 1)]})


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("text", "stage"), [(FLAT, "flat"), (XML, "xml"), (JSON, "search")])
def test_files_are_recognised_packed_and_not(text, stage, packed, mark, written):
    text = text if stage == "flat" else mark + text
    body = gzip.compress(text.encode()) if packed else text.encode()
    answer = written(body)
    assert TABLE.recognise("x", body) == stage
    check_body(answer.path, TABLE.stages[stage].body_format)
    answer = dataclasses.replace(answer, request=Request("file:0", stage))
    assert read_page(TABLE, answer, "uniprotkb").good["accession"].to_pylist() == ["T0TE00"]


@pytest.mark.parametrize(
    ("read", "text", "message"),
    [
        (
            flat_entries,
            FLAT.replace("OS   Testella prima (strain 37) (Test rod).\n", ""),
            "must have the lines AC, OS and SQ",
        ),
        (flat_entries, FLAT.replace("01-MAY", "01-MOY"), "does not parse"),
        (flat_entries, FLAT.partition("SQ  ")[0], "does not parse"),
        (xml_entries, XML[:900], "does not parse"),
        (xml_entries, XML.replace("<accession>T0TE00</accession>", ""), "must have accession, organism and sequence"),
        (xml_entries, XML.replace('mass="1318"', ""), "entry T0TE00 is not as UniProtKB writes it: KeyError 'mass'"),
        (xml_entries, XML.replace("at protein level", "at hand"), "entry T0TE00 is not as UniProtKB writes it"),
        (json_entries, '{"results": 3}', "must have a list of entries"),
        (json_entries, "[", "does not parse"),
    ],
)
def test_damaged_entries_are_refused(read, text, message, written):
    with pytest.raises(BadBodyError, match=message):
        list(read(written(text)))


def test_identities_tell_of_a_wrong_sequence(tmp_path):
    answers = walk_with_headers(ARCHIVE, REPLAYS[0], tmp_path)
    rows = read_page(TABLE, answers[0], "uniprotkb").good
    assert [item.holds(rows).to_pylist() for item in TABLE.identities] == [[True] * 5] * 2
    wrong = rows.set_column(rows.schema.get_field_index("length"), "length", [[37, 44, 51, 58, 66]])
    assert TABLE.identities[0].holds(wrong).to_pylist() == [True] * 4 + [False]
    assert (
        TABLE.identities[1].holds(rows.set_column(rows.schema.get_field_index("mass"), "mass", [[37] * 5])).to_pylist()
        == [False] * 5
    )


@pytest.mark.parametrize("name", PARSED)
def test_recorded_entries_are_read(name, archive_samples):
    path = archive_samples("uniprotkb") / name
    stage = TABLE.recognise(name, path.read_bytes()[:65_536])
    check_body(path, TABLE.stages[stage].body_format)
    page = read_page(TABLE, file_answer(path, stage), "uniprotkb")
    assert (page.good.num_rows, page.rejected.num_rows) == (PARSED[name], 0)
    for row in page.good.to_pylist():
        assert crc64(row["sequence"]) == f"CRC-{row['crc64']}"
    for column in TABLE.columns:
        assert not column.required or page.good[column.name].null_count == 0, column.name
    assert all(item.holds(page.good).to_pylist() == [True] * PARSED[name] for item in TABLE.identities)


@pytest.mark.parametrize("name", ["F2CXE6", "Q13639", "multi_ex"])
def test_recorded_flat_text_and_xml_agree(name, archive_samples):
    folder = archive_samples("uniprotkb")
    flat = flat_entries(file_answer(folder / f"{name}.txt", "flat"))
    xml = xml_entries(file_answer(folder / f"{name}.xml", "xml"))
    for left, right in zip(flat, xml, strict=True):
        # The two sort keywords in other ways.
        for cells in (left.cells, right.cells):
            cells["keyword"] = sorted(cells["keyword"])
        assert left == right


def test_recorded_activities_in_words_are_read(archive_samples):
    table = ARCHIVE.table("catalytic_activities")
    path = archive_samples("uniprotkb") / "multi_ex.txt"
    rows = read_page(table, file_answer(path, "flat"), "uniprotkb").good.to_pylist()
    assert [(row["accession"], row["activity"], row["organism_id"]) for row in rows] == [
        ("P00750", 0, 9606),
        ("Q8NE62", 0, 9606),
    ]
    assert rows[1]["reaction"] == "Choline + acceptor = betaine aldehyde + reduced acceptor"
    assert rows[1]["rhea_id"] is None
    assert rows[1]["chebi_ids"] == []


@pytest.mark.parametrize("name", REFUSED)
def test_other_recorded_bodies_are_refused(name, archive_samples):
    head = (archive_samples("uniprotkb") / name).read_bytes()[:65_536]
    assert [table.recognise(name, head) for table in ARCHIVE.tables] == [None, None]


def test_made_up_entries_are_not_alike():
    assert len({re.sub("[0-9]", "", row["sequence"]) for row in ENTRIES}) == len(ENTRIES)
