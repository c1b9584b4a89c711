"""Durations, dates and sizes as people write them, in settings and on the command line."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

_DURATION = re.compile(r"(\d+)\s*([smhdw])")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(?:([KMGT])(i?)B?|B)?", re.IGNORECASE)
_DURATION_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def parse_duration(text: str) -> timedelta:
    """``45m``, ``12h``, ``30d``, ``2w`` or ``90s``.

    Raises:
        ValueError: it is none of these, or longer than a calendar holds.
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a duration; write 45m, 12h, 30d or 2w")
    try:
        return timedelta(**{_DURATION_UNITS[match[2]]: int(match[1])})
    except OverflowError as error:
        raise ValueError(f"{text!r} is too long a duration") from error


def parse_date(text: str) -> datetime:
    """An ISO 8601 date or time; UTC where it names no offset. Returns an aware datetime in UTC.

    Raises:
        ValueError: it is not ISO 8601.
    """
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise ValueError(f"{text!r} is not an ISO 8601 date; write 2026-01-31 or 2026-01-31T06:00:00Z") from error
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def parse_size(text: str) -> int:
    """``10MiB``, ``1.5 GiB``, ``500kB``, ``4096``: in bytes. Without the ``i``, units are powers of 1000.

    Raises:
        ValueError: it is none of these, or nothing.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a size; write 10MiB, 1.5GiB or 500kB")
    power = "KMGT".index(match[2].upper()) + 1 if match[2] else 0
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
