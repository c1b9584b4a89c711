"""A byte-ordered S3 server of millions of keys that it does not store: ``python -m benchmarks.synthetic``.

It answers ListObjectsV2 with everything that clients ask for, GET and HEAD, for one bucket and any credentials, far
quicker than clients ask: a page is a slice of one block, rendered at the start. ``/-/set?new=1&delay=0.05`` shows the
new keys and makes every page wait; ``/-/counts`` tells what was asked for since then. It ends when its input ends.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime, formatdate
from typing import get_args
from urllib.parse import parse_qsl, quote, unquote_to_bytes
from xml.sax.saxutils import escape

import uvloop

from benchmarks.keyspace import EVERY, KeySpace, Layout
from benchmarks.loopback import until_input_ends

BUCKET = "bench"
_MOST_KEYS = 1_000
_CONTROL = "/-/"
_XML = "Content-Type: application/xml\r\n"


class Lister:
    """Answers to ListObjectsV2."""

    def __init__(self, keys: KeySpace) -> None:
        self.keys = keys
        self.new = False
        """Whether the new keys are listed."""
        block = bytearray()
        for first in range(0, keys.size, 10_000):
            block += b"".join(keys.entries(first, min(first + 10_000, keys.size)))
        self._block = memoryview(bytes(block))
        self._width = len(block) // keys.size if keys.size else 0
        if self._width * keys.size != len(block):
            raise ValueError("the entries differ in length")

    def page(self, query: dict[str, str]) -> list[bytes | memoryview]:
        """The pieces of one answer's body."""
        prefix, delimiter = query.get("prefix", "").encode(), query.get("delimiter", "").encode()
        most = min(int(query.get("max-keys") or _MOST_KEYS), _MOST_KEYS)
        start, end = self.keys.bounds(prefix)
        if query.get("continuation-token"):
            start = max(start, self._resume(query["continuation-token"]))
        elif query.get("start-after"):
            start = max(start, self.keys.behind(query["start-after"].encode()))
        if delimiter:
            entries, folded, last, more = self._folded(start, end, prefix, delimiter, most)
        else:
            entries, last, more = self._plain(start, end, most)
            folded = []
        token = base64.urlsafe_b64encode(last).decode() if more else ""
        count = len(folded) + sum(map(len, entries)) // (self._width or 1)
        return [*_opening(query, count, most, token), *entries, *_closing(query, folded)]

    def _resume(self, token: str) -> int:
        kind, last = (marker := base64.urlsafe_b64decode(token))[:1], marker[1:]
        return self.keys.bounds(last)[1] if kind == b"p" else self.keys.behind(last)

    def _plain(self, start: int, end: int, most: int) -> tuple[list[memoryview], bytes, bool]:
        """The entries from `start`, a marker for where they end, and whether more follow before `end`."""
        if start >= end or not most:
            return [], b"", False
        if self.new:
            stop = min(start + most, end)
            return [self._slice(start, stop)], b"k" + self.keys.key(stop - 1), stop < end
        first, behind = self.keys.rank(start), self.keys.rank(end)
        last = min(first + most, behind)
        if first >= last:
            return [], b"", False
        # The block without what is new: from one new key to the next.
        pieces, rank = [], first
        while rank < last:
            number = self.keys.number(rank)
            run = min(last - rank, self.keys.next_new(number) - number)
            pieces.append(self._slice(number, number + run))
            rank += run
        return pieces, b"k" + self.keys.key(self.keys.number(last - 1)), last < behind

    def _folded(
        self, start: int, end: int, prefix: bytes, delimiter: bytes, most: int
    ) -> tuple[list[memoryview], list[bytes], bytes, bool]:
        """Like `_plain`, with the common prefixes."""
        entries: list[memoryview] = []
        folded: list[bytes] = []
        last, number = b"", start
        while most and number < end:
            if not self.new and self.keys.is_new(number):
                number += 1
                continue
            if len(entries) + len(folded) >= most:
                return entries, folded, last, True
            key = self.keys.key(number)
            cut = key.find(delimiter, len(prefix))
            if cut < 0:
                entries.append(self._slice(number, number + 1))
                last, number = b"k" + key, number + 1
            else:
                common = key[: cut + len(delimiter)]
                folded.append(common)
                last, number = b"p" + common, self.keys.bounds(common)[1]
        return entries, folded, last, False

    def _slice(self, first: int, last: int) -> memoryview:
        return self._block[first * self._width : last * self._width]


def _opening(query: dict[str, str], count: int, most: int, token: str) -> list[bytes]:
    encoded = "encoding-type" in query
    fields = [
        ("Name", BUCKET),
        ("Prefix", _written(query.get("prefix", ""), encoded)),
        ("KeyCount", str(count)),
        ("MaxKeys", str(most)),
        ("IsTruncated", "true" if token else "false"),
    ]
    fields += [
        (name, _written(query[parameter], encoded))
        for name, parameter in (("Delimiter", "delimiter"), ("StartAfter", "start-after"))
        if query.get(parameter)
    ]
    if query.get("continuation-token"):
        fields.append(("ContinuationToken", query["continuation-token"]))
    if token:
        fields.append(("NextContinuationToken", token))
    text = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in fields)
    start = '<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
    return [f"{start}{text}".encode()]


