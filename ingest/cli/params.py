"""The types of flags and arguments: texts, counts, durations, moments, rates, and ``auto`` or a number."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import click

from ingest.plan.vanishing import MostGone
from ingest.settings.anchors import anchored
from ingest.system.units import is_bare, is_duration, parse_date, parse_duration, parse_size

_MOST = (1 << 31) - 1
"""What every database takes for a number, and no bucket reaches."""


class Text(click.ParamType[str]):
    """Keys, prefixes, patterns, reasons, names of files: whatever no request and no catalog would refuse as text."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value)
        try:
            text.encode()
        except UnicodeEncodeError:  # bytes of the command line that are no text come as surrogates
            self.fail(f"{text!a} is not UTF-8 text", param, ctx)
        return text


class PathText(Text):
    """A file or directory; ``~`` is the home directory also where no shell has expanded it, as in ``--to=~/x``."""

    name = "path"

    def __init__(self, kind: str) -> None:
        self._kind = kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = super().convert(value, param, ctx)
        if not text:  # an empty variable of a script: as if it had not been said is not what was meant
            flag = "this" if param is None else param.opts[0]
            raise click.UsageError(f"{flag} wants a {self._kind}, and got an empty one", ctx)
        return anchored(text)


class Count(click.IntRange):
    """A number from `least` on."""

    def __init__(self, least: int = 1) -> None:
        super().__init__(min=least)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        number = int(super().convert(value, param, ctx))
        if number > _MOST:
            self.fail(f"{number} is more than {_MOST}", param, ctx)
        return number


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
    """Bytes a second: ``10MiB``, ``500kB``. Not a bare number, which means KiB to rclone and bytes to curl."""

    name = "rate"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        if is_bare(value):
            number = value.strip()
            self.fail(f"{value!r} has no unit; write {number}MiB, {number}KiB or {number}B, a second", param, ctx)
        try:
            return parse_size(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class GoneAtOnce(click.ParamType[MostGone]):
    """``500`` objects, or ``20%`` of those on record."""

    name = "N|P%"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> MostGone:
        if isinstance(value, MostGone):
            return value
        written = str(value).strip()
        number = written.removesuffix("%").strip()
        plain = number.isascii() and number.isdigit() and len(number) < 10
        if plain and not written.endswith("%"):
            return MostGone(number=int(number))
        if not plain or int(number) > 100:
            self.fail(f"{value!r} is neither a number of objects nor a share from 0% to 100%", param, ctx)
        return MostGone(percent=int(number))


class Told(NamedTuple):
    """A moment, and the words that told it."""

    moment: datetime
    words: str


class Moment(click.ParamType[Told]):
    """An ISO 8601 date or time, or a duration: so long ago."""

    name = "date"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Told:
        if isinstance(value, Told):
            return value
        try:
            found = datetime.now(UTC) - parse_duration(value) if is_duration(value) else parse_date(value)
            return Told(found, str(value).strip())
        except ValueError as error:
            self.fail(f"{error}; or a duration such as 30d", param, ctx)


class ListenAddress(Text):
    """``PORT``, ``HOST:PORT`` or ``[IPv6]:PORT``."""

    name = "address"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from ingest.observe.endpoints import Address

        text = super().convert(value, param, ctx)
        try:
            return str(Address.of(text))
        except ValueError as error:
            self.fail(f"{text!r}: {error}", param, ctx)


class AutoOr(click.ParamType[int | None]):
    """``auto`` (None) or a number within bounds."""

    name = "auto|N"

    def __init__(self, most: int) -> None:
        self.most = most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | None:
        if value == "auto":
            return None
        # `isdigit` alone also takes ², and `int` not more than some thousand digits.
        text = str(value)
        if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= self.most):
            self.fail(f"{value!r} is neither auto nor a number from 1 to {self.most}", param, ctx)
        return int(text)
