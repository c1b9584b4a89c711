"""Files and directories that only their owner and group may enter, whatever the umask, and whoever made them.

What root makes belongs to whom the directory belongs that it is made in: the files that one command of root's left
would keep out the user who owns the data directory, every night after it. SQLite does the same for what it makes beside
a database.
"""

from __future__ import annotations

import os
import pwd
import stat
from contextlib import suppress
from pathlib import Path

MODE = 0o750


def hand_over(made: int, directory: int | str | os.PathLike[str]) -> None:
    """Gives what `made` is a descriptor of to the owner of the directory that it lies in, where root has made it.

    A file that has another name elsewhere is left as it is: whoever gave it that name may have chosen it.

    Raises:
        OSError: root may not do so here.
    """
    if os.geteuid() != 0 or (owner := os.stat(directory)).st_uid == 0:
        return
    found = os.fstat(made)
    if found.st_uid == 0 and (stat.S_ISDIR(found.st_mode) or found.st_nlink == 1):
        os.fchown(made, owner.st_uid, owner.st_gid)


def owner_kept_out(directory: Path) -> str | None:
    """By name, who owns this directory (or the nearest that is there above it) and could not open what we make in it.

    None where nobody is kept out: that is so unless we are root, and may not give files away.
    """
    while os.geteuid() == 0:
        try:
            owner = os.stat(directory)
            if owner.st_uid != 0:
                os.chown(directory, owner.st_uid, owner.st_gid)  # whose it is already: only to see whether we may
        except PermissionError:
            return _name_of(owner.st_uid)
        except OSError:
            if directory != directory.parent:
                directory = directory.parent
                continue
        return None
    return None


def _name_of(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"user {user}"


def make_directories(path: Path) -> None:
    """Makes `path` and what is missing above it, each with the mode 0750 and, where its parent lets us, durably. What
    exists is left as it is.

    Raises:
        OSError: one of them cannot be made, or something else stands in its place.
    """
    # `mkdir(parents=True)` would give its mode to the last one only.
    for directory in (*reversed(path.parents), path):
        if not directory.is_dir():
            with suppress(FileExistsError):  # another run made it in between; if not, the next step fails
                directory.mkdir(mode=MODE)
                _give_up(directory)
                _sync(directory.parent)
    if not path.is_dir():
        raise NotADirectoryError(20, "Not a directory", str(path))


def _give_up(directory: Path) -> None:
    if os.geteuid() == 0:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            hand_over(descriptor, directory.parent)
        finally:
            os.close(descriptor)


def _sync(directory: Path) -> None:
    with suppress(OSError):  # not readable for us, or nothing to be had: whoever writes below meets the disk's faults
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
