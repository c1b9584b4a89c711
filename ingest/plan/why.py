"""Why a run took an object or left it: its record (`SyncOptions.record`), put to the object as it is known now."""

from __future__ import annotations

from collections.abc import Sequence

from ingest.errors import SettingsError
from ingest.model import RemoteObject
from ingest.plan.resuming import Told, Window, window_of
from ingest.plan.selection import Selection

_FLAGS = (("--include", "include"), ("--exclude", "exclude"), ("--filter", "filter"))


def lists(told: Told, key: str, prefixes: Sequence[str]) -> bool:
    """Whether a run that was told so lists the key. `prefixes` are all that its own may have meant."""
    return not told.get("prefix") or key.startswith(tuple(prefixes))


def why_left(remote: RemoteObject, told: Told) -> str | None:
    """What of the record keeps an object that is listed from being downloaded; None when nothing does."""
    since, until = window_of(told)
    if remote.is_directory_marker:
        return "a directory marker, of which there is never a file"
    if Selection(since=since, until=until).outside_window(remote.last_modified):
        return f"modified {remote.last_modified:%Y-%m-%d %H:%M:%S} UTC, and the window is {_shown((since, until))}"
    include, exclude, rules = (tuple(told.get(name) or ()) for _, name in _FLAGS)
    try:
        excluded = Selection(include=include, exclude=exclude, filter=rules).excluded(remote.key)
    except SettingsError as error:  # an earlier version took rules that match nothing
        return error.message
    return f"left out by {' or '.join(_told(told))}" if excluded else None


def _told(told: Told) -> list[str]:
    return [f"{flag} {text!r}" for flag, name in _FLAGS for text in told.get(name) or ()]


def _shown(window: Window) -> str:
    since, until = (bound and f"{bound:%Y-%m-%d %H:%M:%S}" for bound in window)
    if until is None:
        return f"from {since} UTC on"
    return f"before {until} UTC" if since is None else f"from {since} to before {until} UTC"
