"""A TCP proxy that notes every request on its way to a real server."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from ingest.testing.connections import listening

_REQUEST = re.compile(rb"(?:^|\r\n)([A-Z]+) (/\S*) HTTP/1\.1\r\n")


class Request(NamedTuple):
    method: str
    bucket: str
    key: str
    query: dict[str, list[str]]


@dataclass
class Recorder:
    port: int = 0
    sent: list[bytearray] = field(default_factory=list)
    """For each connection: everything that the client sent."""

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def got(self) -> int:
        """How many GETs there were."""
        return sum(stream.count(b"GET /") for stream in self.sent)

    @property
    def requests(self) -> list[Request]:
        found: list[Request] = []
        for stream in self.sent:
            for method, target in _REQUEST.findall(bytes(stream)):
                parts = urlsplit(target.decode())
                bucket, _, key = unquote(parts.path).removeprefix("/").partition("/")
                query = parse_qs(parts.query, keep_blank_values=True)
                found.append(Request(method.decode(), bucket, key, query))
        return found

    async def _pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, copy: bytearray | None) -> None:
        with suppress(OSError):
            while chunk := await reader.read(1 << 16):
                if copy is not None:
                    copy.extend(chunk)
                writer.write(chunk)
                await writer.drain()
        writer.close()

    async def _connect(self, upstream: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, _, port = upstream.rpartition(":")
        answers, onward = await asyncio.open_connection(host, int(port))
        copy = bytearray()
        self.sent.append(copy)
        await asyncio.gather(self._pipe(reader, onward, copy), self._pipe(answers, writer, None))


@asynccontextmanager
async def recording(upstream: str) -> AsyncIterator[Recorder]:
    """Listens on a free loopback port and passes everything on to `upstream`, ``host:port``."""
    recorder = Recorder()
    async with listening(partial(recorder._connect, upstream)) as recorder.port:
        yield recorder
