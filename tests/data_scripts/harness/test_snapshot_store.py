"""The snapshot store: what is kept is found, by every process, until it is damaged, too old or withdrawn."""

import asyncio
import datetime
import hashlib
import json
import multiprocessing
import os
import time

import pytest

from data_scripts.harness.archive import Request
from data_scripts.harness.errors import BuildError
from data_scripts.harness.snapshot import Snapshot, sha256_of
from data_scripts.harness.transport import Received


BODY = "star,mass\nTest-1,0.5\nΩ,1.5\n".encode()
START = datetime.datetime(2031, 5, 6, 7, 8, 9, 654321, tzinfo=datetime.UTC)


class Clock:
    def __init__(self):
        self.time = START

    def __call__(self):
        return self.time


def question(number=1):
    return Request("https://archive.test/list", "list", params=(("page", str(number)),), release="r7")


def put(snapshot, request, body=BODY):
    partial = snapshot.partial(request)
    partial.write_bytes(body)
    received = Received(200, {"etag": '"1"'}, hashlib.sha256(body).hexdigest(), len(body), partial)
    return snapshot.put(request, received)


def test_round_trip(tmp_path):
    snapshot = Snapshot(tmp_path, clock=Clock())
    assert snapshot.find(question()) is None
    kept = put(snapshot, question())
    for found in (snapshot.find(question()), Snapshot(tmp_path).find(question())):
        assert found == kept
        assert found.body == BODY
        assert (found.status, found.headers, found.retrieved_at) == (200, {"etag": '"1"'}, "2031-05-06T07:08:09Z")
    assert kept.path == tmp_path / "bodies" / kept.sha256[:2] / kept.sha256
    assert not any((tmp_path / "partial").iterdir())
    record = json.loads((tmp_path / "manifest.jsonl").read_text(encoding="utf-8"))
    assert (record["url"], record["params"], record["release"]) == (question().url, [["page", "1"]], "r7")


def test_everything_that_changes_the_answer_is_another_request(tmp_path):
    snapshot = Snapshot(tmp_path)
    put(snapshot, question())
    asked = {"url": question().url, "stage": "list", "params": question().params, "release": "r7"}
    assert snapshot.find(Request(**asked)) is not None
    changes = [
        {"release": "r8"},
        {"method": "POST"},
        {"method": "POST", "body": b"x"},
        {"accept": "text/csv"},
        {"params": (("page", "2"),)},
        {"url": "https://archive.test/lists"},
    ]
    for change in changes:
        assert snapshot.find(Request(**{**asked, **change})) is None


def test_the_newest_body_counts_and_two_requests_can_share_one(tmp_path):
    snapshot = Snapshot(tmp_path)
    old = put(snapshot, question())
    new = put(snapshot, question(), b"new\n")
    put(snapshot, question(2))
    for reader in (snapshot, Snapshot(tmp_path)):
        assert reader.find(question()) == new
        assert reader.find(question(2)).sha256 == old.sha256


def test_age(tmp_path):
    clock = Clock()
    put(Snapshot(tmp_path, clock=clock), question())
    clock.time = START + datetime.timedelta(days=2)
    assert Snapshot(tmp_path, clock=clock).find(question()) is not None
    assert Snapshot(tmp_path, clock=clock, max_age_days=2).find(question()) is not None
    snapshot = Snapshot(tmp_path, clock=clock, max_age_days=1.9)
    assert snapshot.find(question()) is None
    put(snapshot, question(), b"new\n")
    clock.time += datetime.timedelta(days=30)
    # What was fetched during a build does not grow too old for it.
    assert snapshot.find(question()).body == b"new\n"


