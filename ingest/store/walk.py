"""Every file below a bucket's directory, by descriptors: no symlink is followed, at any level; each is reported.

Blocks, and belongs in a worker thread. Memory is that of the names beside the current path, whatever lies below.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from ingest.errors import UnsafePath
from ingest.store.directories import Directories, TakenByFile, disk_error
from ingest.store.names import of_disk


class FoundFile(NamedTuple):
    """`path` is relative to the bucket's directory; it holds surrogates where a name is not UTF-8."""

    path: str
    is_symlink: bool
    modified: float
    """Seconds since the epoch."""


def walk(data_dir: Path, own: str, wanted: Callable[[str], bool] = lambda _: True) -> Iterator[FoundFile]:
    """All that is no directory below ``<data_dir>/<own>``; directories whose path is not `wanted` are left out.

    Raises:
        DiskError: a directory cannot be read. UnsafePath: the bucket's own directory is a symlink.
    """
    directories = Directories(str(data_dir))
    try:
        waiting = [""]
        while waiting:
            directory = waiting.pop()
            below: list[str] = []
            yield from _files(directories, own, directory, below)
            waiting.extend(path for path in below if wanted(path))
    finally:
        directories.forget()


def _files(directories: Directories, own: str, directory: str, below: list[str]) -> Iterator[FoundFile]:
    """The directory's files; the paths of its directories go to `below`."""
    try:
        with os.scandir(directories.at(f"{own}/{directory}" if directory else own)) as entries:
            for entry in entries:
                name = of_disk(entry.name)
                path = f"{directory}/{name}" if directory else name
                if entry.is_dir(follow_symlinks=False):
                    below.append(path)
                    continue
                try:
                    modified = entry.stat(follow_symlinks=False).st_mtime
                except FileNotFoundError:
                    continue  # removed since it was listed
                yield FoundFile(path, entry.is_symlink(), modified)
    except (FileNotFoundError, TakenByFile):
        return  # nothing was ever stored, or it was removed since it was listed
    except UnsafePath:
        if not directory:
            raise
        yield FoundFile(directory, is_symlink=True, modified=0.0)
    except OSError as error:
        raise disk_error(error, f"{own}/{directory}") from error
