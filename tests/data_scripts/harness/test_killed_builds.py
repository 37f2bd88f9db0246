"""Builds that are killed at any moment, builds side by side, and secrets: the command line in processes of its own."""

import base64
import collections
import json
import random
import re
import resource
import signal
import subprocess
import time
import urllib.parse

import made_up
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from built_folders import COMMAND, ENVIRONMENT, build, bytes_of, mirror_arguments, rows_of
from loopback import Loopback
from replay import Reply


BUILD = ["build", "made_up", "--config", "stars", "--config", "curves"]
REQUESTS = 11 + 1 + made_up.CURVES


def command(folder, server, out="out", *more):
    return [
        *COMMAND,
        *BUILD,
        "--out",
        str(folder / out),
        "--store",
        str(folder / "store"),
        *mirror_arguments(server),
        *more,
    ]


def run(folder, server, out="out", *more, **environment):
    return subprocess.run(
        command(folder, server, out, *more),
        env=ENVIRONMENT | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def kept_questions(folder):
    """What the manifest lists, as the server sees it."""
    manifest = folder / "store" / "made_up" / "manifest.jsonl"
    whole = manifest.read_bytes().rpartition(b"\n")[0].splitlines() if manifest.exists() else []
    records = [json.loads(line) for line in whole]
    return {question(record["url"], dict(record.get("params", ()))) for record in records}


def question(url, params):
    return url.removeprefix(made_up.ORIGIN), tuple(sorted(params.items()))


def questions(served):
    return [
        question(each.asked.path, {name: values[0] for name, values in each.asked.query.items()}) for each in served
    ]


def without_times(folder, config):
    tables = [pq.read_table(file).drop(["retrieved_at"]) for file in sorted((folder / config).glob("*.parquet"))]
    return pa.concat_tables(tables)


def killed_at(folder, server, seconds):
    """Start a build, kill it some time after its first request, and return its status."""
    before = len(server.served)
    with subprocess.Popen(
        command(folder, server), env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        while len(server.served) == before and process.poll() is None:
            time.sleep(0.002)
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        return process.returncode


def check_kills(folder, kills, seed):
    chance = random.Random(seed)
    with Loopback(made_up.answer, latency_seconds=0.05) as server:
        in_the_middle = 0
        for _ in range(kills):
            kept, before = kept_questions(folder), len(server.served)
            if len(kept) > REQUESTS - 4:
                break
            assert killed_at(folder, server, chance.uniform(0, 0.2)) == -signal.SIGKILL
            assert not set(questions(server.served[before:])) & kept
            in_the_middle += len(kept) < len(kept_questions(folder)) < REQUESTS
        assert in_the_middle
        kept, before = kept_questions(folder), len(server.served)
        done = run(folder, server)
        assert done.returncode == 0, done.stderr
        assert not set(questions(server.served[before:])) & kept
        # What was asked twice had been under way when its process was killed.
        counts = collections.Counter(questions(server.served))
        assert len(counts) == REQUESTS
        assert sum(counts.values()) - REQUESTS <= kills * made_up.ARCHIVE.concurrency
        asked = len(server.served)
        build(folder, None, "offline", configs=("stars", "curves"))
        assert len(server.served) == asked
        build(folder / "whole", server, configs=("stars", "curves"))
    assert bytes_of(folder / "offline") == bytes_of(folder / "out")
    for config in ("stars", "curves"):
        assert without_times(folder / "out", config) == without_times(folder / "whole" / "out", config)
    assert rows_of(folder / "out", "stars") == made_up.published_stars()
    assert rows_of(folder / "out", "curves") == made_up.published_curves()
    # What a killed build left beside the folder is gone with the next one, and what it left in the store too.
    assert {path.name for path in folder.iterdir()} == {"offline", "out", "store", "whole"}


def test_killed_while_it_asks(tmp_path):
    check_kills(tmp_path, kills=3, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_killed_many_times_while_it_asks(tmp_path, seed):
    check_kills(tmp_path, kills=12, seed=seed)


@pytest.mark.slow
def test_killed_at_any_moment_it_writes_the_same(tmp_path):
    """A build from a full store is killed as it reads, writes and renames; the next gives the bytes of the first."""
    with Loopback(made_up.answer) as server:
        first = run(tmp_path, server, "first")
        assert first.returncode == 0, first.stderr
        seconds = []
        for part in (0.55, 0.7, 0.8, 0.9, 1.0):
            started = time.monotonic()
            with subprocess.Popen(
                command(tmp_path, server), env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            ) as process:
                try:
                    process.wait(part * seconds[0] if seconds else None)
                    seconds.append(time.monotonic() - started)
                except subprocess.TimeoutExpired:
                    process.kill()
            if (tmp_path / "out").exists():
                assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "first")
                (tmp_path / "out").rename(tmp_path / f"out {part}")
        done = run(tmp_path, server)
        assert done.returncode == 0, done.stderr
        assert len(server.served) == REQUESTS
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "first")
    assert "0 answers fetched" in done.stdout


@pytest.mark.parametrize("most_bytes", [1000, 9000])
def test_a_disk_that_is_full_costs_nothing_that_was_kept(tmp_path, most_bytes):
    """A body that could not be read for want of room must not count as a bad one."""

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, resource.RLIM_INFINITY))

    with Loopback(made_up.answer) as server:
        done = subprocess.run(
            command(tmp_path, server), env=ENVIRONMENT, capture_output=True, text=True, preexec_fn=limit, check=False
        )
        assert done.returncode == 2
        assert re.fullmatch(
            r"error: \[Errno 27\] .*File too large.* Make room and run the same command again; it goes on .*",
            done.stderr.splitlines()[-1],
        )
        assert [path.name for path in tmp_path.iterdir()] == ["store"]
        assert run(tmp_path, server).returncode == 0
        assert len(server.served) <= REQUESTS + made_up.ARCHIVE.concurrency
    kinds = {json.loads(line)["kind"] for line in (tmp_path / "store/made_up/manifest.jsonl").open(encoding="utf-8")}
    assert kinds == {"answered"}
    assert rows_of(tmp_path / "out", "stars") == made_up.published_stars()


