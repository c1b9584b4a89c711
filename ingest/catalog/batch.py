"""What one transaction of the recorder writes."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from ingest.model import Audit, Delivery, KnownPage, LocalCopy, RemoteObject
from ingest.plan.resuming import Cursor


class Settled(NamedTuple):
    """A page of a prefix in which nothing is left to do, in the versions that it shows, as far as the catalog had seen
    before it was asked for (`Page.seen_before`)."""

    prefix: str
    page: KnownPage
    seen_before: int


class SeenMarks(NamedTuple):
    """What a recorder knows of who has written what they saw of a source's objects (`CatalogRow.seen`)."""

    last: int = 0
    """The number of its own last batch."""
    of_others: int = 0
    """The highest number that may be another run's."""


class Committed(NamedTuple):
    """What came of a batch."""

    sights: SeenMarks
    left: frozenset[str] = frozenset()
    """Keys that were left alone: another run has seen them since it was decided what to say of them."""


@dataclass(slots=True)
class PageNotes:
    """What the batch means for the listings to come, and for their memory of pages."""

    relisted: list[tuple[str, str, str | None]] = field(default_factory=list)
    """Ranges ``(after, upto]`` of a prefix whose remembered pages no longer hold; None is the end of the listing."""
    settled: list[Settled] = field(default_factory=list)
    changed: dict[str | None, list[str]] = field(default_factory=dict)
    """Keys of which the catalog says something else now, by the prefix of the listing that relists them; None: of those
    that no listing came upon."""
    shown_as: dict[str, str] = field(default_factory=dict)
    """By key: how a listing shows the version that is recorded, where it shows another etag (see `CatalogRow`)."""
    known_since: int | None = None
    """How far the catalog had seen before the pages were asked for that show what is only recorded (`Batch.known`):
    None where none do."""
    sights: SeenMarks = field(default_factory=SeenMarks)
    etags: str | None = None
    """What is known of the server's etags, as `plan.etags` writes it; None: nothing new."""

    @property
    def is_news(self) -> bool:
        return bool(self.relisted or self.settled or self.shown_as or self.etags)


@dataclass(slots=True)
class Batch:
    """Rows of one source, written at `at`.

    `failed` and `blocked` of an object that has or had a copy leave its state, etag and copy alone: only the attempts
    and the error are noted, so that the old copy stays what the catalog says it is.
    """

    run_id: int
    source_id: int
    bucket: str
    at: datetime
    known: list[RemoteObject] = field(default_factory=list)
    present: list[tuple[RemoteObject, LocalCopy]] = field(default_factory=list)
    failed: list[tuple[RemoteObject, str]] = field(default_factory=list)
    blocked: list[tuple[RemoteObject, str]] = field(default_factory=list)
    gone: dict[str, int] = field(default_factory=dict)
    """By key, as `returned`: the `CatalogRow.seen` of the row that it was decided on. It may stand among the failed as
    well: such a row is gone, and says why."""
    returned: dict[str, int] = field(default_factory=dict)
    pruned: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    """Intents that were given up: the copy stays."""
    sound: list[str] = field(default_factory=list)
    """Copies that were noted as damaged, and are what their rows say."""
    audits: list[Audit] = field(default_factory=list)
    cursors: list[Cursor] = field(default_factory=list)
    pages: PageNotes = field(default_factory=PageNotes)
    deliveries: list[Delivery] = field(default_factory=list)
    """To be handed over to `target`; a version that stands in its outbox already is left as it is."""
    target: str = ""
    announced: dict[str, str] = field(default_factory=dict)
    """By key: the etag that an event named. Where that is the recorded one, it is none that only a listing found."""

    @property
    def says_what_was_seen(self) -> bool:
        return any((self.known, self.present, self.failed, self.blocked, self.gone, self.returned))

    @property
    def is_empty(self) -> bool:
        rows = ("known", "present", "failed", "blocked", "gone", "returned", "pruned", "kept", "sound")
        marks = ("audits", "cursors", "deliveries", "announced")
        return not (any(getattr(self, name) for name in (*rows, *marks)) or self.pages.is_news)
