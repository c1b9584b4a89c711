"""What each outcome adds to the counters, and that the sums hold."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime

import pytest

from ingest.model import (
    Action,
    Block,
    CatalogRow,
    Counts,
    Download,
    MarkGone,
    Outcome,
    Reason,
    Record,
    RemoteObject,
    Return,
    Skip,
    State,
    Status,
)
from ingest.plan.tally import tally, tally_many, tally_plan

REMOTE = RemoteObject("k", 3, "e1", datetime(2026, 3, 1, tzinfo=UTC))
ROW = CatalogRow("k", 3, "e0", State.PRESENT, False, "b/k", 0)
NEW, CHANGED = Download(REMOTE, None, Reason.NEW), Download(REMOTE, ROW, Reason.CHANGED)
RETRY = Download(REMOTE, ROW, Reason.RETRY)


def added(counts: Counts) -> dict[str, int]:
    return {name: number for name, number in asdict(counts).items() if number}


@pytest.mark.parametrize(
    ("outcome", "counted"),
    [
        (Outcome(NEW, Status.DONE, received=3), {"listed": 1, "new": 1, "downloaded": 1, "bytes": 3}),
        (Outcome(CHANGED, Status.DONE, received=3), {"listed": 1, "changed": 1, "downloaded": 1, "bytes": 3}),
        (Outcome(RETRY, Status.FAILED, received=2), {"listed": 1, "new": 1, "failed": 1, "bytes": 2}),
        (Outcome(NEW, Status.DONE, adopted=True), {"listed": 1, "new": 1, "adopted": 1}),
        (Outcome(NEW, Status.SKIPPED), {"listed": 1, "skipped": 1}),
        (Outcome(Skip(REMOTE, "present", True), Status.DONE), {"listed": 1, "unchanged": 1}),
        (Outcome(Skip(REMOTE, "excluded", False), Status.DONE), {"listed": 1, "skipped": 1}),
        (Outcome(Record(REMOTE, "excluded"), Status.DONE), {"listed": 1, "skipped": 1}),
        (Outcome(Block(REMOTE, "archived"), Status.DONE), {"listed": 1, "skipped": 1}),
        (Outcome(MarkGone(ROW), Status.DONE), {"gone": 1}),
        (Outcome(MarkGone(ROW), Status.FAILED), {}),
        (Outcome(Return(REMOTE, ROW), Status.DONE), {}),
    ],
)
def test_what_an_outcome_adds(outcome: Outcome, counted: dict[str, int]) -> None:
    counts = Counts()
    tally(counts, outcome)
    assert added(counts) == counted
    tally(counts, outcome)
    assert added(counts) == {name: 2 * number for name, number in counted.items()}


@pytest.mark.parametrize(
    ("action", "counted"),
    [
        (NEW, {"listed": 1, "new": 1}),
        (CHANGED, {"listed": 1, "changed": 1}),
        (Skip(REMOTE, "present", True), {"listed": 1, "unchanged": 1}),
        (Record(REMOTE, "excluded"), {"listed": 1, "skipped": 1}),
        (MarkGone(ROW), {"gone": 1}),
    ],
)
def test_what_a_dry_run_adds(action: Action, counted: dict[str, int]) -> None:
    counts = Counts()
    tally_plan(counts, action)
    assert added(counts) == counted


def test_many_at_once_are_listed_as_well() -> None:
    counts = Counts(listed=1, unchanged=1)
    tally_many(counts, unchanged=5, skipped=2)
    assert added(counts) == {"listed": 8, "unchanged": 6, "skipped": 2}
