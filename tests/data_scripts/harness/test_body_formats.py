"""Good bodies pass, and every cut, damage and error page that an archive may send is refused with its reason."""

import gzip
import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.io.votable import from_table
from astropy.table import Table

from data_scripts.harness.body_formats import check_body, ends_a_line
from data_scripts.harness.errors import BadBodyError


HTML = b"<!DOCTYPE html>\n<html><head><title>503 Service Unavailable</title></head><body>later</body></html>"


def fits_bytes() -> bytes:
    rng = np.random.default_rng(0)
    table = fits.BinTableHDU.from_columns(
        [
            fits.Column("TIME", "D", array=rng.random(37)),
            fits.Column("FLUX", "PE()", array=np.array([rng.random(3), rng.random(7)] * 18 + [rng.random(1)], object)),
        ]
    )
    image = fits.ImageHDU(rng.random((13, 7)).astype("f4"))
    compressed = fits.CompImageHDU(rng.integers(0, 9, (37, 13)).astype("i2"))
    out = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), table, image, compressed]).writeto(out)
    return out.getvalue()


def votable_bytes(status: str = "OK", text: str = "") -> bytes:
    votable = from_table(Table({"name": ["Test-1 b", "Tést-2 c"], "mass": [1.5, 2.5]}))
    out = io.BytesIO()
    votable.to_xml(out)
    info = f'<INFO name="QUERY_STATUS" value="{status}">{text}</INFO>'.encode()
    at = out.getvalue().index(b"<TABLE")
    return out.getvalue()[:at] + info + out.getvalue()[at:]


def zip_bytes() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.fits", bytes(range(256)) * 37)
    return out.getvalue()


GOOD = {
    "csv": b'# made-up\nname,mass,note\nTest-1 b,1.5,"a, b\nc ""d"""\nTest-2 c,,\n',
    "embl": b"ID   X1; SV 1;\nXX\nSQ   Sequence 4 BP;\n     acgt\n//\nID   X2; SV 1;\n//\n\n",
    "fasta": b">one first\nACGTNNacgt\nMK*\n\n>two\n",
    "fits": fits_bytes(),
    "genbank": b"LOCUS       T1   4 bp DNA\nORIGIN\n        1 acgt\n//\nLOCUS       T2   4 bp DNA\n//\n\n",
    "gzip": gzip.compress(b"name\tlineage\n" * 37, mtime=0),
    "ipac": b"\\RowsRetrieved =   2\n|name    |mass|\n|char    |real|\n Test-1 b 1.5  \n Test-2 c null \n",
    "json": json.dumps({"results": [{"name": "Tést-1 b"}], "errors": [], "status": "COMPLETE"}).encode(),
    "text": b"ERROR-free log\n1 2 3\n",
    "tsv": b'name\tlineage\nT"1\td__Bacteria\nT2\t\n',
    "votable": votable_bytes(),
    "xml": b'<?xml version="1.0"?><eSearchResult><Count>2</Count><ErrorList><X>no</X></ErrorList></eSearchResult>',
    "zip": zip_bytes(),
}
SELF_DELIMITING = sorted(set(GOOD) - {"csv", "fasta", "text", "tsv"})


def check(tmp_path: Path, body: bytes, body_format: str) -> None:
    path = tmp_path / "body"
    path.write_bytes(body)
    check_body(path, body_format)
    assert path.read_bytes() == body


@pytest.mark.parametrize("body_format", sorted(GOOD))
def test_a_good_body_passes(tmp_path, body_format):
    check(tmp_path, GOOD[body_format], body_format)


