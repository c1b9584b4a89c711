"""Bodies that are staged together: each is checked by itself, and ends as its own file or its own error."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ingest.engine.transfer.staging import Stager
from ingest.errors import DamagedTransfer
from ingest.model import Verified
from ingest.plan.checks import Algorithm, Check
from ingest.store.files import FileStore, Staged


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FileStore]:
    found = FileStore(tmp_path, "statements")
    yield found
    found.close()


def body(number: int) -> bytes:
    return b"%d " % number * 9_000


def check_of(number: int) -> Check:
    """Most have an MD5; some another digest, some none, and every tenth one a wrong one."""
    whole = body(number)
    match number % 10:
        case 0:
            return Check(Algorithm.MD5, hashlib.md5(b"something else").hexdigest())
        case 1:
            return Check(Algorithm.SHA256, hashlib.sha256(whole).hexdigest())
        case 2:
            return Check(None)
    return Check(Algorithm.MD5, hashlib.md5(whole).hexdigest())


async def test_one_wrong_body_among_many_fails_alone(store: FileStore) -> None:
    stager, numbers = Stager(store), range(80)
    staging = (stager.stage(str(number), memoryview(bytearray(body(number))), check_of(number)) for number in numbers)
    results = await asyncio.gather(*staging, return_exceptions=True)
    written = store.data_dir / ".ingest" / "tmp"
    for number, result in zip(numbers, results, strict=True):
        whole = body(number)
        if number % 10 == 0:
            assert isinstance(result, DamagedTransfer), number
            continue
        assert isinstance(result, Staged), result
        own = "md5" if number % 10 > 2 else "sha256"
        assert result.digest == f"{own}:{hashlib.new(own, whole).hexdigest()}"
        assert result.verified is (Verified.UNVERIFIABLE if number % 10 == 2 else Verified.VERIFIED)
        assert (written / result.temporary).read_bytes() == whole
    assert len(list(written.glob("*.part"))) == 72


async def test_the_memory_of_a_body_is_free_when_its_staging_was_cancelled(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread that is at it is waited for: nobody else's bytes may end in the file that is checked already. And the
    file is removed, since nobody knows of it."""
    stager, discarded = Stager(store), list[str]()
    monkeypatch.setattr(store, "discard", lambda staged: discarded.append(staged.temporary))
    bodies = [bytearray(b"first" * 400_000) for _ in range(40)]
    digest = hashlib.md5(bodies[0]).hexdigest()
    tasks = [
        asyncio.ensure_future(stager.stage(str(number), memoryview(each), Check(Algorithm.MD5, digest)))
        for number, each in enumerate(bodies)
    ]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for each in bodies:
        each[:] = b"other" * 400_000
    written = list((store.data_dir / ".ingest" / "tmp").glob("*.part"))
    assert {hashlib.md5(path.read_bytes()).hexdigest() for path in written} <= {digest}
    assert sorted(path.name for path in written) == sorted(discarded)


@pytest.mark.parametrize("is_cancelled", [False, True])
async def test_no_memory_to_hash_by_is_what_everybody_is_told(
    store: FileStore, monkeypatch: pytest.MonkeyPatch, is_cancelled: bool
) -> None:
    """Who waits for a thread that has failed would wait for ever, and so would who cancels it."""
    stager, began, go_on = Stager(store), threading.Event(), threading.Event()

    def fails(_: object) -> list[bytes]:
        began.set()
        assert go_on.wait(30)
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr("ingest.engine.transfer.staging.md5_of_each", fails)
        staging = [
            asyncio.ensure_future(stager.stage(str(number), memoryview(bytearray(body(number))), check_of(number)))
            for number in range(5)
        ]
        assert await asyncio.to_thread(began.wait, 30)
        for task in staging if is_cancelled else ():
            task.cancel()
        go_on.set()
        results = await asyncio.wait_for(asyncio.gather(*staging, return_exceptions=True), 30)
    assert {type(result) for result in results} == {asyncio.CancelledError if is_cancelled else MemoryError}
    assert (await stager.stage("5", memoryview(bytearray(body(5))), check_of(5))).size == len(body(5))


async def test_no_thread_to_hash_by_is_what_everybody_is_told(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    stager = Stager(store)
    with monkeypatch.context() as patched:

        def start(_: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        patched.setattr(threading.Thread, "start", start)
        staging = (stager.stage(str(number), memoryview(bytearray(body(3))), check_of(3)) for number in range(5))
        results = await asyncio.wait_for(asyncio.gather(*staging, return_exceptions=True), 30)
    assert {str(result) for result in results} == {"can't start new thread"}
    assert (await stager.stage("5", memoryview(bytearray(body(5))), check_of(5))).size == len(body(5))
