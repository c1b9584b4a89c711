"""What the disk knows of copies that were pruned, held against rows of a catalog that may be an older one."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from pathlib import Path

from ingest.catalog.copies import CopyRow
from ingest.errors import DiskError
from ingest.observe.logs import log
from ingest.store import pruned
from ingest.store.pruned import Pruned


def pruned_since(data_dir: Path, missing: Sequence[CopyRow]) -> set[str]:
    """The keys of those whose copy, in the version that the row tells of, was pruned after the row was written."""
    places = [row.local_path for row in missing if row.local_path is not None]
    noted = pruned.noted(data_dir, places)
    return {
        row.remote.key
        for row in missing
        if row.downloaded_at is not None
        and (at := noted.get((row.local_path or "", row.remote.etag))) is not None
        and at >= row.downloaded_at
    }


def note_pruned(data_dir: Path, removed: Collection[CopyRow], at: datetime) -> None:
    """Notes that these are gone, for a catalog that is put back from before. A full disk is no reason to stop."""
    lines = [Pruned(row.local_path, row.remote.etag, at) for row in removed if row.local_path is not None]
    try:
        pruned.note(data_dir, lines)
    except DiskError as error:
        log().warning("pruned_not_noted", error=error.code, message=error.message)
