"""Durations, dates and sizes as people write them, in settings and on the command line."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

_DURATION = re.compile(r"([0-9]+)\s*([smhdw])")
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(?:([KMGT])(i?)B?|B)?", re.IGNORECASE)
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


_LONGEST = timedelta(days=700_000)
"""About as far as the calendar reaches back from today, and 100000 weeks: what people write for "never"."""

_MOST_DIGITS = 11


def is_duration(text: str) -> bool:
    """Whether it is written like one: `parse_duration` may still find it too long."""
    return _DURATION.fullmatch(text.strip()) is not None


def parse_duration(text: str) -> timedelta:
    """``45m``, ``12h``, ``30d``, ``2w`` or ``90s``.

    Raises:
        ValueError: it is none of these, or so long that the calendar does not reach back so far.
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a duration; write 45m, 12h, 30d or 2w")
    if len(match[1]) > _MOST_DIGITS or int(match[1]) * _SECONDS[match[2]] > _LONGEST.total_seconds():
        raise ValueError(f"that is too long a duration; the longest is {_LONGEST.days}d")
    return timedelta(seconds=int(match[1]) * _SECONDS[match[2]])


def parse_date(text: str) -> datetime:
    """An ISO 8601 date or time; UTC where it names no offset. Returns an aware datetime in UTC.

    Raises:
        ValueError: it is not ISO 8601, or in UTC it lies outside the calendar's years 1 to 9999.
    """
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise ValueError(f"{text!r} is not an ISO 8601 date; write 2026-01-31 or 2026-01-31T06:00:00Z") from error
    try:
        return as_utc(moment)
    except OverflowError as error:
        raise ValueError(f"{text!r} is outside the years 1 to 9999 in UTC") from error


def as_utc(moment: datetime) -> datetime:
    """The moment in UTC, which it is taken to be in where it names no offset.

    Raises:
        OverflowError: there it lies outside the calendar's years 1 to 9999.
    """
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def is_bare(text: str) -> bool:
    """Whether it is a number without a unit."""
    match = _SIZE.fullmatch(text.strip())
    return match is not None and match[0] == match[1]


def parse_size(text: str) -> int:
    """``10MiB``, ``1.5 GiB``, ``500kB``, ``4096``: in bytes. Without the ``i``, units are powers of 1000.

    Raises:
        ValueError: it is none of these, or nothing.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a size; write 10MiB, 1.5GiB or 500kB")
    power = "KMGT".index(match[2].upper()) + 1 if match[2] else 0
    if len(match[1]) > _MOST_DIGITS:
        raise ValueError("that is too large a size")
    size = int(float(match[1]) * (1024 if match[3] else 1000) ** power)
    if size < 1:
        raise ValueError(f"{text!r} is too small a size")
    return size


def format_size(size: int) -> str:
    """Bytes for people: ``0 B``, ``16.0 KiB``, ``1.2 GiB``."""
    amount = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"
