"""How long what is kept: copies, the only ones among them, and the bookkeeping."""

from __future__ import annotations

from datetime import timedelta

from pydantic import BaseModel, field_validator

from ingest.system.units import parse_duration


class RetentionVariables(BaseModel, defer_build=True):  # a part of `Settings`: only that is built, at each start
    """What cleanup goes by."""

    retention: timedelta = timedelta(days=30)
    gone_after: timedelta | None = None
    """None: a copy that the bucket no longer has is kept for ever."""
    keep_runs: timedelta = timedelta(days=400)
    keep_letters: timedelta = timedelta(days=400)

    @field_validator("retention", "gone_after", "keep_runs", "keep_letters", mode="before")
    @classmethod
    def _age(cls, value: object) -> object:
        return parse_duration(value) if isinstance(value, str) else value
