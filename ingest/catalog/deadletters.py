"""Messages that could not be carried out: those that wait for another try, and those that were given up.

A topic may be full of nothing else, so no statement is about more than some hundred letters, and none brings more of
their bytes than `BYTES_AT_ONCE`.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from ingest.catalog import audit
from ingest.catalog.catalog import Catalog
from ingest.catalog.sql.driver import END_OF_TIME, LAST_ID, Dialect, Insert, Rows, Statement, Steps, read_time
from ingest.model import Audit, LetterState

LEASE = timedelta(minutes=5)
"""A letter that was handed out for a try is not handed out again before. None waits for longer than that: a time beyond
it was written by a clock that was ahead."""
AT_ONCE = 200
BYTES_AT_ONCE = 16 << 20
"""Of the letters of one statement, as the database holds them, unless one alone has more."""
REMOVED_UNREAD = "removed_unread"
"""The reason of a letter that stands for messages which the broker removed before they were read."""
_SHOWN_OF_VALUE = 120
"""Characters of a message, as the database holds it, for a list that shows only its beginning: a multiple of four."""

_WAITING, _DEAD = f"state = '{LetterState.WAITING.value}'", f"state = '{LetterState.DEAD.value}'"
_COLUMNS = (
    *("source_id", "topic", '"partition"', '"offset"', "message_key", "value", "headers", "state", "reason"),
    *("attempts", "first_at", "next_attempt_at", "key", "publish_at"),
)
_PUT = Insert("dead_letters", _COLUMNS, unique=("source_id", "topic", '"partition"', '"offset"')).row
_REWRITE = (
    "UPDATE dead_letters SET topic = ?, state = ?, reason = ?, attempts = ?, next_attempt_at = ?, key = ?, "
    "publish_at = coalesce(?, publish_at) WHERE id = ?"
)
_ROW = f"{', '.join(_COLUMNS[1:])}, id FROM dead_letters WHERE"
_ROWS = f"SELECT {_ROW} id {{among}}"
_ROWS_BEGUN = _ROWS.replace(", value,", f", substr(value, 1, {_SHOWN_OF_VALUE}),", 1)
_STANDING = f'SELECT {_ROW} source_id = ? AND topic {{among}} AND "offset" {{among}}'
_SIZED = "SELECT id, coalesce(length(value), 0) FROM dead_letters WHERE source_id = ?"
_LETTERS = f"{_SIZED} AND id > ? AND id <= ? AND state {{among}} ORDER BY id LIMIT ?"
_LETTERS_BEGUN = _LETTERS.replace("coalesce(length(value), 0)", "0")
_LETTERS_OF_IDS = f"{_SIZED} AND id > ? AND id <= ? AND state {{among}} AND id {{among}} ORDER BY id LIMIT ?"
_DUE = (
    f"{_SIZED} AND {_WAITING} AND (next_attempt_at <= {{now}} OR next_attempt_at > {{later}}) "
    "ORDER BY next_attempt_at LIMIT ?"
)
_DUE_ALONE = f"{_DUE} {{skip_locked}}"
_LEASE = "UPDATE dead_letters SET next_attempt_at = {later} WHERE id {among}"
_OURS = '(topic = ? OR substr(topic, 1, ?) = ?) AND ("partition" {among} OR "partition" >= ?)'
_TO_PUBLISH = (
    f"{_SIZED} AND {_DEAD} AND publish_at IS NOT NULL AND (publish_at <= ? OR publish_at > ?) AND {_OURS} "
    "ORDER BY publish_at, id LIMIT ?"
)
_PUBLISHED = "UPDATE dead_letters SET publish_at = ? WHERE publish_at IS NOT NULL AND id {among}"
_UNPUBLISHED = f"SELECT count(*) FROM dead_letters WHERE source_id = ? AND {_DEAD} AND publish_at IS NOT NULL"
_LOST = "SELECT attempts FROM dead_letters WHERE source_id = ? AND reason = ?"
_NAMED = (
    'SELECT id, key, reason, topic, "partition", "offset" FROM dead_letters WHERE source_id = ? AND id > ? AND id <= ?'
)
_NARROWED = f"{_NAMED} AND (CAST(? AS TEXT) IS NULL OR reason = ?) AND first_at < ?"
_NAMED_IDS = f"{_NARROWED} AND id {{among}} ORDER BY id LIMIT ?"
_NAMED_DEAD = f"{_NARROWED} AND {_DEAD} ORDER BY id LIMIT ?"
_IDS = "SELECT id FROM dead_letters WHERE source_id = ? AND id {among}"
_DELETE = "DELETE FROM dead_letters WHERE id {among}"
_HIGHEST = "SELECT coalesce(max(id), 0) FROM dead_letters WHERE source_id = ?"


class LetterRow(NamedTuple):
    """One message, as it came, and what became of it. `id` is None before it is written."""

    topic: str
    partition: int
    offset: int
    message_key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    state: str
    reason: str
    attempts: tuple[dict[str, str], ...]
    """``at``, ``error`` and ``message`` of each try, oldest first."""
    first_at: datetime
    next_attempt_at: datetime | None = None
    key: str | None = None
    """The object's key, where the message could be read."""
    publish_at: datetime | None = None
    """When it is to be written to the topic of dead letters; None: it need not be, or was."""
    id: int | None = None

    @property
    def size(self) -> int:
        """Bytes of the message."""
        return len(self.value or b"") + len(self.message_key or b"")


