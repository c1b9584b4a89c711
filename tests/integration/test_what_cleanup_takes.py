"""Which copies cleanup takes when it may take some only, and what becomes of copies that the bucket no longer has."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from ingest.catalog.catalog import Catalog
from ingest.catalog.schema.tables import events, objects
from ingest.engine.options import CleanupOptions, HoldOptions
from ingest.jobs import cleanup, hold, show
from ingest.model import RunReport
from ingest.observe.progress import Silence
from ingest.plan.retention import has_expired
from ingest.settings import Settings
from ingest.tasks.stop import Stop
from tests.faults.rig import OBJECTS, Rig, rigged
from tests.fixtures.catalogs import reading, writing

BY_AGE = ["zz/last.pdf", "index.txt", "2026/02/b.pdf", "letter.pdf", "2026/01/a.pdf"]
DAY, NOW = timedelta(days=1), datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
async def rig(tmp_path: Path, each_url: str, swift: None) -> AsyncIterator[Rig]:
    async with rigged(tmp_path, each_url) as made:
        await made.run(0)
        yield made


async def prune(settings: Settings, **options: Any) -> RunReport:
    wanted = CleanupOptions(**({"older_than": timedelta(0)} | options))
    report = await cleanup.cleanup(settings, wanted, progress=Silence(), stop=Stop())
    assert report.error is None
    return report


async def pruned(rig: Rig) -> list[str]:
    """In the order in which they went."""
    async with Catalog.open(rig.settings.database_url.get_secret_value()) as catalog:
        return [
            row[0] for row in await catalog.driver.fetch("SELECT key FROM events WHERE what = 'pruned' ORDER BY id")
        ]


async def age(rig: Rig, keys: list[str]) -> None:
    """The first is the oldest, and all are older than what was downloaded just now."""
    async with Catalog.open(rig.settings.database_url.get_secret_value()) as catalog, writing(catalog) as connection:
        for number, key in enumerate(keys):
            at = datetime.now(UTC) - timedelta(days=100 - number)
            await connection.execute(update(objects).where(objects.c.key == key).values(downloaded_at=at))


async def test_of_a_limited_number_the_oldest_go(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """All that stays is counted, and something is said where the limit has kept one that could have gone."""
    monkeypatch.setattr(cleanup, "_BATCH", 2)
    monkeypatch.setattr(cleanup, "_READ_AT_ONCE", 3)
    await age(rig, BY_AGE)
    await hold.hold(rig.settings, HoldOptions((BY_AGE[1],), reason="audit"))
    for most, went, kept in ((0, 0, 8), (2, 2, 6), (1, 1, 5)):
        caplog.clear()
        report = await prune(rig.settings, max_delete=most)
        assert (report.counts.pruned, report.counts.kept) == (went, kept)
        assert "max_delete_reached" in caplog.text
    assert await pruned(rig) == [BY_AGE[0], BY_AGE[2], BY_AGE[3]]
    caplog.clear()
    report = await prune(rig.settings, max_delete=1, older_than=50 * DAY)
    assert (report.counts.pruned, report.counts.kept) == (1, 1)  # exactly as many as could go: the other one is held
    assert "max_delete_reached" not in caplog.text
    report = await prune(rig.settings, max_delete=100, dry_run=True)
    assert (report.counts.pruned, report.counts.kept) == (3, 1)


async def test_the_only_copies_stay_until_somebody_says_for_how_long(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    for key in ("letter.pdf", "index.txt"):
        del rig.server.objects[key]
    await rig.run(0)
    status = await show.status(rig.settings)
    assert status["only_copies"] == {"objects": 2, "bytes": len(OBJECTS["letter.pdf"]) + len(OBJECTS["index.txt"])}
    report = await prune(rig.settings)
    assert (report.counts.kept, report.notes["only_copies"]) == (2, 2)
    assert "530 B" in caplog.text
    assert "--gone-after" in caplog.text
    caplog.clear()
    await prune(rig.settings, dry_run=True)
    await prune(rig.settings)
    assert "only_copies_kept" not in caplog.text  # they are no more than they were
    rig.server.put("new.pdf", b"new")
    await rig.run(0)
    del rig.server.objects["new.pdf"]
    await rig.run(0)
    await prune(rig.settings)
    assert "1 more than before" in caplog.text
    caplog.clear()
    assert (await prune(rig.settings, gone_after=30 * DAY)).counts.kept == 3
    assert "only_copies_kept" not in caplog.text  # somebody knows
    by_setting = rig.settings.model_copy(update={"gone_after": timedelta(0)})
    assert (await prune(by_setting)).counts.pruned == 3
    assert (await show.status(rig.settings))["only_copies"] == {"objects": 0, "bytes": 0}
    async with Catalog.open(rig.settings.database_url.get_secret_value()) as catalog, reading(catalog) as connection:
        query = events.select().where(events.c.what == "pruned", events.c.key == "letter.pdf")
        assert "gone_at" in (await connection.execute(query)).one().detail


@pytest.mark.parametrize(
    ("gone_at", "gone_after", "expired"),
    [
        (None, 30 * DAY, False),
        (NOW - 100 * DAY, None, False),
        (NOW - 30 * DAY, 30 * DAY, True),
        (NOW - 30 * DAY + timedelta(microseconds=1), 30 * DAY, False),
        (NOW, timedelta(0), True),
        (NOW + DAY, timedelta(0), False),  # a clock that was ahead
    ],
)
def test_for_how_long_the_only_copy_is_wanted(
    gone_at: datetime | None, gone_after: timedelta | None, expired: bool
) -> None:
    assert has_expired(gone_at, NOW, gone_after) is expired
