"""Which of the listed objects a run wants: prefixes, globs and a window by last-modified."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from fnmatch import translate
from functools import cached_property

from ingest.model import RemoteObject
from ingest.plan.shards import minimal_prefixes


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

    def unwanted(self, remote: RemoteObject) -> str | None:
        """Why this object is not wanted; None when it is."""
        if self.outside_window(remote.last_modified):
            return "outside the window"
        return "excluded" if self.excluded(remote.key) else None

    @cached_property
    def _patterns(self) -> tuple[re.Pattern[str] | None, re.Pattern[str] | None]:
        return _any_of(self.include), _any_of(self.exclude)


def _any_of(globs: Sequence[str]) -> re.Pattern[str] | None:
    return re.compile("|".join(translate(glob) for glob in globs)) if globs else None
