"""The catalog against the disk, with every kind of damage, on both databases."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest

from ingest.catalog import audit, runs
from ingest.catalog.catalog import Catalog
from ingest.catalog.history import story
from ingest.catalog.schema import schema
from ingest.catalog.sql.driver import Driver
from ingest.engine.options import CleanupOptions, RestoreOptions, SyncOptions, VerifyOptions
from ingest.errors import DamageFound
from ingest.jobs.cleanup import cleanup
from ingest.jobs.restore import restore
from ingest.jobs.sync import sync
from ingest.jobs.verify import verify
from ingest.model import RunReport, RunStatus
from ingest.observe.progress import Silence
from ingest.settings import Settings
from ingest.store.locks import file_lock
from ingest.tasks.stop import Stop
from tests.fixtures.catalogs import source_of
from tests.fixtures.servers import Bucket


async def run_verify(settings: Settings, **options: object) -> RunReport:
    return await verify(settings, VerifyOptions(**options), progress=Silence(), stop=Stop())  # type: ignore[arg-type]


async def synced(bucket: Bucket, objects: dict[str, bytes], data_dir: Path, **overrides: object) -> Settings:
    await bucket.put(objects)
    settings = bucket.settings(data_dir, **overrides)
    report = await sync(settings, SyncOptions(), progress=Silence(), stop=Stop())
    assert (report.status, report.counts.downloaded) == (RunStatus.OK, len(objects)), report.error
    return settings


async def told(settings: Settings, key: str) -> tuple[dict[str, object], list[str]]:
    async with Catalog.open(settings.database_url.get_secret_value()) as catalog:
        source = await source_of(catalog, settings.endpoint, settings.bucket)
        row, events = await story(catalog, source.id, key)
        assert await audit.broken_links(catalog.driver) == []
    assert row is not None
    return row, [event["what"] for event in events]


async def test_missing_and_damaged_copies_are_found_and_repaired(
    weed: Bucket, database_url: str, tmp_path: Path
) -> None:
    await schema.upgrade(database_url)
    objects = {f"k/{n:03}": bytes([n]) * 100 for n in range(60)} | {"large": os.urandom(5 << 20), "empty": b""}
    settings = await synced(weed, objects, tmp_path / "data", database_url=database_url)
    copies = settings.data_dir / settings.bucket
    assert (await run_verify(settings)).exit_code == 0

    (copies / "k/001").unlink()
    (copies / "k/002").write_bytes(b"\x02" * 99 + b"\x03")  # right length, wrong byte
    (copies / "k/003").write_bytes(b"short")
    (copies / "large").unlink()
    (copies / "large").mkdir()
    found = await run_verify(settings)
    assert isinstance(found.error, DamageFound)
    assert (found.exit_code, found.counts.damaged, found.counts.repaired) == (7, 2, 0)
    assert {name: found.notes[name] for name in ("checked", "missing", "orphaned")} == {
        "checked": 62, "missing": 2, "orphaned": 0
    }  # fmt: skip
    row, events = await told(settings, "k/002")
    assert (row["state"], events) == ("present", ["downloaded", "damaged"])
    assert str(row["last_error"]).startswith("damaged: ")

    repaired = await run_verify(settings, repair=True)
    assert (repaired.exit_code, repaired.counts.damaged, repaired.counts.repaired) == (0, 2, 4), repaired.error
    assert repaired.notes["missing"] == 2
    row, events = await told(settings, "k/002")
    assert (row["last_error"], events) == (None, ["downloaded", "damaged", "damaged", "repaired"])
    row, _ = await told(settings, "large")
    assert (settings.data_dir / str(row["local_path"])).read_bytes() == objects["large"]
    assert (copies / "k/001").read_bytes() == objects["k/001"]
    assert (await run_verify(settings)).exit_code == 0


@pytest.mark.parametrize("command", ["repair", "restore"])
async def test_what_was_gone_and_is_taken_again_is_back(
    weed: Bucket, database_url: str, tmp_path: Path, command: str
) -> None:
    """The version is in the bucket again before any listing has seen it: its bytes are the proof."""
    await schema.upgrade(database_url)
    how = {"progress": Silence(), "stop": Stop()}
    objects = {"back": b"the same as before", "stays": b"s"}
    settings = await synced(weed, objects, tmp_path / "data", database_url=database_url)
    if command == "restore":
        assert (await cleanup(settings, CleanupOptions(timedelta(0)), **how)).counts.pruned == 2  # type: ignore[arg-type]
    await weed.delete("back")
    assert (await sync(settings, SyncOptions(), **how)).counts.gone == 1  # type: ignore[arg-type]
    await weed.put({"back": objects["back"]})
    if command == "restore":
        assert (await restore(settings, RestoreOptions(("back",)), **how)).counts.restored == 1  # type: ignore[arg-type]
    else:
        (settings.data_dir / settings.bucket / "back").unlink()
        assert (await run_verify(settings, repair=True)).counts.repaired == 1
    row, events = await told(settings, "back")
    before, after = ("pruned", "restored") if command == "restore" else ("damaged", "repaired")
    assert row["gone_at"] is None
    assert sorted(events[:-2]) == sorted(["downloaded", "gone", before])
    assert events[-2:] == ["returned", after]
    assert (await sync(settings, SyncOptions(), **how)).counts.unchanged == 2  # type: ignore[arg-type]
    assert (await told(settings, "back"))[1] == events


async def test_what_changed_or_is_gone_at_source_stays_damaged(weed: Bucket, tmp_path: Path) -> None:
    settings = await synced(weed, {"changed": b"old", "gone": b"x", "fine": b"y"}, tmp_path / "data")
    copies = settings.data_dir / settings.bucket
    for key in ("changed", "gone", "fine"):
        (copies / key).write_bytes(b"-")
    await weed.put({"changed": b"another version"})
    await weed.delete("gone")
    report = await run_verify(settings, repair=True)
    assert (report.exit_code, report.counts.damaged, report.counts.repaired) == (7, 3, 1), report.error
    assert report.error is not None
    assert "backup" in report.error.hint
    assert (copies / "changed").read_bytes() == b"-"  # the recorded version, or nothing
    assert (await told(settings, "gone"))[0]["gone_at"] is not None
    # The damage is still there for the next one to find.
    assert (await run_verify(settings)).exit_code == 7


async def test_without_repair_the_bucket_is_not_asked(weed: Bucket, tmp_path: Path) -> None:
    settings = await synced(weed, {"k": b"x"}, tmp_path / "data")
    elsewhere = settings.model_copy(update={"secret_key": None, "access_key": None, "ca_bundle": tmp_path / "none"})
    assert (await run_verify(elsewhere)).exit_code == 0


async def test_a_prefix_is_literal_and_bounds_both_sides(weed: Bucket, tmp_path: Path) -> None:
    settings = await synced(weed, {"a_b/1": b"1", "aXb/1": b"2", "a_b%": b"3"}, tmp_path / "data")
    copies = settings.data_dir / settings.bucket
    for path in ("a_b/1", "aXb/1", "a_b%25"):
        (copies / path).unlink()
    (copies / "a_b").mkdir(exist_ok=True)
    (copies / "aXb").mkdir(exist_ok=True)
    for path in ("a_b/stray", "aXb/stray"):
        (copies / path).write_bytes(b"?")
    for prefix, missing, orphaned in (("a_b", 2, 1), ("a_b/", 1, 1), ("a_b%", 1, 0), ("%", 0, 0), ("", 3, 2)):
        report = await run_verify(settings, prefix=prefix)
        assert (report.notes["missing"], report.counts.damaged, report.notes["orphaned"]) == (missing, 0, orphaned)


async def test_orphans_are_named_and_left_alone(
    moto: Bucket, database_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await schema.upgrade(database_url)
    escaped = ["a//b", "/lead", "..", "tab\t", "per%cent", "x" * 300, "d/" + "ü" * 200]
    settings = await synced(moto, {key: b"body" for key in escaped}, tmp_path / "data", database_url=database_url)
    copies = settings.data_dir / settings.bucket
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"untouched")
    (copies / "link").symlink_to(outside)
    strays = [
        "stray", "deep/er/stray", ".1-ab.part", "%zz", "x%00y", "%FF", "x" * 200 + "%~" + "0" * 32,
        "\udcff not utf-8", "%2561",
    ]  # fmt: skip
    for name in strays:
        path = Path(os.fsdecode(os.fsencode(copies / name)))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    (settings.own_dir / "tmp" / "1-ab.part").write_bytes(b"a temporary file of ours")
    os.mkfifo(copies / "pipe")  # opening it for reading would wait for ever
    report = await run_verify(settings, repair=True)
    assert (report.notes["orphaned"], report.notes["symlinks"]) == (len(strays) + 1, 1), report.error
    assert (report.exit_code, report.counts.damaged) == (0, 0)
    assert all(os.path.lexists(os.fsencode(copies / name)) for name in strays)
    assert (outside / "secret").read_bytes() == b"untouched"
    assert "stray" in caplog.text
    assert "secret" not in caplog.text


async def test_planted_symlinks_are_damage_that_nobody_follows(weed: Bucket, tmp_path: Path) -> None:
    settings = await synced(weed, {"d/k": b"x", "f": b"y"}, tmp_path / "data")
    copies = settings.data_dir / settings.bucket
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "k").write_bytes(b"x")  # even the right bytes are not the copy
    (outside / "f").write_bytes(b"another's")
    (copies / "d/k").unlink()
    (copies / "d").rmdir()
    (copies / "d").symlink_to(outside)
    (copies / "f").unlink()
    (copies / "f").symlink_to(outside / "f")
    report = await run_verify(settings, repair=True)
    assert (report.exit_code, report.counts.damaged, report.counts.repaired) == (7, 2, 0)
    assert report.notes["symlinks"] == 2
    assert (copies / "f").is_symlink()
    assert (outside / "f").read_bytes() == b"another's"


async def test_verify_excludes_cleanup_and_restore(weed: Bucket, tmp_path: Path) -> None:
    settings = await synced(weed, {"k": b"x"}, tmp_path / "data")
    with file_lock(settings.own_dir / "locks" / f"{settings.bucket}-retention.lock", "another"):
        assert (await run_verify(settings)).exit_code == 11


async def test_a_pruned_copy_is_no_damage_and_is_not_brought_back(weed: Bucket, tmp_path: Path) -> None:
    from datetime import timedelta

    from ingest.engine.options import CleanupOptions
    from ingest.jobs.cleanup import cleanup

    settings = await synced(weed, {"k": b"x"}, tmp_path / "data")
    await cleanup(settings, CleanupOptions(timedelta(0)), progress=Silence(), stop=Stop())
    report = await run_verify(settings, repair=True)
    assert (report.exit_code, report.notes["checked"], report.counts.repaired) == (0, 0, 0)
    (settings.data_dir / settings.bucket / "k").write_bytes(b"left behind")
    assert (await run_verify(settings)).notes["orphaned"] == 1


async def test_a_copy_that_another_run_is_replacing_is_not_damaged(
    weed: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = await synced(weed, {"k": b"old"}, tmp_path / "data")
    (settings.data_dir / settings.bucket / "k").write_bytes(b"newer")  # renamed into place, its row to follow
    await weed.put({"k": b"newer"})
    looked = runs.others_at_work

    async def commits_meanwhile(driver: Driver, source_id: int, run_id: int) -> bool:
        await sync(settings, SyncOptions(), progress=Silence(), stop=Stop())
        return await looked(driver, source_id, run_id)

    monkeypatch.setattr(runs, "others_at_work", commits_meanwhile)
    report = await run_verify(settings)
    assert (report.exit_code, report.counts.damaged) == (0, 0), report.error
