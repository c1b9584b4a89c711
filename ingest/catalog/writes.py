"""The statements behind a batch: idempotent upserts, the same on both engines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Table, bindparam, case, literal_column, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from ingest.catalog import audit
from ingest.catalog.batch import Batch
from ingest.catalog.tables import deliveries, objects, shards
from ingest.model import DeliveryState, RemoteObject, Shard, State

_HAD_A_COPY = (State.PRESENT.value, State.PRUNED.value)
_KEYS_A_STATEMENT = 500
_LISTED = ("size", "etag", "last_modified", "storage_class")


def upsert(connection: AsyncConnection, table: Table, values: Any = None) -> Any:
    """An ``INSERT … ON CONFLICT`` of the connection's dialect, still without its conflict clause."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    statement = dialect.insert(table)
    return statement if values is None else statement.values(values)


async def write(connection: AsyncConnection, batch: Batch) -> None:
    """Writes everything the batch holds, within the caller's transaction."""
    await _enqueue(connection, batch)  # before any object's row: whoever locks both takes the outbox first
    await _put(connection, [_row(batch, remote, State.KNOWN) for remote in batch.known], (*_LISTED, "state"))
    await _put_present(connection, batch)
    for state, trouble in ((State.FAILED, batch.failed), (State.BLOCKED, batch.blocked)):
        await _put_trouble(connection, batch, state, trouble)
    await _mark(connection, batch, batch.gone, {"gone_at": batch.at})
    await _mark(connection, batch, batch.returned, {"gone_at": None})
    await _mark(connection, batch, batch.pruning, {"pruned_at": batch.at})
    await _mark(connection, batch, batch.pruned, {"state": State.PRUNED.value})
    await _mark(connection, batch, batch.kept, {"pruned_at": None})
    await _announce(connection, batch)
    await audit.append(connection, batch.run_id, batch.source_id, batch.at, batch.audits)
    await put_cursors(connection, batch.run_id, batch.cursors)


async def put_cursors(connection: AsyncConnection, run_id: int, cursors: Sequence[tuple[Shard, str, bool]]) -> None:
    """Plans shards, or moves their cursors on."""
    if not cursors:
        return
    rows = [
        {
            "run_id": run_id,
            "prefix": shard.prefix,
            "level": shard.level,
            "start_after": shard.start_after,
            "end": shard.end,
            "cursor": cursor,
            "done": done,
        }
        for shard, cursor, done in cursors
    ]
    statement = upsert(connection, shards)
    excluded = statement.excluded
    await connection.execute(
        statement.on_conflict_do_update(
            index_elements=["run_id", "prefix", "level", "start_after"],
            set_={"cursor": excluded.cursor, "done": excluded.done},
        ),
        rows,
    )


def _row(batch: Batch, remote: RemoteObject, state: State) -> dict[str, Any]:
    return {
        "source_id": batch.source_id,
        "key": remote.key,
        "size": remote.size,
        "etag": remote.etag,
        "last_modified": remote.last_modified,
        "storage_class": remote.storage_class,
        "source_s3_path": f"s3://{batch.bucket}/{remote.key}",
        "state": state.value,
    }


async def _put(connection: AsyncConnection, rows: list[dict[str, Any]], columns: tuple[str, ...]) -> None:
    if not rows:
        return
    statement = upsert(connection, objects)
    await connection.execute(
        statement.on_conflict_do_update(
            index_elements=["source_id", "key"], set_={name: statement.excluded[name] for name in columns}
        ),
        rows,
    )


async def _put_present(connection: AsyncConnection, batch: Batch) -> None:
    rows = [
        {
            **_row(batch, remote, State.PRESENT),
            "local_path": copy.local_path,
            "digest": copy.digest,
            "verified": copy.verified.value,
            "downloaded_at": batch.at,
            "pruned_at": None,
            "gone_at": None,
            "attempts": 0,
            "last_error": None,
        }
        for remote, copy in batch.present
    ]
    touched = ("state", "local_path", "digest", "verified", "downloaded_at", "pruned_at")
    await _put(connection, rows, (*_LISTED, *touched, "gone_at", "attempts", "last_error"))


async def _put_trouble(
    connection: AsyncConnection, batch: Batch, state: State, trouble: list[tuple[RemoteObject, str]]
) -> None:
    if not trouble:
        return
    rows = [{**_row(batch, remote, state), "attempts": 1, "last_error": reason} for remote, reason in trouble]
    statement = upsert(connection, objects)
    had_a_copy = objects.c.state.in_(_HAD_A_COPY)
    changes: dict[str, Any] = {
        name: case((had_a_copy, objects.c[name]), else_=statement.excluded[name]) for name in (*_LISTED, "state")
    }
    changes["attempts"] = objects.c.attempts + literal_column("1")
    changes["last_error"] = statement.excluded.last_error
    await connection.execute(statement.on_conflict_do_update(index_elements=["source_id", "key"], set_=changes), rows)


async def _mark(connection: AsyncConnection, batch: Batch, keys: list[str], values: dict[str, Any]) -> None:
    if not keys:
        return
    statement = update(objects).where(objects.c.source_id == batch.source_id, objects.c.key == bindparam("wanted"))
    await connection.execute(statement.values(**values), [{"wanted": key} for key in keys])


async def _enqueue(connection: AsyncConnection, batch: Batch) -> None:
    """Puts the batch's deliveries in line; a version that stands there already stays as it is."""
    if not batch.deliveries:
        return
    rows = [
        {
            "source_id": batch.source_id,
            "key": delivery.key,
            "etag": delivery.etag,
            "target": batch.target,
            "state": DeliveryState.PENDING.value,
            "fields": delivery.fields,
            "created_at": batch.at,
            "next_attempt_at": batch.at,
        }
        for delivery in batch.deliveries
    ]
    statement = upsert(connection, deliveries)
    unique = ["source_id", "key", "etag", "target"]
    await connection.execute(statement.on_conflict_do_nothing(index_elements=unique), rows)


async def _announce(connection: AsyncConnection, batch: Batch) -> None:
    """Notes that events named these keys in the version that is recorded now."""
    for start in range(0, len(batch.announced), _KEYS_A_STATEMENT):
        named = batch.announced[start : start + _KEYS_A_STATEMENT]
        news = objects.c.announced_etag.is_distinct_from(objects.c.etag)
        wanted = (objects.c.source_id == batch.source_id, objects.c.key.in_(named), news)
        await connection.execute(update(objects).where(*wanted).values(announced_etag=objects.c.etag))
