"""One HTTP/1.1 connection: a request goes out, a response comes back, and it either is whole or is an error.

Bodies are never decoded, redirects never followed. Framing: RFC 9112; the parser is llhttp (httptools), strict.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from time import monotonic
from typing import cast

import httptools

from ingest.errors import ConnectionLost, SourceError, UnexpectedResponse
from ingest.http.exchange import (
    MOST_ERROR_BYTES,
    STREAMED_STATUS,
    BodyOverflow,
    Exchange,
    Headers,
    Response,
    StaleConnection,
    stays_open,
)
from ingest.http.sending import Sending
from ingest.http.throttle import RECEIVE_BUFFER, Throttle
from ingest.http.timeouts import Watch
from ingest.http.tls import not_http, refused_certificate

_MOST_HEADER_BYTES = 64 << 10
_HIGH_WATER = 1 << 20
"""Unread bytes at which a streamed response stops reading from its socket."""
SCRATCH_BYTES = 256 << 10
"""What is read at once, where it does not go straight to its place."""
_FRAMING = frozenset({b"content-length", b"transfer-encoding"})
_HEAD_BYTES = 2 << 10
"""What is read at once of an answer whose body has its place: little more than its head."""


class Connection(asyncio.BufferedProtocol):
    """Carries one request at a time. `on_lost` is called once, when the connection is gone.

    `scratch` is what it reads into, `SCRATCH_BYTES` long. The connections of one loop share it: nothing stays there.
    """

    def __init__(
        self,
        peer: str,
        loop: asyncio.AbstractEventLoop,
        on_lost: Callable[[Connection], None],
        scratch: memoryview,
        throttle: Throttle | None = None,
    ) -> None:
        self.watch = Watch()
        self.received = 0  # bytes of the current answer, as they crossed the network
        self._peer = peer
        self._loop = loop
        self._on_lost = on_lost
        self._scratch = scratch
        self._throttle = throttle
        self._resting = False
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._exchange: Exchange | None = None
        self._wakeup: asyncio.Future[None] | None = None
        self._error: SourceError | StaleConnection | BodyOverflow | None = None
        self._used = False
        self._paused = False
        self._sending = Sending(self._woken, self._is_over)
        self._keep_alive = True
        self._reset()

    def _reset(self) -> None:
        self.received = 0
        self._status = 0
        """0 until the head is complete."""
        self._fields: Headers = {}
        self._headers: Headers = {}
        self._chunks: list[bytes] = []
        self._unread = 0
        self._raw = 0
        """Bytes of the body still to come; of a plain body with a length, they go round the parser."""
        self._into: memoryview | None = None
        """Where the rest of a streamed body goes, if its place is known."""
        self._seconds = 0.0
        self._complete = False
        self._sending.start()

    # What the pool asks for.

    @property
    def busy(self) -> bool:
        return self._exchange is not None

    @property
    def reusable(self) -> bool:
        """Whether the next request may go out here."""
        there = self._transport is not None and not self._transport.is_closing()
        return there and self._keep_alive and self._sending.whole and self._error is None

    @property
    def moved(self) -> int:
        """Bytes of the current request's body that have left, and of its answer that have come."""
        return self.received + self._sending.moved(self._transport)

    @property
    def held(self) -> bool:
        """The answer is not read on because its reader is slow, or the rate is limited."""
        return self._paused or self._resting

    async def request(self, exchange: Exchange) -> Response:
        """Sends a request; waits for its whole answer or, if that is to be streamed, for its head: then `read` it.

        Raises:
            StaleConnection: the connection had been used before, and nothing came back.
            SourceError: the connection broke, or what came is no acceptable HTTP.
            Exception: whatever the body raises, which the server did not get as a whole then.
        """
        if self._transport is None:
            raise ConnectionLost(f"{self._peer} closed the connection as soon as it was open")
        self._reset()
        self._exchange = exchange
        if self._throttle is not None and not self._used:
            # Those before it may be closed, and with them what they had to sleep off. Not as soon as it is made: uvloop
            # starts reading after that, whatever it was told.
            self._rest(0)
        self.watch.start(self._loop.time())
        self._asked = monotonic()
        if exchange.body is None:
            self._transport.write(exchange.head)
        else:
            try:
                await self._sending.send(exchange.head, exchange.body, self._transport)
            except BaseException:
                self.abort()
                raise
        while self._error is not None or not (self._complete or self._streams):
            await self._woken()
        if self._streams:
            return Response(self._status, self._headers, [], self._seconds)
        self._exchange = None
        self._used = True
        return Response(self._status, self._headers, self._chunks, self._seconds)

    @property
    def _streams(self) -> bool:
        """Whether the head of the answer is there, and its body is to be read by whoever asked."""
        return self._exchange is not None and self._exchange.streamed and self._status in STREAMED_STATUS

    def _is_over(self) -> bool:
        return self._complete or self._status >= 300 or self._error is not None  # it may refuse what it has not read

    async def read(self) -> list[bytes]:
        """The next chunks of a streamed body, about a megabyte at most; none at its end. Raises as `request` does."""
        while not self._chunks and not self._complete:
            await self._woken()
        if self._error is not None:
            raise self._error
        chunks, self._chunks = self._chunks, []
        self._unread = 0
        if self._paused:
            self._paused = False
            self._read_on()
        if not chunks:
            self._exchange = None
            self._used = True
        return chunks

    async def read_into(self, buffer: memoryview) -> int:
        """Waits for the end of a body that goes to `buffer`; returns its length. Raises as `request` does.

        Raises:
            BodyOverflow: it is longer than the buffer.
        """
        while not self._complete or self._error is not None:
            await self._woken()
        length = len(buffer) - len(self._into or b"")
        self._into = self._exchange = None
        self._used = True
        return length

    def abort(self, error: SourceError | None = None) -> None:
        """Closes at once; whoever waits for an answer gets `error`."""
        self._fail(error or ConnectionLost(f"the connection to {self._peer} was closed"))

    async def _woken(self) -> None:
        if self._error is None:
            self._wakeup = self._loop.create_future()
            try:
                await self._wakeup
            except asyncio.CancelledError:
                self.abort()
                raise
            finally:
                self._wakeup = None
        if self._error is not None:
            raise self._error

    def _wake(self) -> None:
        if self._wakeup is not None and not self._wakeup.done():
            self._wakeup.set_result(None)

    def _fail(self, error: SourceError | BodyOverflow) -> None:
        # What follows a whole answer to a body says nothing of it: a server may misread the rest of what it refused.
        if self._error is None and not (self._complete and self._exchange and self._exchange.body is not None):
            self._error = error
        self._into = None
        if self._transport is not None:
            self._transport.abort()
        self._wake()

    # What the transport reports.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if self._throttle is not None:
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)

    def get_buffer(self, sizehint: int) -> memoryview:
        if self._into and self._raw:
            return self._into
        expects_head = self._exchange is not None and self._exchange.into is not None and not self._status
        return self._scratch[:_HEAD_BYTES] if expects_head else self._scratch

    def buffer_updated(self, nbytes: int) -> None:
        if self._exchange is None or self._error is not None:
            # Nobody asked: a time-out notice of the server, or an answer to nothing. Either way the end.
            self.abort()
            return
        self.received += nbytes
        if self._throttle is not None:
            self._rest(nbytes)
        if self._raw:
            self._take_raw(nbytes)
            return
        data = self._scratch[:nbytes]
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._fail(not_http(self._peer, bytes(data[:3]), in_body=bool(self._status)))
        if not self._status and self.received > _MOST_HEADER_BYTES:
            self._fail(UnexpectedResponse(f"{self._peer} sends headers without end"))

    def _take_raw(self, size: int) -> None:
        if size > self._raw:
            self.abort()  # more than its own length: there is no telling what it is
            return
        straight = self._into
        self._raw -= size
        if straight:
            self._into = straight[size:]
        else:
            self._keep(bytes(self._scratch[:size]))
        if not self._raw:
            self._parser = httptools.HttpResponseParser(self)  # the old one waits for the body
            self._complete = True
            self._wake()

    def _place(self, chunk: bytes) -> None:
        """Puts what came by way of the parser where it belongs."""
        size, room = len(chunk), self._into
        if room is None or size > len(room):
            self._fail(BodyOverflow())
            return
        room[:size] = chunk
        self._into = room[size:]

    def _rest(self, received: int) -> None:
        pause = self._throttle.pause_after(received) if self._throttle is not None else 0.0
        if pause > 0 and not self._resting and self._transport is not None:
            self._resting = True
            self._transport.pause_reading()
            self._loop.call_later(pause, self._rested)

    def _rested(self) -> None:
        self._resting = False
        self._read_on()

    def _read_on(self) -> None:
        if not self.held and self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def pause_writing(self) -> None:
        self._sending.choked = True

    def resume_writing(self) -> None:
        self._sending.choked = False
        self._wake()

    def eof_received(self) -> None:
        """Returning None closes the transport."""

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._exchange is not None and not self._complete and self._error is None:
            self._end_of_stream(exc)
        self._wake()
        self._on_lost(self)

    def _end_of_stream(self, exc: Exception | None) -> None:
        unframed = self._status > 0 and exc is None and self._headers.keys().isdisjoint(_FRAMING)
        if not self.received and self._used:
            self._error = StaleConnection()
        elif (unframed and self._may_be_cut) or (self._status >= 300 and not self._sending.whole):
            self._complete = True  # as HTTP/1.0 has it, or by a server that does not wait for what it refuses
        elif exc is not None and (refusal := refused_certificate(exc, self._peer)) is not None:
            self._error = refusal
        elif unframed:
            self._error = ConnectionLost(f"{self._peer} sent a body without its length: it may have been cut")
        else:
            where = f"after {self.received} bytes of the answer" if self.received else "before the answer"
            self._error = ConnectionLost(f"the connection to {self._peer} broke {where}")

    @property
    def _may_be_cut(self) -> bool:
        """Whether a part of the body says enough: an error document's, or any where it is only words."""
        return self._status >= 300 or (self._exchange is not None and self._exchange.lenient)

    # What the parser finds.

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields[name.lower()] = value

    def on_headers_complete(self) -> None:
        if self._complete:
            self.abort()  # a second answer, which nobody asked for, may not replace the first
            return
        # Trailers come after this and are left in a dict of their own: they may not amend what was already checked.
        self._headers, self._fields = self._fields, {}
        status = self._parser.get_status_code()
        exchange = self._exchange
        if status < 200 or exchange is None:
            return
        self._status = status
        self._seconds = monotonic() - self._asked
        if exchange.bodyless:
            self._finish()
            self._keep_alive = stays_open(self._parser.get_http_version(), self._headers)  # not by a body's length
            self._parser = httptools.HttpResponseParser(self)  # the old one waits for a body
            return
        length = self._headers.get(b"content-length", b"")
        if status in STREAMED_STATUS and length.isdigit():
            self._expect(int(length), exchange)
        if exchange.streamed and status in STREAMED_STATUS:
            self._into = exchange.into
            self._wake()

    def _expect(self, length: int, exchange: Exchange) -> None:
        if not (exchange.streamed or exchange.lenient) and length > exchange.max_body:
            self._fail(UnexpectedResponse(f"{self._peer} sends more than the {exchange.max_body} bytes asked for"))
            return
        self._raw = length
        self._keep_alive = self._parser.should_keep_alive()

    def on_body(self, chunk: bytes) -> None:
        exchange = self._exchange
        if exchange is None or self._complete:
            if self._keep_alive:  # else it is the rest of what was cut short
                self.abort()
            return
        if self._raw:
            self._raw -= len(chunk)
        self._keep(chunk)

    def _keep(self, chunk: bytes) -> None:
        exchange = self._exchange
        if self._into is not None:
            self._place(chunk)
            return
        self._chunks.append(chunk)
        self._unread += len(chunk)
        if self._may_be_cut:
            if self._unread > MOST_ERROR_BYTES:
                self._cut_short()
        elif exchange is not None and exchange.streamed:
            self._wake()
            if self._unread > _HIGH_WATER and not self._paused and self._transport is not None:
                if not self._resting:
                    self._transport.pause_reading()
                self._paused = True
        elif exchange is not None and self._unread > exchange.max_body:
            self._fail(UnexpectedResponse(f"{self._peer} sends more than the {exchange.max_body} bytes asked for"))

    def on_message_complete(self) -> None:
        if self._status and not self._complete:  # else it was an interim answer (1xx), or one that its head has ended
            self._finish()

    def _cut_short(self) -> None:
        self._keep_alive = False
        self._complete = True
        if self._transport is not None:
            self._transport.abort()
        self._wake()

    def _finish(self) -> None:
        self._keep_alive = self._parser.should_keep_alive()
        self._complete = True
        self._wake()
