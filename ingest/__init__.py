"""Async batch sync and ingestion of S3 objects, with a catalog instead of a comparison with the disk.

The public names (docs/library.md) are imported when first asked for, so that ``import ingest`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

_NAMES = {
    "ingest": "errors testing",
    "ingest.engine.options": "SyncOptions",
    "ingest.errors": "IngestError SettingsError SourceError",
    "ingest.jobs.sync": "sync",
    "ingest.model": "RemoteObject RunReport RunStatus",
    "ingest.plan.selection": "Selection",
    "ingest.settings": "Settings",
    "ingest.source.blocking": "BlockingS3Client",
    "ingest.source.client": "S3Client",
    "ingest.source.object_head": "ObjectHead",
    "ingest.tasks.stop": "Stop",
}
_HOMES = {name: home for home, names in _NAMES.items() for name in names.split()}

__all__ = list(_HOMES)
__version__ = "0.1.0"

if TYPE_CHECKING:  # the same names once more, for who reads them without running anything
    from ingest import errors as errors
    from ingest import testing as testing
    from ingest.engine.options import SyncOptions as SyncOptions
    from ingest.errors import IngestError as IngestError
    from ingest.errors import SettingsError as SettingsError
    from ingest.errors import SourceError as SourceError
    from ingest.jobs.sync import sync as sync
    from ingest.model import RemoteObject as RemoteObject
    from ingest.model import RunReport as RunReport
    from ingest.model import RunStatus as RunStatus
    from ingest.plan.selection import Selection as Selection
    from ingest.settings import Settings as Settings
    from ingest.source.blocking import BlockingS3Client as BlockingS3Client
    from ingest.source.client import S3Client as S3Client
    from ingest.source.object_head import ObjectHead as ObjectHead
    from ingest.tasks.stop import Stop as Stop
else:

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module 'ingest' has no attribute {name!r}")
        home = _HOMES[name]
        found = import_module(f"ingest.{name}") if home == "ingest" else getattr(import_module(home), name)
        globals()[name] = found
        return found

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
