"""A run is killed while it replaces copies, and the bucket then goes back to the versions before: the next run, whichever
command it is, finds files and rows that belong together."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest

from ingest.engine.options import CleanupOptions, RestoreOptions, SyncOptions, VerifyOptions
from ingest.errors import UnsafePath
from ingest.jobs.cleanup import cleanup
from ingest.jobs.restore import restore
from ingest.jobs.sync import backfill, sync
from ingest.jobs.verify import verify
from ingest.model import RunReport
from ingest.observe.progress import Silence
from ingest.tasks.stop import Stop
from ingest.testing.memory_s3 import MemoryS3, Stored, running
from tests.faults.commands import Commands
from tests.faults.databases import Template, copy_of
from tests.faults.invariants import Seen, by_key, copies_of, look

FIRST = {"a": b"a first", "a/b": b"a/b first", "same": b"same", "x" * 300: b"long first"}
REPLACING = ("batch.replaced-intended", "batch.replaced-linked", "batch.replaced-kept", "batch.renamed",
             "batch.renamed:2", "batch.all-renamed", "batch.directories-durable", "batch.published",
             "batch.rows-written", "batch.cursors-written")  # fmt: skip
"""Where the rows of the new versions are not committed yet."""
COMMITTED = ("batch.committed", "batch.replaced-dropped", "batch.replaced-ended")
UNDOING = ("undo.begun", "undo.put-back", "undo.put-back:2", "undo.done")
TAKING_AWAY = ("undo.begun", "undo.taken-away", "undo.taken-away:2", "undo.done")
"""Where the run that undoes is itself killed."""


class Rig(Commands):
    def crash(self, label: str) -> None:
        assert self.run("sync", INGEST_CRASH_AT=label) == -signal.SIGKILL

    async def work(self, command: str) -> RunReport:
        settings = self.settings
        how = {"progress": Silence(), "stop": Stop()}
        if command == "cleanup":
            return await cleanup(settings, CleanupOptions(timedelta(days=1)), **how)  # type: ignore[arg-type]
        if command == "restore":
            return await restore(settings, RestoreOptions(prefix=""), **how)  # type: ignore[arg-type]
        if command == "verify":
            return await verify(settings, VerifyOptions(), **how)  # type: ignore[arg-type]
        return await (backfill if command == "backfill" else sync)(settings, SyncOptions(), **how)  # type: ignore[arg-type]

    async def look(self) -> Seen:
        return await look(self.settings)

    @property
    def kept(self) -> list[str]:
        place = self.data_dir / ".ingest" / "replaced" / "statements"
        return sorted(path.name for path in place.iterdir()) if place.exists() else []


@pytest.fixture
def server() -> Iterator[MemoryS3]:
    with running(MemoryS3()) as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
async def rig(
    request: pytest.FixtureRequest, server: MemoryS3, empty_databases: dict[str, Template], tmp_path: Path
) -> Rig:
    return await rig_at(tmp_path, server, empty_databases[request.param])


async def rig_at(home: Path, server: MemoryS3, template: Template) -> Rig:
    """Everything is present in its first version."""
    for key, body in FIRST.items():
        server.put(key, body)
    made = Rig(server, home / "data", await copy_of(template, home / "catalog.db"))
    assert (await made.work("sync")).exit_code == 0
    return made


def change(server: MemoryS3) -> dict[str, Stored]:
    """New versions of all but one; returns what was there, as a version's removal brings it back."""
    before = dict(server.objects)
    for key in FIRST:
        if key != "same":
            server.put(key, f"{key} second, and longer".encode())
    return before


@pytest.mark.parametrize("label", REPLACING)
async def test_what_the_bucket_took_back_is_taken_back_here(rig: Rig, label: str) -> None:
    """I1 and I4: as if the killed run had never been, also for the page memory, which believes what it saw before."""
    undisturbed = await rig.look()
    before = change(rig.server)
    rig.crash(label)
    rig.server.objects = before
    report = await rig.work("sync")
    assert (report.exit_code, report.counts.unchanged) == (0, len(FIRST)), report.error
    end = await rig.look()
    end.assert_settled()
    end.assert_same(undisturbed, places=False)
    assert end.trail == undisturbed.trail
    assert rig.kept == []


