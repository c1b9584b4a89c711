"""A source that is away for a while, or asks to wait: no object is charged for it, and the run goes on where it was."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ingest.engine.options import CleanupOptions, RestoreOptions, SyncOptions, VerifyOptions
from ingest.jobs.cleanup import cleanup
from ingest.jobs.restore import restore
from ingest.jobs.sync import sync
from ingest.jobs.verify import verify
from ingest.model import RunReport
from ingest.observe.progress import Silence
from ingest.plan import gate
from ingest.settings import Settings
from ingest.source.client import S3Client
from ingest.tasks.stop import Stop
from ingest.testing import faults
from ingest.testing.memory_s3 import Deed, Fault, MemoryS3
from tests.faults import invariants
from tests.faults.rig import OBJECTS, TARGET, Rig, holding, run_sync, settings_for
from tests.fixtures.door import Door, door_to
from tests.fixtures.lines import lines_said
from tests.fixtures.process import until
from tests.fixtures.servers import Bucket

LONG = timedelta(minutes=5)
SHORT = timedelta(seconds=0.3)
Lines = list[Any]


def events(lines: Lines) -> list[str]:
    return [line["event"] for line in lines]


def bodies(count: int, size: int) -> dict[str, bytes]:
    return {f"{number % 7}/k{number:04}": random.Random(number).randbytes(size) for number in range(count)}


async def wait_out(door: Door, running: asyncio.Task[Any], reached: Callable[[], bool], lines: Lines) -> None:
    """Shuts the door in the middle, and opens it when that was noticed."""
    await until(lambda: reached() or running.done())
    assert not running.done(), "it was too fast"
    await door.shut()
    await until(lambda: "source_away" in events(lines) or running.done())
    await door.open()


@pytest.mark.parametrize("refuses", [True, False], ids=["refuses", "hangs up"])
@pytest.mark.parametrize(("count", "size"), [(400, 16 << 10), (3, 24 << 20)], ids=["small", "in pieces"])
async def test_a_real_server_is_away_in_mid_run(
    weed: Bucket, tmp_path: Path, swift: None, count: int, size: int, refuses: bool
) -> None:
    """Everything arrives, exit 0; nothing was charged; it was said once, and once that it is over."""
    objects = bodies(count, size)
    await weed.put(objects)
    async with door_to(weed.endpoint) as door:
        door.refuses = refuses
        settings = weed.settings(tmp_path / "data", endpoint=door.endpoint, patience=LONG)
        with lines_said() as lines:
            running = asyncio.create_task(run_sync(settings, transfers=4))
            await wait_out(door, running, lambda: bool(invariants.temporaries(settings)), lines)
            report = await running
    assert (report.exit_code, report.counts.downloaded, report.counts.failed) == (0, count, 0), report.error
    said = events(lines)
    assert (said.count("source_away"), said.count("source_back")) == (1, 1)
    assert not {"retry", "object_failed"} & set(said)
    invariants.assert_versions(invariants.files_of(settings), {key: [body] for key, body in objects.items()})
    (await invariants.look(settings)).assert_recorded()


@asynccontextmanager
async def behind_a_door(
    home: Path, database_url: str, name: str = "MinIO"
) -> AsyncIterator[tuple[MemoryS3, Door, Settings]]:
    """A known bucket of a server that misbehaves on order, everything in its place."""
    async with holding(bodies(60, 100), name=name) as server, door_to(server.endpoint) as door:
        settings = settings_for(server, home / "data", database_url=database_url, patience=LONG)
        assert (await run_sync(settings.replace(endpoint=door.endpoint))).exit_code == 0
        yield server, door, settings.replace(endpoint=door.endpoint)


@pytest.mark.parametrize("name", ["MinIO", "SeaweedFS", "unknown"])
@pytest.mark.parametrize("known", [True, False], ids=["known", "new"])
async def test_it_is_away_while_it_is_listed(
    tmp_path: Path, sqlite_url: str, swift: None, name: str, known: bool
) -> None:
    """By range and by prefix, remembered pages and unknown ones: the listing goes on, and nothing is gone."""
    objects = bodies(60, 100)
    async with holding(objects, name=name) as server, door_to(server.endpoint) as door:
        settings = settings_for(server, tmp_path / "data", database_url=sqlite_url, patience=LONG)
        settings = settings.replace(endpoint=door.endpoint)
        if known:
            assert (await run_sync(settings)).exit_code == 0
        server.asked.clear()
        reached = asyncio.Event()
        server.faults = [Fault("list", faults.after(reached.set, faults.reset), after=3, times=1)]
        with lines_said() as lines:
            running = asyncio.create_task(run_sync(settings))
            await wait_out(door, running, reached.is_set, lines)
            report = await running
    assert report.exit_code == 0, report.error
    assert (report.counts.listed, report.counts.gone) == (len(objects), 0)
    assert events(lines).count("source_away") == 1


class Command(NamedTuple):
    name: str
    run: Callable[[Settings, Stop], Awaitable[RunReport]]
    operation: str
    """Of the request that meets the shut door first."""
    counter: str

    def done(self, report: RunReport) -> int:
        return int(getattr(report.counts, self.counter))


async def _restore(settings: Settings, stop: Stop) -> RunReport:
    return await restore(settings, RestoreOptions(prefix=""), progress=Silence(), stop=stop)


async def _repair(settings: Settings, stop: Stop) -> RunReport:
    return await verify(settings, VerifyOptions(repair=True), progress=Silence(), stop=stop)


async def _cleanup(settings: Settings, stop: Stop) -> RunReport:
    return await cleanup(settings, CleanupOptions(timedelta(0)), progress=Silence(), stop=stop)


COMMANDS = [
    Command("restore", _restore, "get", "restored"),
    Command("verify", _repair, "get", "repaired"),
    Command("cleanup", _cleanup, "head", "pruned"),
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
@pytest.mark.parametrize("patience", [LONG, SHORT], ids=["and is back", "for good"])
async def test_every_command_waits(
    tmp_path: Path, sqlite_url: str, swift: None, command: Command, patience: timedelta
) -> None:
    async with behind_a_door(tmp_path, sqlite_url) as (server, door, settings):
        await prepare(settings, command.name)
        reached = asyncio.Event()
        server.faults = [Fault(command.operation, faults.after(reached.set, faults.reset), after=5, times=1)]
        with lines_said() as lines:
            running = asyncio.ensure_future(command.run(settings.replace(patience=patience), Stop()))
            await until(lambda: reached.is_set() or running.done())
            await door.shut()
            await until(lambda: "source_away" in events(lines) or running.done())
            if patience is LONG:
                await door.open()
            report = await running
        server.faults.clear()
        done = command.done(report)
        if patience is SHORT:
            assert (report.exit_code, report.counts.failed) == (4, 0), report.error
            await door.open()
            report = await command.run(settings, Stop())
            done += command.done(report)
        assert (report.exit_code, report.counts.failed, done) == (0, 0, 60), report.error


async def prepare(settings: Settings, command: str) -> None:
    if command == "restore":
        await cleanup(settings, CleanupOptions(timedelta(0)), progress=Silence(), stop=Stop())
    if command == "verify":
        for name in (settings.data_dir / settings.bucket).rglob("k*"):
            name.unlink()


async def test_the_library_waits_too(tmp_path: Path, sqlite_url: str, swift: None) -> None:
    async with behind_a_door(tmp_path, sqlite_url) as (_, door, settings):
        found: list[str] = []
        with lines_said() as lines:
            async with S3Client(settings) as client:
                async for remote in client.list_objects():
                    found.append(remote.key)
                    if len(found) == 10:
                        await door.shut()
                        opening = asyncio.create_task(opened_later(door, lines))
                await opening
                assert await client.download_file(found[0])
    assert len(found) == 60


async def opened_later(door: Door, lines: Lines) -> None:
    await until(lambda: "source_away" in events(lines))
    await door.open()


@pytest.mark.parametrize("shut_at", [0, 30])
async def test_it_never_comes_back(tmp_path: Path, sqlite_url: str, swift: None, shut_at: int) -> None:
    """Patience ends: 4, with what was done recorded; no object failed, and the next run takes the rest."""
    objects = bodies(60, 100)
    async with holding(objects) as server, door_to(server.endpoint) as door:
        settings = settings_for(server, tmp_path / "data", database_url=sqlite_url, patience=SHORT)
        settings = settings.replace(endpoint=door.endpoint)
        reached = asyncio.Event()
        server.faults = [Fault("get", faults.after(reached.set, faults.reset), after=shut_at, times=1)]
        running = asyncio.create_task(run_sync(settings, transfers=4))
        await reached.wait()
        await door.shut()
        report = await running
        assert report.exit_code == 4
        assert report.error is not None
        assert report.error.code == "refused"
        assert "waited for" in report.error.message
        assert report.counts.failed == 0
        seen = await invariants.look(settings)
        seen.assert_recorded()
        assert len(seen.rows) == report.counts.downloaded
        await door.open()
        rest = await run_sync(settings)
        assert (rest.exit_code, rest.counts.downloaded) == (0, len(objects) - report.counts.downloaded)


@pytest.mark.parametrize("name", ["MinIO", "SeaweedFS"])
async def test_a_listing_of_several_that_never_goes_on_is_said_once(
    tmp_path: Path, sqlite_url: str, swift: None, name: str
) -> None:
    """All of its ranges or directories wait, and one line tells that nobody waits any more: the run's own."""
    async with behind_a_door(tmp_path, sqlite_url, name) as (server, door, settings):
        reached = asyncio.Event()
        server.faults = [Fault("list", faults.after(reached.set, faults.reset), after=3, times=1)]
        with lines_said() as lines:
            running = asyncio.create_task(run_sync(settings.replace(patience=SHORT), page_memory=False))
            await reached.wait()
            await door.shut()
            report = await running
    assert report.exit_code == 4
    assert report.error is not None
    assert "waited for" in report.error.message
    assert [line["event"] for line in lines if line["log_level"] in {"warning", "error"}] == ["source_away"]


