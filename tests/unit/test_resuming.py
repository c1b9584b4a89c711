"""What a run may go on with: the table of `plan.resuming`, row by row, and each bound."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ingest.engine.options import SyncOptions
from ingest.model import Shard
from ingest.plan.resuming import MOST_MOVED, Cursor, Earlier, goes_on, newest_to_go_on, taken_over, window_of
from ingest.plan.selection import Selection
from ingest.plan.vanishing import MostGone

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
TICK = timedelta(microseconds=1)


def told(since: datetime | None = NOON, until: datetime | None = None, **more: Any) -> dict[str, Any]:
    window = [bound and bound.isoformat() for bound in (since, until)]
    return {"since": "2026-03-01T12:00", "window": window} | more


@pytest.mark.parametrize(
    ("then", "now", "expected"),
    [
        (told(), told(), True),
        (told(), told() | {"since": "in other words"}, True),
        (told(prefix=["a/"]), told(), False),
        (told(prefix=["a/"]), told(prefix=["a/"]), True),
        (told(prefix=[]), told(), True),
        (told(include=["*.pdf"]), told(), False),
        (told(exclude=["*.tmp"]), told(exclude=["*.bak"]), False),
        (told(filter=["old/"]), told(), False),
        (told(dry_run=True), told(), False),
        (told(), told(dry_run=True), True),
        (told(max_gone="5", transfers=2, listers=3, resume=True, deliver=True), told(), True),
        # The same day, another hour; and a window with another end.
        (told(), told(NOON - timedelta(hours=12)) | {"since": "2026-03-01"}, False),
        (told(), told(until=NOON + TICK), False),
        (told(until=NOON), told(until=NOON), True),
        # Told as a duration: it may have moved.
        (told(), told(NOON + MOST_MOVED), True),
        (told(NOON), told(NOON + MOST_MOVED + TICK), False),
        (told(NOON) | {"since": "30d"}, told(NOON + TICK) | {"since": "720h"}, False),
        (told(until=NOON) | {"until": "1d"}, told(until=NOON + TICK) | {"until": "1d"}, True),
        (told(until=NOON) | {"until": "1d"}, told() | {"until": "1d"}, False),
        # What an earlier version has written says too little.
        ({"since": "2026-03-01", "until": None, "prefix": []}, told(), False),
        ({}, {}, True),
    ],
)
def test_what_is_the_same(then: dict[str, Any], now: dict[str, Any], expected: bool) -> None:
    assert goes_on(then, now) is expected


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        ([], None),
        ([(3, "interrupted", True)], 3),
        ([(3, "partial", True)], 3),
        ([(3, "running", True)], 3),
        ([(3, "ok", True)], None),
        ([(3, "failed", False), (2, "interrupted", True)], 2),
        ([(3, "failed", False), (2, "ok", True), (1, "failed", True)], None),
        ([(3, "failed", True), (2, "interrupted", True)], 3),
    ],
)
def test_which_run_counts(runs: list[tuple[int, str, bool]], expected: int | None) -> None:
    another = Earlier(9, "failed", told(prefix=["other/"]))
    found = newest_to_go_on(
        [another, *(Earlier(number, status, told()) for number, status, _ in runs)],
        told(),
        {9: True} | {number: planned for number, _, planned in runs},
    )
    assert (found.id if found else None) == expected


def test_what_is_left_of_a_plan() -> None:
    whole, part = Shard("a/"), Shard("b/", "b/1", "b/9")
    plan = [
        Cursor(whole, "a/7", done=True),
        Cursor(whole, "a/7", done=False),
        Cursor(part, "b/1", done=False),
        Cursor(part, "b/9", done=False),
    ]
    assert taken_over(plan) == [
        Cursor(whole, "a/7", done=True),
        Cursor(whole._replace(start_after="a/7"), "a/7", done=False),
        Cursor(part, "b/1", done=False),
        Cursor(part, "b/9", done=True),  # nothing is left of it
    ]


def test_the_record_holds_all_that_decides() -> None:
    assert SyncOptions().record() == {}
    options = SyncOptions(
        selection=Selection(("a/",), ("*.pdf",), ("*.tmp",), NOON, NOON + TICK, ("old/",)),
        dry_run=True,
        transfers=3,
        listers=4,
        bwlimit=5,
        resume=True,
        page_memory=False,
        max_gone=MostGone(percent=5),
        arguments={"since": "2026-03-01T12:00"},
        deliver_to="https://verify.example.com",
    )
    assert options.record() == {
        "prefix": ["a/"],
        "include": ["*.pdf"],
        "exclude": ["*.tmp"],
        "filter": ["old/"],
        "window": ["2026-03-01T12:00:00+00:00", "2026-03-01T12:00:00.000001+00:00"],
        "max_gone": "5%",
        "no_page_memory": True,
        "deliver": True,
        "dry_run": True,
        "resume": True,
        "transfers": 3,
        "listers": 4,
        "bwlimit": 5,
        "since": "2026-03-01T12:00",
    }
    assert window_of(options.record()) == (NOON, NOON + TICK)
    assert window_of({}) == (None, None)
