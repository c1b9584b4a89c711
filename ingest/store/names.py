"""Names as the disk has them: the UTF-8 bytes of the text, whatever the locale is."""

from __future__ import annotations

import os


def on_disk(name: str) -> bytes:
    """The bytes of a name; halves of letters, which stand for bytes that are no UTF-8, become these bytes again."""
    return name.encode("utf-8", "surrogateescape")


def from_disk(name: bytes) -> str:
    """The text of these bytes, with halves of letters for what is no UTF-8."""
    return name.decode("utf-8", "surrogateescape")


def of_disk(name: str) -> str:
    """The same of a name as `os` lists it, which is in the locale's encoding."""
    return from_disk(os.fsencode(name))
