"""The model test: anything that may happen to bucket, disk and runs, in any order, against dictionaries (model.py).

After each step the invariants hold; at the end everything is healed, one run puts all right, and the next does nothing.
The alphabet is deliberately tiny, so that steps meet. A failure prints its steps and its seed; with the seed, the
shortest steps that show it are found. Numbers are drawn by `sampled_from`: Hypothesis draws `integers` also from the
constants of whatever is imported, so that the same seed would show other steps after each change of the code.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import shutil
import signal
import tempfile
import time
from collections.abc import Coroutine, Iterator
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import hypothesis
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from tenacity import wait_none

from ingest.catalog import audit
from ingest.catalog.sql.connect import open_driver
from ingest.catalog.sql.driver import Driver
from ingest.catalog.sql.url import Target
from ingest.engine.transfer import transfer
from ingest.errors import OutOfOrder
from ingest.model import RunReport
from ingest.observe.logs import configure
from ingest.source import retries
from ingest.store.paths import decode_path
from ingest.tasks.stop import Stop
from ingest.testing import faults
from ingest.testing.memory_s3 import Answer, Asked, Deed, Fault, MemoryS3, Spoiler, running
from tests.faults.databases import Template, copy_of, drop
from tests.faults.invariants import assert_versions, by_key, check_sums, files_of
from tests.faults.model import (
    Filters,
    Row,
    Rows,
    after_cleanup,
    after_restore,
    after_sync,
    after_verify,
    etag_of,
    is_prunable,
    may_be,
)
from tests.faults.model_jobs import Job, cleanup_job, restore_job, sync_job, verify_job
from tests.faults.rig import settings_for

T = TypeVar("T")
KEYS = st.sampled_from(["a", "a/", "a/b", "a/b/c", "a-b/x", "A", "é", "b/../c"])
BODIES = st.sampled_from([b"", b"1", b"22"])
FILTERS = st.builds(Filters, st.sampled_from(["", "", "a", "a/", "é"]), st.sampled_from(["", "", "a*", "*b*"]))
OF_LISTINGS = {
    "403": faults.saying("403 Forbidden", "AccessDenied"),
    "500": faults.saying("500 Internal Server Error", "InternalError"),
    "cut": faults.cut(-1),
}
OF_OBJECTS = OF_LISTINGS | {
    "404": faults.saying("404 Not Found", "NoSuchKey"),
    "wrong": faults.wrong_otherwise_each_time(),
}
DAY = timedelta(days=1)
_TO_THE_PAST = "UPDATE objects SET downloaded_at = '2020-01-01 00:00:00.000000' WHERE downloaded_at IS NOT NULL"
_ROWS = "SELECT key, state, etag, gone_at IS NOT NULL, local_path, digest, pruned_at IS NOT NULL FROM objects"


class World(RuleBasedStateMachine):
    """One bucket, one data directory, one catalog; `server`, `runner` and `template` are the test's."""

    server: MemoryS3
    runner: asyncio.Runner
    template: Template
    steps: int = 0

    def __init__(self) -> None:
        super().__init__()
        self.home = Path(tempfile.mkdtemp(prefix="ingest-model-"))
        self.stack = AsyncExitStack()
        self.rows: Rows = {}
        self.spoilt: set[str] = set()
        """Keys whose copy was damaged or removed behind the catalog's back."""
        self.copies: dict[str, tuple[str, str]] = {}
        """The local path and digest of every row that is present."""
        self.fault: Spoiler | None = None

    @initialize(by_directory=st.booleans(), page=st.sampled_from([1, 2, 1000]))
    def start(self, by_directory: bool, page: int) -> None:
        server = self.server
        server.by_directory, server.page = by_directory, page
        server.faults.clear()
        server.objects.clear()
        server.versions.clear()
        self.url = self.wait(copy_of(self.template, self.home / "catalog.db"))
        self.driver: Driver = self.wait(self.stack.enter_async_context(open_driver(Target.of(self.url))))
        own = {"database_url": self.url, "patience": timedelta(seconds=0.1)}
        self.settings = settings_for(server, self.home / "data", **own)

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    @property
    def bucket(self) -> dict[str, bytes]:
        return self.server.bodies

    # What others do to the bucket and the disk.

    @rule(objects=st.dictionaries(KEYS, BODIES, min_size=1))
    def put(self, objects: dict[str, bytes]) -> None:
        for key, body in objects.items():
            self.server.put(key, body)

    @rule(data=st.data(), body=BODIES)
    def overwrite(self, data: st.DataObject, body: bytes) -> None:
        if self.server.objects:
            self.server.put(data.draw(st.sampled_from(sorted(self.server.objects))), body)

    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        if self.server.objects:
            del self.server.objects[data.draw(st.sampled_from(sorted(self.server.objects)))]

    @rule(which=st.sampled_from(range(8)), remove=st.booleans())
    def spoil(self, which: int, remove: bool) -> None:
        """Not drawn from the copies themselves: how far an interrupted run came is not the same each time."""
        if self.copies:
            key = sorted(self.copies)[which % len(self.copies)]
            path = self.settings.data_dir / self.copies[key][0]
            if remove:
                path.unlink(missing_ok=True)
            else:
                path.write_bytes(b"damaged")
            self.spoilt.add(key)

    @rule()
    def time_passes(self) -> None:
        """Every copy is as old as can be."""

        async def age() -> None:
            if self.driver.dialect.is_postgres:
                await self.driver.fetch(_TO_THE_PAST.replace(".000000'", "+00'"))
            else:
                async with open_driver(Target.of(self.url)) as driver:
                    await driver.fetch(_TO_THE_PAST)

        self.wait(age())

    # Faults of the next run.

    @rule(key=KEYS, operation=st.sampled_from(["get", "head"]), how=st.sampled_from(sorted(OF_OBJECTS)))
    def break_object(self, key: str, operation: str, how: str) -> None:
        self.fault = Fault(operation, OF_OBJECTS[how], key)

    @rule(
        prefix=st.sampled_from(["", "a/", "a-b/"]),
        how=st.sampled_from(sorted(OF_LISTINGS)),
        good=st.sampled_from(range(3)),
    )
    def break_listing(self, prefix: str, how: str, good: int) -> None:
        fault = Fault("list", OF_LISTINGS[how], after=good)
        self.fault = lambda asked, answer: fault(asked, answer) if asked.key == prefix else None

    # Runs.

    @rule(filters=FILTERS)
    def sync(self, filters: Filters) -> None:
        self.synced(filters)

    def synced(self, filters: Filters) -> None:
        asked = len(self.server.keys("get"))
        expected = after_sync(self.rows, self.bucket, filters)
        report = self.run(sync_job(filters), expected.rows)
        if report is not None:
            assert report.exit_code == 0, report.error
            assert (report.counts.downloaded, report.counts.gone) == (len(expected.taken), len(expected.gone))
            assert set(self.server.keys("get")[asked:]) <= expected.taken

    @rule(age=st.sampled_from([timedelta(0), DAY]), young=st.booleans())
    def cleanup(self, age: timedelta, young: bool) -> None:
        if age and not young:
            self.time_passes()
        if age and young:
            return
        lacking = {key for key in self.missing() if is_prunable(key, self.rows[key], self.bucket)}
        report = self.run(cleanup_job(age), after_cleanup(self.rows, self.bucket, lacking))
        if report is not None:
            assert (report.exit_code, report.counts.failed) == (3 if lacking else 0, len(lacking)), report.error

    @rule()
    def verify(self) -> None:
        """Repairs what the bucket still has in the same version; the rest stays damaged."""
        report = self.run(verify_job, after_verify(self.rows, self.bucket, self.spoilt))
        if report is not None:
            bucket = {key: etag_of(body) for key, body in self.bucket.items()}
            staying = {key for key in self.spoilt if bucket.get(key) != self.rows[key].etag}
            assert report.exit_code == (7 if staying else 0), report.error
            assert report.counts.repaired == len(self.spoilt - staying)
            self.spoilt = staying

    @rule()
    def restore(self) -> None:
        self.run(restore_job, after_restore(self.rows, self.bucket))

    @rule(
        filters=FILTERS,
        after=st.sampled_from(range(13)),
        hard=st.booleans(),
        job=st.sampled_from(["sync", "cleanup", "restore"]),
    )
    def interrupted(self, filters: Filters, after: int, hard: bool, job: str) -> None:
        """The run is asked to stop, or cancelled, at its n-th request."""
        jobs = {
            "sync": (sync_job(filters), after_sync(self.rows, self.bucket, filters).rows),
            "cleanup": (cleanup_job(timedelta(0)), after_cleanup(self.rows, self.bucket, self.missing())),
            "restore": (restore_job, after_restore(self.rows, self.bucket)),
        }
        self.run(*jobs[job], stop_after=(after, hard))

    def run(self, job: Job, expected: Rows, stop_after: tuple[int, bool] | None = None) -> RunReport | None:
        """Runs a job; holds the catalog to `expected`, or to what lies between where faults were ordered.

        Returns the report of a run that met no fault.
        """
        faulted = self.fault is not None or stop_after is not None
        before = self.rows
        report = self.wait(self._run(job, stop_after))
        if report is not None and isinstance(report.error, OutOfOrder):
            # Its first page showed no directory, a later one did: it is listed by directory from the next run on.
            assert self.server.by_directory
            faulted = True
        self.fault = None
        self.server.faults.clear()
        if report is not None:
            check_sums(report)
        found = self.wait(self._read())
        for key in before.keys() | found.keys() | expected.keys():
            was, now, should = before.get(key), found.get(key), expected.get(key)
            if faulted:
                assert now in may_be(was, should, self.bucket, key), (key, was, now, should)
            else:
                assert now == should, (key, was)
        self.spoilt -= {key for key, row in found.items() if row[:2] != before.get(key, row)[:2]}
        self.rows = found
        if faulted:  # how much of it a repair mended before its fault is not foreseen
            self.spoilt -= {key for key in self.spoilt & self.copies.keys() if self.is_whole(key)}
        return None if faulted else report

    async def _run(self, job: Job, stop_after: tuple[int, bool] | None) -> RunReport | None:
        stop, loop = Stop(), asyncio.get_running_loop()
        task = asyncio.ensure_future(job(self.settings, stop))
        fault, seen = self.fault, 0

        def watched(asked: Asked, answer: Answer) -> Deed | None:
            nonlocal seen
            if stop_after is not None and seen == stop_after[0]:
                loop.call_soon_threadsafe(task.cancel if stop_after[1] else lambda: stop.request(signal.SIGTERM))
            seen += 1
            return fault(asked, answer) if fault is not None else None

        self.server.faults = [watched]
        try:
            return await task
        except asyncio.CancelledError:
            return None

    async def _read(self) -> Rows:
        rows: Rows = {}
        self.copies = {}
        for key, state, etag, gone, path, digest, pruning in await self.driver.fetch(_ROWS):
            rows[key] = Row(state, etag, bool(gone))
            if state == "present" and not pruning:
                self.copies[key] = (path, digest)
        return rows

    def missing(self) -> set[str]:
        """Keys whose recorded copy somebody removed."""
        return {key for key, (path, _) in self.copies.items() if not (self.settings.data_dir / path).exists()}

    def is_whole(self, key: str) -> bool:
        path, digest = self.copies[key]
        file = self.settings.data_dir / path
        return file.exists() and digest == "md5:" + hashlib.md5(file.read_bytes()).hexdigest()

    @invariant()
    def every_recorded_copy_is_there_and_whole(self) -> None:
        for key, (path, digest) in self.copies.items():
            if key not in self.spoilt:
                assert self.is_whole(key), key
                assert digest == "md5:" + self.rows[key].etag
                assert decode_path(path.partition("/")[2]) == key

    @invariant()
    def every_file_is_a_version_that_there_was(self) -> None:
        files = files_of(self.settings)
        by_key(files)
        whole = {path: copy for path, copy in files.items() if decode_path(path.partition("/")[2]) not in self.spoilt}
        assert_versions(whole, self.server.versions)

    def teardown(self) -> None:
        try:
            if hasattr(self, "driver"):
                self.heal()
        finally:
            type(self).steps += 1
            self.wait(self.stack.aclose())
            if hasattr(self, "url"):
                self.wait(drop(self.url))
            shutil.rmtree(self.home)

    def heal(self) -> None:
        self.fault = None
        self.verify()
        self.synced(Filters())
        if self.server.by_directory:
            self.synced(Filters())
        requests = len(self.server.asked)
        rows = self.rows
        again = self.run(sync_job(), rows)
        assert again is not None
        assert (again.counts.downloaded, again.counts.failed, again.counts.gone) == (0, 0, 0)
        assert {asked.operation for asked in self.server.asked[requests:]} == {"list"}
        assert list((self.settings.data_dir / ".ingest" / "tmp").iterdir()) == []
        assert self.wait(audit.broken_links(self.driver)) == []
        assert set(by_key(files_of(self.settings))) - self.spoilt <= {
            key for key, row in self.rows.items() if row.state == "present"
        }


