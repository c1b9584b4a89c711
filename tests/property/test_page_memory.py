"""The page memory never hides a change: with it and without it, the same story ends in the same catalog.

Two tools sync one bucket through the same puts, deletes, failures, cleanups and selections. One believes unchanged
pages, the other reads everything; after every run their counts, rows and files must be equal.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest.catalog import schema
from ingest.catalog.catalog import Catalog
from ingest.jobs.cleanup import cleanup
from ingest.jobs.options import CleanupOptions, SyncOptions
from ingest.jobs.stop import Stop
from ingest.jobs.sync import backfill, sync
from ingest.model import ListingOrder, RunReport
from ingest.observe.progress import Silence
from ingest.plan import memory
from ingest.plan.selection import Selection
from ingest.settings import Settings
from tests.faults.deeds import saying
from tests.fixtures.memory_s3 import Fault, MemoryS3, running

KEYS = ("a", "a-", "a/b", "a/c", "b", "b/", "c", "c/d/e", "d", "d0", "e", "é")
REFUSED = saying("403 Forbidden", "AccessDenied")
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
RUN = st.tuples(
    st.sampled_from(("sync", "backfill")),
    st.sampled_from(range(len(SELECTIONS))),
    st.none() | st.sampled_from(KEYS),
)
CLEAN = st.tuples(st.just("cleanup"), st.just(""), st.just(b""))
STORY = st.lists(st.one_of(PUT, PUT, DELETE, RUN, RUN, CLEAN), min_size=4, max_size=14)


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

    async def rows(self) -> list[tuple[object, ...]]:
        async with Catalog.open(self.settings.database_url.get_secret_value()) as catalog:
            source = await catalog.source(self.settings.endpoint, self.settings.bucket)
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
            source = await catalog.source(known.endpoint, known.bucket)
            await catalog.learn_order(source.id, ListingOrder.BYTES)

    asyncio.run(make())
    return file


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """As small as the server's, so that a dozen keys make many pages."""
    monkeypatch.setattr(memory, "PAGE", 3)
    monkeypatch.setattr(memory, "SMALL", 2)


def tool(server: MemoryS3, template: Path, directory: Path, *, believes: bool) -> Tool:
    file = directory / "data" / ".ingest" / "catalog.db"
    file.parent.mkdir(parents=True)
    shutil.copy(template, file)
    return Tool(server.bucket.settings(directory / "data"), believes)


@given(STORY)
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_both_always_agree(server: MemoryS3, template: Path, story: list[tuple[str, object, object]]) -> None:
    server.objects.clear()
    with TemporaryDirectory() as directory:
        with_memory = tool(server, template, Path(directory) / "with", believes=True)
        without = tool(server, template, Path(directory) / "without", believes=False)
        asyncio.run(tell([*story, ("sync", 0, None), ("sync", 0, None)], server, with_memory, without))


async def tell(story: list[tuple[str, object, object]], server: MemoryS3, with_memory: Tool, without: Tool) -> None:
    for verb, what, how in story:
        if verb == "put":
            assert isinstance(what, str)
            assert isinstance(how, bytes)
            server.put(what, how)
        elif verb == "delete":
            server.objects.pop(str(what), None)
        elif verb == "cleanup":
            assert (await with_memory.clean()).counts == (await without.clean()).counts
        else:
            assert isinstance(what, int)
            server.faults = [Fault("get", REFUSED, str(how))] if how is not None else []
            one = await with_memory.run(verb, SELECTIONS[what])
            other = await without.run(verb, SELECTIONS[what])
            assert one.counts == other.counts, (verb, SELECTIONS[what], one.error, other.error)
            assert one.status is other.status
            assert await with_memory.rows() == await without.rows()


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
