"""What may stand behind the question mark of a PostgreSQL URL: the names of PostgreSQL's own tools.

asyncpg has no argument for `sslmode` and its kind: it takes them only from a URL of its own.
"""

from __future__ import annotations

import os
import re
from typing import Any
from urllib.parse import parse_qsl, urlencode

from ingest.errors import SettingsError

MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_FILES = frozenset({"sslrootcert", "sslcert", "sslkey", "sslcrl"})
_TLS = _FILES | {"sslmode"}
_PLACE = frozenset({"host", "port", "user", "password", "database"})
_ALSO = {"dbname": "database", "ssl": "sslmode"}
"""Other names for the same: libpq's, and SQLAlchemy's."""
_SECONDS = {"connect_timeout": "timeout", "command_timeout": "command_timeout"}
"""Times, and what they are called here: how long a new connection may take, and one answer."""
_SERVERS = ("any", "read-write", "primary")
"""Of libpq's `target_session_attrs` those that a catalog can be written at."""
_NAME = re.compile(r"[a-z_]{1,40}")


def connect_arguments(query: str) -> dict[str, Any]:
    """The arguments of `asyncpg.connect` that a query string stands for.

    Raises:
        SettingsError: a parameter that is not known, or a value that cannot be meant. No value is shown.
    """
    found: dict[str, Any] = {}
    for written, value in parse_qsl(query, keep_blank_values=True):
        name = _ALSO.get(written, written)
        if name not in _PLACE | _TLS | _SECONDS.keys() | {"target_session_attrs"}:
            # With an @ behind it, this is the rest of a password that has a bare question mark in it.
            shown = f" {name}" if _NAME.fullmatch(name) and "@" not in query else ""
            known = (
                "sslmode, sslrootcert, sslcert, sslkey, sslcrl, host, port, user, password, dbname, connect_timeout, "
                "command_timeout and target_session_attrs"
            )
            raise SettingsError(
                f"DATABASE_URL: its parameter{shown} is not known; it may have {known}, "
                "and a `?` in the password is written percent-encoded"
            )
        found[name] = f"{found[name]},{value}" if name == "host" and name in found else value
    tls = {name: found.pop(name) for name in sorted(_TLS & found.keys())}
    _require_usable(tls)
    if "host" in found or "port" in found:
        found = places(found.pop("host", ""), found.pop("port", "")) | found
    if found.get("target_session_attrs", _SERVERS[0]) not in _SERVERS:
        raise SettingsError(f"DATABASE_URL: target_session_attrs wants one of {', '.join(_SERVERS)}: we write there")
    for name, meant in _SECONDS.items():
        if name in found:
            found[meant] = _seconds(name, found.pop(name))
    return found | ({"dsn": f"postgresql://?{urlencode(tls)}"} if tls else {})


def places(hosts: str, ports: str = "") -> dict[str, Any]:
    """``host`` and ``port`` for the driver: of several servers, separated by commas, a list each.

    A host may have its port behind it, and a path is a directory of sockets.

    Raises:
        SettingsError: a port cannot be meant.
    """
    written = [_apart(host) for host in hosts.split(",") if host]
    behind = ports.split(",") if ports else []
    if len(written) < 2:
        said = {"host": hosts, "port": _port(ports) if ports else None}
        return {name: value for name, value in said.items() if value}
    if len(behind) not in (0, 1, len(written)):
        raise SettingsError("DATABASE_URL: port wants one number, or one for each host")
    usual = behind if len(behind) > 1 else (behind or ["5432"]) * len(written)
    found = [(host, _port(own or other)) for (host, own), other in zip(written, usual, strict=True)]
    return {
        "host": [host for host, _ in found],
        "port": [port for _, port in found],
        "target_session_attrs": "read-write",  # of several, most only copy the one that is written
    }


def _apart(host: str) -> tuple[str, str]:
    """Name and port, which may be empty; of IPv6 addresses only those in brackets have one."""
    if host.startswith("["):
        name, _, port = host.partition("]")
        return name[1:], port.removeprefix(":")
    return (host, "") if "/" in host or host.count(":") > 1 else (host.partition(":")[0], host.partition(":")[2])


def _require_usable(tls: dict[str, str]) -> None:
    if tls.get("sslmode", MODES[0]) not in MODES:
        raise SettingsError(f"DATABASE_URL: sslmode wants one of {', '.join(MODES)}")
    for name in sorted(_FILES & tls.keys()):
        if not os.path.isfile(tls[name]):
            raise SettingsError(f"DATABASE_URL: {name} names no file that is there")


def _port(written: str) -> int:
    if not (written.isascii() and written.isdigit() and 0 < int(written[:6]) < 65536):
        raise SettingsError("DATABASE_URL: port wants a number from 1 to 65535")
    return int(written)


def _seconds(name: str, written: str) -> float:
    if not (written.isascii() and written.isdigit() and 0 < int(written[:6]) <= 86_400):
        raise SettingsError(f"DATABASE_URL: {name} wants whole seconds, from 1 to 86400")
    return float(written)
