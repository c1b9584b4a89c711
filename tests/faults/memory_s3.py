"""An S3 server in memory, in a thread: keys are kept byte for byte, pages are as small as a test wants, faults come on
order, and it lists in byte order or directory by directory.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import NamedTuple
from urllib.parse import parse_qsl, quote, unquote

from tests.fixtures.servers import Bucket

BUCKET = "statements"
STALL, CUT, WRONG = -1, -2, -3
"""In the place of a status: never answer; close in the middle of the answer; other bytes of the same length."""


class Stored(NamedTuple):
    body: bytes
    etag: str
    modified: datetime


class Request(NamedTuple):
    """`verb` is LIST, GET or HEAD; `name` is the key, or the prefix of a listing."""

    verb: str
    name: str
    query: dict[str, str]
    headers: dict[str, str]


Fault = Callable[[Request], int | None]


@dataclass
class MemoryS3:
    """Everything may be changed while it runs; `fault` says for each request how it is to fail."""

    by_directory: bool = False
    page: int = 1000
    """Keys on a page, at most."""
    objects: dict[str, Stored] = field(default_factory=dict)
    versions: dict[str, list[bytes]] = field(default_factory=dict)
    """Every body that a key ever had."""
    fault: Fault | None = None
    requests: list[Request] = field(default_factory=list)
    sent: int = 0
    """Bytes of objects."""
    port: int = 0

    @property
    def bucket(self) -> Bucket:
        return Bucket(f"http://127.0.0.1:{self.port}", BUCKET)

    def put(self, key: str, body: bytes) -> Stored:
        """Keys may hold surrogate escapes: bytes that are no UTF-8."""
        self.objects[key] = Stored(body, hashlib.md5(body).hexdigest(), datetime.now(UTC).replace(microsecond=0))
        self.versions.setdefault(key, []).append(body)
        return self.objects[key]

    def got(self) -> list[str]:
        """The keys that were asked for by GET."""
        return [request.name for request in self.requests if request.verb == "GET"]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            while True:
                request = _parse(await reader.readuntil(b"\r\n\r\n"))
                self.requests.append(request)
                failing = self.fault(request) if self.fault is not None else None
                if failing == STALL:
                    await reader.read()
                    break
                answer = self._answer(request, failing)
                if failing == CUT:
                    writer.write(answer[: len(answer) - 1])
                    break
                writer.write(answer)
                await writer.drain()
        writer.close()

    def _answer(self, request: Request, failing: int | None) -> bytes:
        if failing is not None and failing > 0:
            return _error(
                failing, {403: "AccessDenied", 404: "NoSuchKey", 503: "SlowDown"}.get(failing, "InternalError")
            )
        if request.verb == "LIST":
            return _response(200, self._list(request.query), {"Content-Type": "application/xml"})
        if request.name == "":
            return _response(200, b"", {})
        found = self.objects.get(request.name)
        if found is None:
            return _error(404, "NoSuchKey", bodyless=request.verb == "HEAD")
        if request.headers.get("if-match", f'"{found.etag}"') != f'"{found.etag}"':
            return _error(412, "PreconditionFailed")
        headers = {"ETag": f'"{found.etag}"', "Last-Modified": format_datetime(found.modified, usegmt=True)}
        body = bytes(byte ^ 1 for byte in found.body) if failing == WRONG else found.body
        status = 200
        if "range" in request.headers:
            first, last = (int(text) for text in request.headers["range"].removeprefix("bytes=").split("-"))
            headers["Content-Range"] = f"bytes {first}-{last}/{len(body)}"
            status, body = 206, body[first : last + 1]
        if request.verb == "GET":
            self.sent += len(body)
        return _response(status, body, headers, bodyless=request.verb == "HEAD")

    def _order(self, key: str) -> bytes:
        raw = key.encode("utf-8", "surrogateescape")
        return raw.replace(b"/", b"\0") if self.by_directory else raw

    def _list(self, query: dict[str, str]) -> bytes:
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        token = bytes.fromhex(query.get("continuation-token", "")).decode("utf-8", "surrogateescape")
        after = token or query.get("start-after", "")
        most = min(self.page, int(query.get("max-keys", "1000")))
        entries: list[str] = []
        truncated = False
        for key in sorted(self.objects, key=self._order):
            if not key.startswith(prefix):
                continue
            end = key.find(delimiter, len(prefix)) if delimiter else -1
            entry = key if end < 0 else key[: end + 1]
            past = not after or (self._order(entry) > self._order(after))
            if not past or (entries and entries[-1] == entry and end >= 0):
                continue
            if len(entries) == most:
                truncated = True
                break
            entries.append(entry)
        return self._page(prefix, delimiter, entries, truncated)

    def _page(self, prefix: str, delimiter: str, entries: list[str], truncated: bool) -> bytes:
        parts = [f"<Name>{BUCKET}</Name><Prefix>{_written(prefix)}</Prefix><EncodingType>url</EncodingType>"]
        parts.append(f"<KeyCount>{len(entries)}</KeyCount><IsTruncated>{str(truncated).lower()}</IsTruncated>")
        if truncated:
            parts.append(
                f"<NextContinuationToken>{entries[-1].encode('utf-8', 'surrogateescape').hex()}</NextContinuationToken>"
            )
        for entry in entries:
            if delimiter and delimiter in entry[len(prefix) :]:
                parts.append(f"<CommonPrefixes><Prefix>{_written(entry)}</Prefix></CommonPrefixes>")
                continue
            stored = self.objects[entry]
            parts.append(
                f"<Contents><Key>{_written(entry)}</Key>"
                f"<LastModified>{stored.modified:%Y-%m-%dT%H:%M:%S}.000Z</LastModified>"
                f"<ETag>&quot;{stored.etag}&quot;</ETag><Size>{len(stored.body)}</Size>"
                "<StorageClass>STANDARD</StorageClass></Contents>"
            )
        return f"<ListBucketResult>{''.join(parts)}</ListBucketResult>".encode()


def _written(key: str) -> str:
    return quote(key, safe="/", errors="surrogateescape")


def _parse(head: bytes) -> Request:
    first, *lines = head.decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ")
    path, _, query = target.partition("?")
    pairs = dict(parse_qsl(query, keep_blank_values=True, errors="surrogateescape"))
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
    _, _, key = path.removeprefix("/").partition("/")
    if "list-type" in pairs:
        return Request("LIST", pairs.get("prefix", ""), pairs, headers)
    return Request(method, unquote(key, errors="surrogateescape"), pairs, headers)


def _response(status: int, body: bytes, headers: dict[str, str], *, bodyless: bool = False) -> bytes:
    lines = {"Date": format_datetime(datetime.now(UTC), usegmt=True), "Content-Length": str(len(body)), **headers}
    head = f"HTTP/1.1 {status} Any\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items()) + "\r\n"
    return head.encode("latin-1") + (b"" if bodyless else body)


def _error(status: int, code: str, *, bodyless: bool = False) -> bytes:
    body = f"<Error><Code>{code}</Code><Message>on order</Message></Error>".encode()
    return _response(status, body, {"Content-Type": "application/xml"}, bodyless=bodyless)


@contextmanager
def running(server: MemoryS3) -> Iterator[MemoryS3]:
    """Serves on a free loopback port, in a thread of its own."""
    loop = asyncio.new_event_loop()

    async def start() -> asyncio.Server:
        listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
        server.port = listener.sockets[0].getsockname()[1]
        return listener

    async def stop(listener: asyncio.Server) -> None:
        listener.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.sleep(0)

    thread = threading.Thread(target=loop.run_forever, name="memory-s3", daemon=True)
    thread.start()
    listener = asyncio.run_coroutine_threadsafe(start(), loop).result(10)
    try:
        yield server
    finally:
        asyncio.run_coroutine_threadsafe(stop(listener), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
