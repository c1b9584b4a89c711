"""Dates as HTTP writes them."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def http_date(moment: datetime) -> str:
    """As `parse_http_date` reads it; whole seconds."""
    return format_datetime(moment.astimezone(UTC), usegmt=True)


def parse_http_date(text: bytes) -> datetime | None:
    """``Tue, 24 Nov 2026 07:30:52 GMT`` (RFC 9110, IMF-fixdate) as an aware time; None for anything else.

    ``strptime`` would read the names by the process's locale.
    """
    try:
        _, day, month, year, clock, zone = text.decode("ascii").split()
        hour, minute, second = clock.split(":")
        if zone not in ("GMT", "UTC"):
            return None
        number = _MONTHS.index(month) + 1
        return datetime(int(year), number, int(day), int(hour), int(minute), int(second), tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


def parse_retry_after(text: str, now: datetime) -> float | None:
    """Seconds that ``Retry-After`` asks for (RFC 9110, 10.2.3: seconds or a date), at least 0; None for anything else.

    `now` is read off the clock that a date in it was.
    """
    stripped = text.strip()
    if stripped.isascii() and stripped.isdigit():
        return float(stripped[:9])
    try:
        moment = parsedate_to_datetime(stripped)
    except (ValueError, OverflowError):
        return None
    moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - now).total_seconds())
