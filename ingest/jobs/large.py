"""One large object: fetched in pieces at once, written at their offsets, hashed in order behind the writes.

The bytes are hashed as they are read back from the file (which at that moment is memory, too): so a piece that a
killed run had written is proven like any other, and nothing needs to come in order.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ingest.errors import DamagedTransfer, DiskError, NoSuchKey, ObjectChanged, RangeIgnored, SourceError
from ingest.model import Check, RemoteObject, Verified
from ingest.plan.checks import Hasher, etag_of_parts
from ingest.plan.pieces import Piece, cut, parts
from ingest.source.checksums import check_for_head
from ingest.store.files import Staged
from ingest.store.partials import Identity

if TYPE_CHECKING:
    from ingest.jobs.room import Room
    from ingest.source.bucket import Bucket
    from ingest.store.files import FileStore
    from ingest.store.partials import Partial

STREAMS = 4
"""Pieces of one object that are fetched at once."""
_STREAM_BYTES = 3 << 20
"""Memory of one stream: what the connection holds, and what is being written."""


@dataclass
class LargeFetch:
    """Fetches objects larger than memory should hold. What a failure leaves, the next attempt or run goes on with."""

    bucket: Bucket
    store: FileStore
    room: Room
    hashing: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="hash")
    )

    async def __call__(self, remote: RemoteObject) -> tuple[Staged, int]:
        """The staged copy, and the bytes that crossed the network.

        Raises:
            SourceError: the bucket's side failed; ObjectChanged, where it is another version now.
            DamagedTransfer: what came is not what the server says it holds. DiskError: the disk failed.
        """
        check = await self._check(remote)
        pieces = cut(remote.size, check.part_size)
        identity = Identity(self.store.bucket, remote.key, remote.etag, remote.size, check.part_size)
        proves = check.algorithm is not None and not check.guesses
        partial = await asyncio.to_thread(self.store.partials.open, identity, len(pieces), resumable=proves)
        kept = len(partial.finished)
        assembly = _Assembly(self, partial, pieces, check)
        try:
            try:
                await assembly.by_ranges()
            except RangeIgnored:
                await assembly.whole()
            digest, verdict = assembly.conclude()
        except (DamagedTransfer, ObjectChanged, NoSuchKey, DiskError):
            self.store.partials.release(partial.temporary, remove=True)
            raise
        except BaseException as error:
            if isinstance(error, SourceError):
                error.progressed = len(partial.finished) > kept
            self.store.partials.leave(partial)
            raise
        return Staged(remote.key, partial.temporary, remote.size, digest, verdict), assembly.received

    async def _check(self, remote: RemoteObject) -> Check:
        head = await self.bucket.head(remote.key)
        if (head.etag, head.size) != (remote.etag, remote.size):
            raise ObjectChanged(f"{remote.key!r}: it is {head.etag} now, and was listed as {remote.etag}")
        return await self.bucket.sharpen(check_for_head(head), remote.key, remote.etag)


@dataclass
class _Assembly:
    """Where the pieces of one object come together."""

    owner: LargeFetch
    partial: Partial
    pieces: Sequence[Piece]
    check: Check
    received: int = 0

    def __post_init__(self) -> None:
        self._start_hashing()
        for number in self.partial.finished:
            self._written[number].set()

    def _start_hashing(self) -> None:
        by_parts = self.check.part_size is not None
        self._written = [asyncio.Event() for _ in self.pieces]
        self._hasher = Hasher(Check(None) if by_parts else self.check)
        self._parts = [(numbers, _md5()) for numbers in parts(self.pieces, self.check.part_size or 0)]

    async def by_ranges(self) -> None:
        """Fetches what is missing, and hashes everything."""
        missing = iter([number for number in range(len(self.pieces)) if number not in self.partial.finished])
        await _together(*(self._stream(missing) for _ in range(STREAMS)), self._hash())

    async def whole(self) -> None:
        """From the start, by one request, for servers that do not send pieces."""
        self.partial.finished.clear()
        self._start_hashing()
        await _together(self._stream_whole(), self._hash())

    def conclude(self) -> tuple[str, Verified]:
        """The digest for the catalog, and how far it proves the bytes. Raises `DamagedTransfer`."""
        verdict = self._hasher.verdict()
        if self._parts:
            found = etag_of_parts([digest.digest() for _, digest in self._parts])
            verdict = Verified.VERIFIED if found == self.check.expected else None
        if verdict is None:
            key = self.partial.identity.key
            raise DamagedTransfer(f"{key!r}: received bytes that do not match what the server says of them")
        return self._hasher.digest(), verdict

    async def _stream(self, missing: Iterator[int]) -> None:
        for number in missing:
            piece = self.pieces[number]
            async with self.owner.room.taken(_STREAM_BYTES):
                sink = _Sink(self, piece)
                identity = self.partial.identity
                await self.owner.bucket.get_range(
                    identity.key, etag=identity.etag, first=piece.start, last=piece.end - 1, on_chunks=sink.take
                )
                sink.require_full()
            await _in_thread(None, self.partial.finish_piece, number, piece.start, piece.end)
            self._written[number].set()

    async def _stream_whole(self) -> None:
        identity = self.partial.identity
        sink = _Sink(self, Piece(0, identity.size))
        async with self.owner.room.taken(_STREAM_BYTES):
            await self.owner.bucket.stream(identity.key, etag=identity.etag, on_chunks=sink.take)
        sink.require_full()
        for written in self._written:
            written.set()

    async def _hash(self) -> None:
        everything = self._feed(range(len(self.pieces)), self._hasher.update)
        await _together(everything, *(self._feed(numbers, digest.update) for numbers, digest in self._parts))

    async def _feed(self, numbers: Sequence[int], update: Callable[[memoryview], None]) -> None:
        for number in numbers:
            await self._written[number].wait()
            start, end = self.pieces[number]
            await _in_thread(self.owner.hashing, self.partial.read, start, end, update)


@dataclass
class _Sink:
    """Writes what comes for one piece, and nothing beside it."""

    assembly: _Assembly
    piece: Piece

    def __post_init__(self) -> None:
        self._position = self.piece.start

    async def take(self, chunks: list[bytes]) -> None:
        start, size = self._position, sum(map(len, chunks))
        self._position += size
        self.assembly.received += size
        if self._position > self.piece.end:
            raise RangeIgnored(f"{self.assembly.partial.identity.key!r}: more came than was asked for")
        await _in_thread(None, self.assembly.partial.write, start, chunks)

    def require_full(self) -> None:
        if self._position != self.piece.end:
            raise RangeIgnored(f"{self.assembly.partial.identity.key!r}: less came than was asked for")


def _md5() -> hashlib._Hash:
    return hashlib.md5(usedforsecurity=False)


async def _in_thread(executor: ThreadPoolExecutor | None, call: Callable[..., None], *arguments: object) -> None:
    """A thread cannot be cancelled: its end is waited for, so that nobody writes to a file that was given up."""
    work = asyncio.get_running_loop().run_in_executor(executor, call, *arguments)
    try:
        await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait({work})
        raise


async def _together(*work: Coroutine[Any, Any, None]) -> None:
    """Runs all of it; the first error ends the rest, and is raised when the rest has ended."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