@pytest.mark.parametrize("body_format", sorted(set(GOOD) - {"gzip", "zip"}))
def test_a_good_body_in_gzip_passes_and_a_cut_one_does_not(tmp_path, body_format):
    compressed = gzip.compress(GOOD[body_format], mtime=0)
    check(tmp_path, compressed, body_format)
    for cut in (1, 8, len(compressed) // 2):
        with pytest.raises(BadBodyError, match="the gzip file is cut or damaged"):
            check(tmp_path, compressed[:-cut], body_format)


@pytest.mark.parametrize("body_format", sorted(GOOD))
def test_an_empty_body_is_refused(tmp_path, body_format):
    with pytest.raises(BadBodyError, match="the body is empty") as caught:
        check(tmp_path, b"", body_format)
    assert caught.value.again


@pytest.mark.parametrize("body_format", sorted(set(GOOD) - {"gzip", "zip"}))
@pytest.mark.parametrize("page", [HTML, b"\xef\xbb\xbf \r\n<!-- proxy -->\n<html lang=en>\n<h1>Oops</h1></html>"])
def test_an_html_page_is_refused(tmp_path, body_format, page):
    with pytest.raises(BadBodyError, match="an HTML page came instead of") as caught:
        check(tmp_path, page, body_format)
    assert caught.value.again


@pytest.mark.parametrize("body_format", ["gzip", "zip"])
def test_an_html_page_in_place_of_a_compressed_file_is_refused(tmp_path, body_format):
    with pytest.raises(BadBodyError, match="Service Unavailable"):
        check(tmp_path, HTML, body_format)


def test_a_compressed_html_page_is_refused(tmp_path):
    with pytest.raises(BadBodyError, match="HTML page came instead of gzip: '503 Service Unavailable'"):
        check(tmp_path, gzip.compress(HTML, mtime=0), "gzip")


@pytest.mark.parametrize("body_format", SELF_DELIMITING)
def test_a_body_that_is_cut_anywhere_is_refused(tmp_path, body_format):
    body = GOOD[body_format].rstrip(b"\n") if body_format in {"embl", "genbank", "json", "xml", "votable"} else None
    body = body or GOOD[body_format]
    for length in {1, 7, len(body) // 3, len(body) // 2, len(body) - 37, len(body) - 13, len(body) - 9}:
        if 0 < length < len(body):
            with pytest.raises(BadBodyError) as caught:
                check(tmp_path, body[:length], body_format)
            assert caught.value.again, length


@pytest.mark.parametrize("length", [2880 * 2 + 1, len(GOOD["fits"]) - 2880, len(GOOD["fits"]) - 1])
def test_a_cut_fits_file_is_refused_where_astropy_may_not(tmp_path, length):
    with pytest.raises(BadBodyError, match=r"FITS file (lacks|begins)|does not end"):
        check(tmp_path, GOOD["fits"][:length], "fits")


def test_fits_with_empty_blocks_at_its_end_passes_and_with_others_does_not(tmp_path):
    check(tmp_path, GOOD["fits"] + bytes(2880 * 2), "fits")
    with pytest.raises(BadBodyError, match="begins with b'x"):
        check(tmp_path, GOOD["fits"] + b"x" * 2880, "fits")


def test_random_groups_are_measured_as_the_standard_says(tmp_path):
    data = fits.GroupData(np.ones((7, 3, 5), "f4"), bitpix=-32, parnames=["A", "B"], pardata=[np.ones(7), np.ones(7)])
    fits.HDUList([fits.GroupsHDU(data)]).writeto(tmp_path / "groups.fits")
    body = (tmp_path / "groups.fits").read_bytes()
    check(tmp_path, body, "fits")
    with pytest.raises(BadBodyError, match="unit 0 of the FITS file lacks 2880 of 2880 bytes"):
        check(tmp_path, body[:-2880], "fits")


@pytest.mark.parametrize(
    ("body_format", "body", "reason"),
    [
        ("csv", b'a,b,c\n1,2,3\n4,"5', "the last row has 2 cells, the header 3"),
        ("csv", b"a,b\n1,2,3\n", "the last row has 3 cells, the header 2"),
        ("tsv", b'a\tb\n1\t"2\n3', "the last row has 1 cells, the header 2"),
        ("csv", b'{"status": "ERROR"}', "JSON came instead of csv"),
        ("csv", b"ERROR<br>\nError type: UserError\n", "an error message came instead of csv"),
        ("csv", b"a,b\n" + b'"' + b"x" * 200_000 + b'",2\n', "the body is no CSV"),
        ("csv", votable_bytes("ERROR", "no such column: mass"), "no such column: mass"),
        ("tsv", b'<?xml version="1.0"?><Error><Code>NoSuchKey</Code></Error>', "<Error>: 'NoSuchKey'"),
        ("json", b'{"error": "API rate limit exceeded"}', "API rate limit exceeded"),
        ("json", b'{"status": "ERROR", "msg": "no such service"}', "status ERROR no such service"),
        ("json", b'{"status": "EXECUTING"}', "status EXECUTING"),
        ("json", b'{"errors": ["bad field"]}', "bad field"),
        ("json", b'{"Exception": "NullPointer"}', "NullPointer"),
        ("json", b'{"url": "http://x", "messages": ["Invalid query"]}', "Invalid query"),
        ("json", b'{"header": {}, "esearchresult": {"ERROR": "Empty term"}}', "Empty term"),
        ("json", b'{"results": [1, 2', "the body is no JSON"),
        ("json", b"\xff\xfe\x00", "the body is no JSON"),
        ("xml", b"<eSearchResult><ERROR>Empty term</ERROR></eSearchResult>", "<ERROR>: 'Empty term'"),
        ("xml", b"<a><b></a>", "the XML is cut or damaged"),
        ("xml", b'<ows:ExceptionReport xmlns:ows="o"><x>down</x></ows:ExceptionReport>', "<ExceptionReport>: 'down'"),
        ("votable", b"<RESOURCE/>", "<RESOURCE> instead of a VOTable"),
        ("votable", votable_bytes("ERROR", "syntax error near FORM"), "syntax error near FORM"),
        ("ipac", b"ERROR<br>Error type: SystemError", "answered with an error: 'ERROR<br>Error type: SystemError'"),
        ("ipac", b'\\ERROR = "no such table"\n', "no such table"),
        ("ipac", b'[struct stat="ERROR", msg="no table"]', "no table"),
        ("ipac", b"\\fixlen = T\n", "has no header"),
        ("ipac", b"\\RowsRetrieved = 3\n|a |\n|int|\n 1 \n 2 \n", "2 rows instead of the 3 it announces"),
        ("ipac", b"|aaa|bbb|\n 1   2  \n 3", "the last row of the IPAC table is cut"),
        ("ipac", b" 1 2\n|a|b|\n", "a row before its header"),
        ("genbank", b"Error: cannot get document summary\n", "an error message came instead of genbank"),
        ("genbank", b'{"error":"API rate limit exceeded"}', "in no record: .*API rate limit"),
        ("genbank", GOOD["genbank"] + b"Unable to obtain query\n", "in no record: 'Unable to obtain query'"),
        ("genbank", b"LOCUS       T1\nLOCUS       T2\n//\n", "record 1 does not end with //"),
        ("embl", b"\n\n", "nothing but white space"),
        ("fasta", b"ACGT\n", "FASTA begins with >"),
        ("fasta", b">one\nACGT\nError occurred: timeout\n", "line 3 of the FASTA file is no sequence"),
        ("gzip", b"name,mass\n", "no gzip file; it begins with 'name,mass'"),
        ("text", b"Internal Server Error\n", "an error message came instead of text"),
    ],
)
def test_errors_and_cuts_are_refused_by_their_reason(tmp_path, body_format, body, reason):
    with pytest.raises(BadBodyError, match=reason) as caught:
        check(tmp_path, body, body_format)
    assert caught.value.again


def test_an_overflow_is_refused_for_good(tmp_path):
    with pytest.raises(BadBodyError, match=r"row limit \(OVERFLOW\): 'truncated at 2000'") as caught:
        check(tmp_path, votable_bytes("OVERFLOW", "truncated at 2000"), "votable")
    assert not caught.value.again


def test_a_votable_whose_overflow_comes_after_the_rows_is_refused(tmp_path):
    body = votable_bytes().replace(b"</TABLE>", b'</TABLE><INFO name="QUERY_STATUS" value="OVERFLOW"/>')
    with pytest.raises(BadBodyError, match="OVERFLOW"):
        check(tmp_path, body, "votable")


def test_every_flipped_byte_of_gzip_data_is_found(tmp_path):
    body = GOOD["gzip"]
    for at in range(10, len(body)):
        damaged = body[:at] + bytes([body[at] ^ 0x55]) + body[at + 1 :]
        with pytest.raises(BadBodyError, match="cut or damaged"):
            check(tmp_path, damaged, "gzip")


def test_a_flipped_byte_in_a_zip_file_is_found(tmp_path):
    body = GOOD["zip"]
    at = body.index(b"a.fits") + 20
    with pytest.raises(BadBodyError, match="damaged"):
        check(tmp_path, body[:at] + bytes([body[at] ^ 0x55]) + body[at + 1 :], "zip")


def test_entities_that_unfold_without_end_are_refused(tmp_path):
    entities = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 12))
    body = f'<!DOCTYPE x [<!ENTITY l0 "lol">{entities}]><x>&l11;</x>'.encode()
    with pytest.raises(BadBodyError, match="cut or damaged"):
        check(tmp_path, body, "xml")


