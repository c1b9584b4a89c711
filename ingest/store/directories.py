"""Directories below the data directory, walked by descriptors: no symlink is ever followed, at any level."""

from __future__ import annotations

import encodings.unicode_escape  # noqa: F401 - at first use no file may be left that Python could open
import errno
import os
import resource
import time
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass, field

from ingest.errors import DiskError, DiskFull, TooLargeForDisk, TooManyFiles, UnsafePath
from ingest.store.names import on_disk
from ingest.store.regular import NotRegular
from ingest.system.private_dirs import hand_over

OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
"""How a directory is opened that is ours."""
REFUSALS = frozenset({errno.EINVAL, errno.ENAMETOOLONG, errno.EILSEQ, errno.ENOENT})
"""What disks answer to a name that they do not take; exFAT's driver knows no better than ENOENT."""
_KINDS: dict[int, type[DiskError]] = {
    errno.ENOSPC: DiskFull,
    errno.EDQUOT: DiskFull,
    errno.EMFILE: TooManyFiles,
    errno.ENFILE: TooManyFiles,
    errno.ELOOP: UnsafePath,
}


_STALE = 1.1
"""Seconds after which a name that FUSE has told the kernel is asked for again (libfuse, ``entry_timeout``: 1)."""


class TakenByFile(Exception):
    """A file stands where a directory is needed, at segment number `depth`."""

    def __init__(self, depth: int) -> None:
        super().__init__(depth)
        self.depth = depth


class RefusedName(OSError):
    """The disk does not take the name of segment number `depth`, or not with its directory's permissions."""

    def __init__(self, error: OSError, depth: int) -> None:
        super().__init__(error.errno, error.strerror)
        self.depth = depth


def shown(path: str) -> str:
    """On one line, and in ASCII, for an operator."""
    return path.encode("unicode_escape").decode("ascii")


def disk_error(error: OSError, path: str) -> DiskError:
    """One line for an operator; the path is shown escaped."""
    where = shown(path)
    if isinstance(error, NotRegular):
        return UnsafePath(f"{where} is not a regular file, and is left alone", hint="Remove what stands there.")
    kind, hint = _KINDS.get(error.errno or 0, DiskError), None
    if error.errno == errno.EFBIG:
        if resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY:
            kind = TooLargeForDisk  # the disk's own limit
        else:
            hint = "This process may write no larger files: raise its limit (ulimit -f)."
    return kind(f"{where}: {os.strerror(error.errno) if error.errno else error}", hint=hint)


@dataclass
class Directories:
    """Descriptors of the directories below `root`, the most recently used ones kept open."""

    root: str
    keep: int = 128
    _open: OrderedDict[str, int] = field(default_factory=OrderedDict)
    _renewed: bool = False

    def at(self, path: str, *, create: bool = False) -> int:
        """A descriptor of the directory `path` (relative, ``""`` is the root); valid until the next call.

        Raises:
            TakenByFile: a file stands in the way. UnsafePath: a symlink does. FileNotFoundError: without `create`.
            RefusedName: one of the names cannot be made.
        """
        known = self._open.get(path)
        if known is not None:
            self._open.move_to_end(path)
            return known
        if not path:
            return self._remember("", os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        parent_path, _, name = path.rpartition("/")
        parent = self.at(parent_path, create=create)
        try:
            return self._remember(path, _descend(parent, name, create=create))
        except NotADirectoryError as error:
            depth = path.count("/")
            if _is_symlink(parent, name):
                raise UnsafePath(f"{path!r} is a symlink, and is not followed") from error
            raise TakenByFile(depth) from error
        except OSError as error:
            if create and (error.errno in REFUSALS or isinstance(error, PermissionError)):
                raise RefusedName(error, path.count("/")) from error
            raise

    def remove_empty(self, path: str) -> None:
        """Removes `path` and its parents as far as they are empty, but never the bucket's own directory."""
        self.forget()
        while "/" in path:
            parent, _, name = path.rpartition("/")
            try:
                os.rmdir(on_disk(name), dir_fd=self.at(parent))
            except OSError:
                return
            self.forget()
            path = parent

    def forget(self) -> None:
        """Closes all descriptors; the next use opens them again."""
        for descriptor in self._open.values():
            os.close(descriptor)
        self._open.clear()

    def renew(self) -> bool:
        """Where two names lead to one directory that was removed by the first, the kernel may hold on to the second
        (FUSE), and nothing can be made in it. Waits until it does not, once; False afterwards."""
        if self._renewed:
            return False
        self._renewed = True
        self.forget()
        time.sleep(_STALE)
        return True

    def _remember(self, path: str, descriptor: int) -> int:
        self._open[path] = descriptor
        while len(self._open) > self.keep:
            os.close(self._open.popitem(last=False)[1])
        return descriptor


def _descend(parent: int, name: str, *, create: bool) -> int:
    try:
        return os.open(on_disk(name), OPEN, dir_fd=parent)
    except FileNotFoundError:
        if not create:
            raise
    with suppress(FileExistsError):  # another run of ours made it in between
        os.mkdir(on_disk(name), 0o750, dir_fd=parent)
    made = os.open(on_disk(name), OPEN, dir_fd=parent)
    try:
        hand_over(made, parent)
    except BaseException:
        os.close(made)
        raise
    return made


def _is_symlink(parent: int, name: str) -> bool:
    try:
        return os.readlink(on_disk(name), dir_fd=parent) is not None
    except OSError:
        return False
