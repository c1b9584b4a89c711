"""Turns the outcomes of one batch into the rows, marks and audit lines that the catalog commits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from ingest.catalog.batch import Batch, ObjectUpsert, PagePut, ShardCursor
from ingest.errors import NoSuchKey, ObjectArchived
from ingest.jobs.tickets import Cursor, Ticket
from ingest.model import Audit, Block, Download, MarkGone, Outcome, Record, Return, Status


@dataclass
class BatchBuilder:
    """Knows the run; everything else comes from the outcomes. `filters` of None remembers no pages."""

    run_id: int
    source_id: int
    filters: bytes | None = None

    def build(self, outcomes: Sequence[Outcome]) -> Batch:
        batch = Batch(run_id=self.run_id, source_id=self.source_id, at=datetime.now(UTC))
        for outcome in outcomes:
            self._add(batch, outcome)
        return batch
