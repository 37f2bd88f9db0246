"""Checkpoints are whole or absent, damage is named, and the last good one is offered."""

import json
import random
import shutil
from pathlib import Path

import pytest

from modeling_astrobio.training import checkpoints
from modeling_astrobio.training.checkpoints import (
    MANIFEST_NAME,
    find_checkpoints,
    last_good_checkpoint,
    publish_folder,
    remove_checkpoint,
    resolve_resume,
    verify_checkpoint,
    write_whole,
)
from modeling_astrobio.training.errors import CheckpointError


def write_checkpoint(run_dir, step: int, seed: int = 0):
    rng = random.Random(f"{step}:{seed}")
    target = run_dir / f"checkpoint-{step}"
    with write_whole(target) as folder:
        (folder / "weights.bin").write_bytes(rng.randbytes(1013))
        (folder / "nested").mkdir()
        (folder / "nested" / "state.json").write_text(json.dumps({"step": step}), encoding="utf-8")
        (folder / "empty").touch()
    return target


def test_manifest_lists_every_file(tmp_path):
    checkpoint = write_checkpoint(tmp_path, 3)
    files = json.loads((checkpoint / MANIFEST_NAME).read_text(encoding="utf-8"))["files"]
    assert sorted(files) == ["empty", "nested/state.json", "weights.bin"]
    assert files["weights.bin"]["bytes"] == 1013
    # SHA-256 of nothing.
    assert files["empty"] == {
        "bytes": 0,
        "sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    }
    assert verify_checkpoint(checkpoint) is None
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-3"]


def test_folder_replaces_the_one_of_its_name(tmp_path):
    before = (write_checkpoint(tmp_path, 3, seed=1) / "weights.bin").read_bytes()
    checkpoint = write_checkpoint(tmp_path, 3, seed=2)
    assert (checkpoint / "weights.bin").read_bytes() != before
    assert verify_checkpoint(checkpoint) is None
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-3"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, ValueError])
def test_interrupted_writing_leaves_what_was_there(tmp_path, error):
    before = (write_checkpoint(tmp_path, 3) / "weights.bin").read_bytes()

    def write():
        with write_whole(tmp_path / "checkpoint-3") as folder:
            (folder / "weights.bin").write_bytes(b"half")
            raise error("stop")

    with pytest.raises(error, match="stop"):
        write()
    assert (tmp_path / "checkpoint-3" / "weights.bin").read_bytes() == before
    assert verify_checkpoint(tmp_path / "checkpoint-3") is None
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-3"]


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos"),
    ],
)
def test_failure_to_write_is_a_checkpoint_error(tmp_path, error):
    def write(folder_name):
        with write_whole(tmp_path / folder_name / "checkpoint-4"):
            raise error

    with pytest.raises(CheckpointError, match=r"could not write .*checkpoint-4: .* GiB are free .* start again"):
        write("none")
    write_checkpoint(tmp_path / "some", 3)
    with pytest.raises(CheckpointError, match=r"The last good checkpoint is .*checkpoint-3; free space and continue"):
        write("some")


def test_leftovers_of_a_killed_writer_are_no_checkpoints_and_in_nobodys_way(tmp_path):
    for name in (".checkpoint-4.partial", ".checkpoint-4.old", ".saving", "checkpoint-x", "checkpoint-4.tmp"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "weights.bin").write_bytes(b"half")
    assert find_checkpoints(tmp_path) == []
    write_checkpoint(tmp_path, 4)
    assert find_checkpoints(tmp_path) == [tmp_path / "checkpoint-4"]
    assert sorted(path.name for path in (tmp_path / "checkpoint-4").iterdir()) == [
        "empty",
        MANIFEST_NAME,
        "nested",
        "weights.bin",
    ]


def test_checkpoints_are_ordered_by_step_and_not_by_letter(tmp_path):
    for step in (9, 100, 20):
        write_checkpoint(tmp_path, step)
    assert [path.name for path in find_checkpoints(tmp_path)] == ["checkpoint-100", "checkpoint-20", "checkpoint-9"]
    assert find_checkpoints(tmp_path / "absent") == []


