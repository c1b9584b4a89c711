"""Failpoints: labelled places where a process may be killed or held, so that tests can do it at every one of them.

``INGEST_CRASH_AT=batch.renamed:3`` ends the process by SIGKILL, as a power cut or the kernel would, when it passes that
label for the third time (``:1`` may be left out). ``INGEST_STOP_AT`` holds it there by SIGSTOP until somebody sends
SIGCONT, so that another process may come between. The variables are for tests only: no user sets them, and without them
`failpoint` is a function that does nothing, chosen once when this module is imported.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

READ = frozenset(
    {
        # A page and the rows that it is joined with; what a prefix holds; what is about to be marked as gone.
        "listing.shown",
        "listing.joined",
        "listing.counted",
        "gone.read",
        # Rows to prune, to look at, to bring back, to hold, to release, and the row of a copy that a delivery lacks.
        "cleanup.read",
        "verify.read",
        "verify.looked",
        "restore.read",
        "hold.read",
        "release.read",
        "recall.read",
        # A claimed delivery's copy.
        "delivery.opening",
        "delivery.opened",
        # Letters to be tried again; the rows of events, and what the bucket says of their objects.
        "letters.read",
        "events.joined",
        "events.seen",
        # What is known of sources.
        "sources.read",
    }
)
"""Nothing has changed since the label before: something was read, and is acted on from here. A kill there is one at the
label before, but another process may come in between (tests/faults/test_interleavings.py)."""

LABELS = READ | frozenset(
    {
        # One download, in the store: each passage is one object, or one write or piece of a large one.
        "staging.announced",
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
        # Copies change in one process at a time: another one has them.
        "copies.waiting",
        # What a killed batch replaced, put back by the next run, or what it brought back, taken away.
        "undo.begun",
        "undo.put-back",
        "undo.taken-away",
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
        # Verify, before it repairs: a repair's batches are the recorder's, its downloads those of a restore.
        "verify.noted",
        # A hold: placed, and released, in one transaction each.
        "hold.recorded",
        "hold.marked",
        "hold.written",
        "release.deleted",
        "release.marked",
        "release.written",
        # A delivery: claimed, posted, settled.
        "outbox.claiming",
        "outbox.claimed",
        "delivery.answered",
        "outbox.settling",
        "outbox.audited",
        "outbox.settled",
        # A message: what failed is kept, then its offset moves, and the topic of dead letters gets it.
        "letters.kept",
        "letters.published",
        "offsets.committing",
        "offsets.committed",
        # The listing: its plan, what it learnt of the server, its end.
        "shards.planned",
        "shards.listed",
        "order.learnt",
        "sync.completed",
        # The first run: ids of catalog and directory, each on record at the other.
        "identity.catalog-named",
        "identity.inside-written",
        "identity.bound",
        "identity.outside-written",
        # The run's row.
        "run.locked",
        "run.started",
        "run.worked",
        "run.finished",
    }
)
"""Every label there is; a test holds the calls of `failpoint` to it."""


def _pass(_label: str) -> None:
    """Not armed."""


def _armed(order: str, fate: signal.Signals) -> Callable[[str], None]:
    label, _, number = order.partition(":")
    left = int(number or 1)

    def signal_at(passed: str) -> None:
        nonlocal left
        if passed == label:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), fate)

    return signal_at


def _chosen() -> Callable[[str], None]:
    for variable, fate in (("INGEST_CRASH_AT", signal.SIGKILL), ("INGEST_STOP_AT", signal.SIGSTOP)):
        if order := os.environ.get(variable):
            return _armed(order, fate)
    return _pass


failpoint = _chosen()
"""Called with a label of `LABELS` where a kill should be survived."""
