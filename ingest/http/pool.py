"""Keep-alive connections to one server, as many at a time as the limit says; the limit may move while they work."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from ingest.errors import ConnectionLost, ConnectionTimedOut
from ingest.http.connection import SCRATCH_BYTES, Connection
from ingest.http.dial import Dialer
from ingest.http.exchange import STREAMED_STATUS, Exchange, Response, StaleConnection
from ingest.http.throttle import Throttle
from ingest.http.timeouts import Timeouts
from ingest.http.tls import MAY_WANT_OURS
from ingest.tasks.turns import Turns

_FAREWELL_SECONDS = 1.0


class Pool:
    """Nothing is retried here but one thing: a request that met a kept-alive connection's end before any answer."""

    def __init__(self, dialer: Dialer, *, limit: int, timeouts: Timeouts, throttle: Throttle | None = None) -> None:
        self._dialer = dialer
        self._limit = max(1, limit)
        self._timeouts = timeouts
        self._throttle = throttle
        self._loop = asyncio.get_running_loop()
        self._scratch = memoryview(bytearray(SCRATCH_BYTES))
        self._places = Turns(lambda: self._limit)
        """One for each request under way."""
        self._idle: list[Connection] = []
        self._open: set[Connection] = set()
        self._sweeper: asyncio.TimerHandle | None = None
        self._emptied = asyncio.Event()

    @property
    def limit(self) -> int:
        """Requests under way at once. A lower limit lets those under way end."""
        return self._limit

    @limit.setter
    def limit(self, limit: int) -> None:
        self._limit = max(1, limit)
        while self._idle and len(self._idle) + self._places.taken > self._limit:
            self._idle.pop(0).abort()
        self._places.serve()

    async def fetch(self, exchange: Exchange) -> Response:
        """One request and its whole answer, whatever its status. Raises `SourceError`."""
        if not self._places.take():
            await self._places.wait()
        try:
            connection, response = await self._send(exchange)
            self._keep(connection)
            return response
        finally:
            self._places.leave()

    async def stream(
        self,
        exchange: Exchange,
        on_head: Callable[[Response], None],
        on_chunks: Callable[[list[bytes]], Awaitable[None]],
    ) -> Response:
        """One request whose body goes to `on_chunks`, some at a time; while it works, little more is read.

        `on_head` sees status and headers before the first piece, and may raise. An answer outside 200 and 206 comes
        back with its body, and neither is called. Raises `SourceError`, and whatever the two raise.
        """

        async def read(connection: Connection) -> None:
            while chunks := await connection.read():
                await on_chunks(chunks)

        return await self._stream(exchange, on_head, read)

    async def stream_into(
        self, exchange: Exchange, on_head: Callable[[Response], None], buffer: memoryview
    ) -> tuple[Response, int]:
        """As `stream`, with the body straight into `buffer`; also returns its length.

        Raises:
            BodyOverflow: the body is longer than the buffer.
        """
        length = 0

        async def read(connection: Connection) -> None:
            nonlocal length
            length = await connection.read_into(buffer)

        return await self._stream(exchange._replace(into=buffer), on_head, read), length

    async def _stream(
        self,
        exchange: Exchange,
        on_head: Callable[[Response], None],
        read: Callable[[Connection], Awaitable[None]],
    ) -> Response:
        if not self._places.take():
            await self._places.wait()
        try:
            connection, response = await self._send(exchange)
            if response.status in STREAMED_STATUS:
                try:
                    on_head(response)
                    await read(connection)
                except BaseException:
                    connection.abort()
                    raise
            self._keep(connection)
            return response
        finally:
            self._places.leave()

    async def aclose(self) -> None:
        """Closes every connection; requests under way fail."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        for connection in tuple(self._open):
            connection.abort()
        if self._open:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._emptied.wait(), _FAREWELL_SECONDS)

    # Connections.

    async def _send(self, exchange: Exchange) -> tuple[Connection, Response]:
        connection = self._reuse()
        if connection is not None:
            try:
                return connection, await connection.request(exchange)
            except StaleConnection:
                pass  # the server had closed it; a fresh one tells whether the server is there
        connection = await self._open_one()
        try:
            return connection, await connection.request(exchange)
        except ConnectionLost as error:
            if self._dialer.secure and not connection.received:
                error.hint = MAY_WANT_OURS  # its alert may be lost with the connection
            raise

    def _reuse(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.reusable:
                return connection
        return None

    def _keep(self, connection: Connection) -> None:
        if connection.reusable and self._places.taken <= self._limit:
            connection.watch.start(self._loop.time())
            self._idle.append(connection)
        else:
            connection.abort()

    async def _open_one(self) -> Connection:
        name = str(self._dialer)
        connection = await self._dialer.connect(
            lambda: Connection(name, self._loop, self._lost, self._scratch, self._throttle)
        )
        if connection.reusable:  # else it is lost already, and its first request will say so
            self._open.add(connection)
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(self._timeouts.sweep_interval, self._sweep)
        return connection

    def _lost(self, connection: Connection) -> None:
        self._open.discard(connection)
        if not self._open:
            self._emptied.set()

    def _sweep(self) -> None:
        now = self._loop.time()
        for connection in tuple(self._open):
            if connection.busy:
                reason = connection.watch.overdue(now, connection.moved, held=connection.held, timeouts=self._timeouts)
                if reason is not None:
                    connection.abort(ConnectionTimedOut(f"{self._dialer} took too long: {reason}"))
            elif now - connection.watch.started > self._timeouts.keep_alive:
                connection.abort()
        again = bool(self._open)
        self._sweeper = self._loop.call_later(self._timeouts.sweep_interval, self._sweep) if again else None
