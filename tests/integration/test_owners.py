"""Whose a temporary file is: that of a run that lives, in whatever container, or of one that is gone."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack, closing, suppress
from pathlib import Path

import pytest

from ingest.model import Verified
from ingest.plan.checks import Hashed
from ingest.store.files import FileStore, Staged
from ingest.store.resume_notes import Identity
from ingest.store.temporaries import Owner
from ingest.testing.memory_s3 import MemoryS3, serving
from tests.fixtures.process import run_ingest, started, until

BODY = b"statement"


def stage(store: FileStore) -> Staged:
    return store.stage("k", [BODY], Hashed(f"md5:{hashlib.md5(BODY).hexdigest()}", Verified.VERIFIED))


def temporaries(data_dir: Path) -> list[str]:
    return sorted(path.name for path in (data_dir / ".ingest" / "tmp").iterdir())


def die(store: FileStore) -> None:
    """As a killed process leaves it: the kernel closes, and nobody removes."""
    descriptor = store.owner._descriptor
    assert descriptor is not None
    os.close(descriptor)
    store.owner._descriptor = None


def test_what_a_living_run_stages_is_let_be_and_what_a_dead_one_staged_is_removed(tmp_path: Path) -> None:
    """The lock alone tells: both stores have the id of this process, which lives."""
    one, other = FileStore(tmp_path, "statements"), FileStore(tmp_path, "statements")
    staged = [stage(one), stage(one)]
    private = one.partials.open(Identity("statements", "k", "e", 3, None, 100), 1, resumable=False)
    files = {each.temporary for each in staged} | {private.temporary}
    assert other.sweep(all_done=True) == one.sweep() == 0
    assert files < set(temporaries(tmp_path))
    die(one)
    assert other.sweep() == 3
    assert temporaries(tmp_path) == []


def test_the_owners_file_goes_with_its_run_and_is_made_for_the_first_file_only(tmp_path: Path) -> None:
    store = FileStore(tmp_path, "statements")
    assert temporaries(tmp_path) == []  # a disk without room for one more name must not stop a cleanup
    store.discard(stage(store))
    stage(store)
    assert len(temporaries(tmp_path)) == 2
    store.close()
    other = FileStore(tmp_path, "statements")
    assert other.sweep() == 1
    assert temporaries(tmp_path) == []
    other.close()


def test_a_sweep_between_the_making_of_the_owners_file_and_its_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes the file for one of the dead; the run makes another, and what it stages under that one stays."""
    one, other = FileStore(tmp_path, "statements"), FileStore(tmp_path, "statements")
    passed: list[str] = []

    def sweep_first(label: str) -> None:
        if not passed:
            passed.append(label)
            other.sweep()

    monkeypatch.setattr("ingest.store.temporaries.failpoint", sweep_first)
    staged = stage(one)
    assert passed == ["staging.announced"]
    assert other.sweep() == 0
    assert staged.temporary in temporaries(tmp_path)


def test_two_sweeps_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second comes while the first removes: neither fails, and nothing is left."""
    one, other, third = (FileStore(tmp_path, "statements") for _ in range(3))
    stage(one)
    stage(one)
    die(one)
    real, meanwhile = os.unlink, list[int]()

    def unlink(name: str, *, dir_fd: int) -> None:
        if not meanwhile:
            meanwhile.append(-1)
            meanwhile[0] = third.sweep()
        real(name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "unlink", unlink)
    assert other.sweep() == 2
    assert meanwhile == [0]
    assert temporaries(tmp_path) == []


def test_files_of_older_versions_carry_a_process_id(tmp_path: Path) -> None:
    """It may be another process's by now: one that started after the file was last written."""
    store = FileStore(tmp_path, "statements")
    own = tmp_path / ".ingest" / "tmp"
    living, recurring = (own / f"{os.getpid()}-{end}.part" for end in ("0123456789ab-1", "0123456789abcdef"))
    for path in (living, recurring):
        path.touch()
    yesterday = time.time() - 86_400
    os.utime(recurring, (yesterday, yesterday))
    assert store.sweep() == 1
    assert temporaries(tmp_path) == [living.name]


