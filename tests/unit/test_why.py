"""Why a run left an object: each part of its record, and each bound of its window."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ingest.model import RemoteObject
from ingest.plan.why import lists, why_left

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def window(since: datetime | None, until: datetime | None = None) -> dict[str, Any]:
    return {"window": [bound and bound.isoformat() for bound in (since, until)]}


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({}, None),
        (window(NOON), None),
        (window(NOON + SECOND), "modified 2026-03-01 12:00:00 UTC, and the window is from 2026-03-01 12:00:01 UTC on"),
        (window(None, NOON), "modified 2026-03-01 12:00:00 UTC, and the window is before 2026-03-01 12:00:00 UTC"),
        (window(None, NOON + SECOND), None),
        (
            window(NOON - 2 * SECOND, NOON - SECOND),
            "modified 2026-03-01 12:00:00 UTC, and the window is "
            "from 2026-03-01 11:59:58 to before 2026-03-01 11:59:59 UTC",
        ),
        ({"include": ["*.pdf"]}, None),
        ({"include": ["*.txt", "b*"]}, "left out by --include '*.txt' or --include 'b*'"),
        ({"exclude": ["a/*"]}, "left out by --exclude 'a/*'"),
        ({"filter": ["a/"]}, "left out by --filter 'a/'"),
        ({"include": [""]}, "--include '' matches no key at all"),
        ({"newer_than": "2026-03-01"}, None),  # by an earlier version, that left the window out
    ],
)
def test_what_keeps_it_out(told: dict[str, Any], expected: str | None) -> None:
    assert why_left(RemoteObject("a/1.pdf", 5, "e", NOON), told) == expected


def test_a_directory_marker_has_no_file() -> None:
    expected = "a directory marker, of which there is never a file"
    assert why_left(RemoteObject("a/", 0, "e", NOON), {}) == expected


@pytest.mark.parametrize(
    ("told", "prefixes", "expected"),
    [
        ({}, [], True),
        ({"prefix": ["a/"]}, ["a/"], True),
        ({"prefix": ["/a/"]}, ["/a/", "a/"], True),
        ({"prefix": ["b/"]}, ["b/"], False),
    ],
)
def test_whether_it_is_listed(told: dict[str, Any], prefixes: list[str], expected: bool) -> None:
    assert lists(told, "a/1.pdf", prefixes) is expected
