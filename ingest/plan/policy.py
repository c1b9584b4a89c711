"""The decisions of ``sync`` and ``backfill``: what to do with each key, from what both sides know of it.

| listed | catalog row | action |
|---|---|---|
| yes | none, wanted | download (new) |
| yes | none, outside the window or filters | record as `known` |
| yes | same etag and size, `present` | skip |
| yes | same etag and size, `pruned` | skip: never downloads again |
| yes | same etag and size, `known`, now wanted | download (wanted) |
| yes | same etag and size, `known`, still not wanted | skip |
| yes | same etag and size, `failed` | download again (retry) |
| yes | etag or size differ, any state | download (changed); the old copy stays until the new one replaces it |
| yes | no etag that names a version (empty, constant), last-modified differs, any state | download (changed) |
| yes | no etag that names a version, same last-modified and size | as for the same etag |
| yes | not the object's own etag, but what the listing showed when the copy was taken | as for the same etag |
| yes | `gone_at` set | clear it (returned), then as above |
| yes, and is not there when asked for | any | gone: believed once; listed again and still not there: failed |
| yes | archived storage class | block; skip when it is blocked already, or its copy was taken before |
| yes | zero-size key ending in `/` | record; no file; skip when a copy of an earlier version was taken: it stays |
| no | any, and its shard was listed completely | mark as gone; the local copy stays |
| no | gone already | nothing |

Globs outrank a change: an excluded key is never downloaded. A window does not, for an object that was downloaded
before: what changed is taken, however late it is noticed.
"""

from __future__ import annotations

from datetime import datetime

from ingest.model import (
    HAD_A_COPY,
    Action,
    Block,
    CatalogRow,
    Download,
    MarkGone,
    Pair,
    Reason,
    Record,
    RemoteObject,
    Return,
    Skip,
    State,
    Unwanted,
)
from ingest.plan.etags import GRAIN, etag_of, timed
from ingest.plan.selection import Selection

ARCHIVED = frozenset({"GLACIER", "DEEP_ARCHIVE"})
"""Storage classes that cannot be read without a restore at the server (S3 API, `StorageClass`)."""


def decide(pair: Pair, selection: Selection) -> tuple[Action, ...]:
    """The actions for one key, in the order in which they must be recorded."""
    remote, row = pair
    if remote is None:
        return (MarkGone(row),) if row is not None and not row.gone else ()
    if row is None:
        return (_first_seen(remote, selection),)
    decide_one = _same if is_unchanged(remote, row) else _differing
    action = decide_one(remote, row, selection)
    return (Return(remote, row), action) if row.gone else (action,)


def is_unchanged(remote: RemoteObject, row: CatalogRow) -> bool:
    """Whether a listed object is the version of its row.

    A listing may show another etag than the object has: what it showed when the copy was taken is kept beside it. An
    etag that names versions after all needs no moment.
    """
    if row.size != remote.size:
        return False
    if row.etag == remote.etag or etag_of(row.etag) == remote.etag:
        return True
    return row.listed_etag is not None and row.listed_etag == timed(remote.etag, remote.last_modified)


def is_shown(listed: RemoteObject, own: RemoteObject, listed_at: datetime | None) -> bool:
    """Whether what was listed is the version that the object answered with, when it was asked for later.

    Under another etag it may be, where nothing can have changed in between: it would have another moment, unless it was
    listed within the grain of its clock. `listed_at` is the server's time of the listing; None: unknown.
    """
    if own.etag == listed.etag and own.size == listed.size:
        return True
    at = listed.last_modified.replace(microsecond=0)
    if own.size != listed.size or own.last_modified.replace(microsecond=0) != at:
        return False
    return etag_of(own.etag) == etag_of(listed.etag) or (listed_at is not None and listed_at - at >= GRAIN)


def is_had(newest: RemoteObject, row: CatalogRow | None) -> bool:
    """Whether the object as it answers for itself is the version that a copy was taken of, whatever a listing says."""
    return row is not None and row.state in HAD_A_COPY and (newest.etag, newest.size) == (row.etag, row.size)


def overtaken(decided_on: CatalogRow | None, now: CatalogRow | None, taken: RemoteObject) -> bool:
    """Whether another run has recorded another version since the row was read: what was taken may be the older one."""
    if now is None or (now.etag, now.size) == (taken.etag, taken.size):
        return False
    return decided_on is None or (now.etag, now.size) != (decided_on.etag, decided_on.size)


def is_believed_absent(action: Download) -> bool:
    """Whether an object that is not there when it is asked for is gone. A listing that goes on naming it is wrong: then
    the object fails, so that somebody looks."""
    return not (action.is_listed and action.row is not None and action.row.absent)


def _first_seen(remote: RemoteObject, selection: Selection) -> Action:
    if remote.is_directory_marker:
        return Record(remote, Unwanted.DIRECTORY_MARKER)
    unwanted = None if selection.takes_everything else selection.unwanted(remote)
    if unwanted:
        return Record(remote, unwanted)
    if remote.storage_class in ARCHIVED:
        return Block(remote, f"archived as {remote.storage_class}")
    return Download(remote, None, Reason.NEW)


def _same(remote: RemoteObject, row: CatalogRow, selection: Selection) -> Action:
    state = row.state
    if state in HAD_A_COPY:
        return Skip(remote, state, unchanged=True)
    if remote.is_directory_marker:
        return Skip(remote, Unwanted.DIRECTORY_MARKER, unchanged=False)
    unwanted = None if selection.takes_everything else selection.unwanted(remote)
    if unwanted:
        return Skip(remote, unwanted, unchanged=False)
    if remote.storage_class in ARCHIVED:
        reason = f"archived as {remote.storage_class}"
        return Skip(remote, reason, unchanged=False) if state == State.BLOCKED else Block(remote, reason)
    return Download(remote, row, Reason.RETRY if state == State.FAILED else Reason.WANTED)


def _differing(remote: RemoteObject, row: CatalogRow, selection: Selection) -> Action:
    had_a_copy = row.state in HAD_A_COPY
    if remote.is_directory_marker:
        return _unless_copied(remote, Unwanted.DIRECTORY_MARKER, had_a_copy)
    if not selection.takes_everything:
        if selection.excluded(remote.key):
            return _unless_copied(remote, Unwanted.EXCLUDED, had_a_copy)
        if not had_a_copy and selection.outside_window(remote.last_modified):
            return Record(remote, Unwanted.OUTSIDE_THE_WINDOW)
    if remote.storage_class in ARCHIVED:
        return Block(remote, f"archived as {remote.storage_class}")
    return Download(remote, row, Reason.CHANGED)


def _unless_copied(remote: RemoteObject, reason: Unwanted, had_a_copy: bool) -> Action:
    """Records a version that gets no file. Where an older one has a file, its row goes on saying which."""
    return Skip(remote, reason, unchanged=False) if had_a_copy else Record(remote, reason)
