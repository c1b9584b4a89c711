"""SIGTERM and SIGINT: what is finished is recorded and the run ends soon; a second signal ends it at once."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from ingest.jobs.cleanup import cleanup
from ingest.jobs.options import CleanupOptions, SyncOptions
from ingest.jobs.stop import Stop
from ingest.jobs.sync import sync
from ingest.observe.progress import Silence
from tests.faults.invariants_after import look
from tests.faults.memory_s3 import STALL, MemoryS3, Request, running

KEYS = [f"k/{number}" for number in range(6)]
STUCK = KEYS[3]
CODES = {signal.SIGTERM: 143, signal.SIGINT: 130}
PROGRAM = "import sys, ingest.jobs.pipeline as p; p.GRACE = float(sys.argv.pop(1)); from ingest.cli import main; main()"
FOREVER = "3600"
"""Seconds of grace that no test would wait."""


@pytest.fixture
def server() -> Iterator[MemoryS3]:
    with running(MemoryS3()) as server:
        for key in KEYS:
            server.put(key, key.encode())
        yield server


def start(server: MemoryS3, data_dir: Path, grace: str, *arguments: str) -> subprocess.Popen[str]:
    clean = {name: value for name, value in os.environ.items() if not re.match(r"(S3|INGEST|DATABASE|AWS)_", name)}
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, grace, *arguments, "--json", "-q"],
        env=clean | server.bucket.variables(data_dir),
        cwd=data_dir.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def stuck(verb: str) -> Callable[[Request], int | None]:
    return lambda request: STALL if (request.verb, request.name) == (verb, STUCK) else None


def asked_for(server: MemoryS3, verb: str) -> set[str]:
    return {request.name for request in server.requests if request.verb == verb}


@pytest.mark.parametrize("number", CODES)
async def test_the_first_signal_drains_what_is_under_way_and_records_it(
    server: MemoryS3, tmp_path: Path, number: signal.Signals
) -> None:
    server.fault = stuck("GET")
    data_dir = tmp_path / "data"
    process = start(server, data_dir, "1.0", "sync")
    until(lambda: asked_for(server, "GET") == set(KEYS))
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    report = json.loads(out)
    assert (process.returncode, report["status"]) == (CODES[number], "interrupted"), err
    seen = await look(server, data_dir, f"sqlite+aiosqlite:///{data_dir}/.ingest/catalog.db")
    assert set(seen.rows) == set(KEYS) - {STUCK}
    assert (report["downloaded"], report["listed"]) == (len(KEYS) - 1, len(KEYS) - 1)
    seen.assert_settled()


@pytest.mark.parametrize("number", CODES)
@pytest.mark.parametrize("command", ["sync", "cleanup", "restore"])
async def test_the_second_signal_does_not_wait(
    server: MemoryS3, tmp_path: Path, number: signal.Signals, command: str
) -> None:
    data_dir = tmp_path / "data"
    settings = server.bucket.settings(data_dir)
    if command != "sync":
        await sync(settings, SyncOptions(), progress=Silence(), stop=Stop())
    if command == "restore":
        await cleanup(settings, CleanupOptions(timedelta(0)), progress=Silence(), stop=Stop())
    verb = "HEAD" if command == "cleanup" else "GET"
    server.requests.clear()
    server.fault = stuck(verb)
    arguments = {"cleanup": ["--older-than", "0d"], "restore": ["--prefix", ""]}.get(command, [])
    process = start(server, data_dir, FOREVER, command, *arguments)
    until(lambda: STUCK in asked_for(server, verb))
    process.send_signal(number)
    process.send_signal(signal.SIGINT if number == signal.SIGTERM else signal.SIGTERM)  # two of a kind may become one
    _, err = process.communicate(timeout=30)
    assert process.returncode in CODES.values(), err  # of two that wait, either may be first
    assert "Traceback" not in err
    (await look(server, data_dir, f"sqlite+aiosqlite:///{data_dir}/.ingest/catalog.db")).assert_whole(server)


@pytest.mark.parametrize("command", ["cleanup", "restore"])
async def test_the_first_signal_ends_what_waits_for_the_bucket(server: MemoryS3, tmp_path: Path, command: str) -> None:
    data_dir = tmp_path / "data"
    settings = server.bucket.settings(data_dir)
    await sync(settings, SyncOptions(), progress=Silence(), stop=Stop())
    if command == "restore":
        await cleanup(settings, CleanupOptions(timedelta(0)), progress=Silence(), stop=Stop())
    verb = "HEAD" if command == "cleanup" else "GET"
    server.requests.clear()
    server.fault = stuck(verb)
    arguments = {"cleanup": ["--older-than", "0d"], "restore": ["--prefix", ""]}[command]
    process = start(server, data_dir, "1.0", command, *arguments)
    until(lambda: asked_for(server, verb) >= set(KEYS))
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=30)  # less than a request may take by itself
    assert process.returncode == 143, err
    seen = await look(server, data_dir, f"sqlite+aiosqlite:///{data_dir}/.ingest/catalog.db")
    assert len(seen.files) == len(KEYS) - (command == "restore")
    seen.assert_settled()
