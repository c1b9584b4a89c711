"""Sizes, durations and dates as people write them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from ingest.system.units import is_bare, parse_date, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4096", 4096),
        ("4096B", 4096),
        ("10MiB", 10 << 20),
        ("10 mib", 10 << 20),
        ("1.5GiB", 3 << 29),
        ("500kB", 500_000),
        ("2M", 2_000_000),
        ("64Ki", 65_536),
        ("1T", 10**12),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["10", " 10 ", "1.5", "0"])
def test_a_number_without_a_unit_is_bare(text: str) -> None:
    assert is_bare(text)
    assert not is_bare(f"{text}B")
    assert not is_bare(f"{text}k")


@pytest.mark.parametrize(
    "text", ["", "0", "0.0001B", "-1", "10XB", "MiB", "1e3", "ten", "10MiB/s", "10iB", "9" * 400, "٣MiB"]
)
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="size"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "duration"),
    [("90s", timedelta(seconds=90)), ("45m", timedelta(minutes=45)), ("12 h", timedelta(hours=12)), ("30d", timedelta(30)), ("100000w", timedelta(700_000))],
)  # fmt: skip
def test_durations(text: str, duration: timedelta) -> None:
    assert parse_duration(text) == duration


@pytest.mark.parametrize("text", ["", "30", "-1d", "³d", "700001d", "99999999999w", f"{'9' * 5000}s"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-02-30", "0000-01-01"])
def test_what_is_no_date(text: str) -> None:
    with pytest.raises(ValueError, match=r"date|years 1 to 9999"):
        parse_date(text)
