"""HTTP_PROXY, HTTPS_PROXY and NO_PROXY, as curl and its kin read them."""

from __future__ import annotations

import asyncio
import os
import socket
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from ingest.errors import ConnectionLost, ConnectionRefused, SettingsError

_MOST_ANSWER_BYTES = 16 << 10


@dataclass(frozen=True, slots=True)
class Proxy:
    """`authorization` is the value of ``Proxy-Authorization``; empty without credentials."""

    host: str
    port: int
    authorization: str = field(default="", repr=False)

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    async def open_tunnel(self, address: str, host: str, port: int) -> socket.socket:
        """A socket on which the proxy at `address` passes everything to host and port (RFC 9110, CONNECT).

        Raises:
            ConnectionRefused: the proxy does not open it. ConnectionLost: it closed the connection. OSError: others.
        """
        loop = asyncio.get_running_loop()
        tunnel = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
        try:
            tunnel.setblocking(False)
            await loop.sock_connect(tunnel, (address, self.port))
            target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
            if self.authorization:
                lines.append(f"Proxy-Authorization: {self.authorization}")
            await loop.sock_sendall(tunnel, ("\r\n".join(lines) + "\r\n\r\n").encode())
            answer = b""
            while not answer.endswith(b"\r\n\r\n"):  # the server speaks after us: nothing may follow the head
                received = await loop.sock_recv(tunnel, 4096)
                answer += received
                if not received or len(answer) > _MOST_ANSWER_BYTES:
                    raise ConnectionLost(f"the proxy {self} did not answer CONNECT")
            status_line = answer.split(b"\r\n", 1)[0].split(b" ", 2)
            if len(status_line) < 2 or not status_line[1].startswith(b"2"):
                said = b" ".join(status_line[1:])[:100].decode("ascii", "replace")
                raise ConnectionRefused(
                    f"the proxy {self} refused a tunnel to {target}: {said}",
                    hint="Check HTTPS_PROXY, or name the server in NO_PROXY.",
                )
        except BaseException:
            tunnel.close()
            raise
        return tunnel


def proxy_for(scheme: str, host: str, port: int, environ: Mapping[str, str] | None = None) -> Proxy | None:
    """The proxy that the environment names for this server, or None.

    Raises:
        SettingsError: the variable holds no ``http://host:port``.
    """
    variables = os.environ if environ is None else environ
    name = f"{scheme}_proxy"
    url = variables.get(name) or variables.get(name.upper()) or ""
    excluded = variables.get("no_proxy") or variables.get("NO_PROXY") or ""
    if not url or _is_excluded(host.lower(), port, excluded):
        return None
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        found, found_port = parts.hostname, parts.port or 80
    except ValueError:
        found = None
    if not found or parts.scheme != "http":
        raise SettingsError(f"{name.upper()} is not usable; it wants http://host:port")
    authorization = ""
    if parts.username is not None:
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = "Basic " + b64encode(login.encode()).decode("ascii")
    return Proxy(found, found_port, authorization)


def _is_excluded(host: str, port: int, excluded: str) -> bool:
    """NO_PROXY: ``*``, names (with all below them), addresses, networks, each optionally with ``:port``."""
    return any(_is_covered(host, port, rule.strip().lower()) for rule in excluded.split(","))


def _is_covered(host: str, port: int, rule: str) -> bool:
    name, colon, number = rule.rpartition(":")
    if colon and number.isdigit() and ":" not in name:
        return int(number) == port and _is_covered(host, port, name)
    name = rule.lstrip(".")
    if name and (name in ("*", host) or host.endswith(f".{name}")):
        return True
    return "/" in rule and _is_in_network(host, rule)


def _is_in_network(host: str, network: str) -> bool:
    from ipaddress import ip_address, ip_network  # for the few who write networks

    try:
        return ip_address(host) in ip_network(network, strict=False)
    except ValueError:
        return False