class TopicPlace(NamedTuple):
    """The letters of which topic and partitions one consumer publishes."""

    topic: str
    partitions: Sequence[int]
    beyond: int
    """Those from this partition on as well: the topic had more once."""


class Chosen(NamedTuple):
    """Which letters are meant: those with `ids`, else all that were given up; of them those for `reason`, `before`."""

    ids: Collection[int] | None = None
    reason: str | None = None
    before: datetime | None = None


async def put(catalog: Catalog, source_id: int, rows: Sequence[LetterRow], settled: Sequence[int] = ()) -> None:
    """Writes new letters, updates those with an id, and removes the `settled` ones, in one transaction.

    A new letter of a message that is there already changes nothing: it was consumed twice. A letter from an earlier
    topic of the same name makes room for it. Of one with an id, its bytes stay as they are, and so does the mark that
    it is to be published, unless it gets one.
    """

    def write(dialect: Dialect) -> Steps[None]:
        new = [row for row in rows if row.id is None]
        changed = [row for row in rows if row.id is not None]
        if new:
            changed = (yield from _in_their_place(dialect, source_id, new)) + changed
        if changed:
            yield Statement(_REWRITE, rows=[_changes(row, dialect) for row in changed])
        if new:
            yield Statement(_PUT, rows=[_values(source_id, row, dialect) for row in new])
        if settled:
            yield Statement(_DELETE, (dialect.listed(list(settled)),))

    await catalog.driver.write(write)


def _in_their_place(dialect: Dialect, source_id: int, new: Sequence[LetterRow]) -> Steps[list[LetterRow]]:
    """The letters that stand where `new` ones are to stand, as they have to be changed for them.

    Topics are made anew, with their offsets from 0: a letter of another message is moved aside; one of the same message
    that was given up waits again, if the new one would.
    """
    topics, offsets = sorted({row.topic for row in new}), sorted({row.offset for row in new})
    values = (source_id, dialect.listed(topics), dialect.listed(offsets))
    found = yield Statement(_STANDING, values)
    standing = {(row.topic, row.partition, row.offset): row for row in map(_as_row, found)}
    changed = []
    for row in new:
        old = standing.get((row.topic, row.partition, row.offset))
        if old is None:
            continue
        if (old.message_key, old.value, old.headers) != (row.message_key, row.value, row.headers):
            changed.append(old._replace(topic=f"{old.topic} (until {row.first_at.isoformat()})"))
        elif (old.state, row.state) == (LetterState.DEAD, LetterState.WAITING):
            changed.append(row._replace(id=old.id, attempts=(*old.attempts, *row.attempts)))
    return changed


