"""The messages that were kept: shown, and tried again by hand."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from ingest.catalog import deadletters
from ingest.catalog.deadletters import LetterRow
from ingest.crashpoints import here
from ingest.errors import MessagesDied, RowNotFound
from ingest.jobs.errands import Errand
from ingest.jobs.installation import asked
from ingest.jobs.letterbox import as_letter
from ingest.jobs.reception import receiving
from ingest.jobs.run import Run, execute
from ingest.jobs.stop import Stop
from ingest.model import LetterState, RunReport
from ingest.observe.progress import Progress
from ingest.settings import Settings

_AT_ONCE = 500
_SETTLE_SECONDS = 600.0


async def list_letters(settings: Settings, limit: int | None) -> list[dict[str, Any]]:
    """Kept messages, oldest first: where they stood, why they are kept, and every try."""
    async with asked(settings) as (catalog, source):
        return [_shown(row) for row in await deadletters.letters(catalog, source.id, limit=limit)]


async def retry_letters(settings: Settings, ids: Sequence[int] | None, *, progress: Progress, stop: Stop) -> RunReport:
    """Carries out these letters once more, or all dead ones; what fails again stays, with one more attempt."""

    async def work(run: Run) -> None:
        rows = await _chosen(run, ids)
        here("letters.read")
        async with receiving(run) as reception:
            for start in range(0, len(rows), _AT_ONCE):
                if stop.requested:
                    break
                some = rows[start : start + _AT_ONCE]
                reception.intake.take([Errand(as_letter(row), partial(reception.letterbox.tried, row)) for row in some])
                await reception.settle(_SETTLE_SECONDS)
        left = len(rows) - reception.letterbox.settled
        run.report.notes |= {"retried": len(rows), "settled": reception.letterbox.settled, "dead_letters": left}
        stop.raise_if_requested()
        if left:
            raise MessagesDied(f"{left} of {len(rows)} messages failed again")

    arguments: dict[str, object] = {"ids": list(ids) if ids is not None else "all"}
    return await execute("deadletters", settings, arguments, work, lock="deadletters", progress=progress, stop=stop)


async def _chosen(run: Run, ids: Sequence[int] | None) -> list[LetterRow]:
    catalog, source_id = run.catalog, run.source.id
    if ids is None:
        return await deadletters.letters(catalog, source_id, state=LetterState.DEAD)
    rows = await deadletters.letters(catalog, source_id, ids=ids)
    missing = set(ids) - {row.id for row in rows}
    if missing:
        raise RowNotFound(
            f"there is no letter {', '.join(map(str, sorted(missing)))}", hint="`ingest deadletters list` shows them."
        )
    return rows


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
        "attempts": list(row.attempts),
        "message": row.value.decode(errors="backslashreplace") if row.value is not None else None,
        "headers": {name: value.decode(errors="backslashreplace") for name, value in row.headers},
    }
