"""A listing beside another run: what that one has seen since a page was asked for is left alone.

The page is here, its rows are not read yet; or they are, and it is decided; or it is about to be written. Meanwhile another
run sees that objects have come, gone and returned, and records it. The catalog ends as the bucket is.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ingest.catalog.catalog import Catalog
from ingest.catalog.history import story
from ingest.engine.options import SyncOptions
from ingest.jobs.sync import backfill, sync
from ingest.model import RunReport
from ingest.observe.progress import Silence
from ingest.plan.selection import Selection
from ingest.tasks.stop import Stop
from ingest.testing.memory_s3 import MemoryS3, running
from tests.faults.databases import Template, copy_of
from tests.faults.invariants import look
from tests.faults.rig import MODIFIED
from tests.faults.test_two_at_once import Rig
from tests.fixtures.catalogs import source_of

OLD, NEW, KNOWN, PASSING, LOST, BACK = "d/old", "d/new", "d/known", "d/passing", "d/lost", "d/returning"
UNWANTED = Selection(until=MODIFIED)
"""A window before everything: what is listed is recorded, and not taken."""
PLACES = ("listing.shown", "listing.joined", "gone.read", "batch.collected")
"""Where the listing stands still: from the page that has come to the batch that is about to be written."""
CASES = [
    *(("sqlite", False, at) for at in PLACES),
    *(
        ("sqlite", True, f"{at}:2" if at.startswith("listing") else at) for at in PLACES
    ),  # behind that of the first level
    ("postgresql", False, "listing.shown"),
    ("postgresql", False, "batch.collected"),
]


class Nights(Rig):
    async def sync(self) -> RunReport:
        report = await sync(self.settings, SyncOptions(), progress=Silence(), stop=Stop())
        assert report.exit_code == 0, report.error
        return report

    async def backfill(self, selection: Selection) -> None:
        report = await backfill(self.settings, SyncOptions(selection), progress=Silence(), stop=Stop())
        assert report.exit_code == 0, report.error

    async def trail(self, key: str) -> list[str]:
        async with Catalog.open(self.url) as catalog:
            source = await source_of(catalog, self.settings.endpoint, self.settings.bucket)
            _, lines = await story(catalog, source.id, key)
        return [str(line["what"]) for line in lines]


@pytest.fixture
async def nights(
    request: pytest.FixtureRequest, empty_databases: dict[str, Template], tmp_path: Path
) -> AsyncIterator[Nights]:
    """Two nights have passed: one object is gone from the bucket, and tonight its page has to be read."""
    engine, by_directory = request.param
    with running(MemoryS3(by_directory=by_directory)) as server:
        for key in (OLD, PASSING, LOST, BACK, *(f"d/{number}" for number in range(9)), "e"):
            server.put(key, key.encode())
        made = Nights(server, tmp_path / "data", await copy_of(empty_databases[engine], tmp_path / "catalog.db"))
        await made.sync()
        del server.objects[BACK]
        await made.sync()
        server.put("d/another", b"so that the page is read")
        yield made


@pytest.mark.parametrize(("nights", "at"), [((engine, order), at) for engine, order, at in CASES], indirect=["nights"])
async def test_the_catalog_ends_as_the_bucket_is(nights: Nights, at: str) -> None:
    rig, objects = nights, nights.server.objects
    lost = objects.pop(LOST)  # before the listing, so that it has something to mark
    with rig.held(*("sync",), at=at) as listing:
        del objects[PASSING]
        rig.server.put(NEW, b"just now")
        rig.server.put(BACK, BACK.encode())
        await rig.backfill(Selection())
        rig.server.put(KNOWN, b"a moment later")
        await rig.backfill(UNWANTED)
        listing.go_on()
        assert listing.end() == 0
    told = {key: await rig.trail(key) for key in (NEW, KNOWN, PASSING, BACK, LOST)}
    assert told == {
        NEW: ["downloaded"],
        KNOWN: [],
        PASSING: ["downloaded", "gone"],
        BACK: ["downloaded", "gone", "returned"],
        LOST: ["downloaded", "gone"],
    }
    rows = (await look(rig.settings)).rows
    assert {key for key, row in rows.items() if not row["gone_at"]} == set(objects)
    assert (await rig.sync()).counts.downloaded == 1
    objects[LOST] = lost
    assert (await rig.sync()).counts.unchanged == len(objects)
    assert await rig.trail(LOST) == ["downloaded", "gone", "returned"]


@pytest.mark.parametrize("nights", [("sqlite", False), ("postgresql", False)], indirect=True)
async def test_a_page_is_not_remembered_with_a_version_that_it_does_not_show(nights: Nights) -> None:
    """It was changed and recorded meanwhile, then the change was taken back: the page is as it was, the row is not."""
    rig, before = nights, nights.server.objects[OLD]
    with rig.held(*("sync",), at="batch.collected") as listing:
        rig.server.put(OLD, b"the second one")
        await rig.backfill(Selection())
        listing.go_on()
        assert listing.end() == 0
    rig.server.objects[OLD] = before
    assert (await rig.sync()).counts.changed == 1
    assert (rig.data_dir / "statements" / OLD).read_bytes() == before.body


@pytest.mark.parametrize("nights", [("sqlite", False), ("postgresql", False)], indirect=True)
async def test_the_database_says_when_and_which_run_was_the_last_to_see(nights: Nights) -> None:
    await nights.sync()
    async with Catalog.open(nights.url) as catalog:
        found = await catalog.driver.fetch("SELECT key, seen, seen_in, seen_at FROM objects")
        rows = {key: row for key, *row in found}
        assert await catalog.seen(1) == max(seen for seen, *_ in rows.values()) == 3
    assert [rows[key][:2] for key in (OLD, BACK, "d/another")] == [[1, 1], [2, 2], [3, 3]]
    assert rows[OLD][2] < rows[BACK][2] < rows["d/another"][2]
