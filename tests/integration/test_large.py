"""Large objects: ranges of one version, resumed after a failure, and never believed without a hash of every byte."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from ingest.engine.record.recorder import Taken
from ingest.engine.transfer import fetch as fetch_module
from ingest.engine.transfer import part_digests
from ingest.engine.transfer.buffers import Buffers
from ingest.engine.transfer.doubts import Doubts
from ingest.engine.transfer.fetch import Fetch
from ingest.engine.transfer.large import LargeFetch
from ingest.engine.transfer.transfer import Transfer
from ingest.errors import ConnectionLost, DamagedTransfer, DiskFull, ObjectChanged
from ingest.hashing import lanes
from ingest.model import Download, Reason, Verified
from ingest.plan import pieces
from ingest.plan.concurrency import Concurrency, RetryBudget
from ingest.source.bucket import Bucket
from ingest.store import ranges
from ingest.store.files import FileStore, Staged
from ingest.store.temporaries import OWNER
from ingest.testing.raw_server import Visit
from tests.fixtures import servers
from tests.fixtures.objects import ServedObject, multipart_etag

BODY = Random("large").randbytes(1_000_003)
PIECE = 100_000
PIECES = 11


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch_module, "SMALL", 1_000)
    monkeypatch.setattr(pieces, "PIECE", PIECE)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FileStore]:
    found = FileStore(tmp_path / "data", "statements")
    yield found
    found.close()


def temporaries(store: FileStore) -> dict[str, Path]:
    return {path.suffix: path for path in (store.data_dir / ".ingest" / "tmp").iterdir() if path.suffix != OWNER}


async def fetched(served: ServedObject, store: FileStore) -> tuple[Staged, int]:
    async with served.bucket(store.data_dir) as bucket:
        return await LargeFetch(bucket, store, Buffers(64 << 20), Doubts(bucket.etags))(served.remote())


def published(store: FileStore, staged: Staged) -> bytes:
    """The copy in its place, after which nothing temporary may be left."""
    store.publish([staged], {})
    assert temporaries(store) == {}
    return (store.data_dir / "statements" / "large").read_bytes()


def breaking_after(pieces: int) -> ServedObject:
    """Answers so many GETs, and then breaks every connection."""

    async def breaks(visit: Visit, number: int) -> bool:
        if number > pieces:
            visit.reset()
        return number > pieces

    return ServedObject(BODY, before=breaks)


@pytest.mark.parametrize("side_by_side", [True, False])
@pytest.mark.parametrize("part_size", [None, 250_000, 100_000, 2_000_000, 30_001, 10_048])
async def test_the_whole_comes_together(
    store: FileStore, part_size: int | None, side_by_side: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of few parts or of many, hashed side by side or one by one."""
    monkeypatch.setattr(part_digests, "AVAILABLE", lanes.AVAILABLE and side_by_side)
    monkeypatch.setattr(ranges, "AVAILABLE", lanes.AVAILABLE and side_by_side)
    etag = multipart_etag(BODY, part_size) if part_size else ""
    served = ServedObject(BODY, etag, part_size=part_size)
    staged, received = await fetched(served, store)
    assert (staged.verified, received) == (Verified.VERIFIED, len(BODY))
    assert published(store, staged) == BODY
    assert max(last - first + 1 for first, last in served.ranges) == min(PIECE, part_size or PIECE)
    assert sorted(byte for span in served.ranges for byte in span)[:2] == [0, min(PIECE, part_size or PIECE) - 1]


@pytest.fixture(params=["weed", "moto"])
def bucket(request: pytest.FixtureRequest) -> servers.Bucket:
    found: servers.Bucket = request.getfixturevalue(request.param)
    return found


async def test_on_real_servers(bucket: servers.Bucket, tmp_path: Path) -> None:
    await bucket.put({"large": BODY})
    store = FileStore(tmp_path / "data", bucket.name)
    async with Bucket.open(bucket.settings(tmp_path).source, connections=8) as source:
        head = await source.head("large")
        remote = ServedObject(BODY, head.etag).remote()
        staged, _ = await LargeFetch(source, store, Buffers(1 << 20), Doubts(source.etags))(remote)
    assert staged.verified is Verified.VERIFIED
    store.publish([staged], {})
    assert (tmp_path / "data" / bucket.name / "large").read_bytes() == BODY
    store.close()


async def test_what_a_failure_leaves_is_gone_on_with(store: FileStore) -> None:
    with pytest.raises(ConnectionLost):
        await fetched(breaking_after(6), store)
    done = temporaries(store)[".note"].read_bytes().partition(b"\n")[2].count(b"#")
    assert done  # at least the first of the pieces that were answered
    served = ServedObject(BODY)
    staged, received = await fetched(served, store)
    assert served.gets == PIECES - done
    assert received == served.served < len(BODY)
    assert published(store, staged) == BODY


