"""HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY, as curl and its kin read them: the one place that does."""

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
                    hint="Check the proxy's variable (HTTPS_PROXY), or name the server in NO_PROXY.",
                )
        except BaseException:
            tunnel.close()
            raise
        return tunnel


def proxy_for(scheme: str, host: str, port: int, environ: Mapping[str, str] | None = None) -> Proxy | None:
    """The proxy that the environment names for this server, or None.

    ``HTTPS_PROXY`` or ``HTTP_PROXY`` by the server's scheme, else ``ALL_PROXY``; lower case counts before upper case,
    and an empty one is none. ``NO_PROXY`` excludes; see `_is_excluded`.

    Raises:
        SettingsError: the variable holds no ``http://host:port``.
    """
    variables = os.environ if environ is None else environ
    names = [f"{scheme}_proxy", f"{scheme}_proxy".upper(), "all_proxy", "ALL_PROXY"]
    name = next((name for name in names if variables.get(name, "").strip()), None)
    excluded = variables.get("no_proxy") or variables.get("NO_PROXY") or ""
    if name is None or _is_excluded(host.lower(), port, excluded):
        return None
    return _parsed(variables[name].strip(), name.upper())


def _parsed(url: str, name: str) -> Proxy:
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        found, port = parts.hostname, 80 if parts.port is None else parts.port
    except ValueError:
        found, port = None, 0
    if not found or not port or parts.scheme != "http" or not url.isascii() or len(url.split()) != 1:
        raise SettingsError(
            f"{name} is not usable; it wants http://host:port",
            hint="Proxies that want TLS or SOCKS themselves cannot be used; NO_PROXY names servers that need none.",
        )
    authorization = ""
    if parts.username is not None:
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = "Basic " + b64encode(login.encode()).decode("ascii")
    return Proxy(found, port, authorization)


def _is_excluded(host: str, port: int, excluded: str) -> bool:
    """NO_PROXY, as curl reads it: names (with all below them, with or without a leading ``.`` or ``*.``), addresses,
    networks, each optionally with ``:port``; ``*`` for all. Between them commas or blanks. No name is looked up to be
    compared with an address."""
    bare = host.rstrip(".")
    return any(_is_covered(bare, port, rule) for rule in excluded.lower().replace(",", " ").split())


def _is_covered(host: str, port: int, rule: str) -> bool:
    name, colon, number = rule.rpartition(":")
    if colon and number.isdigit() and (":" not in name or name.endswith("]")):
        return int(number) == port and _is_covered(host, port, name)
    name = rule.removeprefix("*.").strip(".")
    if name and (name in ("*", host) or host.endswith(f".{name}")):
        return True
    return _is_in_network(host, rule.removeprefix("[").removesuffix("]"))


def _is_in_network(host: str, network: str) -> bool:
    """An address is a network of its own, however it is written."""
    if not (network[:1].isdigit() or ":" in network):
        return False
    from ipaddress import ip_address, ip_network  # for the few who write networks

    try:
        return ip_address(host) in ip_network(network, strict=False)
    except ValueError:
        return False
