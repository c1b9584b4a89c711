"""A small S3 server that misbehaves on order: correct listings, objects and heads, except where a `Fault` says so.

It keeps keys exactly, lists in byte order (or, asked to, directory by directory), honours ``Range`` and ``If-Match``,
and notes every request. A fault is a deed done in place of the correct answer, which it receives and may spoil.
"""

from __future__ import annotations

import base64
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from hashlib import md5
from typing import NamedTuple
from urllib.parse import parse_qs, quote, unquote

from tests.fixtures.raw_server import RawServer, Visit, raw_server

BUCKET = "statements"
MODIFIED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class Answer(NamedTuple):
    status: str
    headers: dict[str, str]
    body: bytes = b""

    @property
    def head(self) -> bytes:
        """With the length of the body, unless the headers say something of it."""
        headers = self.headers
        if not {"Content-Length", "Transfer-Encoding", "Connection"} & headers.keys():
            headers = {**headers, "Content-Length": str(len(self.body))}
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return f"HTTP/1.1 {self.status}\r\n{lines}\r\n".encode()

    def plus(self, body: bytes | None = None, /, **headers: str) -> Answer:
        """With another body, and further headers (``_`` for ``-``)."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self._replace(body=self.body if body is None else body, headers=self.headers | named)


class Asked(NamedTuple):
    """One request: `operation` is list, get, head or head_bucket; `key` the object's, or the prefix listed."""

    operation: str
    key: str
    query: Mapping[str, str]
    headers: Mapping[str, str]


Deed = Callable[[Visit, Answer], Awaitable[None]]


@dataclass
class Fault:
    """Done to requests of `operation`: to those for `key` (a listing: to those that show it), or to all.

    `after` so many that match, to the next `times`.
    """

    operation: str
    deed: Deed
    key: str | None = None
    after: int = 0
    times: int = 1 << 30
    met: int = 0

    def applies(self, asked: Asked, answer: Answer) -> bool:
        shown = f"<Key>{quote(self.key or '')}</Key>".encode() in answer.body if asked.operation == "list" else False
        if asked.operation != self.operation or (self.key is not None and self.key != asked.key and not shown):
            return False
        self.met += 1
        return self.after < self.met <= self.after + self.times


