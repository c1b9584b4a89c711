"""The read path of one bucket: list a page, get an object, a range of it, its head.

Every answer is what was asked for, or an error of the tree. Nothing is retried here: that is for the callers, who know
what else is under way.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, NoReturn, Self

from ingest.errors import (
    AccessDenied,
    AccessKeyUnknown,
    CredentialsExpired,
    ObjectChanged,
    RangeIgnored,
    SignatureMismatch,
    SourceError,
    UnexpectedResponse,
)
from ingest.http.dates import http_date
from ingest.http.exchange import BodyOverflow, Exchange, Headers, Response
from ingest.http.pool import Pool
from ingest.http.throttle import Throttle
from ingest.http.timeouts import Timeouts
from ingest.model import MOST_KEYS
from ingest.observe.logs import log
from ingest.plan.checks import Check, is_multipart
from ingest.plan.etags import Etags, etag_of, fits_a_header, is_same, is_void, is_weak, moment_of
from ingest.source.checksums import check_for_part
from ingest.source.clock import Clock
from ingest.source.credentials import Credentials, CredentialSource, credential_source
from ingest.source.endpoint import Endpoint, quote_key, quote_query
from ingest.source.errors import error_from_response, is_error_document, shown
from ingest.source.object_head import ObjectHead, parse_head, version_in
from ingest.source.signing import Signer
from ingest.system.units import format_size

if TYPE_CHECKING:
    from ingest.settings.source import SourceSettings

MOST_LISTING_BYTES = 16 << 20
_UNSIGNED = "accept-encoding: identity\r\nuser-agent: ingest\r\n"
_CHECKSUMS = ("x-amz-checksum-mode",)
_PINNED = ("if-match", *_CHECKSUMS)
_ENABLED = "ENABLED"
_ANY_SIZE = 1
_OF_CREDENTIALS = (CredentialsExpired, AccessKeyUnknown, SignatureMismatch)
"""Refusals after which the chain may have others: a secret may be replaced under its key, too."""

OnChunks = Callable[[list[bytes]], Awaitable[None]]


def _warn_of_rate(rate: int, slowest: int) -> None:
    said = f"{format_size(rate)} a second is little, less than {format_size(slowest)}"
    pages = f"one page of a listing, 0.3 MB, takes {300_000 // rate} s"
    log().warning("slow_rate", message=f"{said}: {pages}, and servers close connections that are read so slowly")


class RawPage(NamedTuple):
    """A listing's bytes as they came, and what was asked."""

    body: bytes
    headers: Headers
    prefix: str
    start_after: str
    token: str

    @property
    def server(self) -> str:
        """The ``Server`` header; empty without one."""
        return self.headers.get(b"server", b"").decode("latin-1")


