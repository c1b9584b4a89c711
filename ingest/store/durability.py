"""One barrier for many files: what was written is on the disk when `make_durable` returns.

On Linux one ``syncfs`` of the file system replaces an fsync of each file and directory; elsewhere each is synced.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Collection

_FEW = 4
"""Up to so many are synced one by one, which leaves other programs' dirty pages alone."""


def make_durable(names: Collection[str], open_one: Callable[[str], int], file_system: int) -> None:
    """Makes the files or directories behind `names` durable, all on the file system of the descriptor `file_system`.

    `open_one` opens a name; what it returns is closed again, and one at a time is open.

    Raises:
        OSError: the disk did not take it. What was written since the last barrier must be written again: the kernel
            may have dropped it, and a second fsync would wrongly succeed.
    """
    if len(names) > _FEW and _syncfs is not None:
        if _syncfs(file_system) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return
    for name in sorted(names):
        descriptor = open_one(name)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def start_writing(descriptor: int, start: int, end: int) -> None:
    """Has the kernel begin to write these bytes to the disk, and does not wait: the barrier then finds little to do.

    A hint, and no barrier: where it is not known, or fails, nothing happens.
    """
    if _sync_file_range is not None:
        _sync_file_range(descriptor, ctypes.c_int64(start), ctypes.c_int64(end - start), _START_WRITE)


def _find(name: str) -> ctypes._NamedFuncPointer | None:
    """A call of Linux's C library; None elsewhere."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        found: ctypes._NamedFuncPointer = getattr(ctypes.CDLL(None, use_errno=True), name)
    except (OSError, AttributeError):
        return None
    return found


_START_WRITE = 2  # SYNC_FILE_RANGE_WRITE
_syncfs, _sync_file_range = _find("syncfs"), _find("sync_file_range")
