"""Addresses that are the archive's, and redirects to others."""

import pytest
from loopback import Loopback
from small_archive import small_archive
from transport_tools import ROWS, Fetcher, redirecting, request, rows

from data_scripts.harness.errors import BuildError, RequestFailedError


@pytest.mark.parametrize(
    "url",
    [
        "https://elsewhere.test/data",
        "https://archive.test.elsewhere.test/data",
        "https://archive.test@elsewhere.test/data",
        "https://me:secret@archive.test/data",
        "https://archive.test:8443/data",
        "ftp://archive.test/data",
        "file:///etc/passwd",
        "https://[archive.test/data",
        "/data",
    ],
)
def test_an_address_that_is_not_the_archives_is_refused(tmp_path, url):
    with Loopback(rows) as server:
        with pytest.raises(BuildError, match=r"must be http\(s\).*; got") as caught:
            Fetcher(tmp_path, server)(request(url=url))
        assert not server.served
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("location", ["https://archive.test/b?c=1", "//files.test/b", "b", "http://archive.test/b"])
def test_a_redirect_within_the_archive_is_followed(tmp_path, location):
    archive = small_archive(hosts=("archive.test", "files.test"))
    with Loopback(redirecting(location), archive.hosts) as server:
        fetch = Fetcher(tmp_path, server, archive)
        fetch.assert_is(fetch(), ROWS)
        assert server.served[1].asked.path == "/b"


@pytest.mark.parametrize(
    "location", ["https://elsewhere.test/b", "file:///etc/passwd", "http://169.254.169.254/", "http://[archive.test/"]
)
def test_a_redirect_to_elsewhere_is_not_followed(tmp_path, location):
    with (
        Loopback(redirecting(location)) as server,
        pytest.raises(RequestFailedError, match=r"the archive redirects elsewhere: (small: an address must|Invalid)"),
    ):
        Fetcher(tmp_path, server)()


@pytest.mark.parametrize(
    ("status", "method"), [(301, "GET"), (302, "GET"), (303, "GET"), (307, "POST"), (308, "POST")]
)
def test_a_redirected_post_keeps_its_method_as_the_status_says(tmp_path, status, method):
    with Loopback(redirecting("/b", status)) as server:
        Fetcher(tmp_path, server)(request(method="POST", body=b"q=1"))
        asked = server.served[1].asked
    assert (asked.method, asked.body) == (method, b"q=1" if method == "POST" else b"")
