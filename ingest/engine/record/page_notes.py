"""What the results of a batch mean for the listings to come, and for their memory of pages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ingest.catalog.batch import Batch
from ingest.model import Outcome, Record, RemoteObject, key_of
from ingest.plan.cursors import Part
from ingest.plan.page_memory import changes, shown_otherwise


class Tallied(NamedTuple):
    """Objects of a page that need no outcome of their own: `known` are new, and only to be recorded."""

    unchanged: int
    skipped: int
    known: Sequence[RemoteObject] = ()


def note_pages(batch: Batch, results: Iterable[tuple[Outcome | Tallied, Part | None]]) -> None:
    """Adds what pages show that is only to be recorded, the versions that they show under another etag, and which keys
    the catalog says something else of now."""
    notes = batch.pages
    for result, part in results:
        listed = part.shard.prefix if part is not None and part.relists is not None else None
        if isinstance(result, Outcome):
            known = isinstance(result.action, Record)
            changed = [key_of(result.action)] if changes(result) else []
            if part is not None and (shown := shown_otherwise(result, part.listed_at)) is not None:
                notes.shown_as[key_of(result.action)] = shown
        else:
            known = bool(result.known)
            changed = [remote.key for remote in result.known]
            batch.known.extend(result.known)
        if changed:
            notes.changed.setdefault(listed, []).extend(changed)
        if known and part is not None:
            seen = part.seen_before
            notes.known_since = seen if notes.known_since is None else min(seen, notes.known_since)
