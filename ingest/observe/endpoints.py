"""What a service shows over HTTP: /healthz, /readyz and /metrics. Nothing of it changes anything.

A server of its own, for it must not fail with what it tells of: so many connections and no more, so long for a request
and no longer, and whatever comes in is answered in a line.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import NamedTuple

from ingest.errors import SettingsError
from ingest.observe.logs import log
from ingest.observe.metrics import Snapshot, render
from ingest.observe.sparing import Sparing

MOST_CONNECTIONS = 32
"""One more takes the place of the one that has said nothing for longest."""
REQUEST_SECONDS = 10.0
"""From the connection to the last byte of the answer."""
LONGEST_HEAD = 16 << 10
_CLOSE_SECONDS = 1.0
_HERE = "127.0.0.1"
_ADDRESS = re.compile(r"(?:(?P<host>[^:\[\]/\s]*|\[[0-9A-Fa-f:.]+(?:%[\w.-]+)?\]):)?(?P<port>[0-9]{1,5})")
_REQUEST = re.compile(rb"(GET|HEAD) ([!-~]+) HTTP/1\.[01]")
_OTHER_REQUEST = re.compile(rb"[A-Z]{1,20} [!-~]+ HTTP/[0-9.]+")
_WORDS = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 408: "Request Timeout"}
_WORDS |= {500: "Internal Server Error", 503: "Service Unavailable"}
_TEXT, _FIGURES = "text/plain; charset=utf-8", "text/plain; version=0.0.4"


class Endpoints(NamedTuple):
    """What is asked for each request. `trouble` and `unready` say in words what is wrong; empty: nothing."""

    trouble: Callable[[], str]
    unready: Callable[[], str]
    snapshot: Callable[[], Snapshot]


class Address(NamedTuple):
    """Where to listen; port 0 is any that is free."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def of(cls, text: str) -> Address:
        """``9180`` and ``:9180`` (on this machine only), ``HOST:9180``, ``0.0.0.0:9180``, ``[::1]:9180``.

        Raises:
            ValueError: it is none of these.
        """
        found = _ADDRESS.fullmatch(text.strip())
        if found is None:
            raise ValueError("it wants PORT, HOST:PORT or [IPv6]:PORT, for example 127.0.0.1:9180")
        if int(found["port"]) > 65535:
            raise ValueError(f"{found['port']} is no port")
        return cls((found["host"] or _HERE).strip("[]"), int(found["port"]))


class _Answer(NamedTuple):
    status: int
    body: bytes
    type: str = _TEXT


@asynccontextmanager
async def serving(listen: str, endpoints: Endpoints) -> AsyncIterator[int]:
    """Answers at `listen` (see `Address.of`); gives the port.

    Raises:
        SettingsError: nobody can listen there, or prometheus-client is not installed.
    """
    _require_client()
    try:
        address = Address.of(listen)
    except ValueError as error:
        raise SettingsError(f"--listen {listen}: {error}") from error
    desk = _Desk(endpoints)
    try:
        server = await asyncio.start_server(desk.serve, address.host, address.port, limit=LONGEST_HEAD, backlog=128)
    except OSError as error:
        raise _refused(address, error) from error
    port = int(server.sockets[0].getsockname()[1])
    log().info("listening", address=str(address._replace(port=port)))
    try:
        yield port
    finally:
        server.close()
        await desk.close()


@dataclass
class _Desk:
    endpoints: Endpoints
    _tasks: dict[asyncio.Task[None], bool] = field(default_factory=dict)
    """One for each connection, the oldest first: whether its request is complete."""
    _bad: Sparing = field(default_factory=lambda: Sparing("request_refused", "warning", most=5))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - whoever runs is a task
        self._make_room()
        self._tasks[task] = False
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                answer = await self._answer(reader)
                if answer is not None:
                    self._tasks[task] = True
                    await _send(writer, *answer)
                    await _let_go(reader, writer)
        except (OSError, asyncio.CancelledError):  # its own time-out, too; and whoever made room for another
            pass
        finally:
            self._tasks.pop(task, None)
            writer.transport.abort()

    async def close(self) -> None:
        """Answers under way get a moment."""
        if self._tasks:
            await asyncio.wait({*self._tasks}, timeout=_CLOSE_SECONDS)
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait({*self._tasks})
        self._bad.close()

    def _make_room(self) -> None:
        while len(self._tasks) >= MOST_CONNECTIONS:
            silent = (task for task, is_complete in self._tasks.items() if not is_complete)
            oldest = next(silent, None) or next(iter(self._tasks))
            del self._tasks[oldest]
            oldest.cancel()

    async def _answer(self, reader: asyncio.StreamReader) -> tuple[_Answer, bool] | None:
        """The answer, and whether its body is wanted; None to who has gone without asking."""
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as error:
            return (self._refuse(400, "half a request"), True) if error.partial else None
        except asyncio.LimitOverrunError:
            return self._refuse(400, "a head that is too long"), True
        line = head.partition(b"\r\n")[0]
        if (found := _REQUEST.fullmatch(line)) is None:
            if _OTHER_REQUEST.fullmatch(line):
                return self._refuse(405, "only GET and HEAD are answered"), True
            return self._refuse(400, "no request of HTTP"), True
        return self._about(found[2].decode().partition("?")[0]), found[1] == b"GET"

    def _about(self, path: str) -> _Answer:
        asked = self.endpoints
        try:
            match path:
                case "/healthz":
                    return _state(asked.trouble())
                case "/readyz":
                    return _state(asked.trouble() or asked.unready())
                case "/metrics":
                    return _Answer(200, render(asked.snapshot()), _FIGURES)
        except Exception as defect:  # noqa: BLE001 - what is told of the service must not end it
            log().error("endpoint_failed", path=path, error=type(defect).__name__)
            return _Answer(500, b"a defect\n")
        return _Answer(404, b"there is /healthz, /readyz and /metrics\n")

    def _refuse(self, status: int, why: str) -> _Answer:
        self._bad.say(why, status=status)
        return _Answer(status, f"{why}\n".encode())


def _state(wrong: str) -> _Answer:
    return _Answer(503 if wrong else 200, f"{wrong or 'ok'}\n".encode())


async def _send(writer: asyncio.StreamWriter, answer: _Answer, with_body: bool) -> None:
    head = (
        f"HTTP/1.1 {answer.status} {_WORDS[answer.status]}\r\nContent-Type: {answer.type}\r\n"
        f"Content-Length: {len(answer.body)}\r\nConnection: close\r\n\r\n"
    )
    writer.write(head.encode() + (answer.body if with_body else b""))
    if writer.can_write_eof():
        writer.write_eof()
    await writer.drain()


async def _let_go(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Closes, once all is sent. What is still coming is read, for a moment: its sender would lose the answer else."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_CLOSE_SECONDS):
            while await reader.read(LONGEST_HEAD):
                pass
    writer.close()
    await writer.wait_closed()


def _refused(address: Address, error: OSError) -> SettingsError:
    said = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror or str(error)
    hint = "It wants an address of this machine, and a port that is free."
    if isinstance(error, PermissionError):
        hint = "Ports below 1024 are root's; take a higher one, or give the process CAP_NET_BIND_SERVICE."
    return SettingsError(f"--listen {address}: {said}", hint=hint)


def _require_client() -> None:
    try:
        import prometheus_client  # noqa: F401 - only whether it is there
    except ImportError as error:
        raise SettingsError("--listen needs prometheus-client", hint="pip install 'ingest[kafka]'") from error
