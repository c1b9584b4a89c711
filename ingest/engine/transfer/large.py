"""One large object: fetched in pieces at once, each written at its offset while the whole is hashed in order.

A piece stays in memory until it is written and hashed, so a line that is faster than the hash waits for it. What a
killed run had written is read back, and proven like the rest.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Collection, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ingest.engine.transfer.doubts import Doubts
from ingest.engine.transfer.ordered_hash import OrderedHash, Update
from ingest.engine.transfer.part_digests import PartDigests
from ingest.engine.transfer.proof import Proof
from ingest.errors import (
    DamagedTransfer,
    DiskError,
    NoSuchKey,
    ObjectChanged,
    ObjectTooLarge,
    RangeIgnored,
    SourceError,
)
from ingest.model import RemoteObject, Verified
from ingest.plan.checks import Algorithm, Check, Hashed, Hasher
from ingest.plan.etags import MOST_LOOKS, is_same, seconds_until_settled
from ingest.plan.pieces import LARGEST_OBJECT, PIECE, Pieces, cut
from ingest.source.checksums import check_for_head
from ingest.store.files import Staged
from ingest.store.resume_notes import Identity
from ingest.tasks.threads import in_thread, together

if TYPE_CHECKING:
    from ingest.engine.transfer.buffers import Buffers
    from ingest.source.bucket import Bucket
    from ingest.source.object_head import ObjectHead
    from ingest.store.files import FileStore
    from ingest.store.partials import Partial

STREAMS = 6
"""Pieces of one object that are fetched at once."""
_THREADS = 1_024
"""One and a few for each object under way, as they are needed: one that waited for another's would hold its memory."""


@dataclass
class LargeFetch:
    """Fetches objects larger than memory should hold. What a failure leaves, the next attempt or run goes on with."""

    bucket: Bucket
    store: FileStore
    buffers: Buffers
    doubts: Doubts
    hashing: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(_THREADS, thread_name_prefix="hash"))

    def __post_init__(self) -> None:
        self._proof = Proof(self.doubts, self.hashing)

    async def __call__(self, remote: RemoteObject, earlier: Collection[str] = ()) -> tuple[Staged, int]:
        """The staged copy, and the bytes that crossed the network. `earlier` are the digests of earlier downloads of
        the same object that did not match its etag.

        Raises:
            SourceError: the bucket's side failed; ObjectChanged, where it is another version now.
            DamagedTransfer: what came is not what the server says it holds. DiskError: the disk failed.
            ObjectTooLarge: its size is none of an object.
        """
        if remote.size > LARGEST_OBJECT:
            raise ObjectTooLarge(f"{remote.key!r}: it is said to have {remote.size} bytes")
        head = await self._head(remote)
        check = await self.bucket.sharpen(check_for_head(head), remote.key, remote.etag)
        pieces = cut(remote.size, check.part_size)
        identity = Identity(self.store.directory, remote.key, remote.etag, remote.size, check.part_size, PIECE)
        proves = check.algorithm is not None and not check.guesses
        opening = functools.partial(self.store.partials.open, identity, len(pieces), resumable=proves)
        partial = await in_thread(None, opening, discard=self.store.partials.leave)
        kept = len(partial.finished)
        assembly = _Assembly(self, partial, pieces, check)
        try:
            try:
                await assembly.by_ranges()
            except RangeIgnored:
                await assembly.whole()
            found = await self._proof.conclude(assembly.found(), check, head, partial, earlier)
        except (DamagedTransfer, ObjectChanged, NoSuchKey, DiskError):
            self.store.partials.release(partial.temporary, remove=True)
            raise
        except BaseException as error:
            if isinstance(error, SourceError):
                error.progressed = len(partial.finished) > kept
            self.store.partials.leave(partial)
            raise
        verdict = found.verdict or Verified.UNVERIFIABLE
        return Staged(remote.key, partial.temporary, remote.size, found.digest, verdict), assembly.received

    async def _head(self, remote: RemoteObject) -> ObjectHead:
        for _ in range(MOST_LOOKS):
            head = await self.bucket.head(remote.key)
            if not is_same(head.version, remote.etag) or head.size != remote.size:
                raise ObjectChanged(f"{remote.key!r}: it is {head.version} now, and was listed as {remote.etag}")
            pause = seconds_until_settled(head.version, head.date)
            if not pause:
                break
            await asyncio.sleep(pause)
        return head


