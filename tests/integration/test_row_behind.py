"""A good new file beside the row of an older version: taken for what it is, and for no damage."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from ingest.engine.options import VerifyOptions
from ingest.jobs.verify import verify
from ingest.model import RunReport
from ingest.observe.progress import Silence
from ingest.tasks.stop import Stop
from tests.faults.rig import Rig, rigged, run_sync
from tests.faults.turning import Turning
from tests.fixtures.databases import migrate

OLD = {f"2026/{number}.pdf": b"old %d" % number for number in range(6)}
NEW = {key: b"newer " + body for key, body in OLD.items() if key != "2026/5.pdf"}


@pytest_asyncio.fixture
async def behind(tmp_path: Path, database_url: str, swift: None) -> AsyncIterator[tuple[Rig, Turning]]:
    """The catalog is that of the night before, and nobody has noted it."""
    await migrate(database_url)
    async with rigged(tmp_path, database_url, OLD) as rig:
        await rig.run(0)
        turning = Turning(database_url, tmp_path)
        turning.keep()
        rig.server.fill(NEW)
        await rig.run(0)
        turning.turn()
        (rig.settings.own_dir / "last-run").unlink()
        yield rig, turning


async def verified(rig: Rig, *, repair: bool = True) -> RunReport:
    return await verify(rig.settings, VerifyOptions(repair=repair), progress=Silence(), stop=Stop())


async def test_a_repair_records_what_the_bucket_holds(
    behind: tuple[Rig, Turning], caplog: pytest.LogCaptureFixture
) -> None:
    rig, turning = behind
    asked = rig.server.count("get")
    report = await verified(rig)
    assert (report.exit_code, report.counts.damaged, report.counts.adopted) == (0, 0, len(NEW)), report.error
    assert caplog.text.count("row_behind") == len(NEW)
    assert "copy_damaged" not in caplog.text
    report = await run_sync(rig.settings)
    assert (report.exit_code, report.counts.unchanged, report.counts.downloaded) == (0, len(OLD), 0), report.error
    assert rig.server.count("get") == asked
    await rig.check_all(report)
    changed = "SELECT count(*) FROM events WHERE what = 'changed' AND detail LIKE '%previous_etag%'"
    assert await turning.ask(changed) == len(NEW)


async def test_what_is_neither_is_damage_and_no_backup_is_put_over_it(behind: tuple[Rig, Turning]) -> None:
    """Taken by the next sync, whatever its page vouches for."""
    rig, _ = behind
    spoilt = rig.settings.data_dir / "statements" / "2026" / "0.pdf"
    spoilt.write_bytes(b"neither")
    report = await verified(rig)
    assert (report.exit_code, report.counts.damaged, report.counts.adopted) == (7, 1, len(NEW) - 1), report.error
    assert report.error is not None
    assert "ingest sync" in report.error.hint
    assert "keep the file" in report.error.hint
    assert (await run_sync(rig.settings)).exit_code == 0
    assert spoilt.read_bytes() == NEW["2026/0.pdf"]
    assert (await verified(rig, repair=False)).exit_code == 0


async def test_it_is_handed_over_where_others_are(behind: tuple[Rig, Turning]) -> None:
    rig, turning = behind
    url = "http://127.0.0.1:9/v1/verify"
    rig.settings = rig.settings.replace(verify_url=url)
    rig.server.fill({"2026/6.pdf": b"handed over"})
    await rig.run(0, deliver_to=url)
    in_line = "SELECT count(*) FROM deliveries WHERE state = 'pending'"
    before = await turning.ask(in_line)
    turning.keep()
    rig.server.fill({"2026/5.pdf": b"newer as well"})
    await rig.run(0)
    turning.turn()
    (rig.settings.own_dir / "last-run").unlink()
    assert (await verified(rig)).exit_code == 0
    assert await turning.ask(in_line) == before + 1
