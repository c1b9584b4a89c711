"""Copies that are not where they should be, and targets that are where no copy should be written."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from ingest.engine.options import CleanupOptions, RestoreOptions, VerifyOptions
from ingest.errors import SettingsError
from ingest.jobs.cleanup import cleanup
from ingest.jobs.restore import restore
from ingest.jobs.verify import verify
from ingest.model import RunReport
from ingest.observe.progress import Silence
from ingest.tasks.stop import Stop
from tests.faults.rig import OBJECTS, TARGET, Rig


async def prune(rig: Rig) -> RunReport:
    options = CleanupOptions(timedelta(0), trust_catalog=True)
    return await cleanup(rig.settings, options, progress=Silence(), stop=Stop())


async def test_what_is_not_there_is_not_pruned(rig_on_each: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig = rig_on_each
    await rig.run(0)
    (rig.settings.data_dir / "statements" / TARGET).unlink()
    report = await prune(rig)
    assert (report.exit_code, report.counts.pruned, report.counts.failed) == (3, len(OBJECTS) - 1, 1)
    assert report.notes["missing"] == 1
    assert "copy_missing" in caplog.text
    row = (await rig.rows())[TARGET]
    assert (row["state"], row["pruned_at"]) == ("present", False)
    assert row["last_error"].startswith("missing: ")
    assert (await prune(rig)).exit_code == 3  # each night, until somebody looks
    found = await verify(rig.settings, VerifyOptions(), progress=Silence(), stop=Stop())
    assert (found.exit_code, found.counts.damaged, found.notes["missing"]) == (7, 0, 1)
    mended = await verify(rig.settings, VerifyOptions(repair=True), progress=Silence(), stop=Stop())
    assert (mended.exit_code, mended.counts.repaired) == (0, 1)
    assert (await prune(rig)).counts.pruned == 1


@pytest.mark.parametrize(
    "to",
    [
        "data",
        "data/statements",
        "data/statements/deep/below",
        "data/elsewhere/..",
        "data/.ingest",
        ".",
        "..",
        "link",
        "link/statements",
        "into/../data",
        "up",
    ],
)
async def test_nothing_is_restored_over_the_copies(rig: Rig, to: str, monkeypatch: pytest.MonkeyPatch) -> None:
    await rig.run(0)
    home = rig.home
    (home / "link").symlink_to(rig.settings.data_dir)
    (home / "into").symlink_to(rig.settings.data_dir / "statements")  # `into/..` is the data directory itself
    (home / "up").symlink_to(home)
    monkeypatch.chdir(home)
    for written in (to, str(home / to)):
        with pytest.raises(SettingsError, match="in one another"):
            await restore(rig.settings, RestoreOptions((TARGET,), to=written), progress=Silence(), stop=Stop())
    rig.check_files()


async def test_beside_the_copies_is_well(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    await rig.run(0)
    monkeypatch.setenv("HOME", str(rig.home))
    for written in (str(rig.home / "data2"), "~/elsewhere"):
        report = await restore(rig.settings, RestoreOptions((TARGET,), to=written), progress=Silence(), stop=Stop())
        assert report.exit_code == 0, report.error
        assert (Path(written).expanduser() / "statements" / TARGET).read_bytes() == OBJECTS[TARGET]
