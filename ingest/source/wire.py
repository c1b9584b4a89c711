"""One HTTP/1.1 connection: a request head goes out, a response comes back, and it either is whole or is an error.

Source of the framing rules: RFC 9112. The parser is llhttp (httptools), in its strict mode.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

import httptools

from ingest.errors import ConnectionLost, NotTls, SourceError, UnexpectedResponse

Headers = dict[bytes, bytes]
"""Names in lower case. Of a repeated header the last one counts."""

STREAMED_STATUS = frozenset({200, 206})
MOST_HEADER_BYTES = 64 * 1024
MOST_ERROR_BYTES = 64 * 1024
"""Bytes of an error's body that are kept; the rest is not read."""
_HIGH_WATER = 1 << 20
"""Unread bytes at which a streaming response stops reading from its socket."""
_TLS_RECORD = (b"\x15\x03", b"\x16\x03")


class Response(NamedTuple):
    status: int
    headers: Headers
    body: bytes


class StaleConnection(Exception):  # noqa: N818 - a signal between connection and pool, never shown
    """A kept-alive connection ended before the first byte of the response: the request may be sent again."""


class Exchange(NamedTuple):
    """What a connection must know of one request. `max_body` in bytes; `streamed` hands the body over by `read`."""

    head: bytes
    max_body: int
    bodyless: bool = False
    streamed: bool = False


class Connection(asyncio.Protocol):
    """A keep-alive connection that carries one request at a time.

    `on_free` is called when the connection can take the next request, `on_lost` once when it is gone for good.
    """

    __slots__ = (
        "_body",
        "_error",
        "_exchange",
        "_headers",
        "_on_free",
        "_on_lost",
        "_parser",
        "_size",
        "_status",
        "_transport",
        "_waiter",
        "clock",
        "peer",
    )

    def __init__(
        self, peer: str, on_free: Callable[[Connection], None], on_lost: Callable[[Connection], None]
    ) -> None:
        self.peer = peer
        self.clock = ProgressClock()
        self._on_free = on_free
        self._on_lost = on_lost
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._exchange: Exchange | None = None
        self._error: SourceError | None = None
        self._status = 0
        self._headers: Headers = {}
        self._body: list[bytes] = []
        self._size = 0
