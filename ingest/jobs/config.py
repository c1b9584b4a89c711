"""Where everything comes from: each setting, its value and origin, and the catalog and data directory they lead to."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

from ingest.catalog.sql.url import Target
from ingest.engine.installation import Installation
from ingest.errors import IngestError
from ingest.settings import VARIABLES, Settings, read_all

_HIDDEN = "***"
_LOGIN = re.compile(r"^(\w+://)?.*@")
"""A password in an address is one of the things that are wrong with it."""
_ADDRESSES = frozenset({"endpoint", "bucket", "kafka_bootstrap_servers", "verify_url"})
_UNITS = ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s"))


class Line(NamedTuple):
    """One setting. `value` is None where nothing is set, and there is no default."""

    name: str
    value: str | None
    origin: str


class Shown(NamedTuple):
    lines: list[Line]
    catalog: str | None
    data_dir: str | None
    """Where they are, without passwords; None where the settings do not say it."""
    notes: dict[str, Any]


def explain(flags: Mapping[str, object], env_file: Path | None, settings: Settings | None) -> Shown:
    """`settings` of None says that they are wrong: what was written is shown all the same.

    Raises:
        SettingsError: a file that is named cannot be read.
    """
    found = read_all(env_file)
    given = {field: value for field, value in flags.items() if value not in (None, "")}
    origins = {field: str(origin) for field, origin in found.origins.items()} | dict.fromkeys(given, "flag")
    written = {**found.values, **given}
    if "data_dir" in written and "data_dir" not in origins:
        origins["data_dir"] = f"default, beside {env_file}"
    if "://" in str(written.get("endpoint", "")) and (given.get("endpoint") or "secure" not in origins):
        origins["secure"] = "the scheme of S3_ENDPOINT"
    lines = [
        Line(variable.name, _shown(field, variable.secret, written, settings), origins.get(field, "default"))
        for field, variable in VARIABLES.items()
    ]
    if settings is None:
        return Shown(lines, None, None, {})
    return Shown(lines, Target.of(_url(settings)).shown, str(settings.data_dir), _looked_at(settings))


def _shown(field: str, is_secret: bool, written: Mapping[str, object], settings: Settings | None) -> str | None:
    value = getattr(settings, field) if settings is not None else written.get(field)
    if field == "database_url" and settings is not None:
        return Target.of(_url(settings)).shown
    if value is None or value == "":
        return None
    if is_secret:
        return _HIDDEN
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, timedelta):
        return _duration(value)
    may_hold_login = settings is None and field in _ADDRESSES
    return _LOGIN.sub(rf"\1{_HIDDEN}@", str(value)) if may_hold_login else str(value)


def _duration(value: timedelta) -> str:
    seconds = int(value.total_seconds())
    return next((f"{seconds // unit}{name}" for unit, name in _UNITS if seconds and seconds % unit == 0), f"{seconds}s")


def _url(settings: Settings) -> str:
    return settings.database_url.get_secret_value()


def _looked_at(settings: Settings) -> dict[str, Any]:
    """What is there, as far as the disk alone tells."""
    try:
        found = Installation(settings)
    except IngestError as error:
        return {"trouble": error.message}
    inside = found.inside
    return {
        "data_dir_exists": settings.data_dir.is_dir(),
        "data_dir_id": inside.directory if inside else None,
        "catalog_exists": None if settings.sqlite_path is None else not found.catalog_is_absent,
        "belongs_to_catalog": inside.catalog_at if inside else None,
    }