def test_one_folder_is_built_by_one_process(tmp_path):
    with Loopback(made_up.answer, latency_seconds=0.05) as server:
        processes = [
            subprocess.Popen(
                command(tmp_path, server), env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
            for _ in range(3)
        ]
        said = [process.communicate(timeout=120) for process in processes]
        assert len(server.served) == REQUESTS
    assert sorted(process.returncode for process in processes) == [0, 2, 2]
    for process, (_, errors) in zip(processes, said, strict=True):
        assert process.returncode == 0 or re.search("one process at a time|which has content", errors), errors
    assert rows_of(tmp_path / "out", "stars") == made_up.published_stars()
    assert {path.name for path in tmp_path.iterdir()} == {"out", "store"}


def test_builds_side_by_side_on_one_store(tmp_path):
    with Loopback(made_up.answer, latency_seconds=0.03) as server:
        processes = [
            subprocess.Popen(
                command(tmp_path, server, f"out{number}", "--processes", str(number)),
                env=ENVIRONMENT,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for number in (1, 2)
        ]
        for process in processes:
            _, errors = process.communicate(timeout=120)
            assert process.returncode == 0, errors
        assert len(server.served) == REQUESTS
        assert server.most_at_once <= made_up.ARCHIVE.concurrency
    first = bytes_of(tmp_path / "out1")
    assert first == bytes_of(tmp_path / "out2")
    assert rows_of(tmp_path / "out1", "stars") == made_up.published_stars()


CANARIES = {
    "MADE_UP_TOKEN": "canary-token+/=Zq81",
    "MADE_UP_KEY": "canary key&Zq82 ü",
    "MADE_UP_EMAIL": "canary.Zq83@example.org",
    "HF_TOKEN": "hf_canaryZq84",
}


def forms(value):
    encoded = value.encode()
    texts = {value, urllib.parse.quote(value), urllib.parse.quote(value, safe=""), urllib.parse.quote_plus(value)}
    texts |= {json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]}
    return [text.encode() for text in texts] + [base64.b64encode(encoded).rstrip(b"=")[:-1], encoded.hex().encode()]


@pytest.mark.parametrize(
    "ending", ["built", "forbidden", *(pytest.param(name, marks=pytest.mark.slow) for name in ("refused", "gone"))]
)
def test_no_secret_is_written_or_said(tmp_path, ending):
    """The archive repeats what it was sent, as a careless one might, in headers, bodies and error pages."""

    def careless(asked):
        sent = asked.headers.get("authorization", "") + " " + repr(dict(asked.query))
        quoted = urllib.parse.quote(CANARIES["MADE_UP_KEY"])
        reply = made_up.answer(asked)
        page = asked.query.get("page") == ["2"]
        if ending == "refused" and page:
            return Reply(body=f"<html><body>{sent} {quoted}</body></html>".encode())
        if ending == "forbidden" and page:
            return Reply(403, body=f"not for {sent}, {quoted}".encode())
        if ending == "gone" and page:
            return Reply(302, {"Location": f"https://archive.test/moved?key={quoted}&{sent.encode().hex()}"})
        link = f"<https://archive.test/next?key={quoted}>; rel=next"
        return Reply(reply.status, {**reply.headers, "Link": link, "ETag": f'"{quoted}"'}, reply.body)

    with Loopback(careless) as server:
        done = run(tmp_path, server, **CANARIES)
        assert done.returncode == (0 if ending == "built" else 2), done.stderr
        heads = [each.asked.headers.get("authorization") for each in server.served]
        assert f"Bearer {CANARIES['MADE_UP_TOKEN']}" in heads
        assert any(each.asked.query.get("key") == [CANARIES["MADE_UP_KEY"]] for each in server.served)
    written = {str(path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    written |= {"names": "\n".join(written).encode(), "said": (done.stdout + done.stderr).encode()}
    assert len(written) > 8
    for variable, value in CANARIES.items():
        for form in forms(value):
            assert [name for name, content in written.items() if form in content] == [], variable