def remove(path):
    path.unlink()


def truncate(path):
    path.write_bytes(path.read_bytes()[:-1])


def lengthen(path):
    path.write_bytes(path.read_bytes() + b"\0")


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


DAMAGE = {
    "missing": (lambda folder: remove(folder / "weights.bin"), "weights.bin is missing"),
    "missing nested": (lambda folder: shutil.rmtree(folder / "nested"), "nested/state.json is missing"),
    "truncated": (lambda folder: truncate(folder / "weights.bin"), "weights.bin has 1012 bytes instead of 1013"),
    "longer": (lambda folder: lengthen(folder / "empty"), "empty has 1 bytes instead of 0"),
    "bit flip": (lambda folder: flip(folder / "weights.bin"), "weights.bin has other content than was written"),
    "no manifest": (lambda folder: remove(folder / MANIFEST_NAME), "its manifest.json cannot be read"),
    "half a manifest": (lambda folder: truncate(folder / MANIFEST_NAME), "its manifest.json cannot be read"),
    "empty": (lambda folder: [shutil.rmtree(folder), folder.mkdir()], "its manifest.json cannot be read"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_named_and_the_last_good_checkpoint_offered(tmp_path, kind):
    damage, message = DAMAGE[kind]
    for step in (2, 4, 6):
        write_checkpoint(tmp_path, step)
    damage(tmp_path / "checkpoint-6")
    good = tmp_path / "checkpoint-4"
    for resume in ("last", str(tmp_path / "checkpoint-6")):
        with pytest.raises(CheckpointError, match=rf"checkpoint-6 is damaged: {message}.*pass --resume {good}\.$"):
            resolve_resume(tmp_path, resume)
    assert resolve_resume(tmp_path, "auto") == good
    assert resolve_resume(tmp_path, str(tmp_path / "checkpoint-2")) == tmp_path / "checkpoint-2"


@pytest.mark.parametrize(
    "content",
    [
        "",
        "null",
        "[]",
        "3",
        "{}",
        '{"files": null}',
        '{"files": [1]}',
        '{"files": {"empty": 3}}',
        '{"files": {"a": {}}}',
    ],
)
def test_manifest_of_any_other_shape_is_damage(tmp_path, content):
    checkpoint = write_checkpoint(tmp_path, 3)
    (checkpoint / MANIFEST_NAME).write_text(content, encoding="utf-8")
    assert "its manifest.json cannot be read" in verify_checkpoint(checkpoint)


def test_every_flipped_bit_is_found(tmp_path):
    checkpoint = write_checkpoint(tmp_path, 3)
    rng = random.Random(0)
    for name in ("weights.bin", "nested/state.json", MANIFEST_NAME):
        content = (checkpoint / name).read_bytes()
        for _ in range(150):
            flipped = bytearray(content)
            flipped[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
            (checkpoint / name).write_bytes(flipped)
            assert verify_checkpoint(checkpoint) is not None, (name, bytes(flipped))
        (checkpoint / name).write_bytes(content)
        assert verify_checkpoint(checkpoint) is None


def test_the_newest_whole_checkpoint_is_resumed(tmp_path):
    for step in (9, 10):
        write_checkpoint(tmp_path, step)
    assert resolve_resume(tmp_path, "last") == tmp_path / "checkpoint-10"
    assert resolve_resume(tmp_path, "auto") == tmp_path / "checkpoint-10"


def test_resuming_without_a_checkpoint_is_refused_or_begins(tmp_path):
    with pytest.raises(CheckpointError, match=r"--resume needs .*got none. Start without --resume, or pass --resume"):
        resolve_resume(tmp_path / "absent", "last")
    assert resolve_resume(tmp_path / "absent", "auto") is None


def test_resuming_from_no_folder_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="got 'checkpoint-99', which is not a folder"):
        resolve_resume(tmp_path, "checkpoint-99")


def test_nothing_whole_is_said(tmp_path):
    truncate(write_checkpoint(tmp_path, 3) / "weights.bin")
    with pytest.raises(CheckpointError, match=r"is damaged: .* No whole checkpoint is left\."):
        resolve_resume(tmp_path, "last")
    with pytest.raises(CheckpointError, match=r"no whole checkpoint is left .* checkpoint-3: weights.bin has 1012"):
        resolve_resume(tmp_path, "auto")


def test_damaged_checkpoints_are_named_and_set_aside(tmp_path, capsys):
    for step in (7, 9, 11):
        write_checkpoint(tmp_path, step)
    flip(tmp_path / "checkpoint-11" / "weights.bin")
    (tmp_path / "checkpoint-9" / MANIFEST_NAME).unlink()
    assert resolve_resume(tmp_path, "auto") == tmp_path / "checkpoint-7"
    said = capsys.readouterr().out
    for words in (
        "checkpoint-11 is damaged: weights.bin has other content",
        "checkpoint-9 is damaged: its manifest.json cannot be read",
        "It is now damaged-checkpoint-9; checkpoint-7 is used",
    ):
        assert words in said
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["checkpoint-7", "damaged-checkpoint-11", "damaged-checkpoint-9"]


def test_published_folder_may_replace_a_damaged_one(tmp_path):
    damaged = write_checkpoint(tmp_path, 3)
    flip(damaged / "weights.bin")
    staging = tmp_path / "staging"
    staging.mkdir()
    (staging / "weights.bin").write_bytes(b"new")
    publish_folder(staging, damaged)
    assert verify_checkpoint(damaged) is None
    assert sorted(path.name for path in damaged.iterdir()) == [MANIFEST_NAME, "weights.bin"]


def test_checkpoints_of_a_later_step_can_be_left_out(tmp_path):
    for step in (5, 10, 20):
        write_checkpoint(tmp_path, step)
    assert last_good_checkpoint(tmp_path) == tmp_path / "checkpoint-20"
    assert last_good_checkpoint(tmp_path, before_step=12) == tmp_path / "checkpoint-10"
    flip(tmp_path / "checkpoint-10" / "weights.bin")
    assert last_good_checkpoint(tmp_path, before_step=12) == tmp_path / "checkpoint-5"
    assert last_good_checkpoint(tmp_path, before_step=5) is None


@pytest.mark.parametrize("is_killed", [False, True])
def test_checkpoint_written_anew_is_never_lost(tmp_path, monkeypatch, is_killed):
    """Between the old folder's new name and the new folder's own: an error, or the end of the process."""
    old = write_checkpoint(tmp_path, 4)
    staging = tmp_path / "staging"
    staging.mkdir()
    (staging / "weights.bin").write_bytes(b"new")
    rename = Path.rename

    def fail(path, target):
        if path == staging:
            raise OSError(28, "No space left on device")
        return rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", fail)
        if is_killed:
            patch.setattr(checkpoints, "restore_unpublished", lambda folder: None)
        with pytest.raises(OSError, match="No space left"):
            publish_folder(staging, old)
    assert old.exists() is not is_killed
    assert resolve_resume(tmp_path, "auto") == old
    assert verify_checkpoint(old) is None


def test_file_that_cannot_be_read_is_damage(tmp_path, monkeypatch):
    for step in (7, 8):
        write_checkpoint(tmp_path, step)

    def digest(path):
        if "checkpoint-8" in str(path):
            raise OSError(5, "Input/output error")
        return real(path)

    real = checkpoints._digest
    monkeypatch.setattr(checkpoints, "_digest", digest)
    assert "cannot be read ([Errno 5]" in verify_checkpoint(tmp_path / "checkpoint-8")
    assert resolve_resume(tmp_path, "auto") == tmp_path / "checkpoint-7"


def test_checkpoint_that_cannot_be_removed_is_named_and_gone(tmp_path, monkeypatch, caplog):
    checkpoint = write_checkpoint(tmp_path, 3)
    remove = shutil.rmtree

    def busy(path, **options):
        if not options:
            raise OSError(16, "Device or resource busy")
        remove(path, **options)

    monkeypatch.setattr(checkpoints.shutil, "rmtree", busy)
    remove_checkpoint(checkpoint)
    assert "checkpoint-3 cannot be removed" in caplog.text
    assert find_checkpoints(tmp_path) == []
