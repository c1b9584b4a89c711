"""The runs and their shards: who did what and when, and how far a listing got."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime, timedelta

from ingest.catalog import audit
from ingest.catalog.continuity import REVISION, Continuity
from ingest.catalog.lane import Dialect, Lane, Statement, Steps, read_time
from ingest.liveness import is_alive
from ingest.model import Counts, RunStatus, Shard
from ingest.plan.resuming import Cursor, Earlier, Told, newest_to_go_on

_START = (
    "INSERT INTO runs (source_id, command, arguments, host, pid, started_at, heartbeat_at, status, counts) "  # noqa: S608
    f"VALUES (?, ?, ?, ?, ?, ?, ?, 'running', '{{}}') RETURNING id, {REVISION}"
)
_RUNNING = "SELECT id, host, pid, heartbeat_at, command, source_id FROM runs WHERE status = 'running'"
_BURY = "UPDATE runs SET status = ?, finished_at = ?, error = 'the process died' WHERE id = ?"
_BEAT = "UPDATE runs SET heartbeat_at = ?, counts = ? WHERE id = ?"
_FINISH = (
    "UPDATE runs SET finished_at = ?, heartbeat_at = ?, status = ?, counts = ?, error = ?, "
    "audit_id = ?, audit_hash = ? WHERE id = ?"
)
_LAST_STATUS = "SELECT status FROM runs WHERE source_id = ? AND status <> 'running' ORDER BY id DESC LIMIT 1"
_EARLIER = (
    "SELECT id, status, arguments, EXISTS (SELECT 1 FROM shards WHERE shards.run_id = runs.id) FROM runs "
    "WHERE source_id = ? AND command = ? AND id < ? ORDER BY id DESC LIMIT 1000"
)
_LISTINGS = (
    "SELECT arguments, counts FROM runs WHERE source_id = ? AND command IN ('sync', 'backfill') "
    "AND status IN ('ok', 'partial') ORDER BY id DESC LIMIT 50"
)
_CURSORS = (
    'SELECT prefix, start_after, "end", level, cursor, done FROM shards WHERE run_id = ? ORDER BY prefix, start_after'
)

_SILENT = timedelta(seconds=90)
"""Three heartbeats."""
_SILENT_ELSEWHERE = timedelta(hours=1)


def start(
    command: str, arguments: Mapping[str, object], source_id: int, dialect: Dialect, *, alone: bool = False
) -> Steps[Continuity]:
    """A new run's row. Runs whose process is gone are marked as interrupted first.

    `alone` says that this process holds the lock of the command and the source: no other run of them can be alive.
    """
    started = datetime.now(UTC)
    now = dialect.time(started)
    for run_id, host, pid, heartbeat, *work in (yield Statement(_RUNNING)):
        if (alone and work == [command, source_id]) or _is_dead(host, pid, read_time(heartbeat)):
            yield Statement(_BURY, (RunStatus.INTERRUPTED.value, now, run_id))
    values = (source_id, command, json.dumps(dict(arguments)), socket.gethostname(), os.getpid(), now, now)
    ((run_id, revision),) = yield Statement(_START, values)
    return Continuity(int(run_id), started, str(revision))


async def under_way(lane: Lane) -> list[str]:
    """Those that nobody can know to be dead, of all sources, each in a few words."""
    return [
        f"{command} (run {run_id}, pid {pid} on {host})"
        for run_id, host, pid, heartbeat, command, _ in await lane.fetch(_RUNNING)
        if not _is_dead(host, pid, read_time(heartbeat))
    ]


def _is_dead(host: str, pid: int, heartbeat: datetime) -> bool:
    """Process ids are the host's own and come again, and containers may share a host's name but not its processes: so a
    run is dead when its heart has stopped, and here no process has been there for as long. Elsewhere it takes longer:
    clocks differ. A run that was taken for dead and is not writes its own end in the end.
    """
    silent = datetime.now(UTC) - heartbeat
    if host != socket.gethostname():
        return silent > _SILENT_ELSEWHERE
    return silent > _SILENT and not is_alive(pid, since=heartbeat.timestamp())


def beat(run_id: int, counts: Counts, dialect: Dialect) -> Steps[None]:
    """The run is alive, and this far."""
    yield Statement(_BEAT, (dialect.time(datetime.now(UTC)), json.dumps(asdict(counts)), run_id))


def finish(
    run_id: int, status: RunStatus, tallies: Mapping[str, int], error: str | None, dialect: Dialect
) -> Steps[None]:
    """The run ended; what the audit trail's end is by then, it vouches for."""
    trail = yield from audit.newest()
    now = dialect.time(datetime.now(UTC))
    yield Statement(_FINISH, (now, now, status.value, json.dumps(tallies), error, *trail, run_id))


async def last_died(lane: Lane, source_id: int) -> bool:
    """Whether the newest finished run of this source left work behind: files without rows may exist."""
    rows = await lane.fetch(_LAST_STATUS, source_id)
    return bool(rows) and rows[0][0] not in (RunStatus.OK, RunStatus.PARTIAL)


async def to_go_on(lane: Lane, source_id: int, command: str, told: Told, run_id: int) -> Earlier | None:
    """The run before `run_id` that it may go on with (see `plan.resuming`)."""
    rows = await lane.fetch(_EARLIER, source_id, command, run_id)
    found = [Earlier(int(number), status, json.loads(arguments)) for number, status, arguments, _ in rows]
    return newest_to_go_on(found, told, {int(row[0]): bool(row[3]) for row in rows})


async def unmarked(lane: Lane, source_id: int, prefix: object) -> int:
    """How many objects the last listing of this prefix (as it was told) missed, and by itself did not mark as gone."""
    for told, counts in await lane.fetch(_LISTINGS, source_id):
        arguments = json.loads(told)
        if (arguments.get("prefix") or None) == (prefix or None) and not arguments.get("dry_run"):
            return 0 if "max_gone" in arguments else int(json.loads(counts).get("unmarked", 0))
    return 0


async def cursors(lane: Lane, run_id: int) -> list[Cursor]:
    """The plan of a run, and how far it got."""
    return [
        Cursor(Shard(prefix, start_after, end, bool(level)), cursor, bool(done))
        for prefix, start_after, end, level, cursor, done in await lane.fetch(_CURSORS, run_id)
    ]
