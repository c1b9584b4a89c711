"""The decision table of the policy, row by row."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from ingest.model import CatalogRow, Counts, Download, Outcome, Pair, Reason, RemoteObject, Skip, Status
from ingest.plan.etags import timed
from ingest.plan.policy import decide, is_believed_absent, is_had, overtaken
from ingest.plan.selection import Selection
from ingest.plan.tally import tally

NOW = datetime(2026, 3, 1, tzinfo=UTC)
EVERYTHING = Selection()
RECENT = Selection(since=NOW - timedelta(days=7))
OLD, NEW = NOW - timedelta(days=30), NOW - timedelta(days=1)
LATER, STAMP = NEW + timedelta(seconds=1), "2026-02-28T00:00:00Z"


def remote(modified: datetime = NEW, key: str = "k", size: int = 3, storage_class: str = "STANDARD") -> RemoteObject:
    return RemoteObject(key, size, "e1", modified, storage_class)


def unnamed(modified: datetime) -> RemoteObject:
    return remote(modified)._replace(etag=timed("", modified))


def row(
    state: str, etag: str = "e1", *, gone: bool = False, key: str = "k", size: int = 3, listed: str | None = None
) -> CatalogRow:
    return CatalogRow(key, size, etag, state, gone, f"b/{key}", 0, listed_etag=listed)


TABLE = [
    (remote(), None, EVERYTHING, ["download k (new, 3 bytes)"]),
    (remote(OLD), None, RECENT, ["record k (outside the window)"]),
    (remote(), None, Selection(exclude=("k*",)), ["record k (excluded)"]),
    (remote(), None, Selection(include=("x*",)), ["record k (excluded)"]),
    (remote(), row("present"), EVERYTHING, ["skip k (present)"]),
    (remote(), row("pruned"), EVERYTHING, ["skip k (pruned)"]),
    (remote(NEW), row("known"), RECENT, ["download k (wanted, 3 bytes)"]),
    (remote(OLD), row("known"), RECENT, ["skip k (outside the window)"]),
    (remote(), row("failed"), EVERYTHING, ["download k (retry, 3 bytes)"]),
    *[
        (remote(), row(state, "e0"), EVERYTHING, ["download k (changed, 3 bytes)"])
        for state in ("known", "present", "pruned", "failed", "blocked")
    ],
    (remote(size=4), row("present"), EVERYTHING, ["download k (changed, 4 bytes)"]),
    # No etag that names a version: its moment does.
    (unnamed(NEW), row("present", f"@{STAMP}"), EVERYTHING, ["skip k (present)"]),
    (unnamed(NEW), row("pruned", f"@{STAMP}"), EVERYTHING, ["skip k (pruned)"]),
    (unnamed(LATER), row("present", f"@{STAMP}"), EVERYTHING, ["download k (changed, 3 bytes)"]),
    (unnamed(LATER), row("pruned", f"@{STAMP}"), EVERYTHING, ["download k (changed, 3 bytes)"]),
    (unnamed(NEW)._replace(size=4), row("pruned", f"@{STAMP}"), EVERYTHING, ["download k (changed, 4 bytes)"]),
    (unnamed(NEW), row("present"), EVERYTHING, ["download k (changed, 3 bytes)"]),
    # The listing showed another etag than the object has: that, at that moment, is the same again.
    (remote(), row("pruned", "own", listed=f"e1@{STAMP}"), EVERYTHING, ["skip k (pruned)"]),
    (remote(LATER), row("pruned", "own", listed=f"e1@{STAMP}"), EVERYTHING, ["download k (changed, 3 bytes)"]),
    (remote(), row("pruned", "own", listed=f"e2@{STAMP}"), EVERYTHING, ["download k (changed, 3 bytes)"]),
    (remote(size=4), row("pruned", "own", listed=f"e1@{STAMP}"), EVERYTHING, ["download k (changed, 4 bytes)"]),
    (remote(), row("pruned", "e1", listed=f"e2@{STAMP}"), EVERYTHING, ["skip k (pruned)"]),
    # Its etags turned out to name versions.
    (remote(LATER), row("present", f"e1@{STAMP}"), EVERYTHING, ["skip k (present)"]),
    (remote(OLD), row("present", "e0"), RECENT, ["download k (changed, 3 bytes)"]),
    (remote(OLD), row("known", "e0"), RECENT, ["record k (outside the window)"]),
    (remote(), row("present", "e0"), Selection(exclude=("k",)), ["skip k (excluded)"]),
    (remote(), row("present", gone=True), EVERYTHING, ["return k", "skip k (present)"]),
    (remote(), row("pruned", "e0", gone=True), EVERYTHING, ["return k", "download k (changed, 3 bytes)"]),
    (remote(storage_class="GLACIER"), None, EVERYTHING, ["block k (archived as GLACIER)"]),
    (remote(storage_class="GLACIER"), row("blocked"), EVERYTHING, ["skip k (archived as GLACIER)"]),
    (remote(storage_class="DEEP_ARCHIVE"), row("pruned"), EVERYTHING, ["skip k (pruned)"]),
    (remote(storage_class="GLACIER"), row("known"), EVERYTHING, ["block k (archived as GLACIER)"]),
    (remote(storage_class="DEEP_ARCHIVE"), row("failed"), EVERYTHING, ["block k (archived as DEEP_ARCHIVE)"]),
    *[  # changed and archived: the new version cannot be had, and the copy of the old one stays
        (remote(storage_class=archived), row(state, "e0"), EVERYTHING, [f"block k (archived as {archived})"])
        for archived in ("GLACIER", "DEEP_ARCHIVE")
        for state in ("known", "present", "pruned", "failed", "blocked")
    ],
    (remote(storage_class="GLACIER"), row("present", "e0"), Selection(exclude=("k",)), ["skip k (excluded)"]),
    (remote(OLD, storage_class="GLACIER"), row("known", "e0"), RECENT, ["record k (outside the window)"]),
    (remote(), row("blocked"), EVERYTHING, ["download k (wanted, 3 bytes)"]),
    (remote(NOW), None, Selection(since=NOW), ["download k (new, 3 bytes)"]),
    (remote(NOW), None, Selection(until=NOW), ["record k (outside the window)"]),
    (remote(storage_class="GLACIER_IR"), None, EVERYTHING, ["download k (new, 3 bytes)"]),
    (remote(key="d/", size=0), None, EVERYTHING, ["record d/ (directory marker)"]),
    (remote(key="d/", size=0), row("known", key="d/", size=0), EVERYTHING, ["skip d/ (directory marker)"]),
    *[
        (remote(key="d/", size=0), row(state, "e0", key="d/"), EVERYTHING, ["skip d/ (directory marker)"])
        for state in ("present", "pruned")
    ],
    (remote(key="d/", size=0), row("failed", "e0", key="d/"), EVERYTHING, ["record d/ (directory marker)"]),
    (None, row("present"), EVERYTHING, ["gone k"]),
    (None, row("pruned", gone=True), EVERYTHING, []),
]


@pytest.mark.parametrize(("listed", "known", "selection", "actions"), TABLE)
def test_decision(
    listed: RemoteObject | None, known: CatalogRow | None, selection: Selection, actions: list[str]
) -> None:
    assert [str(action) for action in decide(Pair(listed, known), selection)] == actions


@pytest.mark.parametrize(("listed", "known", "selection", "actions"), TABLE)
def test_unchanged_is_what_had_a_copy_of_this_version(
    listed: RemoteObject | None, known: CatalogRow | None, selection: Selection, actions: list[str]
) -> None:
    for action in decide(Pair(listed, known), selection):
        if isinstance(action, Skip):
            assert action.unchanged is (action.reason in ("present", "pruned")), actions


VERSION = row("present", "e1")


@pytest.mark.parametrize(
    ("decided_on", "now", "taken", "is_overtaken"),
    [
        (None, None, remote(), False),
        (VERSION, None, remote(), False),
        (None, VERSION, remote(), False),  # another run has taken the same
        (row("known", "e0"), VERSION, remote(), False),
        (row("known", "e0"), row("known", "e0"), remote(), False),  # nothing happened meanwhile
        (row("known", "e0", size=4), row("present", "e0", size=4), remote(), False),
        (None, row("present", "e2"), remote(), True),
        (row("known", "e0"), row("present", "e2"), remote(), True),
        (row("known", "e0"), row("present", "e0", size=4), remote(), True),
        (row("known", "e0", size=4), row("present", "e0"), remote(), True),
        (row("known", "e1"), row("present", "e1", size=4), remote(), True),
        (None, row("present", "e1", size=4), remote(), True),
    ],
)
def test_when_another_run_was_faster(
    decided_on: CatalogRow | None, now: CatalogRow | None, taken: RemoteObject, is_overtaken: bool
) -> None:
    assert overtaken(decided_on, now, taken) is is_overtaken


@pytest.mark.parametrize(
    ("reason", "known", "believed"),
    [
        (Reason.NEW, None, True),
        (Reason.RETRY, row("failed"), True),
        (Reason.RETRY, row("failed")._replace(absent=None), True),  # as the databases have it where there is no error
        (Reason.RETRY, row("failed")._replace(absent=True), False),
        (Reason.CHANGED, row("present", "e0")._replace(absent=True), False),
        (Reason.WANTED, row("known")._replace(absent=True), False),
        (Reason.RESTORE, row("pruned")._replace(absent=True), True),
        (Reason.REPAIR, row("present")._replace(absent=True), True),
    ],
)
def test_what_is_not_there_is_believed_to_be_gone_once(
    reason: Reason, known: CatalogRow | None, believed: bool
) -> None:
    assert is_believed_absent(Download(remote(), known, reason)) is believed


def test_the_counts_add_up_for_every_row_of_the_table() -> None:
    counts = Counts()
    for listed, known, selection, _ in TABLE:
        for number, action in enumerate(decide(Pair(listed, known), selection)):
            tally(counts, Outcome(action, Status.FAILED if number % 2 else Status.DONE))
    assert counts.listed == len([listed for listed, *_ in TABLE if listed is not None])
    assert counts.listed == counts.new + counts.changed + counts.unchanged + counts.skipped
    assert counts.new + counts.changed == counts.downloaded + counts.failed


@pytest.mark.parametrize(
    ("newest", "known", "had"),
    [
        (remote(), row("present"), True),
        (remote(), row("pruned"), True),
        (remote(), row("known"), False),
        (remote(), row("failed"), False),
        (remote(), row("present", "e0"), False),
        (remote(size=4), row("present"), False),
        (remote(), None, False),
    ],
)
def test_whether_a_version_was_taken_already(newest: RemoteObject, known: CatalogRow | None, had: bool) -> None:
    assert is_had(newest, known) is had