async def due(catalog: Catalog, source_id: int, limit: int, most_bytes: int = BYTES_AT_ONCE) -> list[LetterRow]:
    """Letters whose time has come, by the database's clock; nobody else is handed them for the time of `LEASE`."""
    seconds = LEASE.total_seconds()
    if not await catalog.driver.fetch(_DUE, source_id, seconds, 1):
        return []

    def lease(dialect: Dialect) -> Steps[list[LetterRow]]:
        ids = _within(most_bytes, (yield Statement(_DUE_ALONE, (source_id, seconds, limit))))
        rows = yield Statement(_ROWS, (dialect.listed(ids),))
        yield Statement(_LEASE, (seconds, dialect.listed(ids)))
        return _in_order(ids, rows)

    return await catalog.driver.write(lease)


async def to_publish(catalog: Catalog, source_id: int, place: TopicPlace, now: datetime, limit: int) -> list[LetterRow]:
    """Letters that are to be written to the topic of dead letters now, the longest due first."""
    dialect, aside = catalog.driver.dialect, f"{place.topic} (until "
    ours = (place.topic, len(aside), aside, dialect.listed(list(place.partitions)), place.beyond)
    times = (dialect.time(now), dialect.time(now + LEASE))
    ids = _within(BYTES_AT_ONCE, await catalog.driver.fetch(_TO_PUBLISH, source_id, *times, *ours, limit))
    return await _rows(catalog, ids)


async def published(catalog: Catalog, ids: Sequence[int], *, again_at: datetime | None = None) -> None:
    """These were written to the topic of dead letters, or are to be tried again at `again_at`."""

    def note(dialect: Dialect) -> Steps[None]:
        again = None if again_at is None else dialect.time(again_at)
        yield Statement(_PUBLISHED, (again, dialect.listed(list(ids))))

    await catalog.driver.write(note)


async def unpublished(catalog: Catalog, source_id: int) -> int:
    """How many letters are still to be written to the topic of dead letters."""
    return int((await catalog.driver.fetch(_UNPUBLISHED, source_id))[0][0])


async def lost(catalog: Catalog, source_id: int) -> int:
    """How many messages the broker has removed unread, as far as anybody noticed (and nobody has discarded it)."""
    rows = await catalog.driver.fetch(_LOST, source_id, REMOVED_UNREAD)
    return sum(int(attempt.get("messages", 0)) for (kept,) in rows for attempt in json.loads(kept))


async def letters(
    catalog: Catalog, source_id: int, *, after: int = 0, upto: int | None = None, limit: int = AT_ONCE,
    state: LetterState | None = None, ids: Collection[int] | None = None, begun: bool = False,
) -> list[LetterRow]:  # fmt: skip
    """The next letters of a source by their ids, oldest first: at most `limit`, and no more than `BYTES_AT_ONCE`, but
    one at least if there is one. `begun` reads no more than the beginning of each message, and so more of them."""
    dialect = catalog.driver.dialect
    states = dialect.listed([one.value for one in ([state] if state else LetterState)])
    values: list[Any] = [source_id, after, LAST_ID if upto is None else upto, states]
    if ids is not None:
        found = await catalog.driver.fetch(_LETTERS_OF_IDS, *values, dialect.listed(sorted(ids)), limit)
    else:
        found = await catalog.driver.fetch(_LETTERS_BEGUN if begun else _LETTERS, *values, limit, leisurely=True)
    return await _rows(catalog, _within(BYTES_AT_ONCE, found), begun=begun)


async def highest(catalog: Catalog, source_id: int) -> int:
    """The id of the newest letter; 0 where there is none."""
    return int((await catalog.driver.fetch(_HIGHEST, source_id))[0][0])


async def missing(catalog: Catalog, source_id: int, ids: Collection[int]) -> list[int]:
    """Those of `ids` that no letter has."""
    found = await catalog.driver.fetch(_IDS, source_id, catalog.driver.dialect.listed(sorted(ids)))
    return sorted(set(ids) - {row[0] for row in found})


