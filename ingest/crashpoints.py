"""Labelled places where a process may be killed, so that tests can kill it at every one of them.

``INGEST_CRASH_AT=batch.renamed:3`` ends the process by SIGKILL, as a power cut or the kernel would, when it passes that
label for the third time (``:1`` may be left out). The variable is for tests only: no user sets it, and without it
`here` is a function that does nothing, chosen once when this module is imported.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

LABELS = frozenset(
    {
        # One download, in the store: each passage is one object, or one write or piece of a large one.
        "staging.opened",
        "staging.written",
        "staging.finished",
        "partial.written",
        "partial.noted",
        # One batch: bytes durable, renames, directories durable, then the rows.
        "batch.collected",
        "batch.barrier-passed",
        "batch.replaced-intended",
        "batch.replaced-linked",
        "batch.replaced-kept",
        "batch.renamed",
        "batch.all-renamed",
        "batch.directories-durable",
        "batch.published",
        "batch.rows-written",
        "batch.pages-written",
        "batch.cursors-written",
        "batch.committed",
        "batch.replaced-dropped",
        "batch.replaced-ended",
        # What a killed batch replaced, put back by the next run.
        "undo.begun",
        "undo.put-back",
        "undo.done",
        # Cleanup: intent, unlink, done.
        "cleanup.decided",
        "cleanup.intent-written",
        "cleanup.intended",
        "cleanup.unlinked",
        "cleanup.all-unlinked",
        "cleanup.done",
        # Restore: its batches are the recorder's.
        "restore.submitted",
        "restore.downloaded",
        # The listing: its plan, what it learnt of the server, its end.
        "shards.planned",
        "shards.listed",
        "order.learnt",
        "sync.completed",
        # The run's row.
        "run.locked",
        "run.started",
        "run.worked",
        "run.finished",
    }
)
"""Every label there is; a test holds the calls of `here` to it."""


def _pass(_label: str) -> None:
    """Not armed."""


def _armed(order: str) -> Callable[[str], None]:
    label, _, number = order.partition(":")
    left = int(number or 1)

    def kill_at(passed: str) -> None:
        nonlocal left
        if passed == label:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    return kill_at


_order = os.environ.get("INGEST_CRASH_AT")
here: Callable[[str], None] = _armed(_order) if _order else _pass
"""Called with a label of `LABELS` where a kill should be survived."""
