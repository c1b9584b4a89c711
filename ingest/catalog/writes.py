"""The statements behind a batch: idempotent upserts, the same on both engines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ingest.catalog import audit, in_line, page_memory
from ingest.catalog.batch import Batch, Committed, SeenMarks
from ingest.catalog.sql.driver import VERSION, Dialect, Insert, Statement, Steps
from ingest.model import RemoteObject, Shard, State
from ingest.plan.etags import etag_of
from ingest.plan.resuming import Cursor
from ingest.system.failpoints import failpoint

_LISTED = ("source_id", "key", "size", "etag", "version", "last_modified", "storage_class", "source_s3_path", "state")
_COPIED = (*_LISTED, "local_path", "digest", "verified", "downloaded_at")
_SEEN = ("seen", "seen_at", "seen_in")
_RELISTED = ("size", "etag", "version", "last_modified", "storage_class", "state")
_HAD_A_COPY = f"objects.state IN ('{State.PRESENT}', '{State.PRUNED}')"


def _taken(columns: Sequence[str]) -> list[str]:
    return [f"{name} = excluded.{name}" for name in columns]


_ONE = ("source_id", "key")
_SAME_VERSION = (
    "coalesce(objects.version, objects.etag) = coalesce(excluded.version, excluded.etag) "
    "AND objects.size = excluded.size"
)
_PUT_KNOWN = Insert(
    "objects",
    (*_LISTED, *_SEEN),
    _ONE,
    (*_taken((*_RELISTED, *_SEEN)), "listed_etag = NULL"),
    where=f"NOT {_HAD_A_COPY}",
)
"""Another run may have taken the object since it was decided that this one does not want it."""
_PUT_PRESENT = Insert(
    "objects",
    (*_COPIED, *_SEEN),
    _ONE,
    (
        *_taken((*_RELISTED, *_SEEN, "local_path", "digest", "verified", "downloaded_at")),
        *("pruned_at = NULL", "gone_at = NULL", "attempts = 0", "last_error = NULL"),
        f"listed_etag = CASE WHEN {_SAME_VERSION} THEN objects.listed_etag END",
    ),
)
_PUT_TROUBLE = Insert(
    "objects",
    (*_LISTED, "attempts", "last_error", *_SEEN),
    _ONE,
    (
        *_taken(_SEEN),
        *(f"{name} = CASE WHEN {_HAD_A_COPY} THEN objects.{name} ELSE excluded.{name} END" for name in _RELISTED),
        *("attempts = objects.attempts + 1", "last_error = excluded.last_error"),
    ),
)
_AND_SEEN = ", ".join(f"{name} = ?" for name in _SEEN)
_GONE = f"UPDATE objects SET gone_at = ?, {_AND_SEEN} WHERE source_id = ? AND key {{among}}"
_RETURNED = f"UPDATE objects SET gone_at = NULL, {_AND_SEEN} WHERE source_id = ? AND key {{among}}"
_PRUNED = "UPDATE objects SET state = 'pruned' WHERE source_id = ? AND pruned_at IS NOT NULL AND key {among}"
"""A copy that came after the intent to prune has taken the intent away: it stays."""
_KEPT = "UPDATE objects SET pruned_at = NULL WHERE source_id = ? AND key {among}"
_SOUND = "UPDATE objects SET attempts = 0, last_error = NULL WHERE source_id = ? AND key {among}"
_SHOWN_AS = "UPDATE objects SET listed_etag = ? WHERE source_id = ? AND key = ?"
_ETAGS = "UPDATE sources SET etags = ? WHERE id = ?"
_ANNOUNCE = f"UPDATE objects SET announced_etag = {VERSION} WHERE source_id = ? AND key {{among}} AND etag {{among}}"
"""Whose etag is none of those was replaced meanwhile, by a version that its own event is to name."""
_SHARD = ("run_id", "prefix", "level", "start_after", '"end"', "cursor", "done")
_PLAN_SHARD = Insert("shards", _SHARD, _SHARD[:4], ('"end" = excluded."end"',)).row
_MOVE_CURSOR = Insert("shards", _SHARD, _SHARD[:4], ("cursor = excluded.cursor", "done = excluded.done")).row
_SEE = "UPDATE sources SET seen = seen + 1 WHERE id = ? RETURNING seen, {now}"
_SEEN_BY_OTHERS = "SELECT key, seen FROM objects WHERE source_id = ? AND seen > ? AND seen_in <> ? AND key {among}"


def write(batch: Batch, dialect: Dialect) -> Steps[Committed]:
    """Writes everything the batch holds, but for what another run has seen since it was decided."""
    yield from in_line.put(batch, dialect)
    committed = Committed(batch.pages.sights)
    seen: tuple[Any, ...] = ()
    if batch.says_what_was_seen:
        seen, committed = yield from _see(batch, dialect)
        batch = _without(batch, committed.left)
    yield from _put_known(batch, seen, dialect)
    yield from _put_present(batch, seen, dialect)
    yield from _put_trouble(batch, seen, dialect)
    at = dialect.time(batch.at)
    for keys, sql, values in (
        (batch.gone, _GONE, (at, *seen)),
        (batch.returned, _RETURNED, seen),
        (batch.pruned, _PRUNED, ()),
        (batch.kept, _KEPT, ()),
        (batch.sound, _SOUND, ()),
    ):
        if keys:
            yield Statement(sql, (*values, batch.source_id, dialect.listed([*keys])))
    if batch.announced:
        keys, etags = dialect.listed([*batch.announced]), dialect.listed([*{*batch.announced.values()}])
        yield Statement(_ANNOUNCE, (batch.source_id, keys, etags))
    if batch.pages.shown_as:
        rows = [(shown, batch.source_id, key) for key, shown in batch.pages.shown_as.items()]
        yield Statement(_SHOWN_AS, rows=rows)
    if batch.pages.etags is not None:
        yield Statement(_ETAGS, (batch.pages.etags, batch.source_id))
    failpoint("batch.rows-written")
    yield from audit.append(dialect, batch.run_id, batch.source_id, batch.at, batch.audits)
    yield from page_memory.keep(batch, dialect)
    failpoint("batch.pages-written")
    if batch.cursors:
        yield from move_cursors(batch.run_id, batch.cursors)
    failpoint("batch.cursors-written")
    return committed


def _see(batch: Batch, dialect: Dialect) -> Steps[tuple[tuple[Any, ...], Committed]]:
    """What to write to the columns of `_SEEN`: the number of this batch among all that say what was seen, when, and the
    run. And what of it is to be left alone."""
    sights = batch.pages.sights
    ((number, at),) = yield Statement(_SEE, (batch.source_id,))
    others = sights.of_others if number == sights.last + 1 else number - 1
    left = yield from _seen_by_others(batch, others, dialect)
    return (number, at, batch.run_id), Committed(SeenMarks(number, others), left)


def _seen_by_others(batch: Batch, others: int, dialect: Dialect) -> Steps[frozenset[str]]:
    """The keys that are to be left alone. `others` is the highest number that may be another run's: where nobody was at
    work since the pages were asked for, what is new on them needs no look."""
    judged, since = batch.gone | batch.returned, batch.pages.known_since
    if since is not None and others > since:
        judged = dict.fromkeys((remote.key for remote in batch.known), since) | judged
    if not judged:
        return frozenset()
    values = (batch.source_id, min(judged.values()), batch.run_id, dialect.listed(list(judged)))
    rows = yield Statement(_SEEN_BY_OTHERS, values)
    return frozenset(key for key, seen in rows if seen > judged[key])


def _without(batch: Batch, left: frozenset[str]) -> Batch:
    """The batch, saying nothing of these keys' being there or gone."""
    if not left:
        return batch
    lost = left & batch.gone.keys()
    return replace(
        batch,
        known=[remote for remote in batch.known if remote.key not in left],
        failed=[trouble for trouble in batch.failed if trouble[0].key not in lost],
        gone={key: seen for key, seen in batch.gone.items() if key not in left},
        returned={key: seen for key, seen in batch.returned.items() if key not in left},
        audits=[line for line in batch.audits if line.what not in ("gone", "returned") or line.key not in left],
    )


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


