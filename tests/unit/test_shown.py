"""Whether a page shows the version that was taken, and what is left alone of rows that are newer than the page."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from ingest.model import (
    CatalogRow,
    Download,
    LocalCopy,
    MarkGone,
    Outcome,
    Reason,
    Record,
    RemoteObject,
    Skip,
    Status,
    Verified,
)
from ingest.plan.decide_page import decide_page
from ingest.plan.page_memory import settles, shown_otherwise
from ingest.plan.policy import is_shown
from ingest.plan.selection import Selection

PUT = datetime(2026, 3, 1, 12, 0, 0, 120_000, tzinfo=UTC)
SECOND = timedelta(seconds=1)
LISTED = RemoteObject("k", 3, "e1", PUT)
COPY = LocalCopy("b/k", "md5:0", Verified.VERIFIED, 3)
LATER = PUT + timedelta(hours=1)


@pytest.mark.parametrize(
    ("own", "listed_at", "shown"),
    [
        (LISTED, None, True),
        (LISTED._replace(last_modified=LATER), None, True),  # the etag names the version
        (LISTED._replace(etag="e1@2026-03-01T12:00:00Z", last_modified=PUT.replace(microsecond=0)), None, True),
        (LISTED._replace(etag="e1@2026-03-01T13:00:00Z", last_modified=LATER), LATER, False),
        (LISTED._replace(etag="e2"), LATER, True),  # of the same moment, long after it
        (LISTED._replace(etag="e2"), PUT.replace(microsecond=0) + 2 * SECOND, True),
        (LISTED._replace(etag="e2"), PUT.replace(microsecond=0) + 1 * SECOND, False),  # within the grain of the clock
        (LISTED._replace(etag="e2"), None, False),  # the server does not say when it listed
        (LISTED._replace(etag="e2"), PUT - timedelta(days=1), False),  # nor which day it is
        (LISTED._replace(etag="e2", last_modified=PUT + SECOND), LATER, False),
        (LISTED._replace(etag="e2", size=4), LATER, False),
        (LISTED._replace(size=4), LATER, False),
    ],
)
def test_whether_a_listing_shows_what_an_object_answers_with(
    own: RemoteObject, listed_at: datetime | None, shown: bool
) -> None:
    assert is_shown(LISTED, own, listed_at) is shown
    taken = Outcome(Download(LISTED, None, Reason.NEW), Status.DONE, own, COPY)
    had = Outcome(Skip(LISTED, "listed under another etag", unchanged=True), Status.DONE, own)
    for outcome in (taken, had):
        assert settles(outcome, listed_at) is shown
        alias = "e1@2026-03-01T12:00:00Z" if shown and own.etag == "e2" else None
        assert shown_otherwise(outcome, listed_at) == alias


def test_what_settles_nothing() -> None:
    for status in (Status.FAILED, Status.SKIPPED):
        outcome = Outcome(Download(LISTED, None, Reason.NEW), status, LISTED)
        assert not settles(outcome, LATER)
        assert shown_otherwise(outcome._replace(remote=LISTED._replace(etag="e2")), LATER) is None


def row(key: str, seen: int, etag: str = "e1", state: str = "present", *, gone: bool = False) -> CatalogRow:
    return CatalogRow(key, 3, etag, state, gone, None, 0, seen=seen)


@pytest.mark.parametrize(
    ("known", "seen_before", "actions", "skipped", "gone"),
    [
        (row("missing", 7), 7, [], 0, ["missing"]),
        (row("missing", 8), 7, [], 0, []),
        (row("k", 7, gone=True), 7, ["return k", "skip"], 0, []),
        (row("k", 8, gone=True), 7, [], 1, []),
        (row("k", 8, "e2", gone=True), 7, [], 1, []),
        (row("k", 8, "e2"), 7, ["download k (changed, 3 bytes)"], 0, []),  # it asks for its version
        (row("k", 8, state="failed"), 7, ["download k (retry, 3 bytes)"], 0, []),
        (row("k", 8), 7, [], 0, []),
    ],
    ids=str,
)
def test_what_a_page_says_of_rows_that_are_newer_than_itself(
    known: CatalogRow, seen_before: int, actions: list[str], skipped: int, gone: list[str]
) -> None:
    objects = [] if known.key == "missing" else [LISTED]
    found = decide_page(objects, {known.key: known}, Selection(), all_rows=True, seen_before=seen_before)
    assert [str(action) for action in found.actions] == [action for action in actions if action != "skip"]
    assert (len(found.skipped), [str(MarkGone(row)) for row in found.gone]) == (
        skipped,
        [f"gone {key}" for key in gone],
    )
    assert found.unchanged == (known.key == "k" and known.etag == "e1" and known.state == "present" and not skipped)


def test_a_newer_row_is_not_recorded_in_an_older_version() -> None:
    unwanted = Selection(until=PUT - timedelta(days=1))
    for seen, recorded in ((7, 1), (8, 0)):
        found = decide_page([LISTED], {"k": row("k", seen, "e2", "known")}, unwanted, all_rows=True, seen_before=7)
        assert sum(isinstance(action, Record) for action in found.actions) == recorded
        assert len(found.skipped) == 1 - recorded
