"""The runs and their shards: who did what and when, and how far a listing got."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta

from ingest.catalog import audit, writes
from ingest.catalog.schema import schema
from ingest.catalog.sources import Source
from ingest.catalog.sql.continuity import REVISION, Continuity
from ingest.catalog.sql.driver import LAST_ID, Dialect, Driver, Statement, Steps, read_time
from ingest.errors import LockedError
from ingest.model import LISTS_THE_BUCKET, Counts, RunStatus, Shard
from ingest.plan.clock import Reading, believed_after
from ingest.plan.resuming import Cursor, Earlier, Told, newest_to_go_on
from ingest.system.processes import is_alive, is_running, own_identity

OF_SOURCE = f"(source_id, id) > (?, 0) AND (source_id, id) < (?, {LAST_ID})"
OF_COMMAND = f"(source_id, command, id) > (?, ?, 0) AND (source_id, command, id) < (?, ?, {LAST_ID})"
"""As ranges: then no planner goes through the newer runs of all others instead of the index. Each value comes twice."""
NEWEST_OF_SOURCE = "ORDER BY source_id DESC, id DESC LIMIT"
NEWEST_OF_COMMAND = "ORDER BY source_id DESC, command DESC, id DESC LIMIT"
_START = (
    "INSERT INTO runs (source_id, command, arguments, host, pid, process, started_at, heartbeat_at, status, counts) "
    f"VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'running', '{{}}') RETURNING id, {REVISION}"
)
_RUNNING = "SELECT id, host, pid, process, heartbeat_at, command, source_id FROM runs WHERE status = 'running'"
_RUNNING_ON_ANY = "SELECT id, host, pid, heartbeat_at, command, source_id FROM runs WHERE status = 'running'"
_AS_OPENED = "SELECT 1 FROM sources WHERE id = ? AND endpoint = ? AND coalesce(directory, '') = ?"
_BURY = "UPDATE runs SET status = ?, finished_at = ?, error = 'the process died' WHERE id = ?"
_RISE = (
    "UPDATE runs SET status = 'running', finished_at = NULL, error = NULL "
    "WHERE id = ? AND status = 'interrupted' AND error = 'the process died'"
)
_BEAT = "UPDATE runs SET heartbeat_at = ?, counts = ?, clock_ahead = ? WHERE id = ?"
_FINISH = (
    "UPDATE runs SET finished_at = ?, heartbeat_at = ?, status = ?, counts = ?, error = ?, "
    "audit_id = ?, audit_hash = ?, clock_ahead = ? WHERE id = ?"
)
_BELIEVED = "SELECT id, clock_at FROM sources WHERE id = (SELECT source_id FROM runs WHERE id = ?)"
_BELIEVE = "UPDATE sources SET clock_at = ? WHERE id = ?"
_LAST_STATUS = f"SELECT status FROM runs WHERE {OF_SOURCE} AND status <> 'running' {NEWEST_OF_SOURCE} 1"
_EARLIER = (
    "SELECT id, status, arguments, EXISTS (SELECT 1 FROM shards WHERE shards.run_id = runs.id), "
    "EXISTS (SELECT 1 FROM shards WHERE shards.run_id = runs.id AND NOT done) FROM runs "
    f"WHERE (source_id, command, id) > (?, ?, 0) AND (source_id, command, id) < (?, ?, ?) {NEWEST_OF_COMMAND} 1000"
)
NO_DRY_RUN = """CAST(arguments AS TEXT) NOT LIKE '%"dry_run": true%'"""
_LISTINGS = (
    f"SELECT id, arguments, counts FROM runs WHERE {OF_COMMAND} AND status IN ('ok', 'partial') "
    f"{NEWEST_OF_COMMAND} 1000"
)
_TELL = "UPDATE runs SET arguments = ? WHERE id = ?"
_CURSORS = (
    'SELECT prefix, start_after, "end", level, cursor, done FROM shards WHERE run_id = ? ORDER BY prefix, start_after'
)

_SILENT = timedelta(seconds=90)
"""Three heartbeats."""
_SILENT_ELSEWHERE = timedelta(hours=1)


async def others_at_work(driver: Driver, source_id: int, run_id: int) -> bool:
    """Whether another run of this source is under way: its files may be in place before their rows are."""
    return any(
        own == source_id and number != run_id and not is_dead(host, pid, process, read_time(heartbeat))
        for number, host, pid, process, heartbeat, _, own in await driver.fetch(_RUNNING)
    )


def start(
    command: str, arguments: Mapping[str, object], source_id: int, dialect: Dialect, *, alone: bool = False
) -> Steps[Continuity]:
    """A new run's row. Runs whose process is gone are marked as interrupted first.

    `alone` says that this process holds the lock of the command and the source: no other run of them can be alive.
    """
    started = datetime.now(UTC)
    now = dialect.time(started)
    for run_id, host, pid, process, heartbeat, *work in (yield Statement(_RUNNING)):
        if (alone and work == [command, source_id]) or is_dead(host, pid, process, read_time(heartbeat)):
            yield Statement(_BURY, (RunStatus.INTERRUPTED.value, now, run_id))
    told = json.dumps(dict(arguments))
    values = (source_id, command, told, socket.gethostname(), os.getpid(), own_identity(), now, now)
    ((run_id, revision),) = yield Statement(_START, values)
    return Continuity(int(run_id), started, str(revision))


async def at_work(url: str) -> list[str]:
    """Those that nobody can know to be dead, of all sources, each in a few words; on a schema of any version, or none.

    Raises:
        DatabaseError: the database cannot be reached or read.
    """
    async with schema.as_it_is(url) as driver:
        known = driver is not None and await schema.has_table(driver, "runs")
        found = await driver.fetch(_RUNNING_ON_ANY) if driver is not None and known else []
    return [
        f"{command} (run {run_id}, pid {pid} on {host})"
        for run_id, host, pid, heartbeat, command, _ in found
        if not is_dead(host, pid, None, read_time(heartbeat))
    ]


def begin(
    command: str, arguments: Mapping[str, object], source: Source, dialect: Dialect, *, alone: bool = False
) -> Steps[Continuity]:
    """`start`, of what is still the source that was opened: `require_idle` has not seen this run yet.

    Raises:
        LockedError: it was renamed, moved or forgotten in between.
    """
    begun = yield from start(command, arguments, source.id, dialect, alone=alone)
    if not (yield Statement(_AS_OPENED, (source.id, source.endpoint, source.directory))):
        said = f"s3://{source.bucket} at {source.endpoint} was renamed, moved or forgotten at this moment"
        raise LockedError(said, hint="`ingest source list` shows what is known now; then run the command again.")
    return begun


def require_idle(source: Source) -> Steps[None]:
    """To be asked behind a change of the source, in its transaction: a run that begins meanwhile waits for it.

    Raises:
        LockedError: a run of it is under way, which has read what is about to change.
    """
    for run_id, host, pid, process, heartbeat, command, source_id in (yield Statement(_RUNNING)):
        if source_id == source.id and not is_dead(host, pid, process, read_time(heartbeat)):
            raise LockedError(
                f"run {run_id} (`ingest {command}`, pid {pid} on {host}) is at work on s3://{source.bucket}",
                hint="Wait for it to end. A dead run of another host counts as one after an hour of silence.",
            )


def is_dead(host: str, pid: int, process: str | None, heartbeat: datetime) -> bool:
    """Whether the process of a run is gone. `process` says exactly which it was, where it is one that we can see: then
    no clock is asked.

    Otherwise process ids are the host's own and come again, and containers may share a host's name but not its
    processes: so a run is dead when its heart has stopped, and here no process has been there for as long. Elsewhere it
    takes longer: clocks differ, and may be set. A run that was taken for dead and is not says so with its next beat.
    """
    here = host == socket.gethostname()
    if here and process is not None and (running := is_running(pid, process)) is not None:
        return not running
    silent = datetime.now(UTC) - heartbeat
    if not here:
        return silent > _SILENT_ELSEWHERE
    return silent > _SILENT and not is_alive(pid, since=heartbeat.timestamp())


def beat(run_id: int, clock: Reading, counts: Counts, dialect: Dialect) -> Steps[None]:
    """The run is alive, and this far."""
    yield from _believe(run_id, clock, dialect)
    yield Statement(_RISE, (run_id,))
    yield Statement(_BEAT, (dialect.time(clock.now), json.dumps(asdict(counts)), _seconds(clock), run_id))


def _believe(run_id: int, clock: Reading, dialect: Dialect) -> Steps[None]:
    """Keeps the last time that may be believed (see `plan.clock`). Before the run's own row is locked, as a batch does
    it: the source's is locked first."""
    for source_id, kept in (yield Statement(_BELIEVED, (run_id,))):
        believed = None if kept is None else read_time(kept)
        now = believed_after(clock, believed)
        if now is not None and now != believed:
            yield Statement(_BELIEVE, (dialect.time(now), source_id))


