"""How far the catalog was when it last worked on this data directory: a backup that is put back is behind that."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from ingest.store.regular import open_regular

_NAME = "last-run"
_AHEAD_OF_ALL = 1 << 62


def last_run(data_dir: Path) -> int:
    """The number of the newest run that ended here; 0 where nobody knows."""
    with suppress(OSError, ValueError):
        return int((data_dir / ".ingest" / _NAME).read_text(encoding="ascii")[:32])
    return 0


def note_run(data_dir: Path, run_id: int) -> None:
    """Notes it, where that can be done: it is a hint, for which no run fails."""
    path = data_dir / ".ingest" / _NAME
    draft = path.with_name(f"{_NAME}.{os.getpid()}.new")
    try:
        descriptor = open_regular(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(f"{run_id}\n")
        os.replace(draft, path)
    except OSError:
        with suppress(OSError):
            draft.unlink()  # a full disk has taken the name, and not what it was to hold


def note_behind(data_dir: Path) -> None:
    """Notes that the catalog is behind, until a run is noted again: its numbers catch up long before its rows do."""
    note_run(data_dir, _AHEAD_OF_ALL)
