"""Opens files, and nothing else: what is no regular file is refused, and holds nobody up."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from typing import BinaryIO

from ingest.system.private_dirs import hand_over

_CHUNK = 1 << 20
_ALWAYS = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # a named pipe must not hold the thread for ever


class NotRegular(OSError):
    """A named pipe, a device or a directory stands where a file is needed."""


def open_regular(
    name: str | bytes | os.PathLike[str], flags: int, mode: int = 0o640, *, dir_fd: int | None = None
) -> int:
    """As `os.open`, never through a symlink, and without waiting for whoever may be at the other end of a pipe.

    Raises:
        NotRegular: it is no regular file, and was left as it is. OSError: as `os.open`.
    """
    try:
        descriptor = os.open(name, flags | _ALWAYS, mode, dir_fd=dir_fd)
    except OSError as error:
        if error.errno in (errno.ENXIO, errno.EISDIR):  # a pipe that nobody reads; a directory, to be written
            raise NotRegular(errno.EINVAL, "not a regular file") from error
        raise
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise NotRegular(errno.EINVAL, "not a regular file")
        if flags & os.O_CREAT:
            hand_over(descriptor, (os.path.dirname(os.fsdecode(name)) or ".") if dir_fd is None else dir_fd)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def same_bytes(one: str | bytes, one_fd: int, other: str | bytes, other_fd: int) -> bool:
    """Whether two regular files, each in the directory of its descriptor, hold the same; not if one cannot be read."""
    with suppress(OSError), _reading(one, one_fd) as left, _reading(other, other_fd) as right:
        if os.fstat(left.fileno()).st_size != os.fstat(right.fileno()).st_size:
            return False
        while (chunk := left.read(_CHUNK)) == right.read(_CHUNK):
            if not chunk:
                return True
    return False


def _reading(name: str | bytes, directory: int) -> BinaryIO:
    return os.fdopen(open_regular(name, os.O_RDONLY, dir_fd=directory), "rb", buffering=_CHUNK)
