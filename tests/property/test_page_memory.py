"""The page memory never hides a change: with it and without it, the same story ends in the same catalog.

Two tools sync one bucket through the same puts, deletes, versions taken back, failures, cleanups, restores and
selections. One believes unchanged pages, the other reads everything; after every run their counts, rows and files must be
equal.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest.catalog.catalog import Catalog
from ingest.catalog.schema import schema
from ingest.engine.options import CleanupOptions, RestoreOptions, SyncOptions
from ingest.jobs.cleanup import cleanup
from ingest.jobs.restore import restore
from ingest.jobs.sync import backfill, sync
from ingest.model import ListingOrder, RunReport
from ingest.observe.progress import Silence
from ingest.plan import page_memory
from ingest.plan.selection import Selection
from ingest.settings import Settings
from ingest.tasks.stop import Stop
from ingest.testing.faults import saying
from ingest.testing.memory_s3 import Fault, MemoryS3, Stored, running
from tests.fixtures.catalogs import source_of

KEYS = ("a", "a-", "a/b", "a/c", "b", "b/", "c", "c/d/e", "d", "d0", "e", "é")
FAULTS = (saying("403 Forbidden", "AccessDenied"), saying("404 Not Found", "NoSuchKey"))
FUTURE = datetime.now(UTC) + timedelta(days=1)
SELECTIONS = (
    Selection(),
    Selection(include=("a*",)),
    Selection(exclude=("*c*",)),
    Selection(since=FUTURE),
    Selection(since=FUTURE + timedelta(days=1)),
    Selection(until=FUTURE - timedelta(days=9)),
    Selection(prefixes=("a",)),
)
PUT = st.tuples(st.just("put"), st.sampled_from(KEYS), st.sampled_from((b"", b"1", b"22")))
DELETE = st.tuples(st.just("delete"), st.sampled_from(KEYS), st.just(b""))
BACK = st.tuples(st.just("back"), st.sampled_from(KEYS), st.just(b""))
"""As when a version, or the mark of a deletion, is removed: what was there before is there again, as it was."""
FAILING = st.none() | st.tuples(st.sampled_from(KEYS), st.sampled_from(range(len(FAULTS))))
RUN = st.tuples(st.sampled_from(("sync", "backfill")), st.sampled_from(range(len(SELECTIONS))), FAILING)
RESTORE = st.tuples(st.just("restore"), st.sampled_from(("", "a", "c")), FAILING)
CLEAN = st.tuples(st.just("cleanup"), st.just(""), st.just(b""))
STORY = st.lists(st.one_of(PUT, PUT, DELETE, BACK, RUN, RUN, RUN, CLEAN, RESTORE), min_size=4, max_size=14)


Story = Sequence[tuple[str, object, object]]


@dataclass
class Tool:
    settings: Settings
    believes: bool
    listers: int = 3

    async def run(self, command: str, selection: Selection) -> RunReport:
        options = SyncOptions(selection, page_memory=self.believes, listers=self.listers)
        job = sync if command == "sync" else backfill
        return await job(self.settings, options, progress=Silence(), stop=Stop())

    async def clean(self) -> RunReport:
        return await cleanup(self.settings, CleanupOptions(timedelta(0)), progress=Silence(), stop=Stop())

    async def restore(self, prefix: str) -> RunReport:
        return await restore(self.settings, RestoreOptions(prefix=prefix), progress=Silence(), stop=Stop())

    async def rows(self) -> list[tuple[object, ...]]:
        async with Catalog.open(self.settings.database_url.get_secret_value()) as catalog:
            source = await source_of(catalog, self.settings.endpoint, self.settings.bucket)
            rows = await catalog.rows_between(source.id, "", None)
        return [(row.key, row.size, row.etag, row.state, bool(row.gone), self.copy(row.local_path)) for row in rows]

    def copy(self, local_path: str | None) -> bytes | None:
        path = self.settings.data_dir / local_path if local_path else None
        return path.read_bytes() if path is not None and path.is_file() else None


@pytest.fixture(scope="module")
def server() -> Iterator[MemoryS3]:
    with running(MemoryS3(page=3)) as server:
        yield server


@pytest.fixture(scope="module")
def template(server: MemoryS3, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalog that knows the bucket for a byte-ordered one, and nothing else."""
    file = tmp_path_factory.mktemp("template") / "catalog.db"
    url = f"sqlite+aiosqlite:///{file}"

    async def make() -> None:
        await schema.upgrade(url)
        async with Catalog.open(url) as catalog:
            known = server.bucket.settings(file.parent)
            source = await source_of(catalog, known.endpoint, known.bucket)
            await catalog.learn_order(source.id, ListingOrder.BYTES)

    asyncio.run(make())
    return file


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """As small as the server's, so that a dozen keys make many pages."""
    monkeypatch.setattr(page_memory, "PAGE", 3)
    monkeypatch.setattr(page_memory, "SMALL", 2)


