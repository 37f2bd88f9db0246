"""How fast an archive is asked: a token bucket that the archive's own rate headers can stop for a while."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping


__all__ = ["RateLimit"]

logger = logging.getLogger(__name__)

_LONGEST_WINDOW = 86_400  # seconds; a greater number is a point in time, which other services state
_TOLD = 10  # seconds


class RateLimit:
    """Token bucket: `burst` requests may start at once, `requests_per_second` on average; served in order of asking.

    Args:
        requests_per_second: Rate at which tokens come back, 1/s.
        burst: Most tokens that the bucket holds.
        clock: Time in seconds that never goes back.
        sleep: Waits a number of seconds.

    Raises:
        ValueError: If the rate is not positive or the burst is less than one.
    """

    def __init__(
        self,
        requests_per_second: float,
        burst: int = 1,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        if not requests_per_second > 0:
            raise ValueError(f"requests_per_second must be positive; got {requests_per_second}.")
        if burst < 1:
            raise ValueError(f"burst must be at least 1; got {burst}.")
        self._rate = requests_per_second
        self._burst = burst
        self._clock = clock
        self._sleep = sleep
        self._tokens = float(burst)
        self._counted_at = clock()
        self._paused_until = self._counted_at
        self._turn = asyncio.Lock()

    async def acquire(self) -> None:
        """Wait until a request may start."""
        async with self._turn:
            while (seconds := self._wait_seconds()) > 0:
                await self._sleep(seconds)
            self._tokens -= 1

    def pause(self, seconds: float) -> None:
        """Let no request start for a number of seconds; a longer pause that is under way stays."""
        if seconds >= _TOLD:
            logger.warning("the archive asks to wait %.0f seconds", seconds)
        self._paused_until = max(self._paused_until, self._clock() + seconds)

    def observe(self, headers: Mapping[str, str]) -> None:
        """Pause until the archive's window ends where it says that nothing remains of it.

        Ensembl states `X-RateLimit-Remaining` requests and `X-RateLimit-Reset` seconds:
        https://github.com/Ensembl/ensembl-rest/wiki/Rate-Limits

        Args:
            headers: Response headers in lower case.
        """
        try:
            remaining = float(headers["x-ratelimit-remaining"])
            reset_seconds = float(headers["x-ratelimit-reset"])
        except (KeyError, ValueError):
            return
        if remaining < 1 and 0 < reset_seconds <= _LONGEST_WINDOW:
            self.pause(reset_seconds)

    def _wait_seconds(self) -> float:
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._counted_at) * self._rate)
        self._counted_at = now
        # A sleep of exactly the time that is missing may leave a rounding error's worth of a token.
        missing = 1 - self._tokens
        return max(self._paused_until - now, missing / self._rate if missing > 1e-9 else 0.0)
