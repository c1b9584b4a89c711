"""A bucket seen by one request: while objects are small, whoever asks what one is, is brought its bytes as well."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ingest.errors import NoSuchKey, SourceError
from ingest.http.exchange import Response
from ingest.http.pool import Pool
from ingest.plan.etags import is_same
from ingest.source.credentials import CredentialSource
from ingest.source.endpoint import Endpoint
from ingest.source.object_head import ObjectHead, parse_head
from ingest.source.patient import PatientBucket
from ingest.source.signing import Signer

MOST_PEEKED = 64 << 10
"""Bytes of a body that may come along unasked. They are held in memory until they are fetched, or let go."""
_IN_A_ROW = 8
"""Objects that were small, one after the other, before the next is expected to be. One that is not costs a
connection: its answer is cut short."""


class PeekingBucket(PatientBucket):
    """A `PatientBucket` whose `get` has in hand what `look` has brought."""

    def __init__(self, endpoint: Endpoint, pool: Pool, signer: Signer, credentials: CredentialSource) -> None:
        super().__init__(endpoint, pool, signer, credentials)
        self._in_hand: dict[str, Response] = {}
        self._small_in_a_row = 0

    @contextmanager
    def attention(self, key: str) -> Iterator[None]:
        """At its end, whatever `look` brought of this key and nobody has fetched is let go."""
        try:
            yield
        finally:
            self._in_hand.pop(key, None)

    async def peek(self, key: str) -> ObjectHead:
        """As `head`: what the object is now. Its next `get` may need no further request. Use it in `attention`."""
        if self._small_in_a_row >= _IN_A_ROW:
            try:
                answer = await super().get(key, max_body=MOST_PEEKED)
                seen = parse_head(answer.headers, f"GET {key!a}", is_part=False, opaque=self.etags.opaque)
            except NoSuchKey:
                raise
            except SourceError:
                self._small_in_a_row = 0  # it is larger, or archived, or something is wrong: a HEAD tells
            else:
                self._in_hand[key] = answer
                return seen
        head = await self.head(key)
        self._small_in_a_row = self._small_in_a_row + 1 if head.size <= MOST_PEEKED else 0
        return head

    async def get(self, key: str, *, etag: str | None = None, max_body: int) -> Response:
        """As `Bucket.get`."""
        answer = self._in_hand.pop(key, None)
        if answer is not None and (etag is None or is_same(self.version_of(answer.headers, len(answer.body)), etag)):
            return answer
        return await super().get(key, etag=etag, max_body=max_body)
