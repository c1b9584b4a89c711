"""What was pruned, on the disk as well: a backup of the catalog that is put back does not know it, and it is no damage.

``.ingest/pruned/YYYY-MM.log`` has a line for each copy, durable before the copy goes. All of it blocks.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from ingest.store.directories import disk_error
from ingest.store.durability import sync_file
from ingest.store.regular import open_regular
from ingest.store.writing import write_all
from ingest.system.private_dirs import make_directories

KEPT = timedelta(days=400)
"""A backup that is older knows nothing of use."""


class Pruned(NamedTuple):
    """One version of one copy, and when it was about to go."""

    local_path: str
    etag: str
    at: datetime


def note(data_dir: Path, pruned: Collection[Pruned]) -> None:
    """Adds these durably; drops what is too old to matter.

    Raises:
        DiskError: the disk does not take it.
    """
    if not pruned:
        return
    directory, now = data_dir / ".ingest" / "pruned", max(one.at for one in pruned)
    lines = [json.dumps([one.local_path, one.etag, one.at.isoformat()]) + "\n" for one in pruned]
    try:
        make_directories(directory)
        descriptor = open_regular(directory / f"{now:%Y-%m}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            write_all(descriptor, ["".join(lines).encode()], os.fstat(descriptor).st_size)
            sync_file(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise disk_error(error, str(directory)) from error
    oldest = f"{now - KEPT:%Y-%m}.log"
    for path in directory.glob("[0-9]*.log"):
        if path.name < oldest:
            with suppress(OSError):
                path.unlink()


def noted(data_dir: Path, local_paths: Collection[str]) -> dict[tuple[str, str], datetime]:
    """By local path and etag: when a copy at one of these places last went. What cannot be read says nothing."""
    wanted, found = frozenset(local_paths), dict[tuple[str, str], datetime]()
    for path, etag, at in _lines(data_dir) if wanted else ():
        if path in wanted:
            found[path, etag] = max(at, found.get((path, etag), at))
    return found


def _lines(data_dir: Path) -> Iterator[Pruned]:
    for file in sorted((data_dir / ".ingest" / "pruned").glob("[0-9]*.log")):
        with suppress(OSError), os.fdopen(open_regular(file, os.O_RDONLY), "r", encoding="utf-8") as lines:
            for line in lines:
                with suppress(ValueError, TypeError):  # cut short by a power cut
                    path, etag, at = json.loads(line)
                    yield Pruned(path, etag, datetime.fromisoformat(at))
