"""When a request is sent again, and after how long."""

import datetime
import email.utils
import random
from collections.abc import Mapping
from dataclasses import dataclass, field


__all__ = ["BackOff", "is_retried", "retry_after_seconds"]

# 520 to 524 are what a proxy in front of an archive answers when the archive itself does not.
_RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524})


def is_retried(status: int) -> bool:
    """Return whether an HTTP status says that the same request may be answered later."""
    return status in _RETRIED


@dataclass(frozen=True)
class BackOff:
    """Exponential back-off with full jitter: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/

    Attributes:
        base_seconds: Longest delay after the first attempt; it doubles with each.
        most_seconds: Longest delay at all.
        jitter: Where chance comes from.
    """

    base_seconds: float
    most_seconds: float
    jitter: random.Random = field(default_factory=random.Random)

    def delay_seconds(self, attempt: int) -> float:
        """Return how long to wait after the attempt of this number, counted from 1."""
        # The exponent is bounded: 2.0 ** 1024 overflows.
        return self.jitter.uniform(0, min(self.most_seconds, self.base_seconds * 2.0 ** min(attempt - 1, 64)))


def retry_after_seconds(headers: Mapping[str, str], now: datetime.datetime) -> float | None:
    """Return how long the archive asks to wait: `Retry-After` in seconds or as an HTTP date (RFC 9110, 10.2.3).

    Args:
        headers: Response headers in lower case. A date is taken relative to the archive's own `Date`, if there is one.
        now: Time here, for archives that send no `Date`.

    Returns:
        Seconds, not negative, or None if the header is absent or unreadable.
    """
    text = headers.get("retry-after", "").strip()
    try:
        seconds = float(text)
    except ValueError:
        until = _date(text)
        if until is None:
            return None
        seconds = (until - (_date(headers.get("date", "")) or now)).total_seconds()
    return max(0.0, seconds) if seconds < float("inf") else None


def _date(text: str) -> datetime.datetime | None:
    try:
        date = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    return date if date.tzinfo is not None else date.replace(tzinfo=datetime.UTC)
