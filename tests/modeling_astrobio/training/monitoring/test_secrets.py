"""Secrets of the environment are known by name, taken out of texts, and found in files."""

import base64
import json
import os
import re
import sys
from urllib.parse import quote

import pytest

from modeling_astrobio.training.monitoring.secrets import UNREADABLE, _forms, find_leaks, redact, secret_values


CANARY = 'c4n/ry+"=é 77?'


@pytest.mark.parametrize(
    "name",
    [
        "HF_TOKEN",
        "HFTOKEN",
        "hf_token",
        "WANDB_API_KEY",
        "APIKEY",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_ACCESS_KEY_ID",
        "PGPASSWORD",
        "MYSQL_PASSWD",
        "SSH_PASSPHRASE",
        "SIGNING_KEY",
        "GOOGLE_CREDENTIALS",
        "MODELING_ASTROBIO_WEBHOOK",
        "SLACK_WEBHOOK_URL",
        "GITHUB_PAT",
    ],
)
def test_names_of_secrets_are_known(name):
    assert secret_values({name: "12345678"}) == {name: "12345678"}


@pytest.mark.parametrize(
    "name",
    [
        "TOKENIZERS_PARALLELISM",
        "HF_TOKEN_PATH",
        "KEYBOARD_LAYOUT",
        "MONKEY",
        "COMPAT",
        "BYPASS_CACHE",
        "MAX_KEYSIZE",
        "SSH_AUTH_SOCK",
        "PATH",
        "AUTHOR",
    ],
)
def test_other_names_are_no_secrets(name):
    assert secret_values({name: "12345678"}) == {}


def test_short_values_and_places_are_no_secrets(tmp_path):
    environ = {"A_TOKEN": "1234567", "A_CREDENTIALS": str(tmp_path), "B_TOKEN": "/absent-and-thus-a-value"}
    assert secret_values(environ) == {"B_TOKEN": "/absent-and-thus-a-value"}


def test_passwords_in_urls_are_secrets():
    environ = {
        "HTTPS_PROXY": "http://someone:hunter2-hunter2@proxy:3128",
        "PLAIN_PROXY": "http://proxy:3128",
        "OTHER": "mail@host",
    }
    assert secret_values(environ) == {"HTTPS_PROXY": "hunter2-hunter2"}


def forms_in_the_wild(secret: str) -> dict[str, str]:
    return {
        "plain": f"key={secret};",
        "json": json.dumps({"key": secret}),
        "url": f"https://host/?key={quote(secret, safe='')}&x=1",
        "url_lower": re.sub(r"%..", lambda match: match[0].lower(), f"https://host/?key={quote(secret, safe='')}&x=1"),
        "repr": repr({"key": secret}),
        **{
            f"base64 after {before} bytes": base64.b64encode(
                b"\xff" * before + secret.encode() + b"\xff" * after
            ).decode()
            for before in range(4)
            for after in range(3)
        },
        "base64 of a URL": base64.urlsafe_b64encode(b"user:" + secret.encode()).decode(),
    }


@pytest.mark.parametrize(
    "secret", [CANARY, "exactly8", "nine-long", "a much longer value, of thirty-seven.", "\xfb\xff" * 5]
)
def test_every_form_is_taken_out_and_found(tmp_path, secret):
    environ = {"CANARY_TOKEN": secret, "OTHER_TOKEN": "not-in-there"}
    for name, text in forms_in_the_wild(secret).items():
        cleaned = redact(text, environ)
        assert "***" in cleaned, name
        assert not any(form in cleaned for form in _forms(secret)), name
        path = tmp_path / name.replace(" ", "-")
        path.write_text(text, encoding="utf-8")
        assert find_leaks(tmp_path, environ) == [(path, "CANARY_TOKEN")], name
        path.write_text(cleaned, encoding="utf-8")
        assert find_leaks(tmp_path, environ) == [], name
        path.unlink()


@pytest.mark.skipif(not hasattr(os, "environb"), reason="needs variables of bytes")
def test_values_need_not_be_utf8(tmp_path, monkeypatch):
    monkeypatch.setitem(os.environb, b"CANARY_TOKEN", b"canary\xff\xfe\xfd")
    (tmp_path / "log").write_bytes(b"a canary\xff\xfe\xfd b")
    assert find_leaks(tmp_path) == [(tmp_path / "log", "CANARY_TOKEN")]
    assert redact(f"a {os.environ['CANARY_TOKEN']} b, canary%FF%FE%FD") == "a *** b, ***"


def test_other_text_is_left_alone():
    text = f"naïve {base64.b64encode(b'a public text, as long as it gets').decode()} ∞\n"
    assert redact(text, {"CANARY_TOKEN": CANARY}) == text


def test_environment_of_this_process_is_the_default(monkeypatch, tmp_path):
    monkeypatch.setenv("CANARY_TOKEN", "canary-canary")
    assert redact("a canary-canary b") == "a *** b"
    (tmp_path / "log").write_bytes(b"canary-canary")
    assert find_leaks(tmp_path) == [(tmp_path / "log", "CANARY_TOKEN")]
    monkeypatch.setenv("CANARY_TOKEN", "another-bird")
    assert redact("a canary-canary b, another-bird") == "a canary-canary b, ***"


def test_path_of_a_webhook_is_taken_out():
    environ = {"MODELING_ASTROBIO_WEBHOOK": "https://hooks.example.org/services/T000/B000/XXXX"}
    assert redact('"POST /services/T000/B000/XXXX" 500', environ) == '"POST ***" 500'


@pytest.mark.parametrize("shift", [-13, -7, -1, 0, 1])
def test_value_across_chunks_is_found(tmp_path, monkeypatch, shift):
    chunk = 1 << 12
    monkeypatch.setattr("modeling_astrobio.training.monitoring.secrets._CHUNK", chunk)
    path = tmp_path / "sub" / "model.bin"
    path.parent.mkdir()
    path.write_bytes(os.urandom(2 * chunk + shift) + b"canary-canary" + os.urandom(chunk))
    assert find_leaks(tmp_path, {"CANARY_TOKEN": "canary-canary"}) == [(path, "CANARY_TOKEN")]


def test_names_of_files_and_folders_are_searched(tmp_path):
    path = tmp_path / "run-canary-canary"
    path.mkdir()
    (path / "canary-canary.log").touch()
    leaks = find_leaks(tmp_path, {"CANARY_TOKEN": "canary-canary"})
    assert leaks == [(path, "CANARY_TOKEN"), (path / "canary-canary.log", "CANARY_TOKEN")]


@pytest.mark.skipif(sys.platform == "win32", reason="needs pipes with a name, and links")
def test_what_cannot_be_read_is_listed_and_pipes_do_not_hang(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "broken").symlink_to(tmp_path / "absent")
    assert find_leaks(tmp_path, {"CANARY_TOKEN": "canary-canary"}) == [(tmp_path / "broken", UNREADABLE)]
    assert find_leaks(tmp_path / "absent", {}) == [(tmp_path / "absent", UNREADABLE)]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_file_without_permission_is_listed(tmp_path):
    (tmp_path / "locked").write_text("canary-canary", encoding="utf-8")
    (tmp_path / "locked").chmod(0)
    assert find_leaks(tmp_path, {"CANARY_TOKEN": "canary-canary"}) == [(tmp_path / "locked", UNREADABLE)]


def test_no_secrets_no_leaks(tmp_path):
    (tmp_path / "log").write_text("nothing to hide", encoding="utf-8")
    assert find_leaks(tmp_path, {"HOME": "nothing to hide"}) == []
