"""Signature version 4 for S3 requests without a body, one request head at a time.

What does not change within a second (scope, signing key, the canonical headers of each set of names) is built once and
kept, so that a request costs one SHA-256 and one HMAC.
Source of the rules: AWS, "Signature Version 4 signing process", with S3's exceptions (paths are not normalised, the
payload's hash is a header).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from hashlib import sha256
from hmac import digest as hmac_digest
from typing import NamedTuple

from ingest.source.credentials import Credentials

EMPTY_SHA256 = sha256(b"").hexdigest()
_ALGORITHM = "AWS4-HMAC-SHA256"
_IPAD = bytes(byte ^ 0x36 for byte in range(256))
_OPAD = bytes(byte ^ 0x5C for byte in range(256))
_SHA256_BLOCK = 64


class _Template(NamedTuple):
    """One set of header names, for one second; ``%s`` stands for each header value in its order."""

    canonical: str
    sent: str


class Signer:
    """Makes signed request heads for one host.

    `unsigned` are complete header lines (each ending in CRLF) that are sent with every request and not signed, since
    proxies may alter them. `target_prefix` stands before the path in the request line: ``http://host`` when the
    request goes through a plain HTTP proxy, else empty.
    """

    def __init__(
        self,
        credentials: Credentials,
        *,
        region: str,
        host: str,
        unsigned: str = "",
        target_prefix: str = "",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.credentials = credentials
        self._region = region
        self._host = host
        self._unsigned = unsigned
        self._target_prefix = target_prefix
        self._clock = clock
        self._second = -1
        self._day = ""
        self._timestamp = ""
        self._templates: dict[tuple[str, ...], _Template] = {}
        self._to_sign_start = ""
        self._inner = self._outer = sha256()

    def __repr__(self) -> str:
        return f"Signer({self._host!r}, region={self._region!r})"

    def use(self, credentials: Credentials) -> None:
        """Signs with these credentials from now on."""
        if credentials != self.credentials:
            self._day = ""
            self._second = -1
        self.credentials = credentials

    def sign(
        self, method: str, path: str, query: str = "", names: tuple[str, ...] = (), values: Sequence[str] = ()
    ) -> bytes:
        """A complete request head, ready to be sent.

        `path` and `query` are percent-encoded already, the query's parameters in order (`endpoint.quote_key`,
        `quote_query`). `names` are the further headers to sign, lower-case, unique and in order; `values` belong to
        them. White space in values is collapsed, as the signature wants it, so that no value can end its line.

        Raises:
            ValueError: `names` are not in order.
        """
        second = int(self._clock())
        if second != self._second:
            self._start_second(second)
        template = self._templates.get(names) or self._build_template(names)
        values = tuple([" ".join(value.split()) for value in values])
        canonical = f"{method}\n{path}\n{query}\n{template.canonical % values}"
        to_sign = self._to_sign_start + sha256(canonical.encode()).hexdigest()
        inner = self._inner.copy()
        inner.update(to_sign.encode())
        outer = self._outer.copy()
        outer.update(inner.digest())
        target = f"{path}?{query}" if query else path
        head = f"{method} {self._target_prefix}{target} HTTP/1.1\r\n{template.sent % values}{outer.hexdigest()}\r\n\r\n"
        return head.encode()

    def _start_second(self, second: int) -> None:
        moment = time.gmtime(second)
        self._second = second
        self._timestamp = time.strftime("%Y%m%dT%H%M%SZ", moment)
        self._templates.clear()
        day = self._timestamp[:8]
        if day != self._day:
            self._start_day(day)
        self._to_sign_start = f"{_ALGORITHM}\n{self._timestamp}\n{self._scope}\n"

    def _start_day(self, day: str) -> None:
        """The signing key holds for a day; HMAC's two key blocks are hashed here once (RFC 2104)."""
        key = f"AWS4{self.credentials.secret_key}".encode()
        for step in (day, self._region, "s3", "aws4_request"):
            key = hmac_digest(key, step.encode(), "sha256")
        block = key.ljust(_SHA256_BLOCK, b"\0")
        self._inner, self._outer = sha256(block.translate(_IPAD)), sha256(block.translate(_OPAD))
        self._day = day

    @property
    def _scope(self) -> str:
        return f"{self._day}/{self._region}/s3/aws4_request"

    def _build_template(self, names: tuple[str, ...]) -> _Template:
        if list(names) != sorted({name.lower() for name in names}):
            raise ValueError(f"header names must be lower-case, unique and in order: {names}")
        own = {"host": self._host, "x-amz-content-sha256": EMPTY_SHA256, "x-amz-date": self._timestamp}
        if self.credentials.session_token:
            own["x-amz-security-token"] = self.credentials.session_token
        lines = {name: value.replace("%", "%%") for name, value in own.items()} | dict.fromkeys(names, "%s")
        ordered = sorted(lines.items())
        signed = ";".join(lines_name for lines_name, _ in ordered)
        canonical = "".join(f"{name}:{value}\n" for name, value in ordered) + f"\n{signed}\n{EMPTY_SHA256}"
        credential = f"{self.credentials.access_key}/{self._scope}".replace("%", "%%")
        sent = "".join(f"{name}: {value}\r\n" for name, value in ordered) + self._unsigned.replace("%", "%%")
        sent += f"authorization: {_ALGORITHM} Credential={credential}, SignedHeaders={signed}, Signature="
        template = _Template(canonical, sent)
        self._templates[names] = template
        return template
