"""A prefix that matches nothing is said, and one that is written as other tools have it is read so, or refused."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ingest.engine.options import CleanupOptions, HoldOptions, RestoreOptions, SyncOptions, VerifyOptions
from ingest.jobs import hold
from ingest.jobs.cleanup import cleanup
from ingest.jobs.restore import restore
from ingest.jobs.show import ls
from ingest.jobs.sync import backfill, sync
from ingest.jobs.verify import verify
from ingest.model import RunReport
from ingest.observe.progress import Silence
from ingest.plan.selection import Selection
from ingest.settings import Settings
from ingest.tasks.stop import Stop
from ingest.testing.memory_s3 import MemoryS3, running
from tests.fixtures.lines import lines_said
from tests.fixtures.process import run_ingest
from tests.fixtures.servers import Bucket

OBJECTS = {"st/1": b"1", "st/2": b"2", "tt/3": b"3"}
WRITTEN = [
    "st/",
    "/st/",
    "//st/",
    "s3://statements/st/",
    "S3://statements/st/*",
    "statements/st/",
    "/statements/st/",
    "st/*",
    "st/**",
]
REFUSED = {"/sts/": "'sts/'", "sts/*": "'sts/'", "st/*.pdf": "", "/": "", "s3://other/st/": "'statements'"}


@pytest.fixture(params=["MinIO", "SeaweedFS"])
def server(request: pytest.FixtureRequest) -> Iterator[MemoryS3]:
    with running(MemoryS3(request.param == "SeaweedFS", name=request.param)) as server:
        server.fill(OBJECTS)
        yield server


@pytest.fixture
def settings(server: MemoryS3, tmp_path: Path) -> Settings:
    return server.bucket.settings(tmp_path / "data")


def of(*prefixes: str, **how: Any) -> SyncOptions:
    return SyncOptions(selection=Selection(prefixes=prefixes, **how))


async def restored(settings: Settings, prefix: str) -> RunReport:
    await cleanup(settings, CleanupOptions(timedelta(0)), progress=Silence(), stop=Stop())
    return await restore(settings, RestoreOptions(prefix=prefix), progress=Silence(), stop=Stop())


async def verified(settings: Settings, prefix: str) -> RunReport:
    return await verify(settings, VerifyOptions(prefix), progress=Silence(), stop=Stop())


async def held(settings: Settings, prefix: str) -> RunReport:
    return await hold.hold(settings, HoldOptions(prefix=prefix, reason="an audit"))


def said(lines: list[Any], event: str) -> list[str]:
    return [line["message"] for line in lines if line["event"] == event and line["log_level"] == "warning"]


@pytest.mark.parametrize("written", WRITTEN)
async def test_every_spelling_lists_what_is_meant(settings: Settings, written: str) -> None:
    for job in (sync, backfill):
        report = await job(settings, of(written))
        assert (report.exit_code, report.counts.listed) == (0, 2), report.error
    assert [remote.key async for remote in ls(settings, written, None)] == ["st/1", "st/2"]
    assert (await verified(settings, written)).notes["checked"] == 2
    assert (await restored(settings, written)).counts.restored == 2
    assert (await held(settings, written)).notes["held"] == 2
    assert [found.key for found in await hold.holds(settings)] == ["st/"]
    assert (await hold.release(settings, HoldOptions(prefix=written))).exit_code == 0


async def test_a_server_that_takes_slashes_away_is_no_obstacle(weed: Bucket, tmp_path: Path) -> None:
    await weed.put(OBJECTS)
    settings = weed.settings(tmp_path / "data")
    for written in (each.replace("statements", weed.name) for each in WRITTEN):
        assert [remote.key async for remote in ls(settings, written, None)] == ["st/1", "st/2"], written
        report = await sync(settings, of(written))
        assert (report.exit_code, report.counts.listed) == (0, 2), (written, report.error)
    for written in ("/sts/", "sts/*", "/"):
        report = await sync(settings, of(written))
        assert (report.exit_code, report.error and report.error.code) == (2, "settings"), written


async def test_what_it_says_wins_where_anything_begins_with_it(server: MemoryS3, settings: Settings) -> None:
    server.fill({"/st/9": b"9", "statements/st/8": b"8", "st/*7": b"7"})
    for written in ("/st/", "statements/st/", "st/*"):
        assert (await sync(settings, of(written))).counts.listed == 1
        assert len([remote.key async for remote in ls(settings, written, None)]) == 1
        assert (await held(settings, written)).notes["held"] == 1
    assert [found.key for found in await hold.holds(settings)] == ["/st/", "st/*", "statements/st/"]
    server.objects.clear()  # what is on record counts as well
    assert (await sync(settings, of("/st/"))).counts.gone == 1


@pytest.mark.parametrize("written", REFUSED)
async def test_what_cannot_be_meant_is_refused_with_the_right_one(settings: Settings, written: str) -> None:
    await sync(settings)
    jobs: list[Callable[[], Awaitable[RunReport]]] = [
        lambda: sync(settings, of(written)),
        lambda: backfill(settings, of("st/", written)),
        lambda: verified(settings, written),
        lambda: restored(settings, written),
        lambda: held(settings, written),
    ]
    for job in jobs:
        report = await job()
        assert report.error is not None
        assert (report.exit_code, report.error.code) == (2, "settings")
        assert repr(written) in report.error.message
        assert REFUSED[written] in report.error.message
    assert await hold.holds(settings) == []


@pytest.mark.parametrize("written", ["sts/", "s3://statements/sts/", "statements/sts/", "S", "tt/3/"])
async def test_what_matches_nothing_is_said_once(settings: Settings, written: str) -> None:
    await sync(settings)
    jobs: list[Callable[[], Awaitable[RunReport]]] = [
        lambda: sync(settings, of(written)),
        lambda: backfill(settings, of("st/", written)),
        lambda: sync(settings, SyncOptions(selection=Selection(prefixes=(written,)), dry_run=True)),
        lambda: verified(settings, written),
        lambda: restored(settings, written),
    ]
    for job in jobs:
        with lines_said() as lines:
            report = await job()
        assert report.exit_code == 0, report.error
        (message,) = said(lines, "nothing_matches")
        assert "matches nothing" in message
    with lines_said() as lines:
        assert [remote async for remote in ls(settings, written, None)] == []
    assert len(said(lines, "nothing_matches")) == 1
    with lines_said() as lines:
        report = await held(settings, written)
    assert (report.exit_code, report.notes["placed"], report.notes["held"]) == (0, 1, 0)
    assert any("the hold is placed" in line.get("message", "") for line in lines)


async def test_what_was_on_record_is_no_typing_error(server: MemoryS3, settings: Settings) -> None:
    await sync(settings)
    del server.objects["tt/3"]
    with lines_said() as lines:
        assert (await sync(settings, of("tt/"))).counts.gone == 1
        assert (await sync(settings, of("tt/"))).counts.gone == 0
    assert said(lines, "nothing_matches") == []
    assert len(said(lines, "nothing_listed")) == 1


async def test_an_empty_bucket_is_said(server: MemoryS3, settings: Settings) -> None:
    server.objects.clear()
    with lines_said() as lines:
        assert (await sync(settings)).exit_code == 0
    (message,) = said(lines, "nothing_matches")
    assert "the bucket 'statements' is empty" in message


LATER = datetime.now(UTC) + timedelta(days=400)


@pytest.mark.parametrize(
    ("how", "blamed"),
    [
        ({"include": ("*.pdff",)}, "look at --include"),
        ({"exclude": ("*",)}, "look at --exclude"),
        ({"until": LATER - timedelta(days=9_000)}, "look at the window"),
        ({"filter": ("*",)}, "look at --filter"),
        ({"filter": ("/st/", "t*/", "!uu")}, "look at --filter"),
        ({"include": ("x",), "until": LATER}, "look at --include, the window"),
        ({"since": LATER}, "which is to come"),
    ],
)
async def test_a_selection_that_wants_nothing_is_said(settings: Settings, how: dict[str, Any], blamed: str) -> None:
    for _ in range(2):  # read, and believed unread
        with lines_said() as lines:
            report = await sync(settings, of(**how))
        assert (report.exit_code, report.counts.skipped) == (0, 3)
        (message,) = said(lines, "nothing_wanted")
        assert blamed in message
    await sync(settings)
    for options in (of(**how), of("st/", **how), replace(of(**how), dry_run=True)) if "since" not in how else ():
        with lines_said() as lines:
            report = await sync(settings, options)
        assert report.counts.unchanged == report.counts.listed > 0
        # Copies are there. Of a window that is a night without news; keys that match nothing are mistyped still.
        assert len(said(lines, "nothing_wanted")) == (blamed != "look at the window")


async def test_what_is_there_and_wanted_is_a_night_without_news(settings: Settings) -> None:
    await sync(settings)
    for how in ({"include": ("tt/*",)}, {"exclude": ("st/*",)}, {"filter": ("*", "!tt/**")}):
        with lines_said() as lines:
            report = await sync(settings, of(**how))
        assert (report.exit_code, report.counts.unchanged) == (0, 3)
        assert said(lines, "nothing_wanted") == []


@pytest.fixture
def variables(server: MemoryS3, tmp_path: Path) -> dict[str, str]:
    return server.bucket.variables(tmp_path / "data")


async def test_quiet_commands_say_it_too(variables: dict[str, str], tmp_path: Path) -> None:
    done = await run_ingest("sync", "-q", "--prefix", "sts/", variables=variables, cwd=tmp_path)
    assert (done.code, done.stdout) == (0, "")
    assert "the prefix 'sts/' matches nothing" in done.stderr
    done = await run_ingest("sync", "-q", "--prefix", "/sts/", variables=variables, cwd=tmp_path)
    assert (done.code, done.stdout) == (2, "")
    assert "error: nothing begins with the prefix '/sts/'; say 'sts/'" in done.stderr
    done = await run_ingest("hold", "add", "--prefix", "st/", "--reason", "audit", variables=variables, cwd=tmp_path)
    assert (done.code, done.stdout.partition(" in ")[0]) == (0, "hold add ok: 1 placed")
    assert "the hold is placed, and holds what comes" in done.stderr
