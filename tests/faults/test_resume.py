"""`backfill --resume`: whatever stopped a backfill, and wherever, the next one takes all that is left, and lists no more.

On servers of either order: those that are listed by ranges of keys, and those that are by directories.
"""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from ingest.catalog.catalog import Catalog
from ingest.catalog.schema.tables import runs
from ingest.engine.options import SyncOptions
from ingest.engine.scan import by_range
from ingest.jobs.sync import backfill, sync
from ingest.model import RunReport
from ingest.observe.progress import Silence
from ingest.plan import page_memory
from ingest.plan.selection import Selection
from ingest.tasks.stop import Stop
from ingest.testing import faults
from ingest.testing.memory_s3 import Deed, Fault
from tests.faults.rig import Rig, rigged, variables_of
from tests.fixtures.catalogs import reading
from tests.fixtures.lines import lines_said
from tests.fixtures.process import Done, run_ingest

OBJECTS = {
    **{f"{number}.txt": b"top" for number in range(3)},
    **{f"{folder}/{number}": f"{folder}{number}".encode() for folder in "abcdefgh" for number in range(4)},
    "bb.txt": b"among the directories",
    "z.txt": b"end",
}
WINDOW = ("--since", "2020-01-01")
SINCE = Selection(since=datetime(2020, 1, 1, tzinfo=UTC))
SERVERS = ("MinIO", "SeaweedFS")


@pytest.fixture(params=SERVERS)
async def rig(request: pytest.FixtureRequest, tmp_path: Path, sqlite_url: str, swift: None) -> AsyncIterator[Rig]:
    async with rigged(tmp_path, sqlite_url, OBJECTS, page=3, name=request.param) as made:
        yield made


@pytest.fixture
async def by_directory(tmp_path: Path, each_url: str, swift: None) -> AsyncIterator[Rig]:
    async with rigged(tmp_path, each_url, OBJECTS, page=6, name="SeaweedFS") as made:
        yield made


async def command(rig: Rig, *arguments: str, **armed: str) -> Done:
    return await run_ingest("backfill", *arguments, variables=variables_of(rig.settings) | armed, cwd=rig.home)


def stopping(stop: Stop) -> Deed:
    """The answer, and word to the run that it is to stop."""
    return faults.after(lambda: stop.request(signal.SIGTERM), faults.answering(lambda answer: answer))


async def in_process(rig: Rig, *, stop: Stop | None = None, **options: Any) -> RunReport:
    return await backfill(rig.settings, SyncOptions(**options), progress=Silence(), stop=stop)


async def assert_all_taken(rig: Rig) -> None:
    await rig.end_process()
    rows = await rig.rows()
    assert {key: row["state"] for key, row in rows.items()} == dict.fromkeys(rig.server.objects, "present")
    await rig.check_catalog()


async def told(rig: Rig) -> list[Mapping[str, Any]]:
    async with Catalog.open(rig.settings.database_url.get_secret_value()) as catalog, reading(catalog) as connection:
        found = await connection.execute(select(runs.c.arguments).order_by(runs.c.id))
        return [row.arguments for row in found]


@pytest.mark.parametrize("place", ["shards.planned:2", "batch.committed:1", "shards.listed:1"])
async def test_killed_anywhere_it_goes_on_to_the_whole(rig: Rig, place: str) -> None:
    killed = await command(rig, *WINDOW, INGEST_CRASH_AT=place)
    if killed.code != 0:  # a listing by ranges plans in fewer steps
        assert killed.code == -signal.SIGKILL
    assert (await command(rig, *WINDOW, "--resume")).code == 0
    await assert_all_taken(rig)


async def test_what_was_shown_before_the_kill_is_planned(by_directory: Rig) -> None:
    """The first page of the top level is recorded, and shows directories; then the server keeps its second one back."""
    rig = by_directory
    rig.server.faults = [Fault("list", faults.stall, after=2)]
    killed = await command(rig, *WINDOW, INGEST_CRASH_AT="batch.committed:1")
    assert killed.code == -signal.SIGKILL
    rig.server.faults.clear()
    done = await command(rig, *WINDOW, "--resume")
    assert done.code == 0
    assert "resuming" in done.stderr
    await assert_all_taken(rig)


async def test_what_is_done_is_not_listed_again(by_directory: Rig) -> None:
    """Also by the second that goes on, when the first one was killed as well."""
    rig, stop = by_directory, Stop()
    rig.server.faults = [Fault("list", stopping(stop), key="d/0")]
    assert (await in_process(rig, stop=stop, listers=1, selection=SINCE)).exit_code == 143
    rig.server.asked.clear()
    assert (await command(rig, *WINDOW, "--resume", INGEST_CRASH_AT="shards.planned")).code == -signal.SIGKILL
    rig.server.faults.clear()
    assert (await command(rig, *WINDOW, "--resume")).code == 0
    assert rig.server.keys("list").count("d/") > 0
    assert not {"a/", "b/", "c/"} & set(rig.server.keys("list"))
    assert not {"a/0", "b/0"} & set(rig.server.keys("get"))
    await assert_all_taken(rig)


async def test_what_failed_before_is_tried_again(rig: Rig) -> None:
    rig.server.faults = [Fault("get", faults.saying("403 Forbidden", "AccessDenied"), key="b/2")]
    assert (await in_process(rig)).exit_code == 3
    rig.server.faults.clear()
    rig.server.asked.clear()
    with lines_said() as lines:
        report = await in_process(rig, resume=True)
    assert (report.exit_code, report.counts.downloaded) == (0, 1)
    assert "resuming" in [line["event"] for line in lines]
    await assert_all_taken(rig)
    assert "nothing_to_resume" in [line["event"] for line in await lines_of(rig)]


