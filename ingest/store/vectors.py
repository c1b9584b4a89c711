"""Writes many buffers by few calls, until all is written."""

from __future__ import annotations

import os
from collections.abc import Sequence

_MOST = 512
"""Buffers for one call; Linux takes 1024 (IOV_MAX)."""


def write_all(descriptor: int, chunks: Sequence[bytes], start: int = 0) -> None:
    """Writes the chunks one behind the other from offset `start` on. Raises `OSError`."""
    left: list[bytes | memoryview] = list(chunks)
    while left:
        written = os.pwritev(descriptor, left[:_MOST], start)
        start += written
        whole = 0
        while whole < len(left) and written >= len(left[whole]):
            written -= len(left[whole])
            whole += 1
        del left[:whole]
        if written:  # the call ended in the middle of a chunk
            left[0] = memoryview(left[0])[written:]
