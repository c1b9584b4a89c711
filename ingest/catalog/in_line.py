"""Who stands in line for the verification service, as a batch of copies is recorded.

What is asked for is put in line. Whoever records a newer version of an object whose older one waits gives it that one's
place, asked or not: the older one will be given up for it. And a version that is taken again is due again, whatever its
delivery died of.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ingest.catalog.batch import Batch
from ingest.catalog.sql.driver import Dialect, Insert, Statement, Steps
from ingest.model import SUPERSEDED, DeliveryState

_PENDING, _DEAD = DeliveryState.PENDING.value, DeliveryState.DEAD.value

PUT_IN_LINE = Insert(
    "deliveries",
    ("source_id", "key", "etag", "target", "state", "fields", "created_at", "next_attempt_at"),
    ("source_id", "key", "etag", "target"),
    (*(f"{name} = excluded.{name}" for name in ("state", "fields", "next_attempt_at")), "attempts = 0"),
    where=f"deliveries.state = '{_DEAD}' AND deliveries.last_error = '{SUPERSEDED}'",
)
"""A version that stands there already stays as it is, but for one that was given up for a newer one: it is the newest
again."""
_ANY = f"SELECT 1 FROM deliveries WHERE source_id = ? AND state IN ('{_PENDING}', '{_DEAD}') LIMIT 1"
_OF_KEYS = (
    "SELECT id, key, etag, target, state, fields FROM deliveries WHERE source_id = ? AND key {among} "
    f"AND state NOT IN ('{DeliveryState.DELIVERED}', '{DeliveryState.REJECTED}') ORDER BY id {{for_update}}"
)
"""What waits or was given up. To say so would have SQLite look by the state, at all that waits, and not by the key."""
_NOW = "SELECT {now}"
_TAKE_AGAIN = (
    f"UPDATE deliveries SET state = '{_PENDING}', attempts = 0, next_attempt_at = {{now}} "
    "WHERE id {among} AND NOT EXISTS (SELECT 1 FROM deliveries o WHERE o.source_id = deliveries.source_id "
    f"AND o.key = deliveries.key AND o.etag = deliveries.etag AND o.state <> '{_DEAD}')"
)


def put(batch: Batch, dialect: Dialect) -> Steps[None]:
    """Before any object's row is written: whoever locks both takes the outbox first."""
    taken = {remote.key: remote.etag for remote, _ in batch.present}
    if not taken and not batch.deliveries:
        return
    standing = yield from _standing(batch.source_id, [*taken], dialect)
    waiting = {(key, target): fields for _, key, etag, target, state, fields in standing
               if state == _PENDING and etag != taken[key]}  # fmt: skip
    rows = {(delivery.key, delivery.etag, batch.target): delivery.fields for delivery in batch.deliveries}
    for (key, target), fields in waiting.items():
        place = key, taken[key], target
        rows[place] = rows.get(place) or json.loads(fields)
    if rows:
        yield from _insert(batch, rows, dialect)
    dead = [number for number, key, etag, target, state, _ in standing
            if state == _DEAD and etag == taken[key] and batch.target in ("", target)]  # fmt: skip
    if dead:
        yield Statement(_TAKE_AGAIN, (dialect.listed(dead),))


def _standing(source_id: int, keys: list[str], dialect: Dialect) -> Steps[list[tuple[Any, ...]]]:
    """What waits or was given up of these keys; nobody else changes it until the end of the transaction."""
    if not keys or not (yield Statement(_ANY, (source_id,))):
        return []
    return (yield Statement(_OF_KEYS, (source_id, dialect.listed(keys))))


def now() -> Steps[Any]:
    """The database's time, as it is kept."""
    return (yield Statement(_NOW))[0][0]


def _insert(batch: Batch, rows: Mapping[tuple[str, str, str], Mapping[str, str]], dialect: Dialect) -> Steps[None]:
    due = yield from now()
    at = dialect.time(batch.at)
    yield PUT_IN_LINE.of(
        [(batch.source_id, *place, _PENDING, json.dumps(fields), at, due) for place, fields in rows.items()]
    )