@dataclass
class _Assembly:
    """Where the pieces of one object come together."""

    owner: LargeFetch
    partial: Partial
    pieces: Pieces
    check: Check
    received: int = 0

    def __post_init__(self) -> None:
        self._start_hashing()

    def _start_hashing(self) -> None:
        self._held: dict[int, _Held] = {}
        self._arrival = asyncio.Event()
        self._on_disk = set(self.partial.finished)
        self._parts: PartDigests | None = None
        if self.check.part_size is not None:
            self._parts = PartDigests(self.partial, self.pieces, self.owner.hashing)
            for number in self._on_disk:
                self._parts.written(number)
        by_parts = self.check.algorithm is Algorithm.MD5_PARTS  # of guessed ones when all is there: `proof`
        self._hasher = Hasher(Check(None) if by_parts else self.check)
        self._chain = OrderedHash(self._hasher.update, self.owner.hashing)

    async def by_ranges(self) -> None:
        """Fetches what is missing, and hashes everything."""
        missing = (number for number in range(len(self.pieces)) if number not in self._on_disk)
        streams = (self._stream(missing) for _ in range(STREAMS))
        await together(*streams, self._feed(), self._chain.run(), *self._hash_parts())

    async def whole(self) -> None:
        """From the start, by one request, for servers that do not send pieces."""
        self.partial.finished.clear()
        self._start_hashing()
        await together(self._stream_whole(), *self._hash_parts())

    def found(self) -> Hashed:
        """What was hashed, and whether it is what `check` expects."""
        verdict = self._hasher.verdict()
        if self._parts is not None:
            verdict = Verified.VERIFIED if self._parts.etag() == self.check.expected else None
        return Hashed(self._hasher.digest(), verdict)

    async def _stream(self, missing: Iterator[int]) -> None:
        more = True
        while more:
            # Room first, then the number: so the piece that everybody's hash waits for is never without.
            async with self.owner.buffers.lent(PIECE) as buffer:
                number = next(missing, None)
                more = number is not None
                if number is not None:
                    await self._bring(number, buffer)

    async def _bring(self, number: int, buffer: memoryview) -> None:
        """Fetches one piece, and keeps it until it is both written and hashed."""
        (start, end), identity = self.pieces[number], self.partial.identity
        body = buffer[: end - start]
        await self.owner.bucket.get_range(identity.key, etag=identity.etag, first=start, into=body)
        self.received += end - start
        held = self._held[number] = _Held(body)
        self._arrival.set()
        await together(self._write(number, body), held.until_hashed())

    async def _write(self, number: int, body: memoryview) -> None:
        start, end = self.pieces[number]

        def write() -> None:
            self.partial.write(start, [body])
            self.partial.finish_piece(number, start, end)

        await in_thread(None, write)
        if self._parts is not None:
            self._parts.written(number)

    async def _stream_whole(self) -> None:
        identity = self.partial.identity
        sink = _Sink(self)
        async with self.owner.buffers.taken(PIECE):
            await self.owner.bucket.stream(identity.key, etag=identity.etag, on_chunks=sink.take)
        sink.require_full()
        if self._parts is not None:
            for number in range(len(self.pieces)):
                self._parts.written(number)

    async def _feed(self) -> None:
        """Tells the chain what is next: what came from memory, what an earlier run left from the disk."""
        chain = self._chain
        try:
            for number, (start, end) in enumerate(self.pieces):
                if number in self._on_disk:
                    chain.add(functools.partial(self.partial.read, start, end))
                    continue
                while number not in self._held:
                    self._arrival.clear()
                    await self._arrival.wait()
                held = self._held.pop(number)
                chain.add(held.read, held.hashed)
        except BaseException:
            chain.stop()
            raise
        chain.end()

    async def hash_next(self, chunks: Sequence[bytes]) -> None:
        """What follows in the whole."""

        def update() -> None:
            for chunk in chunks:
                self._hasher.update(chunk)

        await in_thread(self.owner.hashing, update)

    def _hash_parts(self) -> list[Coroutine[Any, Any, None]]:
        return [] if self._parts is None else [self._parts.run()]


@dataclass
class _Held:
    """A piece in memory."""

    body: memoryview
    hashed: asyncio.Event = field(default_factory=asyncio.Event)

    def read(self, update: Update) -> None:
        update(self.body)

    async def until_hashed(self) -> None:
        await self.hashed.wait()


@dataclass
class _Sink:
    """Writes and hashes the whole as it comes."""

    assembly: _Assembly
    _position: int = 0

    async def take(self, chunks: list[bytes]) -> None:
        start, size = self._position, sum(map(len, chunks))
        self._position += size
        self.assembly.received += size
        identity = self.assembly.partial.identity
        if self._position > identity.size:
            raise DamagedTransfer(f"{identity.key!r}: more came than its {identity.size} bytes")
        write = in_thread(None, self.assembly.partial.write, start, chunks)
        await together(write, self.assembly.hash_next(chunks))

    def require_full(self) -> None:
        identity = self.assembly.partial.identity
        if self._position != identity.size:
            raise DamagedTransfer(f"{identity.key!r}: {self._position} of {identity.size} bytes came")
