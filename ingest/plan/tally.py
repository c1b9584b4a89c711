"""Adds outcomes up. The sums that must hold: listed = new + changed + unchanged + skipped, and
new + changed = downloaded + adopted + failed."""

from __future__ import annotations

from ingest.model import Action, Block, Counts, Download, MarkGone, Outcome, Reason, Record, Return, Skip, Status


def tally(counts: Counts, outcome: Outcome) -> None:
    """Adds one outcome to the counters of a run."""
    action = outcome.action
    if isinstance(action, Return):
        return
    if isinstance(action, MarkGone):
        counts.gone += outcome.status is not Status.FAILED  # another run has seen it since
        return
    counts.listed += 1
    if isinstance(action, Skip):
        if action.unchanged:
            counts.unchanged += 1
        else:
            counts.skipped += 1
    elif isinstance(action, Record | Block) or outcome.status is Status.SKIPPED:
        # A download that ends as skipped met an object that was gone, or archived, when it was asked for.
        counts.skipped += 1
    else:
        _tally_download(counts, action, outcome)


def tally_many(counts: Counts, unchanged: int, skipped: int) -> None:
    """Adds objects that needed no outcome of their own."""
    counts.listed += unchanged + skipped
    counts.unchanged += unchanged
    counts.skipped += skipped


def tally_plan(counts: Counts, action: Action) -> None:
    """Adds an action that a dry run does not carry out."""
    tally(counts, Outcome(action, Status.SKIPPED))
    if isinstance(action, Download):
        counts.skipped -= 1
        _count_wanted(counts, action)


def _tally_download(counts: Counts, action: Download, outcome: Outcome) -> None:
    _count_wanted(counts, action)
    counts.bytes += outcome.received
    if outcome.adopted:
        counts.adopted += 1
    elif outcome.status is Status.DONE:
        counts.downloaded += 1
    else:
        counts.failed += 1


def _count_wanted(counts: Counts, action: Download) -> None:
    if action.reason is Reason.CHANGED:
        counts.changed += 1
    else:
        counts.new += 1
