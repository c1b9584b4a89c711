"""What the questions answer: the fields of ``--json``, with their types. Sizes in bytes, times in UTC."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NotRequired, TypedDict


class Amount(TypedDict):
    objects: int
    bytes: int


class RunRecord(TypedDict):
    """A run as the catalog has it; `counts` as in ``--json``."""

    id: int
    source_id: int
    command: str
    arguments: dict[str, Any]
    host: str
    pid: int
    started_at: datetime
    heartbeat_at: datetime
    finished_at: datetime | None
    status: str
    counts: dict[str, int]
    error: str | None
    audit_id: int | None
    audit_hash: str | None
    clock_ahead: int | None


class SourceStatus(TypedDict):
    """By state: objects (``present``, ``pruned`` …), `deliveries` and `dead_letters`."""

    source: str
    listing_order: str
    listing_order_since: datetime | None
    listing_order_reason: str
    states: dict[str, Amount]
    objects: int
    gone: int
    only_copies: Amount
    first_download: datetime | None
    last_download: datetime | None
    deliveries: dict[str, int]
    dead_letters: dict[str, int]
    unpublished_letters: int
    lost_messages: int
    unannounced: int | None
    last_runs: list[RunRecord]


class RunShown(TypedDict):
    """`failures` are what the audit trail has of the run's objects."""

    run: RunRecord
    failures: list[dict[str, Any]]
    object: NotRequired[dict[str, str]]


class History(TypedDict):
    """What the catalog has of one key: its object, its events and its deliveries, by column (`schema.sql`)."""

    object: dict[str, Any]
    events: list[dict[str, Any]]
    deliveries: list[dict[str, Any]]
