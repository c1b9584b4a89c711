"""Durations, dates and sizes as people write them, in settings and on the command line."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

_DURATION = re.compile(r"(\d+)\s*([smhdw])")
_DURATION_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?", re.IGNORECASE)
_SIZE_POWERS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}


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
    """``10MiB``, ``64k``, ``1.5 GB``: bytes, with powers of 1024 for ``i`` and bare letters, 1000 for ``KB``.

    Raises:
        ValueError: it is not a size.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a size; write 500KB, 10MiB or 2GiB")
    decimal = match[3] == "" and text.strip().upper().endswith("B") and match[2] != ""
    return int(float(match[1]) * (1000 if decimal else 1024) ** _SIZE_POWERS[match[2].upper()])


def format_size(size: int) -> str:
    """Bytes for people: ``0 B``, ``16.0 KiB``, ``1.2 GiB``."""
    amount = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


def format_duration(span: timedelta) -> str:
    """The shortest exact form that `parse_duration` reads: ``30d``, ``12h``, ``90s``."""
    seconds = int(span.total_seconds())
    for unit, length in (("w", 604_800), ("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds and seconds % length == 0 and (unit != "w" or seconds > 4 * length):
            return f"{seconds // length}{unit}"
    return f"{seconds}s"
