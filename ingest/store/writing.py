"""Writes buffers one behind the other, until all is written."""

from __future__ import annotations

import os
from collections.abc import Sequence

_AT_ONCE = 64 << 10
"""Bytes of one call. For more the kernel looks for larger runs of free memory, and those are what a virtual machine
gives back to its host: asking for them again makes a write ten times as slow (docs/decisions/0012).
"""


def write_all(descriptor: int, chunks: Sequence[bytes | memoryview], start: int = 0) -> None:
    """Writes the chunks one behind the other from offset `start` on. Raises `OSError`."""
    for chunk in chunks:
        left = memoryview(chunk)
        while left:
            written = os.pwrite(descriptor, left[:_AT_ONCE], start)
            start += written
            left = left[written:]
