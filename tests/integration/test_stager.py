"""Bodies that are staged together: each is checked by itself, and ends as its own file or its own error."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from ingest.errors import DamagedTransfer
from ingest.jobs.stager import Stager
from ingest.model import Check, Verified
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
            return Check("md5", hashlib.md5(b"something else").hexdigest())
        case 1:
            return Check("sha256", hashlib.sha256(whole).hexdigest())
        case 2:
            return Check(None)
    return Check("md5", hashlib.md5(whole).hexdigest())


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


async def test_the_memory_of_a_body_is_free_when_its_staging_was_cancelled(store: FileStore) -> None:
    """A thread that is at it is waited for: nobody else's bytes may end in the file that is checked already."""
    stager = Stager(store)
    bodies = [bytearray(b"first" * 400_000) for _ in range(40)]
    digest = hashlib.md5(bodies[0]).hexdigest()
    tasks = [
        asyncio.ensure_future(stager.stage(str(number), memoryview(each), Check("md5", digest)))
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
