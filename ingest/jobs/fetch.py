"""Brings one object from the bucket into the store's staging, checked: the only place where the two meet."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from ingest.errors import ObjectChanged
from ingest.jobs.large import LargeFetch
from ingest.jobs.room import Room
from ingest.jobs.stager import Stager
from ingest.model import Check, LocalCopy, RemoteObject
from ingest.plan.checks import check_for, hashed
from ingest.source.checksums import check_for_headers

if TYPE_CHECKING:
    from ingest.http.exchange import Headers
    from ingest.source.bucket import Bucket
    from ingest.store.files import FileStore, Staged

SMALL = 4 << 20
"""Bytes up to which an object is held in memory whole; larger ones are written as they come."""
TINY = 64 << 10
"""Bytes up to which an object needs no room, for so many are never under way; and up to which hashing and writing
(60 us) cost less than handing them to a thread."""
MEMORY = 48 << 20
"""Bytes of bodies that may be in memory at once."""


class Fetched(NamedTuple):
    """`received` bytes crossed the network; `seconds` passed before the first of them."""

    staged: Staged | LocalCopy
    received: int
    seconds: float | None


@dataclass
class Fetch:
    """`adopting` looks first for a file that a killed run left in place without its row."""

    bucket: Bucket
    store: FileStore
    adopting: bool = False
    room: Room = field(default_factory=lambda: Room(MEMORY))

    def __post_init__(self) -> None:
        self._large = LargeFetch(self.bucket, self.store, self.room)
        self._stager = Stager(self.store)

    async def __call__(self, remote: RemoteObject) -> Fetched:
        """
        Raises:
            SourceError: the bucket's side failed. DiskError: the disk did.
        """
        if self.adopting:
            check = check_for(remote.etag, remote.size)
            copy = await asyncio.to_thread(self.store.adopt, remote.key, remote.size, check)
            if copy is not None:
                return Fetched(copy, 0, None)
        if remote.size <= TINY:
            return await self._tiny(remote)
        if remote.size > SMALL:
            return Fetched(*await self._large(remote), None)
        async with self.room.lent(remote.size) as body:
            return await self._small(remote, body)

    async def newest(self, remote: RemoteObject) -> RemoteObject:
        """The object as it is now. Raises `NoSuchKey` when it is gone."""
        head = await self.bucket.head(remote.key)
        return RemoteObject(remote.key, head.size, head.etag, head.last_modified, head.storage_class)

    async def _tiny(self, remote: RemoteObject) -> Fetched:
        key, etag, size = remote.key, remote.etag, remote.size
        answer = await self.bucket.get(key, etag=etag, max_body=size)
        check = await self._check(remote, answer.headers)
        received = sum(map(len, answer.chunks))
        if received != size:
            raise ObjectChanged(f"{key!r}: it has {received} bytes now, and was listed with {size}")
        return Fetched(self.store.stage(key, answer.chunks, hashed(answer.chunks, check)), size, answer.seconds)

    async def _small(self, remote: RemoteObject, body: memoryview) -> Fetched:
        answer = await self.bucket.get_into(remote.key, etag=remote.etag, into=body)
        check = await self._check(remote, answer.headers)
        return Fetched(await self._stager.stage(remote.key, body, check), remote.size, answer.seconds)

    async def _check(self, remote: RemoteObject, headers: Headers) -> Check:
        check = check_for_headers(headers, remote.etag, remote.size)
        if check.guesses or check.algorithm is None:
            return await self.bucket.sharpen(check, remote.key, remote.etag)
        return check


class SameVersionOnly(Fetch):
    """Never takes another version in the place of the recorded one."""

    async def newest(self, remote: RemoteObject) -> RemoteObject:
        raise ObjectChanged(f"{remote.key!r}: changed at source; `ingest sync` takes the new version")