@dataclass
class FaultyServer:
    """`objects` and `faults` may be changed at any time; `asked` holds every request so far."""

    objects: dict[str, bytes]
    faults: list[Fault] = field(default_factory=list)
    page_size: int = 3
    name: str = "MinIO"
    """The ``Server`` header: MinIO is known to list in byte order, SeaweedFS directory by directory."""
    asked: list[Asked] = field(default_factory=list)
    raw: RawServer = field(default_factory=RawServer)
    scheme: str = "http"

    @property
    def endpoint(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.raw.port}"

    def count(self, operation: str, key: str | None = None) -> int:
        return sum(asked.operation == operation and key in (None, asked.key) for asked in self.asked)

    async def serve(self, visit: Visit) -> None:
        asked = parse(visit.head)
        self.asked.append(asked)
        answer = self.answer(asked)
        for fault in self.faults:
            if fault.applies(asked, answer):
                await fault.deed(visit, answer)
                return
        await visit.send(answer.head, b"" if asked.operation.startswith("head") else answer.body)

    def answer(self, asked: Asked) -> Answer:
        """What a sane server says."""
        common = {"Server": self.name, "Date": date()}
        if asked.operation == "head_bucket":
            return Answer("200 OK", common)
        if asked.operation == "list":
            return Answer("200 OK", common | {"Content-Type": "application/xml"}, self.listing(asked.query))
        body = self.objects.get(asked.key)
        if body is None:
            return refusal("404 Not Found", "NoSuchKey")
        common |= {"ETag": f'"{etag_of(body)}"', "Last-Modified": format_datetime(MODIFIED, usegmt=True)}
        if asked.headers.get("if-match", common["ETag"]) != common["ETag"]:
            return refusal("412 Precondition Failed", "PreconditionFailed")
        if "range" not in asked.headers:
            return Answer("200 OK", common, body)
        first, last = map(int, asked.headers["range"].removeprefix("bytes=").split("-"))
        if first >= len(body):
            return refusal("416 Range Not Satisfiable", "InvalidRange")
        piece = body[first : last + 1]
        common["Content-Range"] = f"bytes {first}-{first + len(piece) - 1}/{len(body)}"
        return Answer("206 Partial Content", common, piece)

    def listing(self, query: Mapping[str, str]) -> bytes:
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        token = query.get("continuation-token", "")
        after = base64.b64decode(token).decode() if token else query.get("start-after", "")
        room = min(self.page_size, int(query.get("max-keys", "1000")))
        entries = list(self._entries(prefix, delimiter, after))
        shown, more = entries[:room], len(entries) > room
        texts = [self._entry(key) for key in shown if key in self.objects and not self._folds(key, prefix, delimiter)]
        texts += [
            f"<CommonPrefixes><Prefix>{quote(key)}</Prefix></CommonPrefixes>"
            for key in shown
            if key not in self.objects
        ]
        following = base64.b64encode(shown[-1].encode()).decode() if more else ""
        return (
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<Name>{BUCKET}</Name><Prefix>{quote(prefix)}</Prefix><KeyCount>{len(shown)}</KeyCount>"
            f"<MaxKeys>{room}</MaxKeys><EncodingType>url</EncodingType><IsTruncated>{str(more).lower()}</IsTruncated>"
            + (f"<NextContinuationToken>{following}</NextContinuationToken>" if more else "")
            + "".join(texts)
            + "</ListBucketResult>"
        ).encode()

    def _entries(self, prefix: str, delimiter: str, after: str) -> Iterator[str]:
        """Keys and common prefixes of this question, in the server's order."""
        folded = dict.fromkeys(
            self._folds(key, prefix, delimiter) or key for key in self.objects if key.startswith(prefix)
        )
        for name in sorted(folded, key=self._order):
            if self._order(name) > self._order(after):
                yield name

    def _order(self, name: str) -> str:
        return name.replace("/", "\0") if self.name.startswith("SeaweedFS") else name

    @staticmethod
    def _folds(key: str, prefix: str, delimiter: str) -> str:
        head, found, _ = key[len(prefix) :].partition(delimiter) if delimiter else ("", "", "")
        return prefix + head + found if found else ""

    def _entry(self, key: str) -> str:
        body = self.objects[key]
        return (
            f"<Contents><Key>{quote(key)}</Key><LastModified>{MODIFIED:%Y-%m-%dT%H:%M:%S}.000Z</LastModified>"
            f"<ETag>&quot;{etag_of(body)}&quot;</ETag><Size>{len(body)}</Size>"
            "<StorageClass>STANDARD</StorageClass></Contents>"
        )


def etag_of(body: bytes) -> str:
    return md5(body).hexdigest()


def date() -> str:
    return format_datetime(datetime.now(UTC), usegmt=True)


def refusal(status: str, code: str, **headers: str) -> Answer:
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>by order</Message></Error>".encode()
    return Answer(status, {"Date": date()}, body if code else b"").plus(**headers)


def parse(head: bytes) -> Asked:
    request, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    method, target, _ = request.split(" ")
    path, _, search = target.partition("?")
    query = {name: values[0] for name, values in parse_qs(search, keep_blank_values=True).items()}
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    key = unquote(path.removeprefix(f"/{BUCKET}").removeprefix("/"))
    if key:
        return Asked(method.lower(), key, query, headers)
    operation = "head_bucket" if method == "HEAD" else "list"
    return Asked(operation, query.get("prefix", ""), query, headers)


@asynccontextmanager
async def faulty_server(
    objects: Mapping[str, bytes], *, tls: ssl.SSLContext | None = None, page_size: int = 3, name: str = "MinIO"
) -> AsyncIterator[FaultyServer]:
    server = FaultyServer(dict(objects), page_size=page_size, name=name, scheme="https" if tls else "http")
    async with raw_server(server.serve, tls=tls) as raw:
        server.raw = raw
        yield server