async def lines_of(rig: Rig) -> list[Mapping[str, Any]]:
    with lines_said() as lines:
        await in_process(rig, resume=True)
    return list(lines)


async def test_directories_that_are_planned_are_not_planned_again(by_directory: Rig) -> None:
    """Although the page that shows them is listed once more, for what failed in it."""
    rig = by_directory
    rig.server.faults = [Fault("get", faults.saying("403 Forbidden", "AccessDenied"), key="0.txt")]
    assert (await in_process(rig)).exit_code == 3
    rig.server.faults.clear()
    rig.server.asked.clear()
    assert (await in_process(rig, resume=True)).counts.downloaded == 1
    assert set(rig.server.keys("list")) == {""}
    await assert_all_taken(rig)


@pytest.mark.parametrize("stops_at", [2, 4, 6, 8])
async def test_pages_that_are_remembered_beyond_a_part_are_planned_too(
    tmp_path: Path, sqlite_url: str, swift: None, monkeypatch: pytest.MonkeyPatch, stops_at: int
) -> None:
    """The memory of pages is read in parts: a run that stops within one leaves the others planned."""
    monkeypatch.setattr(by_range, "_PAGES_AT_ONCE", 2)
    monkeypatch.setattr(page_memory, "SMALL", 0)  # pages of three keys are remembered as they are
    async with rigged(tmp_path, sqlite_url, OBJECTS, page=3, name="MinIO") as rig:
        await rig.run(0)
        rig.server.fill({f"{folder}/new": b"new" for folder in "ach"})
        stop = Stop()
        rig.server.faults = [Fault("list", stopping(stop), after=stops_at, times=1)]
        assert (await in_process(rig, stop=stop, listers=1)).exit_code == 143
        rig.server.faults.clear()
        assert (await in_process(rig, resume=True, listers=1)).exit_code == 0
        await assert_all_taken(rig)


async def test_the_same_day_at_other_hours_is_another_window(rig: Rig) -> None:
    rig.server.modified = None
    noon, midnight = datetime(2026, 1, 2, 12, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)
    rig.server.faults = [Fault("get", faults.saying("403 Forbidden", "AccessDenied"), key="b/2")]
    assert (await in_process(rig, selection=Selection(since=noon))).exit_code in (0, 3)
    rig.server.faults.clear()
    assert (await in_process(rig, selection=Selection(since=midnight), resume=True)).exit_code == 0
    await assert_all_taken(rig)


async def test_a_duration_told_again_is_the_window_that_was_begun(rig: Rig) -> None:
    rig.server.faults = [Fault("get", faults.saying("403 Forbidden", "AccessDenied"), key="b/2")]
    assert (await command(rig, "--since", "4000d", "--until", "1h")).code == 3
    rig.server.faults.clear()
    done = await command(rig, "--since", "4000d", "--until", "1h", "--resume")
    assert done.code == 0
    assert "resuming" in done.stderr
    first, second = await told(rig)
    assert (first["since"], second["since"]) == ("4000d", "4000d")
    assert first["window"][0] in done.stderr
    assert first["window"] == second["window"]  # what decided the second is on record, too
    assert (second["resume"], second["resumes"]) == (True, 1)


async def test_nothing_else_is_gone_on_with(rig: Rig) -> None:
    """Neither another prefix, nor a dry run, nor a sync, nor what ended well since."""
    refused = Fault("get", faults.saying("403 Forbidden", "AccessDenied"), key="b/2")
    rig.server.faults = [refused]
    assert (await in_process(rig, selection=Selection(prefixes=("b/",)))).exit_code == 3
    assert (await sync(rig.settings, SyncOptions())).exit_code == 3
    assert (await in_process(rig, dry_run=True)).exit_code == 0
    assert "nothing_to_resume" in [line["event"] for line in await lines_of(rig)]
    rig.server.faults.clear()
    assert (await in_process(rig)).exit_code == 0
    assert "nothing_to_resume" in [line["event"] for line in await lines_of(rig)]


async def test_a_dry_run_shows_what_is_left_and_takes_over_nothing(rig: Rig) -> None:
    rig.server.faults = [Fault("get", faults.saying("403 Forbidden", "AccessDenied"), key="b/2")]
    assert (await in_process(rig)).exit_code == 3
    rig.server.faults.clear()
    shown: list[str] = []
    report = await in_process(rig, resume=True, dry_run=True, on_action=lambda action: shown.append(str(action)))
    assert (report.exit_code, shown) == (0, ["download b/2 (retry, 2 bytes)"])
    assert (await in_process(rig, resume=True)).counts.downloaded == 1


async def test_a_run_that_made_no_plan_hides_none(rig: Rig) -> None:
    rig.server.faults = [Fault("get", faults.saying("403 Forbidden", "AccessDenied"), key="b/2")]
    assert (await in_process(rig)).exit_code == 3
    rig.server.faults = [Fault("list", faults.saying("403 Forbidden", "AccessDenied"))]
    assert (await in_process(rig, resume=False)).exit_code == 4
    rig.server.faults.clear()
    assert (await in_process(rig, resume=True)).exit_code == 0
    await assert_all_taken(rig)