@pytest.mark.parametrize("command", ["sync", *[command.name for command in COMMANDS]])
async def test_a_stop_ends_the_waiting_at_once(
    tmp_path: Path, sqlite_url: str, swift: None, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """No grace is waited for: there is nothing that could still come."""
    monkeypatch.setattr("ingest.engine.transfer.session.GRACE", 3600.0)
    run = {each.name: each.run for each in COMMANDS} | {
        "sync": lambda settings, stop: sync(settings, SyncOptions(), progress=Silence(), stop=stop)
    }
    operation = {each.name: each.operation for each in COMMANDS}.get(command, "list")
    async with behind_a_door(tmp_path, sqlite_url) as (server, door, settings):
        await prepare(settings, command)
        reached, stop = asyncio.Event(), Stop()
        server.faults = [Fault(operation, faults.after(reached.set, faults.reset), after=2, times=1)]
        with lines_said() as lines:
            running = asyncio.ensure_future(run[command](settings, stop))
            await reached.wait()
            await door.shut()
            await until(lambda: "source_away" in events(lines))
            stop.request(signal.SIGTERM)
            async with asyncio.timeout(30):
                report = await running
    assert report.exit_code == 143, report.error
    assert report.counts.failed == 0


PASSING: dict[str, Deed] = {
    "500": faults.saying("500 Internal Server Error", "InternalError"),
    "500 without a word": faults.saying("500 Internal Server Error"),
    "502 of a proxy": faults.web_page("502 Bad Gateway"),
    "504 of a proxy": faults.web_page("504 Gateway Timeout"),
    "reset": faults.reset,
    "cut": faults.cut(1),
}
WAIT: dict[str, Deed] = {
    "503 SlowDown": faults.saying("503 Slow Down", "SlowDown"),
    "503 without a word": faults.saying("503 Service Unavailable"),
    "503 of a proxy": faults.web_page("503 Service Unavailable"),
    "429": faults.saying("429 Too Many Requests"),
    "429, at once again": faults.saying("429 Too Many Requests", Retry_After="0"),
    "429, unreadable": faults.saying("429 Too Many Requests", Retry_After="soon"),
    "509": faults.saying("509 Bandwidth Limit Exceeded"),
    "400 RequestLimitExceeded": faults.saying("400 Bad Request", "RequestLimitExceeded"),
    "403 Throttling": faults.saying("403 Forbidden", "Throttling"),
    "400 InsufficientCapacity": faults.saying("400 Bad Request", "InsufficientCapacity"),
    "until a date": faults.saying(
        "503 Slow Down", "SlowDown", Retry_After=format_datetime(datetime.now(UTC), usegmt=True)
    ),
    "until 1970": faults.saying("503 Slow Down", "SlowDown", Retry_After="Thu, 01 Jan 1970 00:00:00 GMT"),
}


@pytest.mark.parametrize("said", [*PASSING, *WAIT])
@pytest.mark.parametrize("operation", ["get", "list"])
async def test_what_all_meet_for_a_while_is_charged_to_none(rig: Rig, said: str, operation: str) -> None:
    """Twenty requests in a row: more than any object has tries, or a run of this size retries."""
    fault = (PASSING | WAIT)[said]
    rig.server.faults = [Fault(operation, fault, after=1, times=20)]
    with lines_said() as lines:
        report = await rig.run(0, settings=rig.settings.replace(patience=LONG))
    assert report.counts.downloaded == len(OBJECTS)
    assert not {"retry", "retried", "object_failed"} & set(events(lines))
    await rig.heal()


@pytest.mark.parametrize("asked", ["86400", "Fri, 31 Dec 2100 00:00:00 GMT"])
async def test_one_object_that_asks_for_a_day(rig: Rig, monkeypatch: pytest.MonkeyPatch, asked: str) -> None:
    """Others are answered: it is believed once, not for long, and said; then the object fails by itself."""
    monkeypatch.setattr(gate, "LONGEST_HOLD", 0.05)
    rig.server.faults = [Fault("get", faults.saying("503 Slow Down", "SlowDown", Retry_After=asked), TARGET)]
    with lines_said() as lines:
        report = await rig.run(3)
    assert (report.counts.downloaded, report.counts.failed) == (len(OBJECTS) - 1, 1)
    assert "everything pauses for" in next(line["message"] for line in lines if line["event"] == "source_busy")
    await rig.heal()


async def test_two_of_many_that_always_fail_are_theirs(tmp_path: Path, sqlite_url: str, swift: None) -> None:
    """Also when nothing else is left to do."""
    objects = bodies(60, 100)
    async with holding(objects) as server:
        settings = settings_for(server, tmp_path / "data", database_url=sqlite_url, patience=LONG)
        broken = sorted(objects)[-5:]
        fault = faults.saying("500 Internal Server Error", "InternalError")
        server.faults = [Fault("get", fault, key) for key in broken]
        report = await run_sync(settings)
        assert (report.exit_code, report.counts.failed) == (3, len(broken))
        assert report.counts.downloaded == len(objects) - len(broken)


async def test_without_patience_every_fault_is_its_requests_own(rig: Rig) -> None:
    rig.server.faults = [Fault("get", faults.saying("503 Slow Down", "SlowDown"))]
    report = await rig.run(4, settings=rig.settings.replace(patience=timedelta(0)))
    assert report.counts.failed == len(OBJECTS)
    await rig.heal()
