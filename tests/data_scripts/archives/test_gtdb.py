"""GTDB: files of a release, packed in three ways, with the columns of their time."""

import dataclasses
import datetime
import gzip
import io
import tarfile

import pytest
from biology_walk import file_answer, walk_with_headers
from replays.gtdb import GENOMES, REPLAYS, TAXONOMY, metadata_file
from walk_replay import rows_of, select

from data_scripts.archives.gtdb import ARCHIVE, FILES
from data_scripts.archives.schemas.gtdb import GROUPS, RENAMED
from data_scripts.harness.body_formats import check_body
from data_scripts.harness.errors import BadBodyError, BuildError
from data_scripts.harness.pages import read_page


METADATA = ARCHIVE.table("metadata")


def tarred(text):
    """A tar file as old releases have it, with a folder before the table."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        folder = tarfile.TarInfo("release95")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        member = tarfile.TarInfo("release95/bac120_metadata_r95.tsv")
        member.size = len(text)
        archive.addfile(member, io.BytesIO(text))
    return file.getvalue()


@pytest.fixture
def read(tmp_path):
    def reader(body, table=METADATA):
        path = tmp_path / "body"
        path.write_bytes(body)
        stage = table.recognise("x", body[:65_536])
        check_body(path, table.stages[stage].body_format)
        page = read_page(table, file_answer(path, stage), "gtdb")
        assert page.rejected.num_rows == 0, page.rejected.to_pylist()
        return page.good.select([column.name for column in table.columns]).to_pylist()

    return reader


@pytest.mark.parametrize("replay", REPLAYS, ids=lambda replay: replay.table)
def test_a_walk_gives_every_row_once_and_in_order(replay, tmp_path):
    rows, reasons = rows_of(ARCHIVE, replay.table, walk_with_headers(ARCHIVE, replay, tmp_path))
    assert rows == replay.expected
    assert reasons == []


@pytest.mark.parametrize("replay", REPLAYS, ids=lambda replay: replay.table)
def test_a_walk_refuses_other_bodies(replay, tmp_path):
    with pytest.raises(BadBodyError, match=r"genome_size|seven ranks d__ to s__; got 'd__Archaea;.*;t__Testella"):
        rows_of(ARCHIVE, replay.table, walk_with_headers(ARCHIVE, replay, tmp_path, replay.changed_schema))
    with pytest.raises(BadBodyError, match="503 Service Temporarily Unavailable"):
        walk_with_headers(ARCHIVE, replay, tmp_path, lambda reply: replay.error_page)


@pytest.mark.parametrize("pack", [lambda text: text, gzip.compress, tarred], ids=["plain", "gzip", "tar"])
def test_a_table_is_read_however_it_is_packed(pack, read):
    assert read(pack(metadata_file(GENOMES).encode())) == GENOMES


def test_the_file_of_another_domain_is_refused(tmp_path):
    answers = walk_with_headers(ARCHIVE, REPLAYS[1], tmp_path)
    swapped = dataclasses.replace(answers[0], path=answers[1].path)
    with pytest.raises(BadBodyError, match="the file must be of Archaea; got Bacteria"):
        rows_of(ARCHIVE, "taxonomy", [swapped])


def test_a_taxonomy_is_read_plain(read):
    text = "".join(f"{row['accession']}\t{row['gtdb_taxonomy']}\n" for row in TAXONOMY)
    assert read(text.encode(), ARCHIVE.table("taxonomy")) == TAXONOMY


def test_older_names_and_absent_groups_are_known(read):
    text = metadata_file(GENOMES)
    for old, new in RENAMED.items():
        text = text.replace(f"\t{new}\t", f"\t{old}\t", 1)
    names = text.partition("\n")[0].split("\t")
    kept = [at for at, name in enumerate(names) if name not in GROUPS[1]]
    cells = [line.split("\t") for line in text.splitlines()]
    rows = read("".join("\t".join(line[at] for at in kept) + "\n" for line in cells).encode())
    assert rows == [{**row, **dict.fromkeys(GROUPS[1])} for row in GENOMES]


def test_half_a_group_is_a_vanished_column(read):
    with pytest.raises(BadBodyError, match="checkm2_contamination"):
        read(metadata_file(GENOMES).replace("checkm2_contamination", "checkm3_contamination").encode())


def test_a_row_of_another_length_is_refused(read):
    lines = metadata_file(GENOMES).splitlines(keepends=True)
    lines[3] = lines[3].replace("\t", "\n", 1)
    with pytest.raises(BadBodyError, match="cannot be read"):
        read("".join(lines).encode())


def test_a_tar_file_without_a_table_is_refused(tmp_path):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        archive.addfile(tarfile.TarInfo("README"))
    path = tmp_path / "x.tar.gz"
    path.write_bytes(file.getvalue())
    with pytest.raises(BadBodyError, match=r"must hold a \.tsv file"):
        list(METADATA.stages["metadata_packed"].rows(file_answer(path, "metadata_packed")))


def test_a_cut_tar_file_is_refused(tmp_path):
    body = tarred(metadata_file(GENOMES).encode())
    path = tmp_path / "x.tar.gz"
    path.write_bytes(body[: len(body) // 2])
    with pytest.raises(BadBodyError, match="cut or damaged"):
        check_body(path, "gzip")
    with pytest.raises(BadBodyError, match="cannot be read"):
        list(METADATA.stages["metadata_packed"].rows(file_answer(path, "metadata_packed")))


@pytest.mark.parametrize("release", FILES)
def test_each_release_has_its_files(release):
    selection = dataclasses.replace(select(ARCHIVE, "metadata"), release=release)
    urls = [request.url for request in METADATA.first(selection)]
    marker = "ar122" if int(release) < 207 else "ar53"
    assert [url.rpartition("/")[2].partition("_")[0] for url in urls] == [marker, "bac120"]
    assert all(f"/release{release}/{release}." in url and f"_metadata_r{release}." in url for url in urls)
    assert all(request.release == release for request in METADATA.first(selection))


def test_the_default_is_release_220_of_both_domains():
    urls = [request.url for request in ARCHIVE.table("taxonomy").first(select(ARCHIVE, "taxonomy"))]
    assert urls == [
        "https://data.gtdb.ecogenomic.org/releases/release220/220.0/ar53_taxonomy_r220.tsv.gz",
        "https://data.gtdb.ecogenomic.org/releases/release220/220.0/bac120_taxonomy_r220.tsv.gz",
    ]


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({"release": "1"}, {}, "release must be one of 89, 95, .*; got '1'"),
        ({}, {"domains": "eukarya"}, "domains must be among archaea,bacteria; got 'eukarya'"),
    ],
)
def test_choices_are_checked(change, options, message):
    with pytest.raises(BuildError, match=message):
        METADATA.first(dataclasses.replace(select(ARCHIVE, "metadata", **options), **change))


def test_a_day_changes_nothing_so_that_the_harness_refuses_it():
    selection = select(ARCHIVE, "metadata")
    day = dataclasses.replace(selection, since=datetime.date(2024, 1, 1))
    assert METADATA.first(selection) == METADATA.first(day)


def test_identities_tell_of_wrong_counts(tmp_path):
    answers = walk_with_headers(ARCHIVE, REPLAYS[0], tmp_path)
    rows = read_page(METADATA, answers[0], "gtdb").good
    assert [item.holds(rows).to_pylist() for item in METADATA.identities] == [[True] * 5] * 2
    wrong = rows.set_column(rows.schema.get_field_index("gc_count"), "gc_count", [[400_001] * 4 + [400_101]])
    assert METADATA.identities[0].holds(wrong).to_pylist() == [True] * 4 + [False]


def test_recorded_metadata_are_read(archive_samples):
    path = archive_samples("gtdb") / "ar122_metadata_r202.head.tsv"
    stage = METADATA.recognise(path.name, path.read_bytes()[:65_536])
    check_body(path, METADATA.stages[stage].body_format)
    page = read_page(METADATA, file_answer(path, stage), "gtdb")
    assert (page.good.num_rows, page.rejected.num_rows) == (4, 0)
    assert all(item.holds(page.good).to_pylist() == [True] * 4 for item in METADATA.identities)
    row = page.good.to_pylist()[0]
    assert (row["accession"], row["gtdb_species"], row["ncbi_species_taxid"]) == (
        "GB_GCA_000200715.1",
        "Cenarchaeum symbiosum",
        46770,
    )
    assert row["gtdb_representative"] is True
    assert row["gtdb_type_species_of_genus"] is False
    assert row["ncbi_isolate"] is None
    assert row["checkm2_completeness"] is None


def test_recorded_taxonomy_is_read(archive_samples):
    path = archive_samples("gtdb") / "bac120_taxonomy_r202.head.tsv"
    table = ARCHIVE.table("taxonomy")
    stage = table.recognise(path.name, path.read_bytes())
    check_body(path, table.stages[stage].body_format)
    rows = read_page(table, file_answer(path, stage), "gtdb").good
    assert rows["gtdb_species"].to_pylist() == ["Escherichia flexneri"] * 5
    assert rows["phylum"].to_pylist() == ["Proteobacteria"] * 5


@pytest.mark.parametrize(
    "name",
    [
        "genome_3.fna.gz",
        "gtdbtk.ar122.markers_summary.tsv",
        "gtdbtk.translation_table_summary.tsv",
        "uba_ncbi_accessions.tsv",
        "PROVENANCE.md",
    ],
)
def test_other_recorded_bodies_are_refused(name, archive_samples):
    head = (archive_samples("gtdb") / name).read_bytes()[:65_536]
    assert [table.recognise(name, head) for table in ARCHIVE.tables] == [None, None]
