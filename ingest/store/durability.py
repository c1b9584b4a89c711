"""One barrier for many files: what was written is on the disk when `make_durable` returns.

On Linux one ``syncfs`` of the file system replaces an fsync of each file and directory; elsewhere each is synced. Where
a file system knows no such call, the next best is done, as SQLite and LevelDB do, and it is said once
(docs/operations.md, "Which disks"). A call that fails for any other reason is a failed disk.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from collections.abc import Callable, Collection

from ingest.observe.logs import log

_FEW = 4
"""Up to so many are synced one by one, which leaves other programs' dirty pages alone."""
_NO_SUCH_CALL = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EPERM})
"""What a kernel, a file system or a sandbox answers that does not know a call: nothing was tried, and nothing lost."""
_NO_DIRECTORY = _NO_SUCH_CALL | {errno.EBADF, errno.EISDIR, errno.EACCES}
"""The same of a directory's fsync: some file systems want what is synced to be open for writing."""
_said: set[str] = set()


def make_durable(
    names: Collection[str], open_one: Callable[[str], int], file_system: int, *, directories: bool = False
) -> None:
    """Makes the files (or `directories`) behind `names` durable, all on the file system of `file_system`, a descriptor.

    `open_one` opens a name; what it returns is closed again, and one at a time is open.

    Raises:
        OSError: the disk did not take it. What was written since the last barrier must be written again: the kernel
            may have dropped it, and a second fsync would wrongly succeed.
    """
    if len(names) > _FEW and _sync_file_system(file_system):
        return
    for name in sorted(names):
        descriptor = open_one(name)
        try:
            (sync_directory if directories else sync_file)(descriptor)
        finally:
            os.close(descriptor)


def sync_file(descriptor: int) -> None:
    """fsync; where the file system has none for a file, all of it is synced. Raises `OSError`."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SUCH_CALL:
            raise
        _say("fsync of a file", error)
        if not _sync_file_system(descriptor):
            os.sync()


def sync_directory(descriptor: int) -> None:
    """fsync of a directory; where the file system has none for directories, it makes names durable by itself, or late.

    Raises:
        OSError: the disk did not take it.
    """
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_DIRECTORY:
            raise
        _say("fsync of a directory", error)


def start_writing(descriptor: int, start: int, end: int) -> None:
    """Has the kernel begin to write these bytes to the disk, and does not wait: the barrier then finds little to do.

    A hint, and no barrier: where it is not known, or fails, nothing happens.
    """
    if _sync_file_range is not None:
        _sync_file_range(descriptor, ctypes.c_int64(start), ctypes.c_int64(end - start), _START_WRITE)


def _sync_file_system(descriptor: int) -> bool:
    """Whether there is a ``syncfs``: then everything on the descriptor's file system is durable."""
    if _syncfs is None:
        return False
    if _syncfs(descriptor) == 0:
        return True
    error = OSError(number := ctypes.get_errno(), os.strerror(number))
    if number not in _NO_SUCH_CALL:
        raise error
    _say("syncfs", error)
    return False


def _say(call: str, error: OSError) -> None:
    if call not in _said:
        _said.add(call)
        said = f"this disk or kernel has no {call} ({error.strerror}); the next best is done in its place"
        log().warning("durability_reduced", call=call, message=said)


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