@pytest.fixture
def world(
    request: pytest.FixtureRequest, empty_databases: dict[str, Template], monkeypatch: pytest.MonkeyPatch
) -> Iterator[type[World]]:
    monkeypatch.setattr(transfer, "FIRST_PAUSE", 0.0)
    monkeypatch.setattr(retries, "PAUSE", wait_none())
    configure(verbosity=-1)
    with running(MemoryS3()) as server, asyncio.Runner() as runner:

        class Own(World):
            pass

        Own.server, Own.runner, Own.template = server, runner, empty_databases[request.param]
        yield Own


SOAK = float(os.environ.get("INGEST_TEST_SOAK", "0"))
"""Seconds for each database, of new steps each round; 0 is one round of the same steps, as in the suite."""
SEED = os.environ.get("INGEST_TEST_SEED")
"""With the seed of a failure, the steps are shortened to those that matter, which takes minutes."""
ROUND = settings(
    max_examples=80,
    stateful_step_count=20,
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate, *([Phase.shrink] if SEED else [])],
)


@pytest.mark.parametrize("world", ["sqlite", "postgresql"], indirect=True)
@pytest.mark.timeout(int(SOAK) + (900 if SEED else 600))
def test_whatever_happens_the_invariants_hold_and_one_run_heals(world: type[World]) -> None:
    end = time.monotonic() + SOAK
    while True:
        seed = int(SEED or (random.randrange(1 << 32) if SOAK else 0))
        print(f"again with INGEST_TEST_SEED={seed}")  # noqa: T201 - pytest shows it when the test fails
        run_state_machine_as_test(hypothesis.seed(seed)(world), settings=ROUND)
        if time.monotonic() >= end:
            return
