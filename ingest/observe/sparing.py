"""Lines of a kind that may come by the thousand while a service runs: a few by themselves, then one a minute."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from ingest.observe.logs import MOST_ALIKE, limited_elsewhere, log

MINUTE = 60.0


@dataclass
class Sparing:
    """Lines of the kind `event`. When there are more than `most` in a minute, the others are counted by their reason,
    and told in one line at its end; and so each minute, until one has passed without any."""

    event: str
    level: str = "error"
    most: int = MOST_ALIKE
    hint: str = ""
    """Where the others are to be seen."""
    _said: int = 0
    _others: Counter[str] = field(default_factory=Counter)
    _is_many: bool = False
    _timer: asyncio.TimerHandle | None = None

    def __post_init__(self) -> None:
        limited_elsewhere(self.event)

    def say(self, reason: str, **fields: Any) -> None:
        if self._timer is None:
            self._said = 0
            self._arm()
        if self._is_many or self._said >= self.most:
            self._others[reason] += 1
            return
        self._said += 1
        getattr(log(), self.level)(self.event, reason=reason, **fields)

    def close(self) -> None:
        """Nothing more will be said; what was only counted is told now."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._tell()

    def _arm(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(MINUTE, self._end_minute)

    def _end_minute(self) -> None:
        self._timer = None
        self._is_many = bool(self._others)
        if self._is_many:
            self._tell()
            self._arm()

    def _tell(self) -> None:
        if not self._others:
            return
        count = self._others.total()
        reasons = ", ".join(f"{reason}: {number:,}" for reason, number in self._others.most_common(10))
        self._others.clear()
        told = f"and {count:,} more ({reasons}){self.hint}"
        getattr(log(), self.level)("more", of=self.event, count=count, message=told)
