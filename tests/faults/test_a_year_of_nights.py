"""Night after night on a clock that is told the time: what grows, what is trimmed, and what never is.

The suite lives through some nights, with everything kept for a part of them. `INGEST_TEST_NIGHTS=400` lives through as
many, with what is kept unless it is said, and prints its figures.
"""

from __future__ import annotations

import datetime as clocks
import os
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ingest.catalog import audit
from ingest.catalog.catalog import Catalog
from ingest.catalog.sql.driver import Dialect, Statement, Steps
from ingest.engine.options import CleanupOptions, SyncOptions
from ingest.jobs import show
from ingest.jobs.cleanup import cleanup
from ingest.jobs.sync import sync
from ingest.model import RunReport
from ingest.observe.progress import Silence
from ingest.settings import Settings
from ingest.source.clock import utc_now
from ingest.tasks.stop import Stop
from tests.faults.rig import Rig, rigged

ASKED = int(os.environ.get("INGEST_TEST_NIGHTS", "0"))
NIGHTS = ASKED or 24
DAY, TARGET = timedelta(days=1), "http://127.0.0.1:9/v1/verify"
KEPT = (
    {"retention": 30 * DAY, "gone_after": 30 * DAY, "keep_runs": 100 * DAY}
    if ASKED
    else {"retention": 3 * DAY, "gone_after": 4 * DAY, "keep_runs": 8 * DAY}
)
A_NIGHT = 100 if ASKED else 6
"""Objects that come; half as many are deleted when they are twice as old as the retention."""
_DELIVERED = (
    "UPDATE deliveries SET state = 'delivered', delivered_at = ?, response_status = 200, response = ? "
    "WHERE state = 'pending'"
)


class _Told(type(clocks.datetime)):  # type: ignore[misc] # as whose instances the real ones pass
    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, clocks.datetime)


@pytest.fixture
def shift(monkeypatch: pytest.MonkeyPatch) -> Callable[[timedelta], None]:
    """Sets by how much every clock of ours, and the server's, is ahead."""
    ahead = [timedelta(0)]

    class Told(clocks.datetime, metaclass=_Told):
        @classmethod
        def now(cls, tz: clocks.tzinfo | None = None) -> clocks.datetime:  # type: ignore[override] # the real ones
            return clocks.datetime.now(tz) + ahead[0]

    for name, module in sorted(sys.modules.items()):
        if name.startswith(("ingest.", "tests.fixtures.")) and getattr(module, "datetime", None) is clocks.datetime:
            monkeypatch.setattr(module, "datetime", Told)

    def set_ahead(by: timedelta) -> None:
        ahead[0] = by

    return set_ahead


@pytest.mark.timeout(7_200 if ASKED else 180)
async def test_what_grows_with_the_nights(
    tmp_path: Path, each_url: str, swift: None, shift: Callable[[timedelta], None]
) -> None:
    async with rigged(tmp_path, each_url, page=1_000) as rig:
        settings = rig.settings.model_copy(update={"verify_url": TARGET, **KEPT})
        sizes = []
        for night in range(NIGHTS):
            shift(night * DAY)
            change_bucket(rig, night)
            options = SyncOptions(deliver_to=TARGET)
            require_done(await sync(settings, options, progress=Silence(), stop=Stop()))
            await deliver_all(settings)
            require_done(await cleanup(settings, CleanupOptions(), progress=Silence(), stop=Stop()))
            sizes.append(await figures(settings))
        kept = KEPT["keep_runs"] // DAY
        last, before = sizes[-1], sizes[-1 - kept // 2]
        assert last["runs"] == before["runs"] == 2 * kept
        assert last["shards"] == before["shards"]
        assert last["copies"] <= A_NIGHT * (KEPT["retention"] // DAY + 2) + len(rig.server.objects) // NIGHTS + 20
        assert last["answers"] <= (A_NIGHT + 1) * (kept + 2) + 10
        assert last["events"] > before["events"]  # the audit trail is never trimmed
        await require_well(settings)
        if ASKED:
            await print_sizes(settings, sizes)


def change_bucket(rig: Rig, night: int) -> None:
    """What a night brings: new objects, another version of one, and what a lifecycle rule takes away."""
    rig.server.fill({f"night/{night:04}/{number:04}": b"%d" % number for number in range(A_NIGHT)})
    rig.server.put("letter.pdf", b"the letter of night %d" % night)
    gone = night - 2 * (KEPT["retention"] // DAY)
    for number in range(A_NIGHT // 2 if gone >= 0 else 0):
        del rig.server.objects[f"night/{gone:04}/{number:04}"]


def require_done(report: RunReport) -> None:
    assert (report.error, report.counts.failed) == (None, 0)


async def deliver_all(settings: Settings) -> None:
    """As a dispatcher leaves it."""

    def work(dialect: Dialect) -> Steps[None]:
        yield Statement(_DELIVERED, (dialect.time(utc_now()), "x" * 1_000))

    async with Catalog.open(settings.database_url.get_secret_value()) as catalog:
        await catalog.driver.write(work)


async def figures(settings: Settings) -> dict[str, int]:
    what = {
        "runs": "runs",
        "shards": "shards",
        "events": "events",
        "objects": "objects",
        "copies": "objects WHERE state = 'present'",
        "deliveries": "deliveries",
        "answers": "deliveries WHERE response IS NOT NULL",
    }
    async with Catalog.open(settings.database_url.get_secret_value()) as catalog:
        found = {name: await catalog.driver.fetch(f"SELECT count(*) FROM {table}") for name, table in what.items()}
        size = (
            await catalog.driver.fetch("SELECT pg_database_size(current_database())")
            if settings.sqlite_path is None
            else [(settings.sqlite_path.stat().st_size,)]
        )
    return {name: int(rows[0][0]) for name, rows in found.items()} | {"bytes": int(size[0][0])}


async def require_well(settings: Settings) -> None:
    """The chain holds, and each copy that is on record is there."""
    async with Catalog.open(settings.database_url.get_secret_value()) as catalog:
        assert await audit.broken_links(catalog.driver) == []
        paths = await catalog.driver.fetch("SELECT local_path FROM objects WHERE state = 'present'")
    assert all((settings.data_dir / path).is_file() for (path,) in paths)
    status = await show.status(settings)
    assert [run["command"] for run in status["last_runs"]] == ["cleanup", "sync"]


async def print_sizes(settings: Settings, sizes: list[dict[str, int]]) -> None:
    for night in (*range(49, NIGHTS, 50), NIGHTS - 1):
        sys.stdout.write(f"night {night + 1}: {sizes[night]}\n")
    commands: dict[str, Callable[[], Awaitable[Any]]] = {
        "status": lambda: show.status(settings),
        "runs": lambda: show.runs(settings, 20),
        "sync": lambda: sync(settings, SyncOptions(), progress=Silence(), stop=Stop()),
        "cleanup": lambda: cleanup(settings, CleanupOptions(), progress=Silence(), stop=Stop()),
    }
    for name, command in commands.items():
        began = time.monotonic()
        await command()
        sys.stdout.write(f"{name}: {time.monotonic() - began:.3f} s\n")
