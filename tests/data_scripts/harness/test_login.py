"""Names and passwords that become tokens: asked for once, again when they end, and as secret as the others."""

import logging
from dataclasses import replace

import pytest
from loopback import Loopback
from replay import Asked, Reply
from small_archive import small_archive
from transport_tools import Fetcher, request

from data_scripts.archives.eso_vlt import ARCHIVE as ESO
from data_scripts.harness.archive import Credential, Login
from data_scripts.harness.errors import RequestFailedError


SECRETS = {"SMALL_USERNAME": "canary user", "SMALL_PASSWORD": "canary/Zq61 &"}
HOSTS = ("archive.test", "login.test")
LOGIN = Login(
    "https://login.test/token", lambda values: {"u": values["SMALL_USERNAME"], "p": values["SMALL_PASSWORD"]}, "id"
)
ARCHIVE = small_archive(credentials=(Credential(tuple(SECRETS), "proprietary data", login=LOGIN),))


class Guarded:
    """An archive that wants the newest token, and repeats what it is sent."""

    def __init__(self, lasts: int = 1000, right: bool = True) -> None:
        self.lasts = lasts
        self.right = right
        self.tokens = 0
        self.left = 0

    def __call__(self, asked: Asked) -> Reply:
        sent = f"{dict(asked.query)} {asked.headers.get('authorization')}"
        if asked.headers["host"] == "login.test":
            assert asked.query == {"u": [SECRETS["SMALL_USERNAME"]], "p": [SECRETS["SMALL_PASSWORD"]]}
            assert "authorization" not in asked.headers
            if not self.right:
                return Reply(401, {}, f"not you: {sent}".encode())
            self.tokens, self.left = self.tokens + 1, self.lasts
            return Reply(200, {}, b'{"id": "canary.token%d.Zq62", "id2": 3}' % self.tokens)
        if asked.headers.get("authorization") != f"Bearer canary.token{self.tokens}.Zq62" or not self.left:
            return Reply(401, {}, sent.encode())
        self.left -= 1
        return Reply(200, {"Link": f"<{sent}>"}, f"a,b\n1,{sent.replace(',', ';')}\n".encode())


def test_a_token_is_asked_for_once_and_again_when_it_ended(tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    guarded = Guarded(lasts=3)
    with Loopback(guarded, HOSTS) as server:
        fetch = Fetcher(tmp_path, server, ARCHIVE, environment=SECRETS)
        pages = [request(params=(("page", str(number)),)) for number in range(7)]
        bodies = [received.path.read_bytes() for received in fetch.all(pages)]
        hosts = [served.asked.headers["host"] for served in server.served]
    assert guarded.tokens == 3
    assert hosts.count("login.test") == 3
    assert hosts[:2] == ["login.test", "archive.test"]
    assert all(b"Bearer ***" in body for body in bodies)
    files = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert not [text for text in [caplog.text.encode(), *files] if b"Zq6" in text]


def test_a_log_in_that_is_refused_is_told_without_the_secrets(tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    with Loopback(Guarded(right=False), HOSTS) as server:
        with pytest.raises(
            RequestFailedError, match=r"failed: status 401: the log-in at https://login.test/token .*Check"
        ) as caught:
            Fetcher(tmp_path, server, ARCHIVE, environment=SECRETS)()
        assert len(server.served) == 1
    assert "Zq61" not in str(caught.value) + caplog.text
    assert "canary user" not in str(caught.value)


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b"<html>", b'{"id": ""}', b'{"id": 3}', b'{"id": "a\\nb"}'])
def test_a_log_in_that_gives_no_token_is_told(tmp_path, body):
    with (
        Loopback(lambda asked: Reply(200, {}, body), HOSTS) as server,
        pytest.raises(RequestFailedError, match=r"the log-in at https://login.test/token gave no id"),
    ):
        Fetcher(tmp_path, server, ARCHIVE, environment=SECRETS)()


def test_a_log_in_that_is_busy_is_asked_again(tmp_path):
    guarded, busy = Guarded(), [Reply(503), Reply(500)]

    def answer(asked: Asked) -> Reply:
        return busy.pop() if asked.headers["host"] == "login.test" and busy else guarded(asked)

    with Loopback(answer, HOSTS) as server:
        fetch = Fetcher(tmp_path, server, ARCHIVE, environment=SECRETS)
        assert fetch().status == 200
    assert server.statuses == [500, 503, 200, 200]


def test_what_needs_no_log_in(tmp_path):
    """Part of the variables, an address without encryption, and a token that the environment has."""
    own = Credential(("SMALL_TOKEN",), "", headers=lambda values: {"Authorization": f"Bearer {values['SMALL_TOKEN']}"})
    both = replace(ARCHIVE, credentials=(*ARCHIVE.credentials, own))
    for place, (archive, environment, url) in enumerate(
        [
            (ARCHIVE, {"SMALL_USERNAME": "canary user"}, "https://archive.test/data"),
            (ARCHIVE, SECRETS, "http://archive.test/data"),
            (both, SECRETS | {"SMALL_TOKEN": "own"}, "https://archive.test/data"),
        ]
    ):
        with Loopback(lambda asked: Reply(200, {}, b"a,b\n1,2\n"), HOSTS) as server:
            Fetcher(tmp_path / str(place), server, archive, environment=environment)(request(url=url))
            [asked] = [served.asked for served in server.served]
            assert asked.headers.get("authorization") == ("Bearer own" if archive is both else None)


def test_eso(tmp_path):
    asked = []

    def answer(each: Asked) -> Reply:
        asked.append(each)
        if each.headers["host"] == "www.eso.org":
            return Reply(200, {}, b'{"access_token": "a", "id_token": "one.two.three", "expires_in": 28800}')
        return Reply(200, {}, b"a,b\n1,2\n")

    environment = {"ESO_USERNAME": "someone", "ESO_PASSWORD": "pass & word"}
    with Loopback(answer, (*ESO.hosts, "www.eso.org")) as server:
        Fetcher(tmp_path, server, ESO, environment=environment)(request(url="https://archive.eso.org/tap_obs/sync"))
    assert (asked[0].method, asked[0].path) == ("GET", "/sso/oidc/token")
    assert asked[0].query == {
        "response_type": ["id_token token"],
        "grant_type": ["password"],
        "client_id": ["clientid"],
        "username": ["someone"],
        "password": ["pass & word"],
    }
    assert asked[1].headers["authorization"] == "Bearer one.two.three"
    assert "www.eso.org" not in ESO.hosts
