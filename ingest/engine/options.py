"""What each command can be asked for, apart from the settings."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import timedelta

from ingest.errors import SettingsError
from ingest.model import Action, DeliveryState
from ingest.plan.patience import MESSAGE_PATIENCE
from ingest.plan.selection import Selection
from ingest.plan.vanishing import MostGone


@dataclass(frozen=True, slots=True)
class SyncOptions:
    """A sync or backfill over a selection of the bucket.

    `arguments` are further ones for the run's row, such as a window in the words in which it was told. `transfers` of
    None finds its own level, `listers` of None is the usual number. `bwlimit` is in bytes a second, over all transfers.
    `on_action` receives the actions of a dry run, in the order of the listing; what is gone comes last.
    """

    selection: Selection = field(default_factory=Selection)
    dry_run: bool = False
    transfers: int | None = None
    listers: int | None = None
    bwlimit: int | None = None
    resume: bool = False
    page_memory: bool = True
    """Believe the pages of a byte-ordered listing that come back byte for byte as they were."""
    max_gone: MostGone | None = None
    """More than that missing from the listing: none is marked as gone. None: what is likely (`plan.vanishing`)."""
    arguments: dict[str, object] = field(default_factory=dict)
    on_action: Callable[[Action], None] | None = None
    deliver_to: str = ""
    """The service that every copy taken is put in line for; none when empty."""

    def record(self) -> dict[str, object]:
        """All that decides what the run does, for its row: what was not told is left out."""
        chosen, window = self.selection, (self.selection.since, self.selection.until)
        told: dict[str, object] = {
            "prefix": list(chosen.prefixes),
            "include": list(chosen.include),
            "exclude": list(chosen.exclude),
            "filter": list(chosen.filter),
            "window": [bound and bound.isoformat() for bound in window] if any(window) else None,
            "max_gone": None if self.max_gone is None else str(self.max_gone),
            "no_page_memory": not self.page_memory,
            "deliver": bool(self.deliver_to),
        }
        told |= {name: getattr(self, name) for name in ("dry_run", "resume", "transfers", "listers", "bwlimit")}
        return {name: value for name, value in told.items() if value} | self.arguments


@dataclass(frozen=True, slots=True)
class CleanupOptions:
    """`older_than` of None is the retention of the settings; `max_delete` bounds the copies pruned by one run, of which
    the oldest go first. `gone_after` of None is what the settings say of the only copies."""

    older_than: timedelta | None = None
    dry_run: bool = False
    max_delete: int | None = None
    trust_catalog: bool = False
    trust_clock: bool = False
    on_prune: Callable[[str, str], None] | None = None
    """Receives (``prune`` or ``keep``, line for people) of a dry run."""
    gone_after: timedelta | None = None


@dataclass(frozen=True, slots=True)
class RestoreOptions:
    """Which pruned copies to bring back: `keys`, or all with `prefix` (``""`` is everything).

    `to` writes them under another directory and leaves the catalog's state alone; files that stand in their way there
    are kept, unless `overwrite` is said. `bwlimit` is in bytes a second.
    """

    keys: tuple[str, ...] = ()
    prefix: str | None = None
    to: str | None = None
    bwlimit: int | None = None
    overwrite: bool = False


@dataclass(frozen=True, slots=True)
class HoldOptions:
    """`keys`, or everything that starts with `prefix`; one of the two. A hold wants a `reason`, its release none."""

    keys: tuple[str, ...] = ()
    prefix: str | None = None
    reason: str = ""


def require_choice(options: RestoreOptions | HoldOptions) -> None:
    """Raises `SettingsError` unless keys or a prefix are named, one of the two."""
    if isinstance(options.keys, str):
        raise TypeError(f"keys are several: say ({options.keys!r},)")
    if bool(options.keys) == (options.prefix is not None):
        raise SettingsError("name keys, or a prefix ('' is everything), one of the two")


@dataclass(frozen=True, slots=True)
class VerifyOptions:
    """Which copies to look at (``""`` is all of them), and whether to download again what is missing or damaged."""

    prefix: str = ""
    repair: bool = False


@dataclass(frozen=True, slots=True)
class DeliverOptions:
    """`limit` bounds how many deliveries are concluded; `again` takes up what was rejected or given up.

    `take_over` readdresses what waits for an earlier VERIFY_URL. `patience`: seconds without progress after which what
    waits is left to the next run.
    """

    limit: int | None = None
    again: tuple[DeliveryState, ...] = ()
    take_over: bool = False
    patience: float = 30.0


@dataclass(frozen=True, slots=True)
class ConsumeOptions:
    """`patience`: how long a message waits for an object that does not exist. `until_idle`: ends after so long without
    anything to do; None follows for ever. `listen` is where health and metrics are shown (``host:port`` and the like,
    see `observe.endpoints`); None for neither.
    """

    transfers: int | None = None
    patience: timedelta = MESSAGE_PATIENCE
    until_idle: timedelta | None = None
    listen: str | None = None


@dataclass(frozen=True, slots=True)
class LetterOptions:
    """Dead letters by their `ids`, or (None) all that were given up. Those to be discarded may also be chosen by the
    `reason` of it, and by how long ago they came; `dry_run` only counts them."""

    ids: Collection[int] | None = ()
    reason: str | None = None
    older_than: timedelta | None = None
    dry_run: bool = False

    @property
    def chosen(self) -> Collection[int] | None:
        """The ids; None for all that the rest permits. Raises `SettingsError` where nothing is said at all."""
        if self.ids is not None and not self.ids and self.reason is None and self.older_than is None:
            raise SettingsError("name letters by their ids, or say None for all that were given up")
        return self.ids or None


@dataclass(frozen=True, slots=True)
class CheckOptions:
    """Also `download` this key and check its bytes, `upload` and remove an object of our own, or save the server's
    certificate to the file `save_ca`, and test by it."""

    download: str | None = None
    upload: bool = False
    save_ca: str | None = None