def test_what_only_looks_like_ours_is_let_be(tmp_path: Path) -> None:
    store = FileStore(tmp_path, "statements")
    own = tmp_path / ".ingest" / "tmp"
    token = f"run-{'0' * 24}"
    os.mkfifo(own / f"{token}.owner")
    (own / f"{token}-1.part").touch()
    (own / f"run-{'1' * 24}.owner").symlink_to(tmp_path / "elsewhere")
    (own / f"run-{'2' * 24}-1.txt").touch()
    (own / "run-notes.part").touch()
    before = temporaries(tmp_path)
    assert store.sweep(all_done=True) == 0
    assert temporaries(tmp_path) == before
    assert not (tmp_path / "elsewhere").exists()


def test_a_run_that_was_never_asked_for_a_name_has_nothing_to_end(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    owner = Owner(descriptor)
    owner.close()
    owner.close()
    os.close(descriptor)


@pytest.fixture
def contained() -> Sequence[str]:
    """A command under which processes are counted anew, and see no other: as in a container."""
    command = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
    if (
        shutil.which("unshare") is None
        or subprocess.run([*command, "true"], check=False, capture_output=True).returncode
    ):
        pytest.skip("namespaces of process ids cannot be made here")
    return command


def as_process(number: int) -> Sequence[str]:
    """Behind `contained`: the command becomes the process with this id, or one near it."""
    return ("sh", "-c", f'for i in $(seq {number - 3}); do /bin/true; done; "$@"; exit $?', "sh")


def is_stopped_in(home: Path) -> bool:
    """Whether a process that works there has been stopped: from outside, where its id is another one."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has just ended
            if (process / "cwd").readlink() == home:
                state = (process / "stat").read_text().rpartition(")")[2].split()[0]
                if state == "T":
                    return True
    return False


def is_being_written(catalog: Path) -> bool:
    with closing(sqlite3.connect(catalog, timeout=0, isolation_level=None)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
        except sqlite3.OperationalError:
            return True
    return False


async def test_containers_that_share_a_data_directory(tmp_path: Path, contained: Sequence[str]) -> None:
    """Process ids say nothing there: one that lives is not seen, and that of a killed run comes again. Neither removes
    what the other is at, nor keeps for ever what a killed one left."""
    async with serving(MemoryS3()) as server:
        server.fill({f"k/{number}": bytes([number]) * 5_000 for number in range(20)})
        data = tmp_path / "data"
        variables = server.bucket.variables(data)
        here, elsewhere = (*contained, *as_process(20)), (*contained, *as_process(3))
        backfill = ("backfill", "--since", "2000-01-01")
        held = variables | {"INGEST_STOP_AT": "staging.written:20"}  # the listing has ended, and written what it learnt
        async with AsyncExitStack() as stack:
            while True:
                one = await stack.enter_async_context(started(*backfill, variables=held, cwd=tmp_path, under=here))
                await until(lambda: is_stopped_in(tmp_path))
                if not is_being_written(data / ".ingest" / "catalog.db"):
                    break
                one.kill()  # stopped in the middle of a transaction, it would keep everybody out
                await one.wait()
            before = temporaries(data)
            assert len(before) >= 3
            done = await run_ingest("sync", "--prefix", "none", variables=variables, cwd=tmp_path, under=elsewhere)
            assert done.code == 0, done.stderr
            assert set(before) <= set(temporaries(data))
            said = await run_ingest("runs", variables=variables, cwd=tmp_path)
            assert said.stdout.count("running") == 1
            one.send_signal(signal.SIGKILL)
            await one.wait()
        done = await run_ingest(*backfill, variables=variables, cwd=tmp_path, under=here)
        assert done.code == 0, done.stderr
        assert temporaries(data) == []
        said = await run_ingest("runs", variables=variables, cwd=tmp_path, under=contained)
        assert "running" not in said.stdout