@pytest.mark.parametrize("label", [*REPLACING[::4], *COMMITTED])
async def test_where_the_new_versions_stay_they_are_taken(rig: Rig, label: str) -> None:
    change(rig.server)
    rig.crash(label)
    assert (await rig.work("sync")).exit_code == 0
    end = await rig.look()
    end.assert_settled()
    assert sorted(end.files.values()) == sorted(copies_of(rig.server.objects).values())
    assert rig.kept == []


@pytest.mark.parametrize("label", COMMITTED)
async def test_what_is_recorded_is_not_undone(rig: Rig, label: str) -> None:
    """The rows tell of the new versions: the old bytes that were kept for the case of a kill go, and nothing else."""
    change(rig.server)
    rig.crash(label)
    assert (await rig.work("verify")).exit_code == 0
    end = await rig.look()
    end.assert_settled()
    assert sorted(end.files.values()) == sorted(copies_of(rig.server.objects).values())
    assert rig.kept == []


BROUGHT_BACK = {"restore": ("restore", "--prefix", ""), "sync": ("sync",)}
"""What puts a file where a pruned row says that its copy was: the same version, or a newer one."""


@pytest.mark.parametrize("killed", BROUGHT_BACK)
@pytest.mark.parametrize("label", [*REPLACING, COMMITTED[0], COMMITTED[-1]])
async def test_what_came_in_the_place_of_a_pruned_copy_goes_unless_it_is_recorded(
    rig: Rig, killed: str, label: str
) -> None:
    """Nobody else would see it: a cleanup looks at rows that are present, and the bucket may have lost the object."""
    assert rig.run("cleanup", "--older-than", "0d") == 0
    before = change(rig.server) if killed == "sync" else {}
    assert rig.run(*BROUGHT_BACK[killed], INGEST_CRASH_AT=label) == -signal.SIGKILL
    rig.server.objects = before
    report = await rig.work("verify")
    assert (report.exit_code, report.counts.damaged) == (0, 0)
    assert not report.notes.get("orphaned")
    end = await rig.look()
    assert set(end.files) == {row["local_path"] for row in end.copies.values()}
    assert {row["state"] for key, row in end.rows.items() if killed == "restore" or key != "same"} == {
        "present" if label in COMMITTED else "pruned"
    }
    assert rig.kept == []


@pytest.mark.parametrize("label", TAKING_AWAY)
async def test_killed_while_it_is_taken_away_it_goes_all_the_same(rig: Rig, label: str) -> None:
    assert rig.run("cleanup", "--older-than", "0d") == 0
    assert rig.run("restore", "--prefix", "", INGEST_CRASH_AT="batch.published") == -signal.SIGKILL
    rig.crash(label)
    assert (await rig.work("verify")).exit_code == 0
    end = await rig.look()
    assert set(end.files) == {row["local_path"] for row in end.copies.values()}
    assert {row["state"] for row in end.rows.values()} == {"pruned"}
    assert rig.kept == []


async def test_what_is_no_file_is_not_taken_away(rig: Rig) -> None:
    assert rig.run("cleanup", "--older-than", "0d") == 0
    assert rig.run("restore", "--prefix", "", INGEST_CRASH_AT="batch.published") == -signal.SIGKILL
    place = rig.data_dir / "statements" / "a"
    place.unlink()
    place.symlink_to("same")
    assert (await rig.work("verify")).exit_code == 0
    assert place.is_symlink()
    assert (await rig.look()).files == {}


@pytest.mark.parametrize("command", ["verify", "restore", "cleanup", "backfill"])
async def test_every_command_undoes_first(rig: Rig, command: str) -> None:
    undisturbed = await rig.look()
    before = change(rig.server)
    rig.crash("batch.all-renamed")
    rig.server.objects = before
    report = await rig.work(command)
    assert (report.exit_code, report.counts.damaged, report.counts.failed) == (0, 0, 0), report.error
    assert by_key((await rig.look()).files) == by_key(undisturbed.files)
    (await rig.look()).assert_settled()


