"""What may stand behind the question mark of a PostgreSQL URL: the names of PostgreSQL's own tools, for both drivers.

SQLAlchemy's dialect would hand any name on as an argument of asyncpg, which has none for `sslmode`; asyncpg takes those
only from a URL of its own.
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
_NAME = re.compile(r"[a-z_]{1,40}")


def connect_arguments(query: str) -> dict[str, Any]:
    """The arguments of `asyncpg.connect` that a query string stands for.

    Raises:
        SettingsError: a parameter that is not known, or a value that cannot be meant. No value is shown.
    """
    found: dict[str, Any] = {}
    for written, value in parse_qsl(query, keep_blank_values=True):
        name = _ALSO.get(written, written)
        if name not in _PLACE | _TLS | _SECONDS.keys():
            # With an @ behind it, this is the rest of a password that has a bare question mark in it.
            shown = f" {name}" if _NAME.fullmatch(name) and "@" not in query else ""
            known = (
                "sslmode, sslrootcert, sslcert, sslkey, sslcrl, host, port, user, password, dbname, connect_timeout "
                "and command_timeout"
            )
            raise SettingsError(
                f"DATABASE_URL: its parameter{shown} is not known; it may have {known}, "
                "and a `?` in the password is written percent-encoded"
            )
        found[name] = value
    tls = {name: found.pop(name) for name in sorted(_TLS & found.keys())}
    _require_usable(tls)
    if "port" in found:
        found["port"] = _port(found["port"])
    for name, meant in _SECONDS.items():
        if name in found:
            found[meant] = _seconds(name, found.pop(name))
    return found | ({"dsn": f"postgresql://?{urlencode(tls)}"} if tls else {})


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
