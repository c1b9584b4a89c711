"""Sizes as people write them."""

from __future__ import annotations

import pytest

from ingest.units import parse_size


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


@pytest.mark.parametrize("text", ["", "0", "0.0001B", "-1", "10XB", "MiB", "1e3", "ten", "10MiB/s", "10iB"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="size"):
        parse_size(text)
