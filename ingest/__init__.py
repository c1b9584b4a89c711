"""Async batch sync and ingestion of S3 objects, with a catalog instead of a comparison with the disk.

The public names are imported when first asked for, so that ``import ingest`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ingest.engine.options import SyncOptions
    from ingest.errors import IngestError
    from ingest.jobs.sync import sync
    from ingest.model import RemoteObject, RunReport, RunStatus
    from ingest.plan.selection import Selection
    from ingest.settings import Settings
    from ingest.source.blocking import BlockingS3Client
    from ingest.source.client import S3Client
    from ingest.tasks.stop import Stop

_HOMES = {
    "BlockingS3Client": "ingest.source.blocking",
    "IngestError": "ingest.errors",
    "RemoteObject": "ingest.model",
    "RunReport": "ingest.model",
    "RunStatus": "ingest.model",
    "S3Client": "ingest.source.client",
    "Selection": "ingest.plan.selection",
    "Settings": "ingest.settings",
    "Stop": "ingest.tasks.stop",
    "SyncOptions": "ingest.engine.options",
    "sync": "ingest.jobs.sync",
}

__all__ = [
    "BlockingS3Client",
    "IngestError",
    "RemoteObject",
    "RunReport",
    "RunStatus",
    "S3Client",
    "Selection",
    "Settings",
    "Stop",
    "SyncOptions",
    "sync",
]
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'ingest' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