def tool(server: MemoryS3, template: Path, directory: Path, *, believes: bool) -> Tool:
    file = directory / "data" / ".ingest" / "catalog.db"
    file.parent.mkdir(parents=True)
    shutil.copy(template, file)
    return Tool(server.bucket.settings(directory / "data"), believes)


@dataclass
class World:
    """The bucket, what it held before, and the two who look at it."""

    server: MemoryS3
    with_memory: Tool
    without: Tool
    before: dict[str, list[Stored | None]]

    async def tell(self, story: Story) -> None:
        for verb, what, how in story:
            if verb in ("put", "delete", "back"):
                self.change(verb, str(what), how)
                continue
            self.fail(how)
            one = await self.act(self.with_memory, verb, what)
            other = await self.act(self.without, verb, what)
            assert one.counts == other.counts, (verb, what, one.error, other.error)
            assert one.status is other.status
            assert await self.with_memory.rows() == await self.without.rows()

    def change(self, verb: str, key: str, body: object) -> None:
        objects, before = self.server.objects, self.before.setdefault(key, [])
        if verb == "back":
            stored = before.pop() if before else None
            objects.pop(key, None)
            if stored is not None:
                objects[key] = stored
            return
        before.append(objects.pop(key, None))
        if verb == "put":
            assert isinstance(body, bytes)
            self.server.put(key, body)

    def fail(self, how: object) -> None:
        self.server.faults = [Fault("get", FAULTS[how[1]], how[0])] if isinstance(how, tuple) else []

    async def act(self, tool: Tool, verb: str, what: object) -> RunReport:
        if verb == "cleanup":
            return await tool.clean()
        if verb == "restore":
            return await tool.restore(str(what))
        assert isinstance(what, int)
        return await tool.run(verb, SELECTIONS[what])


@contextmanager
def world(server: MemoryS3, template: Path) -> Iterator[World]:
    server.objects.clear()
    server.faults.clear()
    with TemporaryDirectory() as directory:
        with_memory = tool(server, template, Path(directory) / "with", believes=True)
        yield World(server, with_memory, tool(server, template, Path(directory) / "without", believes=False), {})


ALL, ONLY_A = 0, len(SELECTIONS) - 1
FULL = ("sync", ALL, None)
PREFIX = ("sync", ONLY_A, None)
REMEMBERED = [*(("put", key, b"1") for key in KEYS), FULL, FULL]


@given(st.booleans(), STORY)
@settings(  # each is some ten runs
    max_examples=1000 if "INGEST_TEST_SOAK" in os.environ else 8,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_both_always_agree(server: MemoryS3, template: Path, remembered: bool, story: Story) -> None:
    with world(server, template) as told:
        asyncio.run(told.tell([*(REMEMBERED if remembered else ()), *story, FULL, FULL]))


@pytest.mark.parametrize(
    "story",
    [
        [("delete", "a/b", b""), PREFIX, ("back", "a/b", b""), FULL],
        [("put", "a/b", b"22"), PREFIX, ("back", "a/b", b""), FULL],
        [("put", "a/d", b"1"), PREFIX, ("back", "a/d", b""), FULL],
        [PREFIX, PREFIX, ("delete", "a/b", b""), FULL, ("back", "a/b", b""), PREFIX],
        [("cleanup", "", b""), ("restore", "a", ("a/b", 1)), FULL],
        [("cleanup", "", b""), ("delete", "a/b", b""), FULL, ("back", "a/b", b""), ("restore", "a", None),
         ("delete", "a/b", b""), FULL],
        [("sync", 3, None), ("delete", "a/b", b""), PREFIX, ("back", "a/b", b""), ("sync", 3, None), FULL],
    ],
    ids=["gone by prefix", "changed by prefix", "new by prefix", "gone by the whole", "gone by a restore",
         "back by a restore", "under another selection"],
)  # fmt: skip
async def test_what_another_run_found_in_a_remembered_page_is_not_hidden(
    server: MemoryS3, template: Path, story: Story
) -> None:
    """The page is as it was remembered, its rows are not: somebody else has listed them, or asked for one, meanwhile."""
    with world(server, template) as told:
        await told.tell([*REMEMBERED, *story, FULL])


async def test_unchanged_pages_are_asked_for_by_themselves_and_nothing_is_read(
    server: MemoryS3, template: Path, tmp_path: Path
) -> None:
    server.objects.clear()
    server.faults.clear()
    for key in KEYS:
        server.put(key, b"x")
    believer = tool(server, template, tmp_path, believes=True)
    believer.listers = 1  # nobody splits what another is at, so the pages are the server's own
    assert (await believer.run("sync", Selection())).counts.downloaded == len(KEYS)
    server.asked.clear()
    again = await believer.run("sync", Selection())
    assert (again.counts.listed, again.counts.downloaded) == (len(KEYS), 0)
    asked = [asked.query for asked in server.asked if asked.operation == "list"]
    assert {query["max-keys"] for query in asked[:-1]} == {"3"}
    assert len(asked) == 5  # four pages, and what is behind the last
