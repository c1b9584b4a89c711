"""The commands of the model test, each as something that waits for settings and a stop."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

from ingest.engine.options import CleanupOptions, RestoreOptions, SyncOptions, VerifyOptions
from ingest.jobs.cleanup import cleanup
from ingest.jobs.restore import restore
from ingest.jobs.sync import sync
from ingest.jobs.verify import verify
from ingest.model import RunReport
from ingest.observe.progress import Silence
from ingest.plan.selection import Selection
from ingest.settings import Settings
from ingest.tasks.stop import Stop
from tests.faults.model import Filters

Job = Callable[[Settings, Stop], Coroutine[Any, Any, RunReport]]


def sync_job(filters: Filters = Filters()) -> Job:  # noqa: B008 - immutable
    selection = Selection(
        (filters.prefix,) if filters.prefix else (), (), (filters.exclude,) if filters.exclude else ()
    )
    return lambda own, stop: sync(own, SyncOptions(selection), progress=Silence(), stop=stop)


def cleanup_job(age: timedelta) -> Job:
    return lambda own, stop: cleanup(own, CleanupOptions(age), progress=Silence(), stop=stop)


def restore_job(own: Settings, stop: Stop) -> Coroutine[Any, Any, RunReport]:
    return restore(own, RestoreOptions(prefix=""), progress=Silence(), stop=stop)


def verify_job(own: Settings, stop: Stop) -> Coroutine[Any, Any, RunReport]:
    return verify(own, VerifyOptions(repair=True), progress=Silence(), stop=stop)