def _seconds(clock: Reading) -> int | None:
    return None if clock.ahead is None else round(clock.ahead.total_seconds())


def finish(
    run_id: int, status: RunStatus, tallies: Mapping[str, int], error: str | None, dialect: Dialect, *, clock: Reading
) -> Steps[None]:
    """The run ended; what the audit trail's end is by then, it vouches for."""
    yield from _believe(run_id, clock, dialect)
    trail = yield from audit.newest()
    now, ahead = dialect.time(clock.now), _seconds(clock)
    yield Statement(_FINISH, (now, now, status.value, json.dumps(tallies), error, *trail, ahead, run_id))


async def last_died(driver: Driver, source_id: int) -> bool:
    """Whether the newest finished run of this source left work behind: files without rows may exist."""
    rows = await driver.fetch(_LAST_STATUS, source_id, source_id)
    return bool(rows) and rows[0][0] not in (RunStatus.OK, RunStatus.PARTIAL)


async def to_go_on(driver: Driver, source_id: int, command: str, told: Told, run_id: int) -> Earlier | None:
    """The run before `run_id` that it may go on with (see `plan.resuming`)."""
    found, planned, _ = await _earlier(driver, source_id, command, run_id)
    return newest_to_go_on(found, told, planned)


async def unfinished(driver: Driver, source_id: int, command: str) -> list[int]:
    """The runs that a later one would go on with, were it told the same: none that another one has ended since."""
    found, planned, left = await _earlier(driver, source_id, command, LAST_ID)
    return [run.id for run in found if run.id in left and newest_to_go_on(found, run.told, planned) is run]


