"""Which of the listed objects a run wants: prefixes, globs, rules and a window by last-modified."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import translate
from functools import cached_property
from typing import TYPE_CHECKING

from ingest.errors import SettingsError
from ingest.model import RemoteObject, Unwanted
from ingest.plan.shards import minimal_prefixes

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

_EVER, _NEVER = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
_NO_LINE_BREAK = "\0"
"""Takes the place of one in a key, which the rules' own expressions stumble over. No key holds it (`plan.storable`)."""


@dataclass(frozen=True)
class Selection:
    """What a run was asked for. Globs are shell-like over the whole key: ``*`` also crosses ``/``.

    An object is wanted when it was modified in ``[since, until)``, matches an `include` (or there is none), no
    `exclude`, and is not ignored by the rules of `filter`: lines of a .gitignore over the keys as paths, of which the
    last one that matches counts, and one with ``!`` takes back what earlier ones ignore. `prefixes` limit the listing
    itself.

    Raises:
        SettingsError: a glob or a rule can match nothing, or is none; a time has no zone.
    """

    prefixes: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    since: datetime | None = None
    until: datetime | None = None
    filter: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("prefixes", "include", "exclude", "filter"):
            if isinstance(said := getattr(self, name), str):
                raise TypeError(f"{name} are several: say ({said!r},)")
        if any(bound is not None and bound.tzinfo is None for bound in (self.since, self.until)):
            raise SettingsError("since and until want their time zone")
        for flag, globs in (("--include", self.include), ("--exclude", self.exclude)):
            if "" in globs:
                raise SettingsError(
                    f"{flag} '' matches no key at all", hint=f"Leave {flag} out, or say '*' for all keys."
                )
        _ = self._ignoring

    @cached_property
    def roots(self) -> Sequence[str]:
        return minimal_prefixes(self.prefixes)

    @property
    def takes_everything(self) -> bool:
        return not (self.chooses_keys or self.since or self.until)

    @property
    def chooses_keys(self) -> bool:
        """Whether there are globs or rules."""
        return bool(self.include or self.exclude or self.filter)

    def excluded(self, key: str) -> bool:
        """Whether a glob or a rule keeps the key out, whatever its date."""
        included, excluded = self._patterns
        if (included and not included.match(key)) or (excluded and excluded.match(key)):
            return True
        return self._ignoring is not None and self._ignoring.match_file(
            key.replace("\n", _NO_LINE_BREAK), separators=()
        )

    def outside_window(self, last_modified: datetime) -> bool:
        return bool((self.since and last_modified < self.since) or (self.until and last_modified >= self.until))

    @cached_property
    def unwanted(self) -> Callable[[RemoteObject], Unwanted | None]:
        """Tells why an object is not wanted; None when it is. A function, since it is asked for every key listed."""
        since, until, too_early_or_late = self.since or _EVER, self.until or _NEVER, Unwanted.OUTSIDE_THE_WINDOW

        def outside(remote: RemoteObject) -> Unwanted | None:
            return None if since <= remote.last_modified < until else too_early_or_late

        def judge(remote: RemoteObject) -> Unwanted | None:
            return outside(remote) or (Unwanted.EXCLUDED if self.excluded(remote.key) else None)

        return judge if self.chooses_keys else outside

    @cached_property
    def _patterns(self) -> tuple[re.Pattern[str] | None, re.Pattern[str] | None]:
        return _any_of(self.include), _any_of(self.exclude)

    @cached_property
    def _ignoring(self) -> GitIgnoreSpec | None:
        return _ruled(self.filter) if self.filter else None


def _any_of(globs: Sequence[str]) -> re.Pattern[str] | None:
    return re.compile("|".join(translate(glob) for glob in globs)) if globs else None


def _ruled(rules: Sequence[str]) -> GitIgnoreSpec:
    from pathspec import GitIgnoreSpec  # only for those who have rules: every start would pay for it

    lines = [rule.replace("\n", _NO_LINE_BREAK) for rule in rules]
    for rule, line in zip(rules, lines, strict=True):
        try:
            patterns = GitIgnoreSpec.from_lines([line]).patterns
        except (ValueError, re.error):
            patterns = ()
        if not any(pattern.include is not None for pattern in patterns):
            hint = "A rule is one line of a .gitignore (gitignore(5)), and no comment: `*.tmp`, `!keep.tmp`, `drafts/`."
            raise SettingsError(f"--filter {rule!r} matches no key at all", hint=hint)
    return GitIgnoreSpec.from_lines(lines, backend="simple")  # whatever else is installed: they differ in details
