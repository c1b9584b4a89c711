"""The statements behind a batch: idempotent upserts, the same on both engines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ingest.catalog import audit, in_line, pages
from ingest.catalog.batch import Batch
from ingest.catalog.lane import VERSION, Dialect, Insert, Statement, Steps
from ingest.crashpoints import here
from ingest.model import RemoteObject, Shard, State
from ingest.plan.etags import etag_of
from ingest.plan.resuming import Cursor

_LISTED = ("source_id", "key", "size", "etag", "version", "last_modified", "storage_class", "source_s3_path", "state")
_COPIED = (*_LISTED, "local_path", "digest", "verified", "downloaded_at")
_RELISTED = ("size", "etag", "version", "last_modified", "storage_class", "state")
_HAD_A_COPY = f"objects.state IN ('{State.PRESENT}', '{State.PRUNED}')"


def _taken(columns: Sequence[str]) -> list[str]:
    return [f"{name} = excluded.{name}" for name in columns]


_ONE = ("source_id", "key")
_SAME_VERSION = (
    "coalesce(objects.version, objects.etag) = coalesce(excluded.version, excluded.etag) "
    "AND objects.size = excluded.size"
)
_PUT_KNOWN = Insert("objects", _LISTED, _ONE, (*_taken(_RELISTED), "listed_etag = NULL"), where=f"NOT {_HAD_A_COPY}")
"""Another run may have taken the object since it was decided that this one does not want it."""
_PUT_PRESENT = Insert(
    "objects",
    _COPIED,
    _ONE,
    (
        *_taken((*_RELISTED, "local_path", "digest", "verified", "downloaded_at")),
        *("pruned_at = NULL", "gone_at = NULL", "attempts = 0", "last_error = NULL"),
        f"listed_etag = CASE WHEN {_SAME_VERSION} THEN objects.listed_etag END",
    ),
)
_PUT_TROUBLE = Insert(
    "objects",
    (*_LISTED, "attempts", "last_error"),
    _ONE,
    (
        *(f"{name} = CASE WHEN {_HAD_A_COPY} THEN objects.{name} ELSE excluded.{name} END" for name in _RELISTED),
        *("attempts = objects.attempts + 1", "last_error = excluded.last_error"),
    ),
)
_ANNOUNCE = (
    f"UPDATE objects SET announced_etag = {VERSION} WHERE source_id = ? "  # noqa: S608 - our own words
    "AND key {among} AND etag {among}"
)
"""Whose etag is none of those was replaced meanwhile, by a version that its own event is to name."""
_PUT_SHARD = (
    'INSERT INTO shards (run_id, prefix, level, start_after, "end", cursor, done) VALUES (?, ?, ?, ?, ?, ?, ?) '
    "ON CONFLICT (run_id, prefix, level, start_after) DO UPDATE SET "
)
_PLAN_SHARD = _PUT_SHARD + '"end" = excluded."end"'
_MOVE_CURSOR = _PUT_SHARD + "cursor = excluded.cursor, done = excluded.done"


def write(batch: Batch, dialect: Dialect) -> Steps[None]:
    """Writes everything the batch holds."""
    yield from in_line.put(batch, dialect)
    yield from _put_known(batch, dialect)
    yield from _put_present(batch, dialect)
    for state, trouble in ((State.FAILED, batch.failed), (State.BLOCKED, batch.blocked)):
        if trouble:
            rows = [(*_listed(batch, dialect, remote, state), 1, reason) for remote, reason in trouble]
            yield _PUT_TROUBLE.of(rows)
    at = dialect.time(batch.at)
    for keys, assignment, values in (
        (batch.gone, "gone_at = ?", (at,)),
        (batch.returned, "gone_at = NULL", ()),
        (batch.pruned, "state = ?", (State.PRUNED.value,)),
        (batch.kept, "pruned_at = NULL", ()),
        (batch.sound, "attempts = 0, last_error = NULL", ()),
    ):
        if keys:
            # A copy that came after the intent to prune has taken the intent away: it stays.
            intended = " AND pruned_at IS NOT NULL" if keys is batch.pruned else ""
            sql = f"UPDATE objects SET {assignment} WHERE source_id = ?{intended} AND key {dialect.among}"  # noqa: S608
            yield Statement(sql, (*values, batch.source_id, dialect.listed(keys)))
    if batch.announced:
        keys, etags = dialect.listed([*batch.announced]), dialect.listed([*{*batch.announced.values()}])
        yield Statement(dialect.fill(_ANNOUNCE), (batch.source_id, keys, etags))
    if batch.pages.shown_as:
        rows = [(shown, batch.source_id, key) for key, shown in batch.pages.shown_as.items()]
        yield Statement("UPDATE objects SET listed_etag = ? WHERE source_id = ? AND key = ?", rows=rows)
    if batch.pages.etags is not None:
        yield Statement("UPDATE sources SET etags = ? WHERE id = ?", (batch.pages.etags, batch.source_id))
    here("batch.rows-written")
    yield from audit.append(dialect, batch.run_id, batch.source_id, batch.at, batch.audits)
    yield from pages.keep(batch, dialect)
    here("batch.pages-written")
    if batch.cursors:
        yield from move_cursors(batch.run_id, batch.cursors)
    here("batch.cursors-written")


def plan_shards(run_id: int, planned: Sequence[Shard]) -> Steps[None]:
    """Adds shards, or gives those that were split their new end."""
    yield Statement(_PLAN_SHARD, rows=[_shard(run_id, shard, shard.start_after, False) for shard in planned])


def move_cursors(run_id: int, cursors: Sequence[Cursor]) -> Steps[None]:
    """How far each shard is recorded; those that were not planned are added."""
    yield Statement(_MOVE_CURSOR, rows=[_shard(run_id, *cursor) for cursor in cursors])


def _shard(run_id: int, shard: Shard, cursor: str, done: bool) -> tuple[Any, ...]:
    return (run_id, shard.prefix, shard.level, shard.start_after, shard.end, cursor, done)


def _listed(batch: Batch, dialect: Dialect, remote: RemoteObject, state: State) -> tuple[Any, ...]:
    key, size, name, last_modified, storage_class = remote
    etag, version = _named(name)
    path = f"s3://{batch.bucket}/{key}"
    return (batch.source_id, key, size, etag, version, dialect.time(last_modified), storage_class, path, state.value)


def _named(name: str) -> tuple[str, str | None]:
    """The etag, and the name of the version where that is more."""
    etag = etag_of(name) if name.endswith("Z") else name
    return etag, None if etag == name else name


def _put_known(batch: Batch, dialect: Dialect) -> Steps[None]:
    if batch.known:
        source_id, where, time, state = batch.source_id, f"s3://{batch.bucket}/", dialect.time, State.KNOWN.value
        rows = [
            (source_id, key, size, *_named(name), time(last_modified), storage_class, where + key, state)
            for key, size, name, last_modified, storage_class in batch.known
        ]
        yield _PUT_KNOWN.of(rows)


def _put_present(batch: Batch, dialect: Dialect) -> Steps[None]:
    if batch.present:
        at, state = dialect.time(batch.at), State.PRESENT
        rows = [
            (*_listed(batch, dialect, remote, state), copy.local_path, copy.digest, copy.verified.value, at)
            for remote, copy in batch.present
        ]
        yield _PUT_PRESENT.of(rows)
