"""Types of flags: durations, moments, rates, and ``auto`` or a number."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import click

from ingest.units import parse_date, parse_duration, parse_size


class Duration(click.ParamType[timedelta]):
    """``45m``, ``12h``, ``30d``, ``2w``."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        if isinstance(value, timedelta):
            return value
        try:
            return parse_duration(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Rate(click.ParamType[int]):
    """Bytes a second: ``10MiB``, ``500kB``."""

    name = "rate"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            return parse_size(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Moment(click.ParamType[datetime]):
    """An ISO 8601 date or time, or a duration: so long ago."""

    name = "date"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            return datetime.now(UTC) - parse_duration(value)
        except (ValueError, OverflowError):
            pass
        try:
            return parse_date(value)
        except ValueError as error:
            self.fail(f"{error}; or a duration such as 30d", param, ctx)


class AutoOr(click.ParamType[int | None]):
    """``auto`` (None) or a number within bounds."""

    name = "auto|N"

    def __init__(self, most: int) -> None:
        self.most = most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | None:
        if value == "auto":
            return None
        if not str(value).isdigit() or not 1 <= int(value) <= self.most:
            self.fail(f"{value!r} is neither auto nor a number from 1 to {self.most}", param, ctx)
        return int(value)