def _closing(query: dict[str, str], folded: list[bytes]) -> list[bytes]:
    encoded = "encoding-type" in query
    text = "".join(
        f"<CommonPrefixes><Prefix>{escape(_written(common.decode(), encoded))}</Prefix></CommonPrefixes>"
        for common in folded
    )
    text += "<EncodingType>url</EncodingType>" if encoded else ""
    return [f"{text}</ListBucketResult>".encode()]


def _written(text: str, encoded: bool) -> str:
    return quote(text, safe="/") if encoded else text


@dataclass
class Site:
    """What the connections share. `delay` is in seconds, before each page."""

    listing: Lister
    delay: float = 0.0
    pages: int = 0
    objects: int = 0

    def set(self, query: dict[str, str]) -> None:
        self.listing.new = query.get("new") == "1"
        self.delay = float(query.get("delay", 0))
        self.pages = self.objects = 0


class Connection(asyncio.Protocol):
    """HTTP/1.1 with keep-alive; requests have no bodies here."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._buffer = b""
        self._waiting = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]  # a stream's protocol gets a stream

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._advance()

    def _advance(self) -> None:
        while not self._waiting and (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head, self._buffer = self._buffer[:end].decode("latin-1"), self._buffer[end + 4 :]
            first, *lines = head.split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            method, target, _ = first.split(" ")
            path, _, text = target.partition("?")
            self._answer(method, path, dict(parse_qsl(text, keep_blank_values=True)), headers)

    def _answer(self, method: str, path: str, query: dict[str, str], headers: dict[str, str]) -> None:
        bucket, _, key = unquote_to_bytes(path.lstrip("/")).partition(b"/")
        if path.startswith(_CONTROL):
            self._control(path, query)
        elif method not in ("GET", "HEAD") or headers.get("content-length", "0") != "0":
            self._refuse(method, "501 Not Implemented", "NotImplemented")
            self._transport.close()
        elif bucket != BUCKET.encode():
            self._refuse(method, "404 Not Found", "NoSuchBucket")
        elif key:
            self._object(method, key, headers)
        elif query.get("list-type") == "2":
            self._page(query)
        elif method == "HEAD":
            self._send("200 OK", "x-amz-bucket-region: us-east-1\r\n", [])
        elif "location" in query:
            self._send("200 OK", _XML, [b"<LocationConstraint/>"])
        else:
            self._refuse(method, "501 Not Implemented", "NotImplemented")

    def _control(self, path: str, query: dict[str, str]) -> None:
        if path == f"{_CONTROL}set":
            self._site.set(query)
        counts = {"pages": self._site.pages, "objects": self._site.objects}
        self._send("200 OK", "", [json.dumps(counts).encode()])

    def _page(self, query: dict[str, str]) -> None:
        self._site.pages += 1
        if not self._site.delay:
            self._send("200 OK", _XML, self._site.listing.page(query))
            return
        self._waiting = True
        asyncio.get_running_loop().call_later(self._site.delay, self._page_at_last, query)

    def _page_at_last(self, query: dict[str, str]) -> None:
        self._waiting = False
        if not self._transport.is_closing():
            self._send("200 OK", _XML, self._site.listing.page(query))
            self._advance()

    def _object(self, method: str, key: bytes, headers: dict[str, str]) -> None:
        keys = self._site.listing.keys
        number = keys.find(key)
        if number is None or (keys.is_new(number) and not self._site.listing.new):
            self._refuse(method, "404 Not Found", "NoSuchKey")
            return
        content, etag = keys.body(number)
        if headers.get("if-match", etag).strip('"') != etag:
            self._refuse(method, "412 Precondition Failed", "PreconditionFailed")
            return
        modified = format_datetime(datetime.fromisoformat(keys.modified(number)).replace(tzinfo=UTC), usegmt=True)
        described = (
            f'ETag: "{etag}"\r\nLast-Modified: {modified}\r\nAccept-Ranges: bytes\r\nContent-Type: application/pdf\r\n'
        )
        status, part = "200 OK", content
        if headers.get("range", "").startswith("bytes="):
            first, _, last = headers["range"].removeprefix("bytes=").partition("-")
            start, stop = int(first), min(int(last or len(content)) + 1, len(content))
            if start >= len(content):
                self._refuse(method, "416 Range Not Satisfiable", "InvalidRange")
                return
            status, part = "206 Partial Content", content[start:stop]
            described += f"Content-Range: bytes {start}-{stop - 1}/{len(content)}\r\n"
        self._site.objects += method == "GET"
        self._send(status, described, [part], bodiless=method == "HEAD")

    def _refuse(self, method: str, status: str, code: str) -> None:
        body = f"<Error><Code>{code}</Code><Message>{status}</Message></Error>".encode()
        self._send(status, _XML, [body], bodiless=method == "HEAD")

    def _send(self, status: str, described: str, body: list[bytes | memoryview], *, bodiless: bool = False) -> None:
        head = (
            f"HTTP/1.1 {status}\r\nServer: MinIO\r\nDate: {formatdate(usegmt=True)}\r\n{described}"
            f"Content-Length: {sum(map(len, body))}\r\n\r\n"
        )
        self._transport.writelines([head.encode(), *([] if bodiless else body)])


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=200_000, help="old keys")
    parser.add_argument("--layout", choices=get_args(Layout), default="dates")
    parser.add_argument("--every", type=int, default=EVERY, help="old keys to one new one")
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    site = Site(Lister(KeySpace(options.keys, options.layout, every=options.every)))
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(site), "127.0.0.1", options.port, backlog=1_024)
    await until_input_ends(server)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(main())
