"""The nouns of the pipeline: immutable values that every layer may name and none may change.

Data flows one way: ``Shard -> Page -> Pair -> Action -> Outcome -> Batch -> RunReport``.
Nouns that exist once for each listed key are ``NamedTuple``: a million of them are made in a run, and a
tuple costs a fifth of a frozen dataclass.

Units everywhere: sizes in bytes, durations in seconds, times as aware UTC datetimes, keys as ``str`` in the
order of their UTF-8 bytes (which for ``str`` is the order of ``<``), etags as the names of versions (`plan.etags`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from ingest.errors import IngestError, PartialRun
from ingest.figures import Figures


class State(StrEnum):
    """What the catalog knows of an object's local copy."""

    KNOWN = "known"
    """Listed, and not wanted yet."""
    PRESENT = "present"
    PRUNED = "pruned"
    """Downloaded once; the copy was removed by ``cleanup``. Never downloaded again unless it changes."""
    FAILED = "failed"
    BLOCKED = "blocked"
    """Cannot be downloaded now, for example archived."""


HAD_A_COPY = frozenset({State.PRESENT.value, State.PRUNED.value})
"""States of an object whose version was downloaded: while it stays the same, there is nothing to do."""


class Reason(StrEnum):
    """Why an object is downloaded."""

    NEW = "new"
    CHANGED = "changed"
    WANTED = "wanted"
    """Known before, and in the window now."""
    RETRY = "retry"
    """It failed before."""
    RESTORE = "restore"
    REPAIR = "repair"


class Unwanted(StrEnum):
    """Why a listed object is left in the bucket."""

    DIRECTORY_MARKER = "directory marker"
    OUTSIDE_THE_WINDOW = "outside the window"
    EXCLUDED = "excluded"


class Verified(StrEnum):
    """How far the local bytes were checked against what the server says it holds."""

    VERIFIED = "verified"
    UNVERIFIABLE = "unverifiable"


class DeliveryState(StrEnum):
    """Where one object version stands on its way to the verification service."""

    PENDING = "pending"
    DELIVERED = "delivered"
    REJECTED = "rejected"
    """The service's own verdict (4xx): recorded, not tried again by itself."""
    DEAD = "dead"
    """Given up: its bytes cannot be had any more, or it was tried too often. The reason is with it."""


SUPERSEDED = "superseded: the object changed before it was delivered"
"""The reason of a delivery that was given up for a newer version; should its own version come back, it is due again."""


class LetterState(StrEnum):
    """Where a message stands that could not be carried out."""

    WAITING = "waiting"
    """Is tried again when it is due."""
    DEAD = "dead"
    """Given up: only `ingest deadletters retry` tries it again."""


class ListingOrder(StrEnum):
    """The order in which a server lists keys. Only ``BYTES`` may be split and merged by key range."""

    UNKNOWN = "unknown"
    BYTES = "bytes"
    DIRECTORY = "directory"


class Shard(NamedTuple):
    """A range of the key space: keys that start with `prefix`, after `start_after`, up to and with `end`.

    `level` restricts the shard to keys with no ``/`` behind the prefix: one directory, without what is below.
    """

    prefix: str = ""
    start_after: str = ""
    end: str | None = None
    level: bool = False

    def __str__(self) -> str:
        scope = f"{self.prefix}*" if not self.level else f"{self.prefix}* (one level)"
        return f"{scope} ({self.start_after!r}, {self.end!r}]"


MOST_KEYS = 1_000
"""Keys (and common prefixes) that one page of a listing holds at most (S3 API, `ListObjectsV2`)."""


class RemoteObject(NamedTuple):
    """One object as the listing shows it."""

    key: str
    size: int
    etag: str
    last_modified: datetime
    storage_class: str = "STANDARD"

    @property
    def is_directory_marker(self) -> bool:
        """A zero-size key ending in ``/``: recorded, never a file."""
        return self.size == 0 and self.key.endswith("/")


class Page(NamedTuple):
    """Up to 1,000 objects of one shard, in the server's order, that cover ``(start_after, last_key]``.

    `complete` says that the shard ends with this page. `prefixes` is filled by a listing of one level only. `listed_at`
    is when the server made it, by its own clock; `seen_before` is how far the catalog had seen before it was asked for:
    a row with a higher number (`CatalogRow.seen`) may know what is newer than the page.
    `undecodable` holds the listed keys (and prefixes) that are not UTF-8, as the server wrote them, and those that no
    catalog takes (`plan.storable`): they count as failed, and stand nowhere else.
    """

    shard: Shard
    start_after: str
    objects: Sequence[RemoteObject]
    complete: bool
    prefixes: Sequence[str] = ()
    undecodable: Sequence[bytes] = ()
    listed_at: datetime | None = None
    seen_before: int = 0

    @property
    def last_key(self) -> str:
        return self.objects[-1].key if self.objects else self.start_after


class KnownPage(NamedTuple):
    """A page as it was listed when nothing was left to do in it: `listed` objects in ``(start_after, last_key]``.

    `filters` says under which selection that holds (see `plan.page_memory`); empty: under any.
    """

    start_after: str
    last_key: str
    listed: int
    skipped: int
    """How many of them have no copy because they are not wanted; the others are unchanged."""
    fingerprint: bytes
    filters: bytes = b""


class CatalogRow(NamedTuple):
    """What the merge and the policy need of one row of ``objects``."""

    key: str
    size: int
    etag: str
    state: str
    """The value of a `State`: as it comes from the database, since a member for each row would cost what a row does."""
    gone: bool
    local_path: str | None
    attempts: int
    absent: bool | None = False
    """It was listed, and answered that it does not exist, when it was last asked for."""
    listed_etag: str | None = None
    """How a listing shows this version, where that is not `etag`; always with the moment (see `plan.etags`)."""
    seen: int = 0
    """Which of all writes of what runs have seen of the source's objects was the last one about this one."""


