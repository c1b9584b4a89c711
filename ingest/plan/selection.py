"""Which of the listed objects a run wants: prefixes, globs and a window by last-modified."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import translate
from functools import cached_property

from ingest.model import RemoteObject
from ingest.plan.shards import minimal_prefixes

_EVER, _NEVER = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Selection:
    """What a run was asked for. Globs are shell-like over the whole key: ``*`` also crosses ``/``.

    An object is wanted when it was modified in ``[since, until)``, matches an `include` (or there is none) and no
    `exclude`. `prefixes` limit the listing itself.
    """

    prefixes: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    since: datetime | None = None
    until: datetime | None = None

    @cached_property
    def roots(self) -> Sequence[str]:
        return minimal_prefixes(self.prefixes)

    @property
    def takes_everything(self) -> bool:
        return not (self.include or self.exclude or self.since or self.until)

    def excluded(self, key: str) -> bool:
        """Whether a glob keeps the key out, whatever its date."""
        included, excluded = self._patterns
        return bool((included and not included.match(key)) or (excluded and excluded.match(key)))

    def outside_window(self, last_modified: datetime) -> bool:
        return bool((self.since and last_modified < self.since) or (self.until and last_modified >= self.until))

    @cached_property
    def unwanted(self) -> Callable[[RemoteObject], str | None]:
        """Tells why an object is not wanted; None when it is. A function, since it is asked for every key listed."""
        since, until = self.since or _EVER, self.until or _NEVER
        included, excluded = self._patterns

        def outside(remote: RemoteObject) -> str | None:
            return None if since <= remote.last_modified < until else "outside the window"

        def judge(remote: RemoteObject) -> str | None:
            return outside(remote) or ("excluded" if self.excluded(remote.key) else None)

        return outside if included is None and excluded is None else judge

    @cached_property
    def _patterns(self) -> tuple[re.Pattern[str] | None, re.Pattern[str] | None]:
        return _any_of(self.include), _any_of(self.exclude)


def _any_of(globs: Sequence[str]) -> re.Pattern[str] | None:
    return re.compile("|".join(translate(glob) for glob in globs)) if globs else None