def _put_known(batch: Batch, seen: Sequence[Any], dialect: Dialect) -> Steps[None]:
    if batch.known:
        source_id, where, time, state = batch.source_id, f"s3://{batch.bucket}/", dialect.time, State.KNOWN.value
        rows = [
            (source_id, key, size, *_named(name), time(last_modified), storage_class, where + key, state, *seen)
            for key, size, name, last_modified, storage_class in batch.known
        ]
        yield _PUT_KNOWN.of(rows)


def _put_trouble(batch: Batch, seen: Sequence[Any], dialect: Dialect) -> Steps[None]:
    for state, trouble in ((State.FAILED, batch.failed), (State.BLOCKED, batch.blocked)):
        if trouble:
            rows = [(*_listed(batch, dialect, remote, state), 1, reason, *seen) for remote, reason in trouble]
            yield _PUT_TROUBLE.of(rows)


def _put_present(batch: Batch, seen: Sequence[Any], dialect: Dialect) -> Steps[None]:
    if batch.present:
        at, state = dialect.time(batch.at), State.PRESENT
        rows = [
            (*_listed(batch, dialect, remote, state), copy.local_path, copy.digest, copy.verified.value, at, *seen)
            for remote, copy in batch.present
        ]
        yield _PUT_PRESENT.of(rows)