@pytest.mark.parametrize("label", UNDOING)
async def test_killed_while_undoing_it_is_undone_all_the_same(rig: Rig, label: str) -> None:
    undisturbed = await rig.look()
    before = change(rig.server)
    rig.crash("batch.all-renamed")
    rig.server.objects = before
    rig.crash(label)
    assert (await rig.work("sync")).exit_code == 0
    end = await rig.look()
    end.assert_settled()
    end.assert_same(undisturbed, places=False)
    assert end.trail == undisturbed.trail
    assert rig.kept == []


async def test_kept_bytes_never_go_through_a_symlink(rig: Rig, tmp_path: Path) -> None:
    """I6: one in the place of our directory ends the run, and nothing is replaced."""
    undisturbed = await rig.look()
    (tmp_path / "elsewhere" / "statements").mkdir(parents=True)
    link = rig.data_dir / ".ingest" / "replaced"
    link.symlink_to(tmp_path / "elsewhere")
    change(rig.server)
    report = await rig.work("sync")
    assert isinstance(report.error, UnsafePath)
    assert (report.exit_code, (await rig.look()).files) == (5, undisturbed.files)
    assert list((tmp_path / "elsewhere" / "statements").iterdir()) == []
    link.unlink()
    assert (await rig.work("sync")).counts.changed == len(FIRST) - 1
    assert sorted((await rig.look()).files.values()) == sorted(copies_of(rig.server.objects).values())


async def test_what_was_no_copy_of_ours_is_not_put_back(rig: Rig) -> None:
    """A named pipe and a symlink stood in the places of copies: neither is read, and neither comes again."""
    copies = rig.data_dir / "statements"
    (copies / "a").unlink()
    os.mkfifo(copies / "a")
    (copies / "same").rename(copies / "moved")
    (copies / "same").symlink_to("moved")
    rig.server.put("same", b"changed as well")
    change(rig.server)
    rig.crash("batch.all-renamed")
    found = await rig.work("verify")
    assert found.counts.damaged + int(str(found.notes["missing"])) == 2
    assert (await rig.work("sync")).exit_code == 0
    assert all(path.is_file() and not path.is_symlink() for path in copies.iterdir())


async def test_a_copy_that_takes_no_second_name_is_replaced_all_the_same(
    server: MemoryS3, empty_databases: dict[str, Template]
) -> None:
    """As on a file system without hard links: nothing is kept of it, and of the others what there is."""
    with tempfile.TemporaryDirectory(
        dir="/var/tmp"
    ) as home:  # on a disk: in memory, a file may have any number of names
        if not 1_000 < os.pathconf(home, "PC_LINK_MAX") < 100_000:
            pytest.skip("on the file system of /var/tmp a file may have any number of names")
        rig = await rig_at(Path(home), server, empty_databases["sqlite"])
        names = Path(home) / "names"
        names.mkdir()
        with suppress(OSError):  # EMLINK
            for number in range(100_000):
                os.link(rig.data_dir / "statements" / "a", names / str(number))
        await _nothing_is_kept_of_one(rig)


async def _nothing_is_kept_of_one(rig: Rig) -> None:
    before = change(rig.server)
    rig.crash("batch.replaced-kept")
    assert len(rig.kept) == len(FIRST) - 1  # the intent, and those of the two others
    rig.server.objects = before
    assert (await rig.work("sync")).exit_code == 0
    change(rig.server)
    assert (await rig.work("sync")).counts.changed == len(FIRST) - 1
    (await rig.look()).assert_settled()


async def test_a_torn_intent_says_that_nothing_was_replaced(rig: Rig) -> None:
    """It is durable before the first rename, so one that cannot be read has seen none."""
    undisturbed = await rig.look()
    before = change(rig.server)
    rig.crash("batch.replaced-kept")
    rig.server.objects = before
    intent = rig.data_dir / ".ingest" / "replaced" / "statements" / "intent"
    intent.write_bytes(intent.read_bytes()[:-7])
    assert (await rig.work("sync")).exit_code == 0
    end = await rig.look()
    end.assert_same(undisturbed, places=False)
    assert end.trail == undisturbed.trail
    assert rig.kept == []