async def _earlier(
    driver: Driver, source_id: int, command: str, before: int
) -> tuple[list[Earlier], dict[int, bool], set[int]]:
    """The newest runs before that one; which of them have made a plan; and which have something of it left to do."""
    rows = await driver.fetch(_EARLIER, *(source_id, command) * 2, before)
    found = [Earlier(int(number), status, json.loads(told)) for number, status, told, _, _ in rows]
    return found, {int(row[0]): bool(row[3]) for row in rows}, {int(row[0]) for row in rows if row[4]}


async def unmarked(driver: Driver, source_id: int, prefix: object) -> int:
    """How many objects the last listing of this prefix (as it was told) missed, and by itself did not mark as gone."""
    listings = [row for command in LISTS_THE_BUCKET for row in await driver.fetch(_LISTINGS, *(source_id, command) * 2)]
    for _, told, counts in sorted(listings, reverse=True):
        arguments = json.loads(told)
        if (arguments.get("prefix") or None) == (prefix or None) and not arguments.get("dry_run"):
            return 0 if "max_gone" in arguments else int(json.loads(counts).get("unmarked", 0))
    return 0


def take_over(run_id: int, told: Told, plan: Sequence[Cursor]) -> Steps[None]:
    """The run goes on with this plan, and is recorded as told so."""
    yield Statement(_TELL, (json.dumps(dict(told)), run_id))
    yield from writes.move_cursors(run_id, plan)


async def cursors(driver: Driver, run_id: int) -> list[Cursor]:
    """The plan of a run, and how far it got."""
    return [
        Cursor(Shard(prefix, start_after, end, bool(level)), cursor, bool(done))
        for prefix, start_after, end, level, cursor, done in await driver.fetch(_CURSORS, run_id)
    ]
