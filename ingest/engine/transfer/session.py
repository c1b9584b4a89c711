"""What all transfers share: how many at once, how long they get to end, and what is said of each."""

from __future__ import annotations

from ingest.errors import IngestError, NoSuchKey
from ingest.model import Download, Outcome, Status
from ingest.observe.logs import log
from ingest.plan.concurrency import Concurrency

MOST_TRANSFERS = 256
GRACE = 5.0
"""Seconds that transfers under way get when the run is asked to stop."""


def concurrency_for(transfers: int | None) -> Concurrency:
    """A fixed level, or one that finds itself within what the file descriptors allow."""
    import resource

    if transfers is not None:
        return Concurrency.fixed(transfers)
    descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return Concurrency(ceiling=max(24, min(MOST_TRANSFERS, descriptors // 4)))


def log_retry(action: Download, error: IngestError, attempt: int, pause: float) -> None:
    log().warning(
        "retry", key=action.remote.key, error=error.code, message=error.message, attempt=attempt, pause=round(pause, 2)
    )


def log_outcome(outcome: Outcome) -> None:
    if outcome.status is Status.FAILED and outcome.remote is not None and outcome.error is not None:
        log().error(
            "object_failed",
            key=outcome.remote.key,
            error=outcome.error.code,
            message=outcome.error.message,
            attempts=outcome.attempts,
        )
    elif isinstance(outcome.action, Download) and outcome.action.is_listed and isinstance(outcome.error, NoSuchKey):
        said = "it was listed, and is gone; should it be listed again, and still not be there, it fails"
        log().info("object_gone", key=outcome.action.remote.key, message=said)
    elif isinstance(outcome.action, Download) and outcome.copy is not None:
        log().debug(
            "object_adopted" if outcome.adopted else "object_downloaded",
            key=outcome.action.remote.key,
            size=outcome.copy.size,
        )
