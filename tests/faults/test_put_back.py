"""An old backup of the catalog is put back: what is newer is adopted, and what was pruned since is no damage."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from ingest.engine.options import CleanupOptions, VerifyOptions
from ingest.jobs.cleanup import cleanup
from ingest.jobs.verify import verify
from ingest.observe.progress import Silence
from ingest.tasks.stop import Stop
from tests.faults.databases import copy_of, template_on
from tests.faults.rig import OBJECTS, TARGET, Rig, run_sync

NEW = {f"new/{number}": b"n%d" % number for number in range(5)}
PRUNED = CleanupOptions(timedelta(0), trust_catalog=True, max_delete=3)


@pytest.mark.parametrize("next_command", ["sync", "verify", "cleanup"])
async def test_an_old_backup_is_put_back(apart: Rig, tmp_path: Path, next_command: str) -> None:
    url = apart.settings.database_url.get_secret_value()
    backup = apart.settings.replace(database_url=await copy_of(template_on(url), tmp_path / "backup.db"))
    apart.server.fill(NEW | {TARGET: b"changed since"})
    await apart.run(0)
    pruned = await cleanup(apart.settings, PRUNED, progress=Silence(), stop=Stop())
    assert pruned.counts.pruned == 3

    fetched = apart.server.count("get")
    if next_command == "cleanup":
        report = await cleanup(
            backup, CleanupOptions(timedelta(0), trust_catalog=True), progress=Silence(), stop=Stop()
        )
        # The changed one stays a matter of the next sync: its row tells of another version.
        assert (report.exit_code, report.counts.failed) == (0, 0), report.error
    if next_command == "verify":
        found = await verify(backup, VerifyOptions(), progress=Silence(), stop=Stop())
        assert (found.counts.pruned, found.notes["missing"]) == (3, 0)
    report = await run_sync(backup)
    assert report.exit_code == 0, report.error
    if next_command != "cleanup":
        assert (report.counts.new, report.counts.changed, report.counts.bytes) == (len(NEW), 1, 0)
        assert apart.server.count("get") == fetched
    found = await verify(backup, VerifyOptions(), progress=Silence(), stop=Stop())
    assert (found.exit_code, found.counts.damaged, found.notes["missing"]) == (0, 0, 0), found.error
    assert (await run_sync(backup)).counts.downloaded == 0


async def test_it_is_behind_until_a_whole_sync_has_ended_however_many_runs_there_are(
    apart: Rig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The numbers of a backup's runs catch up after one night; its rows do not."""
    url = apart.settings.database_url.get_secret_value()
    backup = apart.settings.replace(database_url=await copy_of(template_on(url), tmp_path / "backup.db"))
    apart.server.fill(NEW | {TARGET: b"changed since"})
    await apart.run(0)

    fetched = apart.server.count("get")
    caplog.clear()
    for _ in range(3):
        await verify(backup, VerifyOptions(prefix="new/"), progress=Silence(), stop=Stop())
    assert caplog.text.count("catalog_behind") == 3
    # With flags that do not narrow it, it is a whole sync all the same.
    report = await run_sync(backup, arguments={"transfers": 2})
    assert (report.exit_code, report.counts.adopted) == (0, len(NEW) + 1), report.error
    assert apart.server.count("get") == fetched
    caplog.clear()
    assert (await run_sync(backup)).exit_code == 0
    assert "catalog_behind" not in caplog.text


async def test_a_copy_that_was_lost_is_damage_all_the_same(apart: Rig) -> None:
    pruned = await cleanup(apart.settings, PRUNED, progress=Silence(), stop=Stop())
    assert pruned.counts.pruned == 3
    left = sorted(path for path in (apart.settings.data_dir / "statements").rglob("*") if path.is_file())
    assert len(left) == len(OBJECTS) - 3
    left[0].unlink()
    found = await verify(apart.settings, VerifyOptions(), progress=Silence(), stop=Stop())
    assert (found.exit_code, found.notes["missing"], found.counts.pruned) == (7, 1, 0)
