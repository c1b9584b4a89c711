"""Brings one object from the bucket into the store's staging, checked: the only place where the two meet."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from ingest.engine.transfer.buffers import Buffers
from ingest.engine.transfer.doubts import Doubts
from ingest.engine.transfer.large import LargeFetch
from ingest.engine.transfer.staging import Stager
from ingest.errors import DamagedTransfer, ObjectChanged, UnexpectedResponse
from ingest.http.dates import parse_http_date
from ingest.model import RemoteObject, Verified
from ingest.plan.checks import Check, Hashed, check_for, hashed
from ingest.plan.etags import MOST_LOOKS, etag_of, is_same, moment_of, named, seconds_until_settled
from ingest.source.checksums import check_for_headers, stored_check
from ingest.source.object_head import stored_in
from ingest.tasks.threads import in_thread

if TYPE_CHECKING:
    from ingest.http.exchange import Headers, Response
    from ingest.source.bucket import Bucket
    from ingest.store.files import Adopted, FileStore, Staged

SMALL = 4 << 20
"""Bytes up to which an object is held in memory whole; larger ones are written as they come."""
TINY = 64 << 10
"""Bytes up to which an object needs no room, for so many are never under way; and up to which hashing and writing
(60 us) cost less than handing them to a thread."""
MEMORY = 48 << 20
"""Bytes of bodies that may be in memory at once."""


class Fetched(NamedTuple):
    """`received` bytes crossed the network; `seconds` passed before the first of them. `remote` is the object in the
    version that came."""

    staged: Staged | Adopted
    received: int
    seconds: float | None
    remote: RemoteObject


@dataclass
class Fetch:
    """`adopting` looks first for a file that a killed run left in place without its row."""

    bucket: Bucket
    store: FileStore
    adopting: bool = False
    buffers: Buffers = field(default_factory=lambda: Buffers(MEMORY))

    def __post_init__(self) -> None:
        self._doubts = Doubts(self.bucket.etags)
        self._large = LargeFetch(self.bucket, self.store, self.buffers, self._doubts)
        self._stager = Stager(self.store)

    async def __call__(self, remote: RemoteObject, earlier: Collection[str] = ()) -> Fetched:
        """`earlier` are the digests of earlier downloads of the same object that did not match its etag.

        Raises:
            SourceError: the bucket's side failed. DiskError: the disk did.
        """
        if self.adopting:
            check = check_for(remote.etag, remote.size)
            found = await asyncio.to_thread(self.store.adopt, remote.key, remote.size, check)
            if found is not None:
                return Fetched(found, 0, None, remote)
        fetched = await self._fetch(remote, earlier)
        opaque, came = self.bucket.etags.opaque, fetched.remote
        if opaque and moment_of(came.etag) is None:  # learnt meanwhile, maybe by this very object
            name = named(came.etag, came.size, came.last_modified, opaque)
            return fetched._replace(remote=came._replace(etag=name))
        return fetched

    async def _fetch(self, remote: RemoteObject, earlier: Collection[str]) -> Fetched:
        if remote.size <= TINY:
            with self._doubts:
                return await self._tiny(remote, earlier)
        if remote.size > SMALL:
            return Fetched(*await self._large(remote, earlier), None, remote)
        async with self.buffers.lent(remote.size) as body:
            with self._doubts:
                return await self._small(remote, body, earlier)

    async def newest(self, remote: RemoteObject) -> RemoteObject:
        """The object as it is now. Raises `NoSuchKey`: it is gone. `ObjectChanged`: that version will not do."""
        return self._accept(remote, await self.as_it_is(remote))

    async def as_it_is(self, remote: RemoteObject) -> RemoteObject:
        """The object as it is now, in whatever version. Raises `NoSuchKey` when it is gone."""
        head = await self.bucket.head(remote.key)
        return RemoteObject(remote.key, head.size, head.version, head.last_modified, head.storage_class)

    def can_ask_for(self, remote: RemoteObject) -> bool:
        """Whether the server sends this version or none."""
        return self.bucket.can_ask_for(remote.etag)

    def ask_for_none(self) -> bool:
        """The server refuses the very version that it has: conditions are not sent any more. False: nor were they."""
        sent, self.bucket.pins = self.bucket.pins, False
        return sent

    async def _tiny(self, remote: RemoteObject, earlier: Collection[str]) -> Fetched:
        key, size = remote.key, remote.size

        async def ask(version: str | None) -> Response:
            return await self.bucket.get(key, etag=version, max_body=size)

        answer, came = await self._ask(remote, ask)
        check = await self._check(came, answer.headers)
        received = sum(map(len, answer.chunks))
        if received != size:
            raise ObjectChanged(f"{key!r}: it has {received} bytes now, and was listed with {size}")
        found = hashed(answer.chunks, check)
        if found.verdict is None:
            found = await self._second_thoughts(found, _Doubtful(came, answer, answer.chunks, check, earlier))
        elif found.verdict is Verified.VERIFIED:
            self._doubts.matched(check, size)
        return Fetched(self.store.stage(key, answer.chunks, found), size, answer.seconds, came)

    async def _small(self, remote: RemoteObject, body: memoryview, earlier: Collection[str]) -> Fetched:
        key = remote.key

        async def ask(version: str | None) -> Response:
            return await self.bucket.get_into(key, etag=version, into=body)

        answer, came = await self._ask(remote, ask)
        check = await self._check(came, answer.headers)
        try:
            staged = await self._stager.stage(key, body, check)
            if staged.verified is Verified.VERIFIED:
                self._doubts.matched(check, remote.size)
        except DamagedTransfer as error:
            wrong = Hashed(error.digest, None)
            found = await self._second_thoughts(wrong, _Doubtful(came, answer, [body], check, earlier))
            staged = await in_thread(None, self.store.stage, key, [body], found, discard=self.store.discard)
        return Fetched(staged, remote.size, answer.seconds, came)

    async def _ask(
        self, remote: RemoteObject, ask: Callable[[str | None], Awaitable[Response]]
    ) -> tuple[Response, RemoteObject]:
        """The answer, and the object in the version that it is of: whichever came, where none can be asked for."""
        if self.bucket.can_ask_for(remote.etag):
            return await ask(remote.etag), remote
        for _ in range(MOST_LOOKS):
            try:
                answer = await ask(None)
            except UnexpectedResponse:
                if (await self.newest(remote)).size != remote.size:
                    raise ObjectChanged(f"{remote.key!r}: it has another size now than was listed") from None
                raise
            came = self._accept(remote, self._came(remote, answer.headers))
            pause = seconds_until_settled(came.etag, parse_http_date(answer.headers.get(b"date", b"")))
            if not pause:
                break
            await asyncio.sleep(pause)
        return answer, came

    def _came(self, remote: RemoteObject, headers: Headers) -> RemoteObject:
        version = self.bucket.version_of(headers, remote.size)
        modified = parse_http_date(headers.get(b"last-modified", b"")) or remote.last_modified
        listed = remote.last_modified
        modified = listed if listed.replace(microsecond=0) == modified else modified
        if not etag_of(version) and etag_of(remote.etag) and modified is listed:
            return remote  # a proxy took the etag away
        return remote._replace(etag=version, last_modified=modified)

    def _accept(self, _wanted: RemoteObject, came: RemoteObject) -> RemoteObject:
        """Whether the version that came will do. Raises `ObjectChanged`."""
        return came

    async def _check(self, remote: RemoteObject, headers: Headers) -> Check:
        check = check_for_headers(headers, remote.etag, remote.size)
        if check.guesses or check.algorithm is None:
            return await self.bucket.sharpen(check, remote.key, remote.etag)
        return check

    async def _second_thoughts(self, found: Hashed, what: _Doubtful) -> Hashed:
        """What to think of bytes that do not match. Raises `DamagedTransfer`."""
        remote = what.remote
        stored = stored_check(*stored_in(what.answer.headers), remote.etag, remote.size)
        if stored is None:
            return await self._doubts.verdict(found, what.check, what.earlier, remote.key)
        return self._doubts.by_stored(await asyncio.to_thread(hashed, what.body, stored), what.check, remote.key)


class _Doubtful(NamedTuple):
    """A body that does not match `check`; `earlier` are the digests of those that came before it."""

    remote: RemoteObject
    answer: Response
    body: Sequence[bytes | memoryview]
    check: Check
    earlier: Collection[str]


class SameVersionOnly(Fetch):
    """Never takes another version in the place of the recorded one."""

    def _accept(self, wanted: RemoteObject, came: RemoteObject) -> RemoteObject:
        if not is_same(wanted.etag, came.etag) or wanted.size != came.size:
            raise ObjectChanged(f"{wanted.key!r}: changed at source; `ingest sync` takes the new version")
        return came
