"""Uploads to a server that answers as the Hub does."""

import json
import subprocess
import sys

import pytest
from built_folders import CHECKOUT, ENVIRONMENT, bytes_of
from hub_server import HubServer


TOKEN = "hf_tokenZq91"


@pytest.fixture
def folder(tmp_path):
    out = tmp_path / "built"
    for name, content in {
        "README.md": b"---\npretty_name: x\n---\n",
        "stars/train-00000-of-00001.parquet": bytes(range(256)) * 40,
        "quality/quality.json": json.dumps({"failed_gates": []}).encode(),
    }.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(content)
    return out


def push(folder, hub, *more, token=TOKEN):
    environment = {
        **ENVIRONMENT,
        "HF_ENDPOINT": hub.origin,
        "HF_HUB_OFFLINE": "0",
        "HF_HOME": str(folder.parent / "home"),
    }
    environment |= {} if token is None else {"HF_TOKEN": token}
    return subprocess.run(
        [sys.executable, "-m", "data_scripts", "push", str(folder), "someone/stars", *more],
        env=environment,
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_every_file_is_uploaded(folder):
    with HubServer() as hub:
        done = push(folder, hub, "--private")
    assert done.returncode == 0, done.stderr
    assert hub.files == bytes_of(folder)
    assert hub.tokens - {None} == {f"Bearer {TOKEN}"}
    [repository] = hub.repositories
    assert (repository["name"], repository["organization"]) == ("stars", "someone")
    assert repository["type"] == "dataset"
    # Older clients send the first, newer ones the second.
    assert repository.get("private") is True or repository.get("visibility") == "private"
    assert f"{hub.origin}/datasets/someone/stars/commit/111" in done.stdout


def test_a_folder_below_its_gates_is_refused_unless_told(folder):
    gates = {"failed_gates": ["stars: validity must be above 0.98; got 0.9000"]}
    (folder / "quality" / "quality.json").write_text(json.dumps(gates), encoding="utf-8")
    with HubServer() as hub:
        done = push(folder, hub)
        assert done.returncode == 2
        assert "must pass its quality gates; got stars: validity" in done.stderr
        assert hub.asked == []
        assert push(folder, hub, "--allow-below-gate").returncode == 0
        assert hub.files == bytes_of(folder)


def test_what_has_no_licence_is_uploaded_to_a_private_repository_alone(folder):
    (folder / "README.md").write_text("---\nlicense: other\nlicense_name: no-licence-stated\n---\n# x\n")
    with HubServer() as hub:
        refused = push(folder, hub)
        assert refused.returncode == 2
        assert "must have a licence to be published; got no-licence-stated. Pass --private" in refused.stderr
        assert hub.files == {}
        assert push(folder, hub, "--private").returncode == 0
        assert hub.files == bytes_of(folder)


def test_a_card_that_is_no_yaml_is_named(folder):
    (folder / "README.md").write_text("---\na: [\n---\n")
    with HubServer() as hub:
        refused = push(folder, hub)
    assert refused.returncode == 2
    assert "must begin with YAML between two lines of ---" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_without_a_token(folder):
    with HubServer() as hub:
        done = push(folder, hub, token=None)
    assert done.returncode == 2
    assert "HF_TOKEN must hold a token" in done.stderr
    assert hub.asked == []


def test_a_folder_that_was_not_built(tmp_path):
    with HubServer() as hub:
        done = push(tmp_path, hub)
    assert done.returncode == 2
    assert "folder must be what build wrote, with a README.md" in done.stderr


@pytest.mark.parametrize("status", [401, 403])
def test_a_refusal_is_told_without_the_token(folder, status):
    with HubServer(refuses=status) as hub:
        done = push(folder, hub)
    assert done.returncode == 2
    assert "the Hub did not take someone/stars: " in done.stderr
    assert str(status) in done.stderr
    assert TOKEN not in done.stderr + done.stdout
    assert "Traceback" not in done.stderr
