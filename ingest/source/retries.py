"""Retries of single requests, with jitter, of what can be retried. Transfers have their own, under a budget."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import stamina

from ingest.errors import IngestError

T = TypeVar("T")


def _can_help(error: Exception) -> bool:
    return isinstance(error, IngestError) and error.retryable


async def retried(attempt: Callable[[], Awaitable[T]], *, attempts: int) -> T:
    """What `attempt` returns, after at most `attempts` tries; each retry is logged.

    Raises:
        IngestError: the last try's error, or at once one that a retry cannot help.
    """
    async for trial in stamina.retry_context(on=_can_help, attempts=attempts, timeout=None):
        with trial:
            return await attempt()
    raise AssertionError("stamina either returns or raises")
