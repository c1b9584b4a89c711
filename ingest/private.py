"""Directories that only their owner and group may enter, whatever the umask."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

MODE = 0o750


def make_directories(path: Path) -> None:
    """Makes `path` and what is missing above it, each with the mode 0750. What exists is left as it is.

    Raises:
        OSError: one of them cannot be made, or something else stands in its place.
    """
    # `mkdir(parents=True)` would give its mode to the last one only.
    for directory in (*reversed(path.parents), path):
        if not directory.is_dir():
            with suppress(FileExistsError):  # another run made it in between; if not, the next step fails
                directory.mkdir(mode=MODE)
    if not path.is_dir():
        raise NotADirectoryError(20, "Not a directory", str(path))
