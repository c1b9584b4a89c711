"""A message on its way: what it asks for, and who is told when that is durable."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from ingest.broker.messages import Letter
from ingest.errors import IngestError, Poison


@dataclass(slots=True, eq=False)
class InFlight:
    """One message. `settle` is called once: with `error` unset when all it asked for is recorded."""

    letter: Letter
    settle: Callable[[InFlight], None]
    remaining: int = 0
    """Events that are not finished."""
    error: IngestError | None = None
    """The first that kept an event from being carried out."""
    fault: Poison | None = None
    """What can never be read of it. The rest is carried out first: what waits for its object may yet succeed."""
    key: str | None = None
    """The object of the first event, or of the one that failed."""

    def finish(self, key: str | None = None, error: IngestError | None = None) -> None:
        """One of its events is durable, or cannot be carried out now."""
        if error is not None and self.error is None:
            self.error, self.key = error, key
        self.remaining -= 1
        if self.remaining <= 0:
            self.error = self.error or self.fault
            if self.error is not None:
                _let_go(self.error)
            self.settle(self)

    @property
    def attempt(self) -> dict[str, str]:
        """The failure, as dead letters keep it."""
        assert self.error is not None  # noqa: S101 - asked only of what failed
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        return {"at": now, "error": self.error.code, "message": self.error.message[:500]}


def _let_go(error: IngestError) -> None:
    """Of the frames that it came through: they hold the message, and its entry in flight holds the error. In such a
    circle thousands of large messages would stay until somebody looks for circles, which is seldom (`cli.runner`)."""
    error.__traceback__ = error.__context__ = error.__cause__ = None
