"""The messages that were kept: shown, tried again by hand, discarded. All in pages: a topic may be full of them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from ingest.catalog import deadletters
from ingest.catalog.deadletters import Chosen, LetterRow
from ingest.engine.installation import opened_read_only
from ingest.engine.options import LetterOptions
from ingest.engine.run import Run, execute
from ingest.engine.transfer.session import GRACE
from ingest.errors import MessagesDied, RowNotFound, SettingsError
from ingest.events.in_flight import InFlight
from ingest.events.processor import processing
from ingest.events.retry_queue import as_letter
from ingest.figures import Figures
from ingest.model import LetterState, RunReport
from ingest.observe.progress import Progress
from ingest.settings import Settings
from ingest.system.failpoints import failpoint
from ingest.tasks.stop import Stop


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


async def letters(
    settings: Settings, *, after: int = 0, limit: int | None = None, begun: bool = False
) -> AsyncGenerator[dict[str, Any], None]:
    """Kept messages behind that id, oldest first: where they stood, why they are kept, every try. `begun` brings no
    more than the beginning of each message. Close it (`aclosing`) when leaving it early."""
    async with opened_read_only(settings) as (catalog, source):
        left = limit
        while left is None or left > 0:
            most = deadletters.AT_ONCE if left is None else min(left, deadletters.AT_ONCE)
            rows = await deadletters.letters(catalog, source.id, after=after, limit=most, begun=begun)
            if not rows:
                return
            for row in rows:
                yield _shown(row)
            after = rows[-1].id or 0
            left = left - len(rows) if left is not None else None


async def retry_letters(
    settings: Settings,
    options: LetterOptions | None = None,
    *,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> RunReport:
    """Carries out these letters once more; what fails again stays, with one more attempt. The bucket is waited for as
    by any run.

    Raises:
        SettingsError: the options name none, or choose as only discarding can.
    """
    chosen = options or LetterOptions()
    if chosen.reason is not None or chosen.older_than is not None or chosen.dry_run:
        raise SettingsError("letters are tried again by their ids, or all of them; the rest is for discarding")
    ids = chosen.chosen

    async def work(run: Run) -> None:
        catalog, source_id = run.catalog, run.source.id
        await _require(run, ids)
        state, upto = (LetterState.DEAD if ids is None else None), await deadletters.highest(catalog, source_id)
        tried = after = 0
        async with processing(run, endless=False) as processor:
            retry_queue = processor.retry_queue
            try:
                while not run.stop.requested:
                    rows = await deadletters.letters(catalog, source_id, after=after, upto=upto, state=state, ids=ids)
                    failpoint("letters.read")
                    if not rows:
                        break
                    after, tried = rows[-1].id or upto, tried + len(rows)
                    processor.by_key.take([InFlight(as_letter(row), partial(retry_queue.tried, row)) for row in rows])
                    await processor.settle(grace=GRACE)
            finally:
                left = tried - retry_queue.settled
                run.report.figures = RetriedLetters(tried, retry_queue.settled, left)
        run.stop.raise_if_requested()
        if left:
            raise MessagesDied(f"{left} of {tried} messages failed again")

    arguments: dict[str, object] = {"ids": list(ids) if ids is not None else "all"}
    return await execute(
        "deadletters retry", settings, arguments, work, lock="deadletters", progress=progress, stop=stop
    )


async def discard_letters(
    settings: Settings,
    options: LetterOptions | None = None,
    *,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> RunReport:
    """Removes these letters for good; without ids, those that were given up, for that reason, and so long ago.

    Raises:
        SettingsError: the options name none.
    """
    options = options or LetterOptions()
    ids, reason, older_than, dry_run = options.chosen, options.reason, options.older_than, options.dry_run

    async def work(run: Run) -> None:
        await _require(run, ids)
        before = datetime.now(UTC) - older_than if older_than is not None else None
        chosen, after = Chosen(ids, reason, before), 0
        removing = partial(deadletters.discard, run.catalog, run.source.id, chosen, run.id, dry_run=dry_run)
        upto = await deadletters.highest(run.catalog, run.source.id)
        discarded, going_on = 0, True
        while going_on:
            run.stop.raise_if_requested()
            number, last = await removing(after=after, upto=upto)
            discarded += number
            run.report.figures = DiscardedLetters(discarded, dry_run)
            after, going_on = last or upto, last is not None

    told = {"reason": reason, "older_than": older_than.total_seconds() if older_than is not None else None}
    arguments: dict[str, object] = {"discard": list(ids) if ids is not None else "all", **told, "dry_run": dry_run}
    return await execute(
        "deadletters discard", settings, arguments, work, lock="deadletters", progress=progress, stop=stop
    )


async def _require(run: Run, ids: Collection[int] | None) -> None:
    missing = await deadletters.missing(run.catalog, run.source.id, ids) if ids is not None else []
    if missing:
        raise RowNotFound(
            f"there is no letter {', '.join(map(str, missing))}", hint="`ingest deadletters list` shows them."
        )


def _shown(row: LetterRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "state": row.state,
        "reason": row.reason,
        "key": row.key,
        "topic": row.topic,
        "partition": row.partition,
        "offset": row.offset,
        "first_at": row.first_at,
        "next_attempt_at": row.next_attempt_at,
        "unpublished": row.publish_at is not None,
        "attempts": list(row.attempts),
        "message": row.value.decode(errors="backslashreplace") if row.value is not None else None,
        "headers": {name: value.decode(errors="backslashreplace") for name, value in row.headers},
    }