async def test_a_bad_line_is_given_up_only_when_nothing_comes_any_more(store: FileStore) -> None:
    """Seven attempts break here, each after a piece more; five in a row that bring nothing would be the end."""
    served = ServedObject(BODY)
    broken = 0

    async def break_sometimes(visit: Visit, number: int) -> bool:
        nonlocal broken
        if number % 6 == 0 and broken < 7:
            broken += 1
            visit.reset()
            return True
        return False

    served.before = break_sometimes
    async with served.bucket(store.data_dir) as bucket:
        fetch = Fetch(bucket, store)
        transfer = Transfer(fetch, Concurrency(), RetryBudget(), lambda *_: None)
        result = await transfer(Download(served.remote(), None, Reason.NEW))
    assert isinstance(result, Taken)
    assert isinstance(result.staged, Staged)
    assert published(store, result.staged) == BODY


async def test_another_version_starts_anew(store: FileStore) -> None:
    with pytest.raises(ConnectionLost):
        await fetched(breaking_after(6), store)
    newer = ServedObject(BODY[::-1])
    staged, received = await fetched(newer, store)
    assert received == len(BODY)
    assert published(store, staged) == BODY[::-1]


async def test_what_was_left_is_hashed_again_and_thrown_away_if_wrong(store: FileStore) -> None:
    with pytest.raises(ConnectionLost):
        await fetched(breaking_after(6), store)
    left = temporaries(store)[".part"]
    with left.open("r+b") as file:
        file.write(b"damage")
    with pytest.raises(DamagedTransfer):
        await fetched(ServedObject(BODY), store)
    assert temporaries(store) == {}
    staged, received = await fetched(ServedObject(BODY), store)
    assert received == len(BODY)
    assert published(store, staged) == BODY


async def test_what_no_hash_can_prove_is_never_gone_on_with(store: FileStore) -> None:
    unprovable = breaking_after(6)
    unprovable.headers = "x-amz-server-side-encryption: aws:kms\r\n"
    with pytest.raises(ConnectionLost):
        await fetched(unprovable, store)
    assert temporaries(store) == {}


async def test_versions_are_never_mixed(store: FileStore) -> None:
    """The object changes between two ranges: the answer is 412, and nothing of the old version stays."""
    served = ServedObject(BODY)

    async def change(visit: Visit, number: int) -> bool:
        if number > 5:
            await visit.answer(status="412 Precondition Failed")
        return number > 5

    served.before = change
    with pytest.raises(ObjectChanged):
        await fetched(served, store)
    assert temporaries(store) == {}


@pytest.mark.parametrize("from_request", [1, 5])
@pytest.mark.parametrize(
    "answer",
    [("200 OK", ""), ("206 Partial Content", "Content-Range: bytes 0-9/10\r\n")],
    ids=["range ignored", "other range"],
)
async def test_a_server_without_ranges_is_asked_for_the_whole(
    store: FileStore, answer: tuple[str, str], from_request: int
) -> None:
    served = ServedObject(BODY)
    status, headers = answer

    async def ignore(visit: Visit, number: int) -> bool:
        if number < from_request or b"range: " not in visit.head:
            return False
        await visit.answer(served.body, status=status, headers=f'ETag: "{served.etag}"\r\n{headers}')
        return True

    served.before = ignore
    staged, _ = await fetched(served, store)
    assert staged.verified is Verified.VERIFIED
    assert published(store, staged) == BODY


async def test_two_at_once_do_not_share_a_file(store: FileStore, tmp_path: Path) -> None:
    """A sync and a backfill may want the same object: one goes on with what was left, the other one by itself."""
    other = FileStore(tmp_path / "data", "statements")
    first, second = await asyncio.gather(fetched(ServedObject(BODY), store), fetched(ServedObject(BODY), other))
    assert first[0].temporary != second[0].temporary
    other.publish([second[0]], {})
    assert published(store, first[0]) == BODY
    other.close()


async def test_a_full_disk_is_named_and_gives_its_space_back(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int, chunks: object, offset: int) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.pwrite", full)
    with pytest.raises(DiskFull):
        await fetched(ServedObject(BODY), store)
    assert temporaries(store) == {}


async def test_a_cancelled_download_keeps_what_it_has(store: FileStore) -> None:
    stuck = asyncio.Event()
    served = ServedObject(BODY)

    async def hang(visit: Visit, number: int) -> bool:
        if number <= 6:
            return False
        stuck.set()
        await visit.until_closed()
        return True

    served.before = hang
    task = asyncio.create_task(fetched(served, store))
    await stuck.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    staged, received = await fetched(ServedObject(BODY), store)
    assert received < len(BODY)
    assert published(store, staged) == BODY
