"""Exempts copies from cleanup, by key or by prefix; every hold and release is in the audit trail."""

from __future__ import annotations

import getpass
import os
import socket
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from ingest.catalog.copies import copies_of
from ingest.catalog.holds import Hold, Holder, all_holds
from ingest.engine.installation import opened_read_only
from ingest.engine.options import HoldOptions, require_choice
from ingest.engine.prefixes import is_on_record, read_prefix
from ingest.engine.record.copies import Copies
from ingest.engine.run import Run, execute
from ingest.errors import RowNotFound, SettingsError
from ingest.figures import Figures
from ingest.model import RunReport
from ingest.observe.logs import log
from ingest.observe.progress import Progress
from ingest.settings import Settings
from ingest.source.paths import other_prefixes, spellings
from ingest.store.undo_log import UndoLog
from ingest.system.failpoints import failpoint
from ingest.tasks.stop import Stop

_LOCK = "hold"
"""Of their own: a hold must be possible while a cleanup runs. It waits for a batch of it at most."""


@dataclass(slots=True)
class PlacedHolds(Figures):
    placed: int
    held: int
    """Copies that it holds now."""


@dataclass(slots=True)
class ReleasedHolds(Figures):
    released: int


async def hold(
    settings: Settings,
    options: HoldOptions | None = None,
    *,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> RunReport:
    """Holds the keys of `options`, which the catalog must know, or a prefix, which may be of objects to come.

    Raises:
        SettingsError: neither keys nor a prefix are named, or no reason is.
    """
    options = options or HoldOptions()
    require_choice(options)
    if not options.reason.strip():
        raise SettingsError("a hold wants a reason")

    async def work(run: Run) -> None:
        holder = Holder(run.catalog, run.id, run.source.id)
        is_prefix = options.prefix is not None
        keys = await _keys(run, options)
        failpoint("hold.read")
        # Not between a cleanup's intent and its unlinks: what is said to be held would be removed still.
        undo_log = UndoLog(settings.data_dir, run.source.directory)
        with closing(Copies(run.catalog, run.source.id, undo_log, run.stop)) as copies:
            async with copies.changing():
                said = options.reason
                held = await holder.place(keys, is_prefix=is_prefix, reason=said, by=_who(), at=datetime.now(UTC))
        run.report.figures = PlacedHolds(len(keys), held)
        if not is_prefix and held < len(keys):
            said = f"{len(keys) - held} of {len(keys)} have no copy to hold now: `ingest restore` brings one back"
            log().warning("held_without_copy", message=said)
        if is_prefix and not await is_on_record(run.catalog, run.source.id, keys[0]):
            said = f"nothing on record begins with {keys[0]!r} yet: the hold is placed, and holds what comes"
            log().info("hold_placed", message=said)

    return await execute("hold add", settings, asdict(options), work, lock=_LOCK, progress=progress, stop=stop)


async def release(
    settings: Settings,
    options: HoldOptions | None = None,
    *,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> RunReport:
    """Ends holds. A key under a held prefix stays held: a prefix is released as it was held. Raises as `hold` does."""
    options = options or HoldOptions()
    require_choice(options)
    named = {"keys": options.keys, "prefix": options.prefix}

    async def work(run: Run) -> None:
        holder = Holder(run.catalog, run.id, run.source.id)
        is_prefix = options.prefix is not None
        keys = await _held_prefix(run, options.prefix or "") if is_prefix else await _keys(run, options)
        failpoint("release.read")
        found = await holder.release(keys, is_prefix=is_prefix, by=_who(), at=datetime.now(UTC))
        unheld = [key for key in keys if key not in found]
        if unheld:
            kind = "prefix" if is_prefix else "key"
            hint = "`ingest hold list` shows every hold. A key is not released from the hold of a prefix."
            raise RowNotFound(f"no hold on the {kind} {unheld[0]!r}; nothing was released", hint=hint)
        run.report.figures = ReleasedHolds(len(keys))

    return await execute("hold remove", settings, named, work, lock=_LOCK, progress=progress, stop=stop)


async def holds(settings: Settings) -> list[Hold]:
    """Every hold, in key order."""
    async with opened_read_only(settings) as (catalog, source):
        return await all_holds(catalog, source.id)


async def _held_prefix(run: Run, text: str) -> list[str]:
    """The prefix of a hold that `text` means; as it stands where there is none."""
    held = {hold.key for hold in await all_holds(run.catalog, run.source.id) if hold.is_prefix}
    meant = (prefix for prefix in (text, *other_prefixes(text, run.source.bucket)) if prefix in held)
    return [next(meant, text)]


async def _keys(run: Run, options: HoldOptions) -> list[str]:
    """The prefix that is meant, or each key in the spelling that the catalog knows.

    Raises:
        RowNotFound: the catalog does not know one of the keys. SettingsError: the prefix is not written as one.
    """
    if options.prefix is not None:

        async def matches(prefix: str) -> bool:
            return await is_on_record(run.catalog, run.source.id, prefix)

        return [await read_prefix(options.prefix, run.source.bucket, matches)]
    spelled = [spellings(text, run.source.bucket) for text in options.keys]
    known = await copies_of(run.catalog, run.source.id, [key for keys in spelled for key in keys])
    found: list[str] = []
    for text, keys in zip(options.keys, spelled, strict=True):
        key = next((key for key in keys if key in known), None)
        if key is None:
            raise RowNotFound(f"{text!r} is not in the catalog; a prefix can be held before its objects come")
        found.append(key)
    return list(dict.fromkeys(found))


def _who() -> str:
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"
