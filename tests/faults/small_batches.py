"""Batches of two and three: a handful of objects is as many steps to a command as thousands are elsewhere.

And none waits for a second to fill.
"""

from __future__ import annotations


def apply() -> None:
    """In this process, before any command runs."""
    from ingest.engine.record import recorder
    from ingest.engine.transfer import refetch
    from ingest.jobs import cleanup, restore, verify

    cleanup._BATCH = 3
    verify._PAGE = 3
    verify._PAUSE = 0.01  # between two looks at what is suspicious while others are at work
    restore._BATCH = 3
    recorder.BATCH = 2
    recorder.MOST_WAITING = 8
    refetch._GATHER_SECONDS = 0.01
