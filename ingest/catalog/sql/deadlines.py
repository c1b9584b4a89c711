"""How long a database may be silent: everything that uses one driver shares this, and hurries together."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from ingest.errors import DatabaseError, DatabaseLost

T = TypeVar("T")
ANSWER = 30.0
"""Seconds without an answer after which a connection counts as dead; `command_timeout` in the URL says otherwise."""
LEISURE = 660.0
"""Seconds for an answer to what may read whole tables: the server gives up by itself a little earlier."""
HURRIED, HOPELESS = 15.0, 2.0
"""Seconds at most for each answer once the run is asked to stop, and once the database was given up: it may be back."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 4.0


class Deadlines:
    """All in seconds. `patience`, for all tries together, is twice what one of them gets."""

    def __init__(self, answer: float = ANSWER) -> None:
        self._answer = answer
        self.patience = 2 * answer
        self.given_up = False
        """Whether the last question was not answered, however often it was asked."""
        self._hurried = False
        self._waiting: set[asyncio.Timeout] = set()

    @property
    def is_hurried(self) -> bool:
        return self._hurried

    @property
    def answer(self) -> float:
        """What the next answer may take."""
        return self._cut(self._answer)

    def _cut(self, seconds: float) -> float:
        most = HOPELESS if self.given_up else HURRIED if self._hurried else seconds
        return min(most, seconds)

    def hurry(self) -> None:
        """The run is asked to stop: what waits now waits no longer than what comes, and nothing is tried twice."""
        self._hurried = True
        until = _now() + self.answer
        for scope in self._waiting:
            scope.reschedule(min(until, scope.when() or until))

    @asynccontextmanager
    async def limit(self, seconds: float | None = None) -> AsyncIterator[Callable[[], None]]:
        """Raises `TimeoutError` when it takes longer than one answer may (or `seconds`); what it yields begins anew."""
        async with asyncio.timeout(self._cut(self._answer if seconds is None else seconds)) as scope:
            self._waiting.add(scope)
            try:
                yield lambda: scope.reschedule(_now() + self._cut(self._answer if seconds is None else seconds))
            finally:
                self._waiting.discard(scope)

    async def patiently(self, attempt: Callable[[], Awaitable[T]], unless: Callable[[], bool] = lambda: False) -> T:
        """What `attempt` returns in the end; tried again while that can help, after growing pauses.

        Raises:
            DatabaseError: no retry can help, `unless` says that none is safe, or the patience is at its end.
        """
        began, pause = _now(), _FIRST_PAUSE
        while True:
            try:
                result = await attempt()
            except DatabaseError as error:
                if not error.retryable or unless():
                    raise
                away = self._hurried and isinstance(error, DatabaseLost)  # a conflict passes, and soon
                patience = min(HURRIED, self.patience) if self._hurried else self.patience
                if away or self.given_up or _now() + pause > began + patience:
                    self.given_up = True
                    raise
            else:
                self.given_up = False
                return result
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - jitter, no secret
            pause = min(_LONGEST_PAUSE, 2 * pause)


def _now() -> float:
    return asyncio.get_running_loop().time()
