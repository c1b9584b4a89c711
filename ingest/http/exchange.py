"""One request and its answer, as values."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import NamedTuple

Headers = dict[bytes, bytes]
"""Names in lower case. Of a repeated header the last one counts."""

STREAMED_STATUS = frozenset({200, 206})
"""Only these bodies are streamed; any other is an error document, and is collected."""
MOST_ERROR_BYTES = 64 << 10
"""What is kept of an error document; the rest is not read."""
Body = bytes | Callable[[], AsyncGenerator[bytes, None]]
"""What follows a request's head, as long as its ``Content-Length`` says: bytes, or a function that makes it piece by
piece, and is called anew when the request has to be sent once more. What it raises ends the request unfinished."""


class Response(NamedTuple):
    """`chunks` are the body: none where it is streamed; cut at `MOST_ERROR_BYTES` where the status is no success."""

    status: int
    headers: Headers
    chunks: list[bytes]
    seconds: float = 0.0
    """From the request to the head of its answer."""

    @property
    def body(self) -> bytes:
        return self.chunks[0] if len(self.chunks) == 1 else b"".join(self.chunks)


class Exchange(NamedTuple):
    """One request, and what to expect of its answer. `max_body` in bytes.

    It may be sent twice (see `StaleConnection`), so it has to be idempotent: by its method, or by a key in its head.
    """

    head: bytes
    max_body: int = 0
    bodyless: bool = False
    """The answer has no body, whatever its headers say: HEAD."""
    streamed: bool = False
    into: memoryview | None = None
    """Where a streamed body goes, whose length should be this one's. What is there after an error means nothing."""
    body: Body | None = None
    lenient: bool = False
    """The answer's body is words for people: cut at `MOST_ERROR_BYTES`, and it may end with the connection."""


def stays_open(version: str, headers: Headers) -> bool:
    """Whether a server that answers so reads a further request on the same connection (RFC 9112, section 9.3)."""
    said = {option.strip() for option in headers.get(b"connection", b"").lower().split(b",")}
    return b"close" not in said and (version == "1.1" or b"keep-alive" in said)


class StaleConnection(Exception):
    """A kept-alive connection ended before the first byte of the answer: the request may be sent once more."""


class BodyOverflow(Exception):
    """The body is longer than the place that was meant for it."""
