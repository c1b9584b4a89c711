"""What of the bookkeeping may go once it is old, so that it does not grow with the nights.

| of | goes | stays, whatever its age |
|---|---|---|
| runs, with their shards | what ended longer ago | of each command the newest run, the newest that ended well, and |
| | | the newest that was no dry run: `status`, a listing and the trail's end are compared with them; a backfill |
| | | that `--resume` would go on with; whatever is under way; of each source the newest eight: |
| | | a data directory has noted them, and misses them (`plan.behind`) |
| deliveries | those settled longer ago, of a version that is | the version that is recorded: nobody is to deliver it |
| | recorded no longer | once more; of each address the newest that it took, as it has taken something |
| the service's answers | those given longer ago | |
| dead letters | what was given up longer ago | what waits for another try |
| the audit trail | | all of it |
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple

from ingest.catalog.overview import COMMANDS
from ingest.catalog.runs import NEWEST_OF_COMMAND, NEWEST_OF_SOURCE, NO_DRY_RUN, OF_COMMAND, OF_SOURCE, unfinished
from ingest.catalog.sql.driver import VERSION, Dialect, Driver, Statement, Steps
from ingest.plan.behind import KEPT_MARKS

MOST = 50_000
"""Of each kind in one night."""
_AT_ONCE = 500
_READ_AT_ONCE = 500

_SOURCES = "SELECT id FROM sources WHERE id = ? OR forgotten_at IS NOT NULL"
_NEWEST_OF_ALL = f"SELECT id FROM runs WHERE {OF_SOURCE} {NEWEST_OF_SOURCE} {KEPT_MARKS}"
_NEWEST = tuple(
    f"SELECT id FROM runs WHERE {OF_COMMAND} AND {condition} {NEWEST_OF_COMMAND} 1"
    for condition in ("id > 0", "status = 'ok'", NO_DRY_RUN)
)
_RUNS_BEHIND = (
    "SELECT id, coalesce(finished_at, heartbeat_at) < ?, NOT (id {among}) AND status <> 'running' FROM runs "
    "WHERE (source_id, command, id) > (?, ?, ?) AND (source_id, command) <= (?, ?) "
    "ORDER BY source_id, command, id LIMIT ?"
)
_NEWEST_TAKEN = "SELECT max(id) FROM deliveries WHERE source_id = ? AND state = 'delivered' GROUP BY target"
_DELIVERIES_BEHIND = (
    "SELECT id, coalesce(delivered_at, created_at) < ?, state <> 'pending' AND NOT (id {among}) AND NOT EXISTS "
    f"(SELECT 1 FROM objects o WHERE o.source_id = d.source_id AND o.key = d.key AND {VERSION} = d.etag), "
    "state <> 'pending' AND response IS NOT NULL FROM deliveries d WHERE source_id = ? AND id > ? ORDER BY id LIMIT ?"
)
_LETTERS_BEHIND = (
    "SELECT id, first_at < ?, state = 'dead' FROM dead_letters WHERE source_id = ? AND id > ? ORDER BY id LIMIT ?"
)
_REMOVE_SHARDS = "DELETE FROM shards WHERE run_id {among}"
_REMOVE_RUNS = "DELETE FROM runs WHERE id {among}"
_REMOVE_DELIVERIES = "DELETE FROM deliveries WHERE id {among}"
_REMOVE_ANSWERS = "UPDATE deliveries SET response = NULL WHERE id {among}"
_REMOVE_LETTERS = "DELETE FROM dead_letters WHERE id {among}"


class Old(NamedTuple):
    """What may go, the oldest first, and at most `MOST` of each."""

    runs: list[int]
    deliveries: list[int]
    answers: list[int]
    """Of deliveries that stay."""
    letters: list[int]


async def find_old(driver: Driver, source_id: int, before: datetime, letters_before: datetime) -> Old:
    """Rows are read in the order of their numbers, until none of them is older than that."""
    old = Old([], [], [], [])
    for (whose,) in await driver.fetch(_SOURCES, source_id):
        marked = [int(row[0]) for row in await driver.fetch(_NEWEST_OF_ALL, whose, whose)]
        for (command,) in await driver.fetch(COMMANDS, whose, whose):
            own = (whose, command) * 2
            newest = [int(row[0]) for sql in _NEWEST for row in await driver.fetch(sql, *own)]
            kept = newest + marked + (await unfinished(driver, whose, command) if command == "backfill" else [])
            between = partial(_between, whose, command)
            async for number, may_go in _behind(driver, _RUNS_BEHIND, before, kept, between):
                if may_go and len(old.runs) < MOST:
                    old.runs.append(number)
    taken = [int(row[0]) for row in await driver.fetch(_NEWEST_TAKEN, source_id, leisurely=True)]
    own_source = partial(_of_source, source_id)
    async for number, may_go, has_answer in _behind(driver, _DELIVERIES_BEHIND, before, taken, own_source):
        if may_go and len(old.deliveries) < MOST:
            old.deliveries.append(number)
        elif has_answer and not may_go and len(old.answers) < MOST:
            old.answers.append(number)
    async for number, may_go in _behind(driver, _LETTERS_BEHIND, letters_before, None, own_source):
        if may_go and len(old.letters) < MOST:
            old.letters.append(number)
    return old


async def _behind(
    driver: Driver, sql: str, before: datetime, kept: list[int] | None, own: Callable[[int], tuple[Any, ...]]
) -> AsyncIterator[tuple[Any, ...]]:
    """The rows that are old: their numbers, and what else the query says of them."""
    last, dialect = 0, driver.dialect
    told = (dialect.time(before), *([] if kept is None else [dialect.listed(kept)]))
    while rows := await driver.fetch(sql, *told, *own(last), _READ_AT_ONCE):
        if not any(row[1] for row in rows):
            return
        for number, is_old, *said in rows:
            if is_old:
                yield (int(number), *said)
        last = int(rows[-1][0])


def _between(source_id: int, command: str, last: int) -> tuple[Any, ...]:
    return source_id, command, last, source_id, command


def _of_source(source_id: int, last: int) -> tuple[Any, ...]:
    return source_id, last


def batches(ids: list[int]) -> list[list[int]]:
    """As many as one transaction takes."""
    return [ids[start : start + _AT_ONCE] for start in range(0, len(ids), _AT_ONCE)]


def remove_runs(ids: list[int], dialect: Dialect) -> Steps[None]:
    yield Statement(_REMOVE_SHARDS, (dialect.listed(ids),))
    yield Statement(_REMOVE_RUNS, (dialect.listed(ids),))


def remove_deliveries(ids: list[int], dialect: Dialect) -> Steps[None]:
    yield Statement(_REMOVE_DELIVERIES, (dialect.listed(ids),))


def remove_answers(ids: list[int], dialect: Dialect) -> Steps[None]:
    yield Statement(_REMOVE_ANSWERS, (dialect.listed(ids),))


def remove_letters(ids: list[int], dialect: Dialect) -> Steps[None]:
    yield Statement(_REMOVE_LETTERS, (dialect.listed(ids),))
