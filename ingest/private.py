"""Directories that only their owner and group may enter, whatever the umask."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

MODE = 0o750


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
                _sync(directory.parent)
    if not path.is_dir():
        raise NotADirectoryError(20, "Not a directory", str(path))


def _sync(directory: Path) -> None:
    with suppress(OSError):  # not readable for us, or nothing to be had: whoever writes below meets the disk's faults
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
