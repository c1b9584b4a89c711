"""SIGTERM and SIGINT: what is finished is recorded and the run ends soon; a second signal ends it at once."""

from __future__ import annotations

import json
import signal
from asyncio.subprocess import Process
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from pathlib import Path

import pytest

from ingest.engine.options import CleanupOptions, SyncOptions
from ingest.jobs.cleanup import cleanup
from ingest.jobs.sync import sync
from ingest.observe.progress import Silence
from ingest.settings import Settings
from ingest.tasks.stop import Stop
from ingest.testing.faults import stall
from ingest.testing.memory_s3 import Fault, MemoryS3, running
from tests.faults.invariants import look
from tests.fixtures.process import ended, started, until

KEYS = [f"k/{number}" for number in range(6)]
STUCK = KEYS[3]
CODES = {signal.SIGTERM: 143, signal.SIGINT: 130}
PROGRAM = "import sys, ingest.engine.transfer.session as p; p.GRACE = float(sys.argv.pop(1)); from ingest.cli import main; main()"
FOREVER = "3600"
"""Seconds of grace that no test would wait."""


@pytest.fixture
def server() -> Iterator[MemoryS3]:
    with running(MemoryS3()) as server:
        server.fill({key: key.encode() for key in KEYS})
        yield server


def start(server: MemoryS3, data_dir: Path, grace: str, *arguments: str) -> AbstractAsyncContextManager[Process]:
    variables = server.bucket.variables(data_dir)
    program = ("-c", PROGRAM, grace)
    return started(*arguments, "--json", "-q", variables=variables, cwd=data_dir.parent, program=program)


async def prepare(settings: Settings, server: MemoryS3, command: str) -> tuple[str, list[str]]:
    """What `command` finds its work in, with one object stuck; the operation that it is stuck in, and its arguments."""
    if command != "sync":
        await sync(settings, SyncOptions(), progress=Silence(), stop=Stop())
    if command == "restore":
        await cleanup(settings, CleanupOptions(timedelta(0)), progress=Silence(), stop=Stop())
    operation = "head" if command == "cleanup" else "get"
    server.asked.clear()
    server.faults = [Fault(operation, stall, STUCK)]
    return operation, {"cleanup": ["--older-than", "0d"], "restore": ["--prefix", ""]}.get(command, [])


@pytest.mark.parametrize("number", CODES)
async def test_the_first_signal_drains_what_is_under_way_and_records_it(
    server: MemoryS3, tmp_path: Path, number: signal.Signals
) -> None:
    settings = server.bucket.settings(tmp_path / "data")
    await prepare(settings, server, "sync")
    async with start(server, settings.data_dir, "1.0", "sync") as process:
        await until(lambda: set(server.keys("get")) == set(KEYS))
        process.send_signal(number)
        done = await ended(process)
    report = json.loads(done.stdout)
    assert (done.code, report["status"]) == (CODES[number], "interrupted"), done.stderr
    seen = await look(settings)
    assert set(seen.rows) == set(KEYS) - {STUCK}
    assert (report["downloaded"], report["listed"]) == (len(KEYS) - 1, len(KEYS) - 1)
    seen.assert_settled()


@pytest.mark.parametrize("number", CODES)
@pytest.mark.parametrize("command", ["sync", "cleanup", "restore"])
async def test_the_second_signal_does_not_wait(
    server: MemoryS3, tmp_path: Path, number: signal.Signals, command: str
) -> None:
    settings = server.bucket.settings(tmp_path / "data")
    operation, arguments = await prepare(settings, server, command)
    async with start(server, settings.data_dir, FOREVER, command, *arguments) as process:
        await until(lambda: STUCK in server.keys(operation))
        process.send_signal(number)
        process.send_signal(
            signal.SIGINT if number == signal.SIGTERM else signal.SIGTERM
        )  # two of a kind may become one
        done = await ended(process, 30)
    assert done.code in CODES.values(), done.stderr  # of two that wait, either may be first
    assert "Traceback" not in done.stderr
    (await look(settings)).assert_whole(server.versions)


@pytest.mark.parametrize("command", ["cleanup", "restore"])
async def test_the_first_signal_ends_what_waits_for_the_bucket(server: MemoryS3, tmp_path: Path, command: str) -> None:
    settings = server.bucket.settings(tmp_path / "data")
    operation, arguments = await prepare(settings, server, command)
    async with start(server, settings.data_dir, "1.0", command, *arguments) as process:
        await until(lambda: set(server.keys(operation)) >= set(KEYS))
        process.send_signal(signal.SIGTERM)
        done = await ended(process, 30)  # less than a request may take by itself
    assert done.code == 143, done.stderr
    seen = await look(settings)
    assert len(seen.files) == len(KEYS) - (command == "restore")
    seen.assert_settled()


async def test_the_first_signal_ends_what_only_asks(server: MemoryS3, tmp_path: Path) -> None:
    """There is nothing to be finished."""
    server.faults = [Fault("list", stall)]
    async with start(server, tmp_path / "data", FOREVER, "ls") as process:
        await until(lambda: bool(server.asked))
        process.send_signal(signal.SIGTERM)
        done = await ended(process, 30)
    assert (done.code, json.loads(done.stdout)["exit_code"]) == (143, 143), done.stderr
