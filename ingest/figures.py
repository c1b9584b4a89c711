"""What each command counts besides `model.Counts`: a value of its own type, in the names of the ``--json`` object."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(slots=True)
class Figures:
    """Those of a command that has none. A field of None is not said."""

    def said(self) -> dict[str, object]:
        """By name, in the order in which they are declared."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in found.items() if value is not None}


@dataclass(slots=True)
class SyncFigures(Figures):
    """Of sync and backfill."""

    dry_run: bool | None = None
    unannounced: int | None = None
    """Downloads that no message has named, where there is a topic."""


@dataclass(slots=True)
class CleanupFigures(Figures):
    dry_run: bool | None = None
    missing: int | None = None
    """Copies that were not there when they were to go."""
    only_copies: int | None = None
    """Old enough to go, and kept, since the bucket no longer has their objects."""
    trimmed_runs: int | None = None
    trimmed_deliveries: int | None = None
    trimmed_answers: int | None = None
    trimmed_letters: int | None = None


@dataclass(slots=True)
class VerifyFigures(Figures):
    orphaned: int
    """Files without a row."""
    symlinks: int
    checked: int
    missing: int


@dataclass(slots=True)
class RestoreFigures(Figures):
    written_below: str
    """The directory, where it is none of the catalog's."""


@dataclass(slots=True)
class PlacedHolds(Figures):
    placed: int
    held: int
    """Copies that it holds now."""


@dataclass(slots=True)
class ReleasedHolds(Figures):
    released: int


@dataclass(slots=True)
class ConsumeFigures(Figures):
    messages: int
    events: int
    foreign: int
    """Events of other buckets."""
    waiting: int
    dead_letters: int
    lost: int
    """Messages that the broker removed unread."""
    unpublished: int
    """Dead letters that their topic lacks."""


@dataclass(slots=True)
class DeliverFigures(Figures):
    """Of an earlier VERIFY_URL."""

    waiting_elsewhere: int
    refused_elsewhere: int


@dataclass(slots=True)
class RetriedLetters(Figures):
    retried: int
    settled: int
    dead_letters: int
    """Those that failed again."""


@dataclass(slots=True)
class DiscardedLetters(Figures):
    discarded: int
    dry_run: bool