class Pair(NamedTuple):
    """One key as both sides know it; either side (but not both) may be None."""

    remote: RemoteObject | None
    row: CatalogRow | None


class LocalCopy(NamedTuple):
    """A durable, checked file of the store, in the terms of its catalog row."""

    local_path: str
    """Relative to the data directory, with ``/`` separators."""
    digest: str
    """``md5:<hex>`` or ``sha256:<hex>`` of the local bytes."""
    verified: Verified
    size: int


class Download(NamedTuple):
    remote: RemoteObject
    row: CatalogRow | None
    reason: Reason

    @property
    def is_listed(self) -> bool:
        """Whether it was a listing that asked for it."""
        return self.reason not in (Reason.RESTORE, Reason.REPAIR)

    def __str__(self) -> str:
        return f"download {self.remote.key} ({self.reason}, {self.remote.size} bytes)"


class Record(NamedTuple):
    """Write the row and leave the bytes: outside the window or filters, or a directory marker."""

    remote: RemoteObject
    reason: str

    def __str__(self) -> str:
        return f"record {self.remote.key} ({self.reason})"


class Block(NamedTuple):
    remote: RemoteObject
    reason: str

    def __str__(self) -> str:
        return f"block {self.remote.key} ({self.reason})"


class Skip(NamedTuple):
    """Nothing to do and nothing to write. `unchanged` tells an up-to-date copy from one that is not wanted."""

    remote: RemoteObject
    reason: str
    unchanged: bool

    def __str__(self) -> str:
        return f"skip {self.remote.key} ({self.reason})"


class Return(NamedTuple):
    """The key is in the bucket again: clear ``gone_at``. Another action for the same key follows."""

    remote: RemoteObject
    row: CatalogRow

    def __str__(self) -> str:
        return f"return {self.remote.key}"


class MarkGone(NamedTuple):
    """The key is no longer in the bucket; the local copy stays."""

    row: CatalogRow

    def __str__(self) -> str:
        return f"gone {self.row.key}"


Action = Download | Record | Block | Skip | Return | MarkGone


def key_of(action: Action) -> str:
    """The key that it is about."""
    return action.row.key if isinstance(action, MarkGone) else action.remote.key


class Status(StrEnum):
    DONE = "done"
    SKIPPED = "skipped"
    """Nothing had to be done, or the object was gone when it was asked for."""
    FAILED = "failed"


class Outcome(NamedTuple):
    """What came of one action; exactly one for each. A value, so that no failure can be lost on the way.

    `remote` is the object as it was finally taken: it differs from the action's when the object changed
    between listing and download. `received` counts the bytes that crossed the network; `adopted` says that the copy
    stood in its place already, without a row, and proved to be right.
    """

    action: Action
    status: Status
    remote: RemoteObject | None = None
    copy: LocalCopy | None = None
    error: IngestError | None = None
    attempts: int = 0
    received: int = 0
    adopted: bool = False


class Audit(NamedTuple):
    """One line of the audit trail, before it has its place in the chain."""

    what: str
    key: str
    detail: dict[str, object]


class Delivery(NamedTuple):
    """One object version to hand over. `fields` are the event's own further fields; none for what ``sync`` found."""

    key: str
    etag: str
    fields: dict[str, str]


class RunStatus(StrEnum):
    """How a run ended."""

    RUNNING = "running"
    """In its row alone, until it ends."""
    OK = "ok"
    PARTIAL = "partial"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    LOCKED = "locked"


LISTS_THE_BUCKET = frozenset({"sync", "backfill"})
"""Commands whose runs do."""


@dataclass(slots=True)
class ListingCounts:
    """What came of a listing; the sums that hold are told by `plan.tally`."""

    listed: int = 0
    new: int = 0
    changed: int = 0
    unchanged: int = 0
    skipped: int = 0
    downloaded: int = 0
    adopted: int = 0
    """Files that stood in their places without a row, and were right: nothing was downloaded."""
    bytes: int = 0
    failed: int = 0
    gone: int = 0
    unmarked: int = 0
    """Objects that the listing lacks, and that were not marked as gone: too many at once."""


@dataclass(slots=True)
class Counts(ListingCounts):
    """The counters of a run, in the names of the ``--json`` summary."""

    pruned: int = 0
    kept: int = 0
    restored: int = 0
    damaged: int = 0
    repaired: int = 0
    delivered: int = 0
    rejected: int = 0
    pending: int = 0
    """Deliveries that still wait at the end of the run; `dead` ones were given up."""
    dead: int = 0


@dataclass(slots=True)
class RunReport:
    """What a command did: the last line of its log, its ``--json`` object, its row in ``runs``."""

    command: str
    run_id: int | None = None
    status: RunStatus = RunStatus.OK
    counts: Counts = field(default_factory=Counts)
    seconds: float = 0.0
    error: IngestError | None = None
    exit_code: int = 0
    figures: Figures = field(default_factory=Figures)
    """What this command counts besides."""

    @property
    def notes(self) -> dict[str, object]:
        """The figures, as further fields of the ``--json`` object (never one of the fixed names)."""
        return self.figures.said()

    def raise_for_status(self) -> None:
        """Raises the run's `error`, or `PartialRun` where some objects failed, whose `report` is this one."""
        if self.error is not None or self.status is not RunStatus.OK:
            raise self.error or PartialRun(self)

    @property
    def tallies(self) -> dict[str, int]:
        """All that was counted: what every command counts, and what this one does besides."""
        return asdict(self.counts) | {name: said for name, said in self.notes.items() if type(said) is int}
