"""Opens connections to one server, directly or through a proxy, and says plainly why one cannot be had."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections.abc import Callable
from typing import TypeVar

from ingest.errors import (
    ConnectionLost,
    ConnectionRefused,
    ConnectionTimedOut,
    NameNotResolved,
    SourceError,
    TooManyFiles,
)
from ingest.http.proxy import Proxy
from ingest.http.tls import MAY_WANT_OURS, tls_error

P = TypeVar("P", bound=asyncio.BaseProtocol)

_ADDRESSES_KEPT = 60.0
"""Seconds that resolved addresses are used: opening 100 connections asks the resolver once."""
_UNREACHABLE = frozenset({errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN, errno.EADDRNOTAVAIL})
_NO_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE})


class Dialer:
    """`connect` opens a connection to host and port; with `tls`, the certificate is checked before anything is sent.

    With a `proxy`, TLS goes through a tunnel (CONNECT), and plain HTTP is simply sent to the proxy.
    """

    def __init__(
        self, host: str, port: int, *, tls: ssl.SSLContext | None, proxy: Proxy | None = None, timeout: float = 10.0
    ) -> None:
        self._host, self._port = host, port
        self._tls = tls
        self._proxy = proxy
        self._timeout = timeout
        self._addresses: list[str] = []
        self._resolved_at = 0.0
        self._resolving = asyncio.Lock()

    def __str__(self) -> str:
        return f"[{self._host}]:{self._port}" if ":" in self._host else f"{self._host}:{self._port}"

    @property
    def secure(self) -> bool:
        return self._tls is not None

    async def connect(self, make: Callable[[], P]) -> P:
        """A connected protocol of `make`.

        Raises:
            SourceError: ConnectionRefused, ConnectionTimedOut, NameNotResolved, ConnectionLost, or a TlsError.
            TooManyFiles: this process may open no more.
        """
        fault: SourceError | TooManyFiles
        try:
            async with asyncio.timeout(self._timeout):
                return await self._connect(make)
        except TimeoutError:
            fault = ConnectionTimedOut(f"{self} did not accept a connection within {self._timeout:g} s")
        except ssl.SSLError as error:
            fault = tls_error(error, str(self))
        except OSError as error:
            fault = self._explained(error)
        except SourceError as error:
            fault = error
        if isinstance(fault, SourceError):
            fault.sent = False
        raise fault

    async def _connect(self, make: Callable[[], P]) -> P:
        loop = asyncio.get_running_loop()
        host, port = (self._proxy.host, self._proxy.port) if self._proxy else (self._host, self._port)
        addresses = await self._resolve(host, port)
        deadline = loop.time() + self._timeout
        for position, address in enumerate(addresses):
            remaining = len(addresses) - position
            try:
                # Every address gets its share, or a first one that swallows packets would hide a second that works.
                async with asyncio.timeout((deadline - loop.time()) / remaining):
                    connected = await self._connect_to(address, port, make)
            except OSError as error:  # a TimeoutError is one
                if remaining == 1 or isinstance(error, ssl.SSLError):
                    raise
            else:
                self._prefer(address)
                return connected
        raise NameNotResolved(f"{host} has no address")

    async def _connect_to(self, address: str, port: int, make: Callable[[], P]) -> P:
        loop = asyncio.get_running_loop()
        name = self._host if self._tls is not None else None
        if self._proxy is not None and self._tls is not None:
            tunnel = await self._proxy.open_tunnel(address, self._host, self._port)
            _, protocol = await loop.create_connection(make, sock=tunnel, ssl=self._tls, server_hostname=name)
        else:
            _, protocol = await loop.create_connection(make, address, port, ssl=self._tls, server_hostname=name)
        return protocol

    async def _resolve(self, host: str, port: int) -> list[str]:
        loop = asyncio.get_running_loop()
        async with self._resolving:
            if not self._addresses or loop.time() > self._resolved_at + _ADDRESSES_KEPT:
                found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
                self._addresses = list(dict.fromkeys(str(address[0]) for *_, address in found))
                self._resolved_at = loop.time()
            return list(self._addresses)

    def _prefer(self, address: str) -> None:
        if self._addresses and self._addresses[0] != address:
            self._addresses = [address, *(other for other in self._addresses if other != address)]

    def _explained(self, error: OSError) -> SourceError | TooManyFiles:
        via = f" (through the proxy {self._proxy})" if self._proxy else ""
        if isinstance(error, socket.gaierror):
            name = self._proxy.host if self._proxy else self._host
            return NameNotResolved(f"the name {name} cannot be resolved: {error.strerror}")
        if isinstance(error, ConnectionRefusedError):
            return ConnectionRefused(f"{self} refused the connection{via}")
        if isinstance(error, ConnectionError):
            hint = MAY_WANT_OURS if self.secure else None
            return ConnectionLost(f"{self} closed the connection while it was opened{via}", hint=hint)
        reason = error.strerror or str(error)
        if error.errno in _UNREACHABLE:
            return ConnectionRefused(f"{self} cannot be reached: {reason}{via}")
        if error.errno in _NO_DESCRIPTORS:
            return TooManyFiles(f"{self}: {reason}")
        return ConnectionLost(f"{self}: {reason}{via}")
