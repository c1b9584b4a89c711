"""Turns the outcomes of one batch into the rows, marks and audit lines that the catalog commits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from ingest.catalog.batch import Batch
from ingest.errors import NoSuchKey, ObjectArchived
from ingest.model import (
    HAD_A_COPY,
    Audit,
    Block,
    CatalogRow,
    Delivery,
    Download,
    MarkGone,
    Outcome,
    Reason,
    Record,
    RemoteObject,
    Return,
    Skip,
    Status,
)
from ingest.plan.etags import Etags, etag_of
from ingest.source.clock import utc_now


class Announced(NamedTuple):
    """What events say of one key."""

    fields: dict[str, str]
    """The further fields of the last one."""
    etags: frozenset[str]
    """The versions that they name."""
    names_what_is_there: bool
    """One of them names none: it is about whatever is found."""


@dataclass(frozen=True)
class BatchBuilder:
    """Knows the run; everything else comes from the outcomes."""

    run_id: int
    source_id: int
    bucket: str
    downloaded: str = "downloaded"
    """What the audit trail calls a copy that was taken: ``restored`` and ``repaired`` are downloads, too."""
    deliver_to: str = ""
    """The service that every copy taken is put in line for; none when empty."""
    etags: Etags | None = None
    """What is known of the server's etags: what is new of it is recorded with the next batch."""
    now: Callable[[], datetime] = utc_now
    """What time it is, for the record."""
    announced: Mapping[str, Announced] = field(default_factory=dict)
    """By key: what events say that asked for it. Such a key is put in line also when its copy is present already."""

    def build(self, outcomes: Sequence[Outcome]) -> Batch:
        batch = Batch(self.run_id, self.source_id, self.bucket, self.now(), target=self.deliver_to)
        self._add_etags(batch)
        for outcome in outcomes:
            action = outcome.action
            if isinstance(action, Download):
                self._add_download(batch, action, outcome)
            elif isinstance(action, Record):
                batch.known.append(action.remote)
            elif isinstance(action, Block):
                batch.blocked.append((action.remote, action.reason))
            elif isinstance(action, Return):
                batch.returned[action.remote.key] = action.row.seen
                batch.audits.append(Audit("returned", action.remote.key, {"etag": action.remote.etag}))
            elif isinstance(action, Skip):
                self._add_skip(batch, action, outcome.remote or action.remote)
            elif isinstance(action, MarkGone):
                self._add_gone(batch, action.row.key, action.row.etag, action.row)
            if not isinstance(action, MarkGone) and action.remote.key in self.announced:
                self._add_announced(batch, outcome.remote or action.remote)
        return batch

    def _add_download(self, batch: Batch, action: Download, outcome: Outcome) -> None:
        remote = outcome.remote or action.remote
        if outcome.copy is not None:
            batch.present.append((remote, outcome.copy))
            was = (action.row.etag, action.row.size) if action.row is not None else None
            is_another = was is not None and outcome.adopted and was != (remote.etag, remote.size)
            changed = is_another or (was is not None and action.reason is Reason.CHANGED)
            if action.is_listed or is_another:  # what is brought back as it was has been in line before, or never was
                self._put_in_line(batch, remote)
            what = "changed" if changed else self._called(action)
            if action.row is not None and action.row.gone and not action.is_listed:  # its bytes show that it is back
                batch.audits.append(Audit("returned", remote.key, {"etag": remote.etag}))
            detail: dict[str, object] = {"etag": remote.etag, "size": remote.size, "digest": outcome.copy.digest}
            if changed and action.row is not None:
                detail["previous_etag"] = action.row.etag
            batch.audits.append(Audit(what, remote.key, detail))
        elif isinstance(outcome.error, ObjectArchived):
            batch.blocked.append((remote, outcome.error.code))
        elif isinstance(outcome.error, NoSuchKey) and outcome.status is not Status.FAILED:
            self._add_absent(batch, action, remote, outcome.error)
        elif outcome.error is not None:
            batch.failed.append((remote, f"{outcome.error.code}: {outcome.error.message}"))
            batch.audits.append(Audit("failed", remote.key, {"error": outcome.error.code, "etag": remote.etag}))

    def _called(self, action: Download) -> str:
        """A story does not begin with a return: what never had a copy is downloaded, whoever asked for it."""
        row = action.row
        had = row is not None and (row.local_path is not None or row.state in HAD_A_COPY)
        return self.downloaded if had or action.is_listed else "downloaded"

    def _add_absent(self, batch: Batch, action: Download, remote: RemoteObject, error: NoSuchKey) -> None:
        """Gone; where a listing named it, with a note for the next one that does (see `plan.policy`)."""
        if action.is_listed:
            batch.failed.append((remote, f"{error.code}: {error.message}"))
            batch.returned.pop(remote.key, None)
        elif action.row is None or action.row.gone:
            return
        self._add_gone(batch, remote.key, remote.etag, action.row)

    def _put_in_line(self, batch: Batch, remote: RemoteObject) -> None:
        if self.deliver_to:
            said = self.announced.get(remote.key)
            batch.deliveries.append(Delivery(remote.key, remote.etag, said.fields if said else {}))

    def _add_etags(self, batch: Batch) -> None:
        if self.etags is not None and self.etags.is_news:
            batch.pages.etags, self.etags.is_news = self.etags.text, False

    def _add_skip(self, batch: Batch, action: Skip, own: RemoteObject) -> None:
        if action.unchanged and own.key in self.announced:
            self._put_in_line(batch, own)

    def _add_announced(self, batch: Batch, found: RemoteObject) -> None:
        """The version that was found is one that an event named; another one may still be announced."""
        said, etag = self.announced[found.key], etag_of(found.etag)
        if said.names_what_is_there or etag in said.etags:
            batch.announced[found.key] = etag

    @staticmethod
    def _add_gone(batch: Batch, key: str, etag: str, row: CatalogRow | None) -> None:
        batch.gone[key] = 0 if row is None else row.seen
        batch.audits.append(Audit("gone", key, {"etag": etag}))
