"""One HTTP/1.1 connection: a request head goes out, a response comes back, and it either is whole or is an error.

Bodies are never decoded, redirects never followed. Source of the framing rules: RFC 9112; the parser is llhttp
(httptools) in its strict mode.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

import httptools

from ingest.errors import ConnectionLost, NotTls, SourceError, UnexpectedResponse
from ingest.source.progress import Progress

Headers = dict[bytes, bytes]
"""Names in lower case. Of a repeated header the last one counts."""

STREAMED_STATUS = frozenset({200, 206})
"""Only these bodies go to a sink; any other is an error document, and is collected."""
MOST_ERROR_BYTES = 64 << 10
"""Bytes of an error document that are kept; the rest is not read."""
_MOST_HEADER_BYTES = 64 << 10
_HIGH_WATER = 1 << 20
"""Unread bytes at which a streamed response stops reading from its socket."""
_TLS_RECORDS = (b"\x15\x03", b"\x16\x03")


class Response(NamedTuple):
    """`body` is empty where the body was streamed, and cut at `MOST_ERROR_BYTES` where it is an error document."""

    status: int
    headers: Headers
    body: bytes


class Exchange(NamedTuple):
    """One request, and what to expect of its answer. `max_body` in bytes."""

    head: bytes
    max_body: int = 0
    bodyless: bool = False
    """The answer has no body whatever its headers say: HEAD."""
    streamed: bool = False


class StaleConnection(Exception):  # noqa: N818 - a word between connection and pool, never shown
    """A kept-alive connection ended before the first byte of the answer: the request may be sent once more."""


class Connection(asyncio.Protocol):
    """Carries one request at a time. `on_idle` hears when it can take the next, `on_lost` (once) when it is gone."""

    def __init__(
        self, peer: str, on_idle: Callable[[Connection], None], on_lost: Callable[[Connection], None]
    ) -> None:
        self.progress = Progress()
        self._peer = peer
        self._on_idle = on_idle
        self._on_lost = on_lost
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._exchange: Exchange | None = None
        self._wakeup: asyncio.Future[None] | None = None
        self._error: SourceError | StaleConnection | None = None
        self._used = False
        self._reset()

    def _reset(self) -> None:
        self._status = 0
        self._headers: Headers = {}
        self._chunks: list[bytes] = []
        self._unread = 0
        self._complete = False

    # -- for the pool

    @property
    def usable(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    async def fetch(self, exchange: Exchange) -> Response:
        """Sends a request and waits for its whole answer.

        Raises:
            StaleConnection: nothing came back on a connection that was used before.
            SourceError: the connection broke, or what came is no acceptable HTTP.
        """
        self._begin(exchange)
        try:
            await self._wait()
        except BaseException:
            self.abort()
            raise
        return Response(self._status, self._headers, self._take())

    async def open_stream(self, exchange: Exchange) -> Response:
        """Sends a request and waits for the answer's head; `read` then gives the body piece by piece.

        An answer that is not to be streamed comes whole, as from `fetch`. Raises as `fetch` does.
        """
        response = await self.fetch(exchange)
        return response if self._complete or response.status not in STREAMED_STATUS else response._replace(body=b"")

    def abort(self, error: SourceError | None = None) -> None:
        """Closes at once; whoever waits for an answer gets `error`."""
        if self._error is None:
            self._error = error or ConnectionLost(f"the connection to {self._peer} was closed")
        if self._transport is not None:
            self._transport.abort()
        self._wake()
