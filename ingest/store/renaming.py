"""Renames a file to a name that nobody has."""

from __future__ import annotations

import ctypes
import errno
import os

_NO_REPLACE = 1
"""``RENAME_NOREPLACE`` (renameat2(2), Linux)."""
_UNKNOWN = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})
"""What systems and disks answer that do not know it."""


def rename_to_none(source: str, source_directory: int, name: bytes, directory: int) -> None:
    """Both names are in the directories of their descriptors. Where system or disk cannot do it in one step, a name
    that comes to be taken within microseconds is replaced.

    Raises:
        FileExistsError: the name is taken, and was left as it is. OSError: as `os.rename`.
    """
    number = _renameat2(source_directory, os.fsencode(source), directory, name)
    if number in _UNKNOWN:
        if _is_taken(name, directory):
            number = errno.EEXIST
        else:
            os.rename(source, name, src_dir_fd=source_directory, dst_dir_fd=directory)
            number = 0
    if number:
        raise OSError(number, os.strerror(number))


def _renameat2(source_directory: int, source: bytes, directory: int, name: bytes) -> int:
    """The number of its error; 0 when it is done."""
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        call = libc.renameat2
    except AttributeError:
        return errno.ENOSYS
    return ctypes.get_errno() if call(source_directory, source, directory, name, _NO_REPLACE) else 0


def _is_taken(name: bytes, directory: int) -> bool:
    try:
        os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True
