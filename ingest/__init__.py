"""Async batch sync and ingestion of S3 objects, with a catalog instead of a comparison with the disk.

The public names (docs/library.md) are imported when first asked for, so that ``import ingest`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

_NAMES = {
    "ingest": "errors testing",
    "ingest.catalog.holds": "Hold",
    "ingest.engine.options": "CheckOptions CleanupOptions ConsumeOptions DeliverOptions HoldOptions "
    "LetterOptions RestoreOptions SyncOptions VerifyOptions",
    "ingest.errors": "IngestError PartialRun SettingsError SourceError",
    "ingest.jobs.answers": "History RunRecord SourceStatus",
    "ingest.jobs.check": "Step check",
    "ingest.jobs.cleanup": "cleanup",
    "ingest.jobs.consume": "consume",
    "ingest.jobs.deadletters": "discard_letters letters retry_letters",
    "ingest.jobs.deliver": "deliver",
    "ingest.jobs.hold": "hold holds release",
    "ingest.jobs.restore": "restore",
    "ingest.jobs.show": "history ls runs status",
    "ingest.jobs.sync": "backfill sync",
    "ingest.jobs.verify": "verify",
    "ingest.model": "Counts RemoteObject RunReport RunStatus",
    "ingest.observe.progress": "Progress",
    "ingest.plan.selection": "Selection",
    "ingest.settings": "Settings",
    "ingest.source.blocking": "BlockingS3Client",
    "ingest.source.client": "S3Client",
    "ingest.source.object_head": "ObjectHead",
    "ingest.tasks.stop": "Stop StopReason",
}
_HOMES = {name: home for home, names in _NAMES.items() for name in names.split()}

__all__ = list(_HOMES)
__version__ = "0.1.0"

if TYPE_CHECKING:  # the same names once more, for who reads them without running anything
    from ingest import errors as errors
    from ingest import testing as testing
    from ingest.catalog.holds import Hold as Hold
    from ingest.engine.options import CheckOptions as CheckOptions
    from ingest.engine.options import CleanupOptions as CleanupOptions
    from ingest.engine.options import ConsumeOptions as ConsumeOptions
    from ingest.engine.options import DeliverOptions as DeliverOptions
    from ingest.engine.options import HoldOptions as HoldOptions
    from ingest.engine.options import LetterOptions as LetterOptions
    from ingest.engine.options import RestoreOptions as RestoreOptions
    from ingest.engine.options import SyncOptions as SyncOptions
    from ingest.engine.options import VerifyOptions as VerifyOptions
    from ingest.errors import IngestError as IngestError
    from ingest.errors import PartialRun as PartialRun
    from ingest.errors import SettingsError as SettingsError
    from ingest.errors import SourceError as SourceError
    from ingest.jobs.answers import History as History
    from ingest.jobs.answers import RunRecord as RunRecord
    from ingest.jobs.answers import SourceStatus as SourceStatus
    from ingest.jobs.check import Step as Step
    from ingest.jobs.check import check as check
    from ingest.jobs.cleanup import cleanup as cleanup
    from ingest.jobs.consume import consume as consume
    from ingest.jobs.deadletters import discard_letters as discard_letters
    from ingest.jobs.deadletters import letters as letters
    from ingest.jobs.deadletters import retry_letters as retry_letters
    from ingest.jobs.deliver import deliver as deliver
    from ingest.jobs.hold import hold as hold
    from ingest.jobs.hold import holds as holds
    from ingest.jobs.hold import release as release
    from ingest.jobs.restore import restore as restore
    from ingest.jobs.show import history as history
    from ingest.jobs.show import ls as ls
    from ingest.jobs.show import runs as runs
    from ingest.jobs.show import status as status
    from ingest.jobs.sync import backfill as backfill
    from ingest.jobs.sync import sync as sync
    from ingest.jobs.verify import verify as verify
    from ingest.model import Counts as Counts
    from ingest.model import RemoteObject as RemoteObject
    from ingest.model import RunReport as RunReport
    from ingest.model import RunStatus as RunStatus
    from ingest.observe.progress import Progress as Progress
    from ingest.plan.selection import Selection as Selection
    from ingest.settings import Settings as Settings
    from ingest.source.blocking import BlockingS3Client as BlockingS3Client
    from ingest.source.client import S3Client as S3Client
    from ingest.source.object_head import ObjectHead as ObjectHead
    from ingest.tasks.stop import Stop as Stop
    from ingest.tasks.stop import StopReason as StopReason
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