@pytest.mark.parametrize(
    ("body_format", "body", "expected"),
    [
        ("csv", b"a\n1\n", True),
        ("csv", b"a\r\n1\r\n", True),
        ("csv", b"a\n1", False),
        ("csv", gzip.compress(b"a\n1", mtime=0), True),
        ("json", b"{}", True),
        ("text", b"x", False),
    ],
)
def test_ends_a_line(tmp_path, body_format, body, expected):
    (tmp_path / "body").write_bytes(body)
    assert ends_a_line(tmp_path / "body", body_format) is expected


RECORDED = {
    "csv": "csv",
    "csv.gz": "csv",
    "embl": "embl",
    "faa": "fasta",
    "fasta": "fasta",
    "ffn": "fasta",
    "fna": "fasta",
    "fna.gz": "fasta",
    "gb": "genbank",
    "gbwithparts": "genbank",
    "json": "json",
    "rdf": "xml",
    "tsv": "tsv",
    "xml": "xml",
    "zip": "zip",
}


@pytest.mark.parametrize("suffix", RECORDED)
def test_recorded_bodies_pass(shared_dir, suffix):
    paths = sorted((shared_dir / "archive_samples").glob(f"*/*.{suffix}"))
    assert paths
    for path in paths:
        check_body(path, RECORDED[suffix])


def test_recorded_ipac_tables_pass(shared_dir):
    paths = sorted((shared_dir / "archive_samples").glob("*/*_expect_*.txt"))
    assert paths
    for path in paths:
        check_body(path, "ipac")
