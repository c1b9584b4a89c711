"""The bucket as commands use it: one that asks to wait, or is away for a while, is waited for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Self

from ingest.errors import IngestError
from ingest.http.exchange import Exchange, Headers, Response
from ingest.http.timeouts import Timeouts
from ingest.model import MOST_KEYS
from ingest.plan.etags import Etags
from ingest.plan.gate import Gate, RequestKind
from ingest.source.bucket import Bucket, OnChunks, RawPage
from ingest.source.clock import Clock
from ingest.source.endpoint import quote_key
from ingest.source.errors import error_from_response, shown
from ingest.source.gate import Gatekeeper
from ingest.source.object_head import ObjectHead

if TYPE_CHECKING:
    from ingest.settings.source import SourceSettings


class PatientBucket(Bucket):
    """A `Bucket` whose requests all pass one gate, and are sent again for what is the source's fault."""

    _gate: Gatekeeper

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        settings: SourceSettings,
        *,
        connections: int,
        timeouts: Timeouts | None = None,
        bwlimit: int | None = None,
        etags: Etags | None = None,
        clock: Clock | None = None,
        patience: float | None = None,
        on_overload: Callable[[float], None] | None = None,
    ) -> AsyncIterator[Self]:
        """As `Bucket.open`. `patience` in seconds instead of the setting's: 0 for none, infinite for whoever never
        gives up. `on_overload` is told the time, whenever the server asks for less or is late.
        """
        opening = super().open(
            settings, connections=connections, timeouts=timeouts, bwlimit=bwlimit, etags=etags, clock=clock
        )
        async with opening as bucket:
            gate = Gate(settings.patience.total_seconds() if patience is None else patience)
            bucket._gate = Gatekeeper(gate, bucket._probe, on_overload)
            try:
                yield bucket
            finally:
                await bucket._gate.aclose()

    @property
    def trouble(self) -> str:
        """Why nothing moves; empty while it does."""
        return self._gate.trouble

    def abandon(self, error: IngestError) -> None:
        """Nobody waits for the source any more: who does, or would, gets `error`."""
        self._gate.abandon(error)

    async def list_page(
        self,
        prefix: str = "",
        *,
        start_after: str = "",
        token: str = "",
        delimiter: str = "",
        max_keys: int = MOST_KEYS,
    ) -> RawPage:
        ask = super().list_page
        return await self._gate.through(
            lambda: ask(prefix, start_after=start_after, token=token, delimiter=delimiter, max_keys=max_keys),
            RequestKind.NAMES,
        )

    async def get(self, key: str, *, etag: str | None = None, max_body: int) -> Response:
        ask = super().get
        return await self._gate.through(lambda: ask(key, etag=etag, max_body=max_body), RequestKind.BYTES, key)

    async def get_into(self, key: str, *, etag: str | None, into: memoryview) -> Response:
        ask = super().get_into
        return await self._gate.through(lambda: ask(key, etag=etag, into=into), RequestKind.BYTES, key)

    async def get_range(self, key: str, *, etag: str, first: int, into: memoryview) -> None:
        ask = super().get_range
        await self._gate.through(lambda: ask(key, etag=etag, first=first, into=into), RequestKind.BYTES, key)

    async def stream(self, key: str, *, etag: str | None = None, on_chunks: OnChunks) -> Headers:
        """As `Bucket.stream`. What broke when bytes had come is not begun again here, but waits for the source."""
        ask, untouched = super().stream, True

        async def take(chunks: list[bytes]) -> None:
            nonlocal untouched
            untouched = False
            await on_chunks(chunks)

        return await self._gate.through(
            lambda: ask(key, etag=etag, on_chunks=take), RequestKind.BYTES, key, again=lambda: untouched
        )

    async def head(self, key: str, *, part_number: int | None = None) -> ObjectHead:
        ask, known_to_all = super().head, part_number is None
        return await self._gate.through(
            lambda: ask(key, part_number=part_number), RequestKind.FACTS, key, faults=known_to_all
        )

    async def _probe(self, kind: RequestKind, key: str | None) -> None:
        """Whether the source is there, asked as briefly as can be."""
        if kind is RequestKind.NAMES:
            await super().list_page(max_keys=1)
        elif key is None:
            await self._knock()
        elif kind is RequestKind.FACTS:
            await super().head(key)
        else:
            await self._first_byte(key)

    async def _knock(self) -> None:
        await self._renew()
        head = self._signer.sign("HEAD", self.endpoint.bucket_path)
        answer = await self._pool.fetch(Exchange(head, bodyless=True))
        if answer.status != 200:
            raise error_from_response(answer.status, answer.headers, b"", f"HEAD {self.endpoint.bucket}")

    async def _first_byte(self, key: str) -> None:
        await self._renew()
        head = self._signer.sign("GET", self._key_root + quote_key(key), "", ("range",), ("bytes=0-0",))
        with suppress(_Enough):
            refused = await self._pool.stream(Exchange(head, streamed=True), _enough, _nothing)
            raise error_from_response(refused.status, refused.headers, refused.body, f"GET {shown(key)}")


class _Enough(Exception):
    """The head of an answer says it: its body, which may be long where the range is ignored, is not read."""


def _enough(_: Response) -> None:
    raise _Enough


async def _nothing(_: list[bytes]) -> None: ...
