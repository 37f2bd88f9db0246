"""Secrets go where they belong, and into nothing that is written or said."""

import base64
import logging

import pytest
from loopback import Loopback
from replay import Asked, Reply
from small_archive import small_archive
from transport_tools import URL, Fetcher, redirecting, request, rows

from data_scripts.harness.archive import Archive, Credential
from data_scripts.harness.credentials import Credentials
from data_scripts.harness.errors import BuildError, RequestFailedError
from data_scripts.harness.transport import Transport


CANARY = "canary/7f3a+9 c=1"


def secret_archive() -> Archive:
    def headers(values):
        pair = f"{values['SMALL_USERNAME']}:{values['SMALL_PASSWORD']}"
        return {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}

    return small_archive(
        hosts=("archive.test", "files.test"),
        credentials=(
            Credential(("SMALL_USERNAME", "SMALL_PASSWORD"), "proprietary data", headers=headers),
            Credential(
                ("SMALL_API_KEY",), "more requests", params=lambda values: {"api_key": values["SMALL_API_KEY"]}
            ),
            Credential(("SMALL_UNSET",), "nothing", headers=lambda values: {"X-Unset": values["SMALL_UNSET"]}),
        ),
    )


SECRETS = {"SMALL_USERNAME": "canary user", "SMALL_PASSWORD": CANARY, "SMALL_API_KEY": CANARY + "key"}


def assert_no_secret(*texts: str | bytes) -> None:
    for text in texts:
        data = text.encode() if isinstance(text, str) else text
        for form in (b"canary", base64.b64encode(f"canary user:{CANARY}".encode()), b"9 c=1", b"9%20c", b"9+c"):
            assert form not in data, data


def echo(asked: Asked) -> str:
    return f"{asked.query.get('api_key')} {asked.headers.get('authorization')} {dict(asked.headers)}"


def test_credentials_are_sent_where_all_their_variables_are_set(tmp_path):
    with Loopback(rows) as server:
        Fetcher(tmp_path, server, secret_archive(), environment=SECRETS)(
            request(params=(("api_key", "old"), ("a", "1")))
        )
        Fetcher(tmp_path, server, secret_archive(), environment={"SMALL_USERNAME": "canary user"})()
        first, second = (served.asked for served in server.served)
    assert first.query == {"a": ["1"], "api_key": [CANARY + "key"]}
    assert base64.b64decode(first.headers["authorization"].split()[1]).decode() == f"canary user:{CANARY}"
    assert "x-unset" not in first.headers
    assert "authorization" not in second.headers
    assert second.query == {}


def test_a_credential_may_raise_the_rate():
    keyed = Credential(("SMALL_KEY",), "more", requests_per_second=10.0)
    archive = small_archive(requests_per_second=3.0, credentials=(keyed, Credential(("SMALL_EMAIL",), "contact")))
    rates = [
        Credentials(archive, dict.fromkeys(names, "x")).requests_per_second
        for names in ((), ("SMALL_EMAIL",), ("SMALL_KEY",), ("SMALL_EMAIL", "SMALL_KEY"))
    ]
    assert rates == [3.0, 3.0, 10.0, 10.0]


def test_credentials_are_not_sent_without_encryption_or_to_another_host(tmp_path):
    for place, (url, location) in enumerate(
        [
            ("http://archive.test/data", "/b"),
            (URL, "https://files.test/b"),
            (URL, "http://archive.test/b"),
        ]
    ):
        with Loopback(redirecting(location), ("archive.test", "files.test")) as server:
            Fetcher(tmp_path / str(place), server, secret_archive(), environment=SECRETS)(request(url=url))
            sent = [("authorization" in each.asked.headers, "api_key" in each.asked.query) for each in server.served]
        assert sent == [(url == URL, url == URL), (False, False)]


def test_no_secret_gets_into_an_error_a_log_or_a_file(tmp_path, caplog):
    caplog.set_level(logging.DEBUG)

    def answer(asked: Asked) -> Reply:
        text = echo(asked).encode()
        if asked.path == "/refused":
            return Reply(403, {}, text)
        if asked.path == "/down":
            return Reply(503, {}, text)
        if asked.path == "/away":
            return Reply(302, {"Location": f"https://elsewhere.test/{asked.query['api_key'][0]}"}, b"")
        if asked.path == "/page":
            return Reply(200, {}, b"<html>" + text + b"</html>")
        return Reply(
            200, {"Link": f"<{URL}?api_key={CANARY}key>"}, b'{"asked": "' + text.replace(b'"', b"'") + b'"}\n'
        )

    errors, rejected = [], []
    with Loopback(answer) as server:
        for path in ("refused", "down", "away", "page"):
            fetch = Fetcher(tmp_path, server, secret_archive(), environment=SECRETS, attempts=2)
            with pytest.raises(RequestFailedError) as caught:
                fetch(request(url=f"https://archive.test/{path}"))
            errors.append(str(caught.value))
            rejected += fetch.rejected
            assert caught.value.__cause__ is None
        received = fetch(request(url="https://archive.test/good"), "json")
        asked = [served.asked for served in server.served]
    assert all("authorization" in each.headers for each in asked)
    assert len(rejected) == 2
    assert "Check the values of SMALL_USERNAME, SMALL_PASSWORD, SMALL_API_KEY." in errors[0]
    files = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert files
    assert "HTTP Request: GET" in caplog.text
    assert_no_secret(caplog.text, repr(received), *errors, *(body + reason.encode() for body, reason in rejected))
    # In data, a user name stays: it may be that of an observer.
    assert_no_secret(*(body.replace(b"canary user", b"") for body in files))


@pytest.mark.parametrize("value", ["canary\r\nX-Other: 1", "canaré"])
def test_a_credential_that_no_header_can_carry_is_refused_without_showing_it(value):
    archive = small_archive(
        credentials=(Credential(("SMALL_TOKEN",), "", headers=lambda values: {"X-Token": values["SMALL_TOKEN"]}),)
    )
    with pytest.raises(BuildError, match="SMALL_TOKEN must be printable ASCII") as caught:
        Transport(archive, environment={"SMALL_TOKEN": value})
    assert "canar" not in str(caught.value)


def test_a_missing_credential_is_named_where_the_archive_refuses(tmp_path):
    with (
        Loopback(lambda asked: Reply(401, {}, b"")) as server,
        pytest.raises(RequestFailedError, match=r"status 401 .*set SMALL_USERNAME, SMALL_PASSWORD, SMALL_API_KEY"),
    ):
        Fetcher(tmp_path, server, secret_archive())()


@pytest.mark.parametrize("at", [(1 << 20) - 20, (1 << 20) - 1, 0])
def test_a_secret_across_two_reads_of_a_body_is_found(tmp_path, at):
    def answer(asked: Asked) -> Reply:
        text = b"x" * at + CANARY.encode() + b"y" * (1 << 20) + CANARY.encode()
        return Reply(200, {}, text + b"\n")

    with Loopback(answer) as server:
        fetch = Fetcher(tmp_path, server, secret_archive(), environment=SECRETS)
        fetch.assert_is(fetch(body_format="text"), b"x" * at + b"***" + b"y" * (1 << 20) + b"***\n")
