"""The way to one server, the same for whoever asks: directly or through a proxy of the environment, over TLS or not.

Nothing else of the environment counts: no ``~/.netrc`` is ever read, no login but the caller's is sent.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import NamedTuple, Self

from ingest.http.dial import Dialer
from ingest.http.proxy import Proxy, proxy_for
from ingest.settings.trust import Trust

DEFAULT_PORTS = {"https": 443, "http": 80}


class Route(NamedTuple):
    """`host` is a name or an address, without brackets. Heads are made for exactly this way."""

    scheme: str
    host: str
    port: int
    tls: ssl.SSLContext | None
    proxy: Proxy | None

    @classmethod
    def to(cls, scheme: str, host: str, port: int | None, trust: Trust) -> Self:
        """
        Raises:
            SettingsError: a proxy's variable, or a file of `trust`, cannot be used.
        """
        port = port or DEFAULT_PORTS[scheme]
        tls = trust.context() if scheme == "https" else None
        return cls(scheme, host, port, tls, proxy_for(scheme, host, port))

    @property
    def host_header(self) -> str:
        return host_header(self.scheme, self.host, self.port)

    @property
    def target_prefix(self) -> str:
        """What stands before a path in the request line: a proxy of plain HTTP has to be told the server."""
        return f"http://{self.host_header}" if self.proxy is not None and self.tls is None else ""

    @property
    def lines(self) -> str:
        """Header lines that the way wants, each with its CRLF."""
        told = self.proxy is not None and self.proxy.authorization and self.tls is None
        return f"Proxy-Authorization: {self.proxy.authorization}\r\n" if self.proxy is not None and told else ""

    def dialer(self, timeout: float) -> Dialer:
        return Dialer(self.host, self.port, tls=self.tls, proxy=self.proxy, timeout=timeout)

    def head(self, method: str, target: str, headers: Mapping[str, str]) -> bytes:
        """A request's head. `target` is a path with its query, percent-encoded; the headers hold no line breaks."""
        lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
        start = f"{method} {self.target_prefix}{target} HTTP/1.1\r\nHost: {self.host_header}\r\n"
        return f"{start}{self.lines}{lines}\r\n".encode("latin-1")


def host_header(scheme: str, host: str, port: int) -> str:
    """Host and port as they are sent, and signed: the scheme's default port is left out, as every client does."""
    shown = f"[{host}]" if ":" in host else host
    return shown if port == DEFAULT_PORTS[scheme] else f"{shown}:{port}"
