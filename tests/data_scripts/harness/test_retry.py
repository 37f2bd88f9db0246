"""How long the transport waits before it asks again."""

import asyncio
import datetime
import random
from email.utils import format_datetime

import pytest
from loopback import Fault, Loopback
from small_archive import small_archive
from transport_tools import Fetcher, request, rows

from data_scripts.harness.errors import RequestFailedError
from data_scripts.harness.retry import BackOff, retry_after_seconds
from data_scripts.harness.transport import Transport


def test_retry_after_holds_back_every_request_of_the_archive(tmp_path):
    with Loopback(rows, fault=Fault("429 with Retry-After"), retry_after="1") as server:

        async def run() -> None:
            async with Transport(
                small_archive(), environment={}, mirrors=server.mirrors, timeout_seconds=5
            ) as transport:
                asked = [request(params=(("page", str(number)),)) for number in range(3)]
                await asyncio.gather(
                    *(
                        transport.fetch(each, "csv", tmp_path / str(number), lambda path, reason: None)
                        for number, each in enumerate(asked)
                    )
                )

        asyncio.run(run())
    first = server.served[0]
    assert first.status == 429
    # Those that were under way at once came before the archive had said no.
    later = [served.at - first.at for served in server.served if served.at - first.at > 0.5]
    assert len(later) == len(server.served) - server.statuses.count(429) or len(later) >= 3
    assert min(later) >= 0.99


def test_retry_after_may_be_a_date_of_the_archives_own_clock(tmp_path):
    def in_two_seconds() -> str:
        return format_datetime(datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=2), usegmt=True)

    with Loopback(rows, fault=Fault("429 with Retry-After"), retry_after=in_two_seconds) as server:
        fetch = Fetcher(tmp_path, server)
        # The sleeps are not mended here: a date has whole seconds only.
        fetch(sleep=asyncio.sleep)
    assert 0.9 < server.served[1].at - server.served[0].at < 3


def test_an_archive_that_asks_to_wait_too_long_is_given_up(tmp_path):
    with (
        Loopback(rows, fault=Fault("429 with Retry-After"), retry_after="86400") as server,
        pytest.raises(RequestFailedError, match="asks to wait 86400 seconds; run the same command again"),
    ):
        Fetcher(tmp_path, server)()


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"retry-after": "13"}, 13.0),
        ({"retry-after": " 0.5 "}, 0.5),
        ({"retry-after": "-7"}, 0.0),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "soon"}, None),
        ({}, None),
        ({"retry-after": "Tue, 03 Jan 2023 00:00:37 GMT"}, 30.0),
        ({"retry-after": "Tue, 03 Jan 2023 00:00:00 GMT"}, 0.0),
        ({"retry-after": "Tue, 03 Jan 2023 00:00:37 GMT", "date": "Tue, 03 Jan 2023 00:00:00 GMT"}, 37.0),
    ],
)
def test_retry_after_seconds(headers, expected):
    assert retry_after_seconds(headers, datetime.datetime(2023, 1, 3, 0, 0, 7, tzinfo=datetime.UTC)) == expected


def test_back_off_is_drawn_below_a_bound_that_doubles():
    back_off = BackOff(1.0, 60.0, random.Random(0))
    for attempt, bound in [(1, 1), (2, 2), (3, 4), (7, 60), (5000, 60)]:
        delays = [back_off.delay_seconds(attempt) for _ in range(500)]
        assert 0 <= min(delays) < bound * 0.05
        assert bound * 0.95 < max(delays) <= bound


def test_delays_between_attempts_grow_with_the_time_out(tmp_path):
    with Loopback(rows, fault=Fault("500", times=5)) as server:
        fetch = Fetcher(tmp_path, server, timeout_seconds=60.0)
        fetch()
    assert len(fetch.slept) == 5
    assert all(0 < seconds <= 2**number for number, seconds in enumerate(fetch.slept))