class Bucket:
    """Use ``async with Bucket.open(settings, connections=32) as bucket``. All methods raise `SourceError`.

    A version is named as `plan.etags` has it. Each answer's own version is compared with the one that was asked for;
    where the server can be asked for that version alone (``If-Match``), it is.
    """

    etags: Etags
    """What is known of this server's etags, and goes on being learnt."""
    pins: bool
    """Whether this server heeds conditions: not where its etags are weak, nor once it has refused the very version that
    it has."""

    def __init__(self, endpoint: Endpoint, pool: Pool, signer: Signer, credentials: CredentialSource) -> None:
        self.etags, self.pins, self.clock = Etags(), True, Clock()
        self.endpoint = endpoint
        self._pool = pool
        self._signer = signer
        self._credentials = credentials
        self._key_root = endpoint.key_root

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
    ) -> AsyncIterator[Self]:
        """Connects to nothing yet. `connections` is how many requests may be under way at once, `bwlimit` how many
        bytes a second they may receive together, `etags` what is known of the server's, and `clock` what is to be
        compared with the server's.

        Raises:
            SettingsError: the endpoint, bucket or CA file is not usable. CredentialsError: there are none.
        """
        endpoint = Endpoint.from_settings(settings)
        times = timeouts or Timeouts()
        route = endpoint.route(settings.trust)
        credentials = credential_source(settings)
        await credentials.refresh()
        signer = Signer(
            credentials.current,
            region=settings.region,
            host=endpoint.host_header,
            unsigned=_UNSIGNED + route.lines,
            target_prefix=route.target_prefix,
        )
        throttle = Throttle(bwlimit) if bwlimit else None
        if bwlimit and bwlimit < times.slowest:
            _warn_of_rate(bwlimit, times.slowest)
        pool = Pool(route.dialer(times.connect), limit=connections, timeouts=times, throttle=throttle)
        try:
            bucket = cls(endpoint, pool, signer, credentials)
            bucket.etags, bucket.clock = etags or bucket.etags, clock or bucket.clock
            yield bucket
        finally:
            await pool.aclose()
            credentials.close()

    def of(self, name: str) -> Self:
        """Another bucket of the same server, over the same connections: by path addressing alone."""
        other = copy(self)
        other.endpoint = replace(self.endpoint, bucket=name)
        other._key_root = other.endpoint.key_root
        return other

    @property
    def connections(self) -> int:
        """How many requests may be under way at once; may be raised and lowered at any time."""
        return self._pool.limit

    @connections.setter
    def connections(self, limit: int) -> None:
        self._pool.limit = limit

    async def list_page(
        self,
        prefix: str = "",
        *,
        start_after: str = "",
        token: str = "",
        delimiter: str = "",
        max_keys: int = MOST_KEYS,
    ) -> RawPage:
        """One ListObjectsV2 request. With a `token`, `start_after` is only noted: the token holds the position."""
        asked = {"list-type": "2", "encoding-type": "url", "max-keys": str(max_keys), "prefix": prefix}
        if token:
            asked["continuation-token"] = token
        elif start_after:
            asked["start-after"] = start_after
        if delimiter:
            asked["delimiter"] = delimiter
        await self._renew()
        signed_by = self._signer.credentials
        head = self._signer.sign("GET", self.endpoint.bucket_path, quote_query(asked))
        response = await self._pool.fetch(Exchange(head, MOST_LISTING_BYTES))
        self.clock.see(response.headers)
        if response.status != 200 or is_error_document(response.body):
            await self._refuse(response, f"listing {self.endpoint.bucket}/{shown(prefix)}", signed_by)
        return RawPage(response.body, response.headers, prefix, start_after, token)

    async def get(self, key: str, *, etag: str | None = None, max_body: int) -> Response:
        """The whole of a small object, at most `max_body` bytes; of the version `etag`, if given.

        Raises:
            ObjectChanged: it is another version. NoSuchKey: it is gone. SourceError: anything else.
        """
        if self._credentials.check_at <= time.monotonic():
            await self._renew()
        signed_by = self._signer.credentials
        response = await self._pool.fetch(Exchange(self._request(key, etag), max_body))
        self.clock.see(response.headers)
        if response.status != 200:
            await self._refuse(response, f"GET {shown(key)}", signed_by)
        found = response.headers.get(b"etag")
        if found is None or etag is None or found != b'"%b"' % etag.encode():
            self._check_version(response, etag, key)
        return response

    async def get_into(self, key: str, *, etag: str | None, into: memoryview) -> Response:
        """The whole of an object that fills `into`, of the version `etag`, if given; the response is without its body.

        Raises:
            ObjectChanged: it is another version, or of another length. NoSuchKey: it is gone. SourceError: all else.
        """
        if self._credentials.check_at <= time.monotonic():
            await self._renew()
        expected = str(len(into)).encode()

        def check(response: Response) -> None:
            if response.status != 200:
                raise UnexpectedResponse(f"GET {shown(key)}: a part was sent where the whole was asked for")
            self._check_version(response, etag, key)
            if response.headers.get(b"content-length", expected) != expected:
                raise ObjectChanged(f"GET {shown(key)}: it has another length now than the {len(into)} bytes listed")

        try:
            return await self._fill(self._request(key, etag), key, check, into)
        except RangeIgnored as error:
            raise ObjectChanged(f"GET {shown(key)}: it has not the {len(into)} bytes now that were listed") from error

    async def stream(self, key: str, *, etag: str | None = None, on_chunks: OnChunks) -> Headers:
        """The whole object to `on_chunks`, about a megabyte at most at a time. Raises as `get` does."""
        await self._renew()

        def check(response: Response) -> None:
            if response.status != 200:
                raise UnexpectedResponse(f"GET {shown(key)}: a part was sent where the whole was asked for")
            self._check_version(response, etag, key)

        return await self._stream(self._request(key, etag), key, check, on_chunks)

    async def get_range(self, key: str, *, etag: str, first: int, into: memoryview) -> None:
        """The bytes from `first` on that fill `into`, of the version `etag`. Raises as `get` does.

        Raises:
            RangeIgnored: the server sent something else than this range.
        """
        await self._renew()
        last = first + len(into) - 1
        condition, span = self._condition(etag), f"bytes={first}-{last}"
        names, values = (("range",), (span,)) if condition is None else ((condition[0], "range"), (condition[1], span))
        head = self._signer.sign("GET", self._key_root + quote_key(key), "", names, values)
        promised = f"bytes {first}-{last}/".encode()
        length = str(len(into)).encode()

        def check(response: Response) -> None:
            self._check_version(response, etag, key)
            headers = response.headers
            if response.status != 206 or not headers.get(b"content-range", b"").startswith(promised):
                raise RangeIgnored(f"GET {shown(key)}: the server did not send the range that was asked for")
            if headers.get(b"content-length", length) != length:
                raise RangeIgnored(f"GET {shown(key)}: the range has another length than was asked for")

        await self._fill(head, key, check, into)

    async def head(self, key: str, *, part_number: int | None = None) -> ObjectHead:
        """What the server says of an object without sending it; with `part_number`, of that part too.

        Raises:
            NoSuchKey: it does not exist. SourceError: anything else.
        """
        await self._renew()
        query = quote_query({"partNumber": str(part_number)}) if part_number is not None else ""
        signed_by = self._signer.credentials
        head = self._signer.sign("HEAD", self._key_root + quote_key(key), query, _CHECKSUMS, (_ENABLED,))
        response = await self._pool.fetch(Exchange(head, bodyless=True))
        self.clock.see(response.headers)
        if response.status not in (200, 206):
            await self._refuse(response, f"HEAD {shown(key)}", signed_by)
        what, is_part = f"HEAD {shown(key)}", part_number is not None
        found = parse_head(response.headers, what, is_part=is_part, opaque=self.etags.opaque)
        self.pins = self.pins and not is_weak(response.headers.get(b"etag", b"").decode("latin-1"))
        return found

    async def sharpen(self, check: Check, key: str, etag: str) -> Check:
        """A better check for a multipart upload whose part size could only be guessed: asks for its first part."""
        if check.guesses or (check.algorithm is None and is_multipart(etag)):
            with suppress(SourceError):  # not every server knows partNumber: the size stays a guess then
                part = await self.head(key, part_number=1)
                if is_same(part.version, etag):
                    return check_for_part(check, part)
        return check

    async def _stream(self, head: bytes, key: str, check: Callable[[Response], None], on_chunks: OnChunks) -> Headers:
        signed_by = self._signer.credentials
        response = await self._pool.stream(Exchange(head, streamed=True), check, on_chunks)
        if response.status not in (200, 206):
            await self._refuse(response, f"GET {shown(key)}", signed_by)
        return response.headers

    async def _fill(self, head: bytes, key: str, check: Callable[[Response], None], into: memoryview) -> Response:
        """An answer whose body fills `into`. Raises `RangeIgnored` where it is longer or shorter."""
        signed_by = self._signer.credentials  # nothing else has had a turn since the head was signed
        try:
            response, came = await self._pool.stream_into(Exchange(head, streamed=True), check, into)
        except BodyOverflow:
            raise RangeIgnored(f"GET {shown(key)}: more was sent than the {len(into)} bytes asked for") from None
        if response.status not in (200, 206):
            await self._refuse(response, f"GET {shown(key)}", signed_by)
        if came != len(into):
            raise RangeIgnored(f"GET {shown(key)}: {came} of the {len(into)} bytes asked for were sent")
        return response

    def can_ask_for(self, version: str) -> bool:
        """Whether the server sends this version or none: otherwise an answer's own version tells what came."""
        condition = self._condition(version)
        return condition is not None and condition[0] == _PINNED[0]

    def version_of(self, headers: Headers, size: int) -> str:
        """The version that an answer is of, for an object of `size` bytes."""
        return version_in(headers, size, self.etags.opaque)

    def _condition(self, version: str) -> tuple[str, str] | None:
        """The header under which only this version is sent; None where there is none that this server heeds."""
        etag, moment = etag_of(version), moment_of(version)
        if not self.pins:
            return None
        if fits_a_header(etag) and not (moment is not None and is_void(etag, _ANY_SIZE)):
            return "if-match", f'"{etag}"'
        return None if moment is None else ("if-unmodified-since", http_date(moment))

    def _request(self, key: str, version: str | None) -> bytes:
        """For the whole of an object."""
        path = self._key_root + quote_key(key)
        condition = None if version is None else self._condition(version)
        if condition is None or condition[0] != _PINNED[0]:
            return self._signer.sign("GET", path, "", _CHECKSUMS, (_ENABLED,))
        return self._signer.sign("GET", path, "", _PINNED, (condition[1], _ENABLED))

    def _check_version(self, response: Response, version: str | None, key: str) -> None:
        """An answer to GET says its version. One that does not may be an ``<Error>`` that came with a 200."""
        self.clock.see(response.headers)
        written = response.headers.get(b"etag", b"").decode("latin-1")
        self.pins = self.pins and not is_weak(written)
        found = self.version_of(response.headers, _ANY_SIZE)
        if not etag_of(found) and is_error_document(response.body):
            raise error_from_response(response.status, response.headers, response.body, f"GET {shown(key)}")
        if not found:
            raise UnexpectedResponse(f"GET {shown(key)}: the answer does not say which version it is (no ETag)")
        if version and etag_of(version) and not etag_of(found):  # taken away by a proxy: the moment has to do
            self.pins = False
        if version is not None and not is_same(found, version):
            raise ObjectChanged(f"GET {shown(key)}: asked for version {shown(version)}, and got {shown(found)}")

    async def _renew(self) -> None:
        if self._credentials.check_at <= time.monotonic():
            await self._credentials.refresh()
            self._signer.use(self._credentials.current)

    async def _refuse(self, response: Response, what: str, signed_by: Credentials) -> NoReturn:
        """Raises what a refusal means. The credentials that signed the request are those that are refused: where others
        have taken their place meanwhile, or do so now, it may be sent again with them."""
        error: SourceError = error_from_response(response.status, response.headers, response.body, what)
        renewed = False
        if isinstance(error, _OF_CREDENTIALS):
            renewed = await self._credentials.reload(signed_by)
            self._signer.use(self._credentials.current)
        elif isinstance(error, AccessDenied | UnexpectedResponse) and not response.body:  # as a HEAD is refused
            renewed = signed_by != self._credentials.current
        if renewed:
            raise CredentialsExpired(error.message).over()
        raise error
