"""Brings one object from the bucket into the store's staging, checked: the only place where the two meet."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ingest.model import LocalCopy, RemoteObject
from ingest.plan.checks import check_for
from ingest.source.checksums import check_for_headers

if TYPE_CHECKING:
    from ingest.source.bucket import Bucket
    from ingest.store.files import FileStore, Staged

SMALL = 4 << 20
"""Bytes up to which an object is held in memory whole; larger ones stream through."""
_GATHER = 1 << 20


@dataclass
class Fetch:
    """`adopting` looks first for a file that a killed run left in place without its row."""

    bucket: Bucket
    store: FileStore
    adopting: bool = False

    async def __call__(self, remote: RemoteObject) -> tuple[Staged | LocalCopy, int]:
        """The staged copy, and the bytes that crossed the network.

        Raises:
            SourceError: the bucket's side failed. DiskError: the disk did.
        """
        check = check_for(remote.etag, remote.size)
        if self.adopting:
            copy = await asyncio.to_thread(self.store.adopt, remote.key, remote.size, check)
            if copy is not None:
                return copy, 0
        if remote.size <= SMALL:
            response = await self.bucket.get(remote.key, etag=remote.etag or None, max_body=remote.size)
            body = response.body
            check = check_for_headers(response.headers, remote.etag, remote.size)
            if remote.size <= _INLINE:
                return self.store.stage(remote.key, body, remote.size, check), len(body)
            return await asyncio.to_thread(self.store.stage, remote.key, body, remote.size, check), len(body)
        return await self._stream(remote), remote.size

    async def newest(self, remote: RemoteObject) -> RemoteObject:
        """The object as it is now. Raises `NoSuchKey` when it is gone."""
        head = await self.bucket.head(remote.key)
        return RemoteObject(remote.key, head.size, head.etag, head.last_modified, head.storage_class)

    async def _stream(self, remote: RemoteObject) -> Staged:
        part_size = None
        if "-" in remote.etag:
            part_size = (await self.bucket.head(remote.key, part_number=1)).part_size
            part_size = None if part_size == remote.size else part_size
        check = check_for(remote.etag, remote.size, part_size=part_size)
        staging = await asyncio.to_thread(self.store.open_staging, remote.key, check)
        gathered = bytearray()

        async def take(chunk: bytes) -> None:
            gathered.extend(chunk)
            if len(gathered) >= _GATHER:
                await asyncio.to_thread(staging.write, bytes(gathered))
                gathered.clear()

        try:
            await self.bucket.stream(remote.key, etag=remote.etag, on_chunk=take)
            if gathered:
                await asyncio.to_thread(staging.write, bytes(gathered))
            return await asyncio.to_thread(self.store.finish, staging, remote.size)
        except BaseException:
            self.store.discard(staging)
            raise


_INLINE = 64 << 10
"""Bytes up to which hashing and writing cost less than handing them to a thread."""
