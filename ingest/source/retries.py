"""Retries of single requests, with jitter, of what can be retried. Transfers have their own, under a budget."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt, wait_exponential_jitter

from ingest.errors import IngestError
from ingest.observe.logs import log

T = TypeVar("T")

PAUSE = wait_exponential_jitter(multiplier=0.1, max=5.0, jitter=1.0)
"""Seconds between two tries: 0.1, 0.2, 0.4 …, and up to a second more."""


async def retried(attempt: Callable[[], Awaitable[T]], *, attempts: int) -> T:
    """What `attempt` returns, after at most `attempts` tries; each retry is logged.

    Raises:
        IngestError: the last try's error, or at once one that a retry cannot help.
    """
    trials = AsyncRetrying(
        stop=stop_after_attempt(attempts),
        wait=PAUSE,
        retry=retry_if_exception(_can_help),
        before_sleep=_note,
        reraise=True,
    )
    async for trial in trials:
        with trial:
            return await attempt()
    raise AssertionError("tenacity either returns or raises")


def _can_help(error: BaseException) -> bool:
    return isinstance(error, IngestError) and error.retryable


def _note(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome is not None else None
    pause = round(state.upcoming_sleep, 2)
    log().warning("retried", message=str(error), attempt=state.attempt_number, seconds=pause)