async def discard(
    catalog: Catalog,
    source_id: int,
    chosen: Chosen,
    run_id: int,
    *,
    after: int,
    upto: int,
    dry_run: bool = False,
) -> tuple[int, int | None]:
    """Removes the next letters that are `chosen`, noted in the audit trail; how many, and the id to go on from, None at
    the end. Those with `ids` are removed in whatever state they are."""

    def remove(dialect: Dialect) -> Steps[tuple[int, int | None]]:
        told = source_id, after, upto, chosen.reason, chosen.reason, dialect.time(chosen.before or END_OF_TIME)
        if chosen.ids is not None:
            found = yield Statement(_NAMED_IDS, (*told, dialect.listed(sorted(chosen.ids)), AT_ONCE))
        else:
            found = yield Statement(_NAMED_DEAD, (*told, AT_ONCE))
        if found and not dry_run:
            yield Statement(_DELETE, (dialect.listed([row[0] for row in found]),))
            yield from audit.append(dialect, run_id, source_id, datetime.now(UTC), [*map(_discarded, found)])
        return len(found), found[-1][0] if len(found) == AT_ONCE else None

    return await catalog.driver.write(remove)


def _discarded(row: tuple[Any, ...]) -> Audit:
    _, key, reason, topic, partition, offset = row
    return Audit("discarded", key or "", {"reason": reason, "message": f"{topic}/{partition}/{offset}"})


async def _rows(catalog: Catalog, ids: Sequence[int], *, begun: bool = False) -> list[LetterRow]:
    if not ids:
        return []
    listed = catalog.driver.dialect.listed(list(ids))
    return _in_order(ids, await catalog.driver.fetch(_ROWS_BEGUN if begun else _ROWS, listed))


def _within(most_bytes: int, sized: Rows) -> list[int]:
    """The ids of the first of these letters, as far as their bytes allow; at least one."""
    ids: list[int] = []
    total = 0
    for number, size in sized:
        total += size
        if ids and total > most_bytes:
            break
        ids.append(number)
    return ids


def _in_order(ids: Sequence[int], found: Rows) -> list[LetterRow]:
    rows = {row.id: row for row in map(_as_row, found)}
    return [rows[number] for number in ids if number in rows]


def _values(source_id: int, row: LetterRow, dialect: Dialect) -> tuple[Any, ...]:
    place = (source_id, row.topic, row.partition, row.offset)
    headers = json.dumps([[name, _encoded(value)] for name, value in row.headers])
    told = (_encoded(row.message_key), _encoded(row.value), headers)
    came_to = (row.state, row.reason, json.dumps(row.attempts), dialect.time(row.first_at))
    return (*place, *told, *came_to, _time(dialect, row.next_attempt_at), row.key, _time(dialect, row.publish_at))


def _changes(row: LetterRow, dialect: Dialect) -> tuple[Any, ...]:
    came_to = (row.state, row.reason, json.dumps(row.attempts), _time(dialect, row.next_attempt_at), row.key)
    return (row.topic, *came_to, _time(dialect, row.publish_at), row.id)


def _time(dialect: Dialect, moment: datetime | None) -> Any:
    return None if moment is None else dialect.time(moment)


def _as_row(found: tuple[Any, ...]) -> LetterRow:
    topic, partition, offset, message_key, value, headers, *came_to, id_ = found
    state, reason, attempts, first_at, again, key, publish_at = came_to
    return LetterRow(
        topic,
        partition,
        offset,
        _decoded(message_key),
        _decoded(value),
        tuple((name, _decoded(said) or b"") for name, said in json.loads(headers)),
        state,
        reason,
        tuple(json.loads(attempts)),
        read_time(first_at),
        None if again is None else read_time(again),
        key,
        None if publish_at is None else read_time(publish_at),
        int(id_),
    )


def _encoded(value: bytes | None) -> str | None:
    return b64encode(value).decode("ascii") if value is not None else None


def _decoded(text: str | None) -> bytes | None:
    return b64decode(text) if text is not None else None
