"""Paths as people write them: ``~`` is the home directory, and a relative one in a file is relative to that file."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import quote, unquote

_FILES_IN_A_URL = re.compile(r"(?<=[?&])(sslrootcert|sslcert|sslkey|sslcrl)=([^&]*)")
_HOME = ("~", "%7E", "%7e")


def anchored(path: str, base: Path | None = None) -> str:
    """`path` with its home directory, below `base` where it is relative; None: as it is read where we are."""
    expanded = os.path.expanduser(path)
    return expanded if base is None else os.path.join(base, expanded)


def anchored_url(url: str, base: Path | None = None) -> str:
    """A database URL whose files are anchored: SQLite's own, and the certificates of a connection to PostgreSQL."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url
    if not scheme.startswith("sqlite"):
        return _FILES_IN_A_URL.sub(lambda found: f"{found[1]}={_quoted(found[2], base)}", url)
    slash, path = rest[:1], rest[1:]
    is_plain = slash == "/" and path and not path.startswith(("/", ":")) and "?" not in path
    if not is_plain or (base is None and not path.startswith(_HOME)):
        return url
    return f"{scheme}:///{_quoted(path, base)}"


def _quoted(path: str, base: Path | None) -> str:
    return quote(anchored(unquote(path), base))