@pytest.mark.parametrize("cut", [1, 40, 10_000])
def test_a_torn_line_is_ignored_and_cut_off_by_the_next(tmp_path, cut):
    snapshot = Snapshot(tmp_path)
    put(snapshot, question(1))
    whole = (tmp_path / "manifest.jsonl").read_bytes()
    put(snapshot, question(2), b"x" * 7)
    lines = (tmp_path / "manifest.jsonl").read_bytes()
    torn = lines[: max(len(whole), len(lines) - cut)] + (b"" if cut < 10_000 else b"\0" * 100_000)
    (tmp_path / "manifest.jsonl").write_bytes(torn)
    after = Snapshot(tmp_path)
    assert after.find(question(1)) is not None
    assert after.find(question(2)) is None
    put(after, question(3), b"y\n")
    records = [json.loads(line) for line in (tmp_path / "manifest.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [record["params"][0][1] for record in records] == ["1", "3"]
    assert after.find(question(3)) == Snapshot(tmp_path).find(question(3))


@pytest.mark.parametrize(
    "line",
    [
        b"{broken}",
        b"",
        b"\xff\xfe",
        b"null",
        b"3",
        b"{}",
        b'{"kind":"answered","key":"a"}',
        b'{"kind":"answered","key":"a","status":200,"headers":{},"sha256":"../../x","size":1,"retrieved_at":"2031-05-06"}',
        b'{"kind":"answered","key":"a","status":200,"headers":{},"sha256":"ab","size":1,"retrieved_at":"soon"}',
        b'{"kind":"rejected","key":"a","url":"b","sha256":"ab"}',
    ],
)
def test_a_line_in_the_middle_that_is_no_record_is_named(tmp_path, line):
    put(Snapshot(tmp_path), question())
    length = (tmp_path / "manifest.jsonl").stat().st_size
    with (tmp_path / "manifest.jsonl").open("ab") as file:
        file.write(line + b"\n")
    put(Snapshot(tmp_path), question(2), b"more")
    message = f"manifest.jsonl must have one record a line, as JSON; got something else at byte {length}. Remove"
    with pytest.raises(BuildError, match=message):
        Snapshot(tmp_path).find(question())


@pytest.mark.parametrize("damage", ["gone", "short", "flipped"])
def test_a_damaged_body_is_set_aside_and_named(tmp_path, damage, caplog):
    kept = put(Snapshot(tmp_path), question())
    bodies = {"gone": None, "short": BODY[:-1], "flipped": BODY.replace(b"0.5", b"0.6")}
    kept.path.unlink()
    if bodies[damage] is not None:
        kept.path.write_bytes(bodies[damage])
    snapshot = Snapshot(tmp_path)
    assert snapshot.find(question()) is None
    assert "it is set aside" in caplog.text
    reason = {"gone": "gone", "short": f"{len(BODY) - 1} bytes where {len(BODY)}", "flipped": "SHA-256"}[damage]
    [rejection] = snapshot.rejections
    assert reason in rejection.reason
    assert (rejection.url, rejection.sha256) == (question().url, kept.sha256)
    assert not kept.path.exists()
    assert (tmp_path / "rejected" / f"{kept.sha256}.damaged").exists() == (damage != "gone")
    assert put(snapshot, question()) == Snapshot(tmp_path).find(question())


def test_rejected_and_withdrawn_bodies(tmp_path):
    clock = Clock()
    snapshot = Snapshot(tmp_path, clock=clock)
    page = tmp_path / "page"
    page.write_bytes(b"<html>")
    snapshot.reject(question(1), page, "an HTML page")
    assert snapshot.find(question(1)) is None
    kept = put(snapshot, question(1))
    snapshot.withdraw(kept, "column mass vanished")
    assert snapshot.find(question(1)) is None
    assert snapshot.find(question(1), withdrawn_too=True) == kept
    assert [(each.reason, each.at) for each in Snapshot(tmp_path).rejections] == [
        ("an HTML page", "2031-05-06T07:08:09Z"),
        ("column mass vanished", "2031-05-06T07:08:09Z"),
    ]
    assert (tmp_path / "rejected" / hashlib.sha256(b"<html>").hexdigest()).read_bytes() == b"<html>"
    assert put(snapshot, question(1)) == snapshot.find(question(1))


def test_a_body_keeps_its_own_file_until_its_line_is_written(tmp_path):
    """As after a kill between the two: what was received is still there."""
    snapshot = Snapshot(tmp_path)
    partial = snapshot.partial(question())
    partial.write_bytes(BODY)
    (tmp_path / "manifest.jsonl").mkdir()
    received = Received(200, {}, hashlib.sha256(BODY).hexdigest(), len(BODY), partial)
    with pytest.raises(IsADirectoryError, match=r"manifest\.jsonl"):
        snapshot.put(question(), received)
    assert partial.read_bytes() == BODY
    (tmp_path / "manifest.jsonl").rmdir()
    assert snapshot.put(question(), received).body == BODY
    assert not partial.exists()
    assert [path.name for path in (tmp_path / "bodies").glob("??/*")] == [received.sha256]


def test_what_a_process_left_when_it_had_kept_a_body_is_removed(tmp_path):
    snapshot = Snapshot(tmp_path)
    partial = snapshot.partial(question())
    for name in ("", ".json", ".whole"):
        partial.with_name(partial.name + name).write_bytes(BODY)
    put(snapshot, question())
    partial.write_bytes(BODY)
    other = snapshot.partial(question(2))
    other.write_bytes(BODY)
    newer = snapshot.partial(question(3))
    put(snapshot, question(3))
    newer.write_bytes(BODY)
    later = time.time() + 100
    os.utime(newer, (later, later))

    async def claim():
        async with Snapshot(tmp_path).claim():
            pass

    asyncio.run(claim())
    assert {path.name for path in (tmp_path / "partial").iterdir()} == {other.name, newer.name}


def test_import_keeps_a_file_once(tmp_path):
    file = tmp_path / "mine.csv"
    file.write_bytes(BODY)
    clock = Clock()
    snapshot = Snapshot(tmp_path / "store", clock=clock)
    request = Request(f"file:{sha256_of(file)}", "list")
    first = snapshot.import_file(request, file)
    clock.time += datetime.timedelta(days=1)
    assert Snapshot(tmp_path / "store", clock=clock).import_file(request, file) == first
    assert file.read_bytes() == first.body
    assert len((tmp_path / "store" / "manifest.jsonl").read_text(encoding="utf-8").splitlines()) == 1


def _put_many(folder, first, count):
    snapshot = Snapshot(folder)
    for number in range(first, first + count):
        put(snapshot, question(number), b"%d\n" % (number % 7))


def test_processes_write_to_one_manifest(tmp_path):
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_put_many, args=(tmp_path, 40 * index, 40)) for index in range(3)]
    reader = Snapshot(tmp_path)
    for process in processes:
        process.start()
    while any(process.is_alive() for process in processes):
        reader.find(question(0))
    for process in processes:
        process.join()
        assert process.exitcode == 0
    for number in range(120):
        assert reader.find(question(number)).body == b"%d\n" % (number % 7)
    assert len((tmp_path / "manifest.jsonl").read_text(encoding="utf-8").splitlines()) == 120


def test_one_process_fetches_at_a_time(tmp_path):
    async def hold_and_wait():
        order = []

        async def second():
            async with Snapshot(tmp_path).claim():
                order.append("second")

        async with Snapshot(tmp_path).claim():
            task = asyncio.create_task(second())
            await asyncio.sleep(0.5)
            order.append("first")
        await task
        return order

    assert asyncio.run(hold_and_wait()) == ["first", "second"]
