"""The token bucket against an independent count on a clock that the test moves."""

import asyncio

import pytest

from data_scripts.harness.rate_limit import RateLimit


class Clock:
    def __init__(self) -> None:
        self.seconds = 100.0

    def now(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.seconds += seconds
        await asyncio.sleep(0)


def starts(rate: float, burst: int, number: int) -> list[float]:
    """Return when each of a number of requests that are made at once may start, in seconds from the first."""
    clock = Clock()

    async def run() -> list[float]:
        limit = RateLimit(rate, burst, clock=clock.now, sleep=clock.sleep)
        times = []

        async def one() -> None:
            await limit.acquire()
            times.append(clock.now() - 100.0)

        await asyncio.gather(*(one() for _ in range(number)))
        return times

    return asyncio.run(run())


@pytest.mark.parametrize(("rate", "burst"), [(3.0, 1), (0.7, 1), (13.0, 5)])
def test_requests_start_at_the_rate_after_the_burst(rate, burst):
    expected = [max(0, number - burst + 1) / rate for number in range(17)]
    assert starts(rate, burst, 17) == pytest.approx(expected, abs=1e-6)


def test_idle_time_saves_up_to_one_burst():
    clock = Clock()

    async def run() -> list[float]:
        limit = RateLimit(2.0, 3, clock=clock.now, sleep=clock.sleep)
        await limit.acquire()
        clock.seconds += 1000
        start, times = clock.now(), []
        for _ in range(5):
            await limit.acquire()
            times.append(clock.now() - start)
        return times

    assert asyncio.run(run()) == pytest.approx([0, 0, 0, 0.5, 1.0], abs=1e-6)


def test_pause_holds_back_every_request_and_the_longest_counts():
    clock = Clock()

    async def run() -> list[float]:
        limit = RateLimit(10.0, 2, clock=clock.now, sleep=clock.sleep)
        limit.pause(7.0)
        limit.pause(3.0)
        times = []
        for _ in range(3):
            await limit.acquire()
            times.append(clock.now() - 100.0)
        return times

    assert asyncio.run(run()) == pytest.approx([7.0, 7.0, 7.1], abs=1e-6)


@pytest.mark.parametrize(
    ("headers", "pause"),
    [
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "13"}, 13.0),
        ({"x-ratelimit-remaining": "54999", "x-ratelimit-reset": "892"}, 0.0),
        ({"x-ratelimit-remaining": "0"}, 0.0),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1767225600"}, 0.0),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "-1"}, 0.0),
        ({"x-ratelimit-remaining": "none", "x-ratelimit-reset": "13"}, 0.0),
        ({}, 0.0),
    ],
)
def test_observe_pauses_until_the_window_ends_where_nothing_remains(headers, pause):
    clock = Clock()

    async def run() -> float:
        limit = RateLimit(10.0, 2, clock=clock.now, sleep=clock.sleep)
        limit.observe(headers)
        await limit.acquire()
        return clock.now() - 100.0

    assert asyncio.run(run()) == pytest.approx(pause)


def test_a_cancelled_request_takes_no_token():
    async def run() -> None:
        limit = RateLimit(20.0, 1)
        await limit.acquire()
        waiting = asyncio.create_task(limit.acquire())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        start = asyncio.get_running_loop().time()
        await limit.acquire()
        assert asyncio.get_running_loop().time() - start < 0.09  # two tokens take 0.1 s

    asyncio.run(run())


@pytest.mark.parametrize(
    ("rate", "burst", "name"), [(0.0, 1, "requests_per_second"), (-1.0, 1, "requests_per_second")]
)
def test_a_rate_that_is_not_positive_is_refused(rate, burst, name):
    with pytest.raises(ValueError, match=f"{name} must be positive"):
        RateLimit(rate, burst)


def test_a_burst_below_one_is_refused():
    with pytest.raises(ValueError, match="burst must be at least 1; got 0"):
        RateLimit(1.0, 0)
