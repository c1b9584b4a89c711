"""Where settings come from: the environment, a ``.env`` file, and the files that hold a secret each."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ingest.errors import SettingsError
from ingest.settings.anchors import anchored, anchored_url

_USUAL_FILE = Path(".env")
_OURS = ("S3_", "INGEST_", "KAFKA_", "VERIFY_")
"""Beginnings of our variables' names. In the environment such names may be anybody's, in our file they are ours."""
_ALIKE, _VERY_ALIKE = 0.6, 0.85
"""How much of two names must be the same (`difflib`) for one to be taken for the other."""


class Names(NamedTuple):
    """The variables of the fields; which of them may also come from the file that ``<VARIABLE>_FILE`` names, and which
    are paths."""

    variables: Mapping[str, str]
    secrets: Collection[str]
    paths: Collection[str]


class Found(NamedTuple):
    """Field values; empty ones count as not given. `secret_files` among them are the files of secrets, by field."""

    values: dict[str, Any]
    warnings: list[str]
    origins: dict[str, Origin]


class Origin(NamedTuple):
    """Where a value was read: `file` is None for the environment. Relative paths in a file are relative to it."""

    variable: str
    file: Path | None = None
    is_secret: bool = False
    """The whole file is the value."""

    @property
    def base(self) -> Path | None:
        return None if self.file is None else Path(os.path.abspath(self.file)).parent

    def __str__(self) -> str:
        if self.file is None:
            return "environment"
        line = None if self.is_secret else line_of(self.file, self.variable)
        return f"{self.file}" if line is None else f"{self.file} line {line}"


def read_sources(names: Names, env_file: Path | None) -> Found:
    """What the environment says over what the settings file says. `env_file` of None is ``.env``, if there is one.

    Raises:
        SettingsError: a file that is named cannot be read.
    """
    file = _USUAL_FILE if env_file is None else Path(anchored(str(env_file)))
    from_file, warnings = _read_env_file(file, must_exist=env_file is not None)
    known = {*names.variables.values(), *(f"{names.variables[field]}_FILE" for field in names.secrets)}
    warnings += _unknown_names(from_file, known, file)
    values: dict[str, Any] = {}
    origins: dict[str, Origin] = {}
    for field, name in names.variables.items():
        value, origin = os.environ.get(name) or "", Origin(name)
        if not value and field in names.secrets:
            value, origin = _read_secret(f"{name}_FILE", from_file, file)
        if not value:
            value, origin = from_file.get(name) or "", Origin(name, file)
        if value:
            values[field] = _anchored(field, value, origin.base, names)
            origins[field] = origin
    if env_file is not None and "data_dir" not in values:
        values["data_dir"] = str(Path(os.path.abspath(file)).parent / "data")
    files = {field: origin.file for field, origin in origins.items() if origin.is_secret}
    return Found(values | ({"secret_files": files} if files else {}), warnings, origins)


def line_of(file: Path, variable: str) -> int | None:
    """The last line of a settings file that sets `variable`."""
    from dotenv.parser import parse_stream

    with file.open(encoding="utf-8") as stream:
        found = [binding.original for binding in parse_stream(stream) if binding.key == variable]
    if not found:
        return None
    text = found[-1].string  # empty lines before it are a part of it
    return found[-1].line + text[: len(text) - len(text.lstrip())].count("\n")


def _anchored(field: str, value: str, base: Path | None, names: Names) -> str:
    if field == "database_url":
        return anchored_url(value, base)
    return anchored(value, base) if field in names.paths else value


def _read_env_file(path: Path, *, must_exist: bool) -> tuple[dict[str, str], list[str]]:
    try:
        mode = path.stat().st_mode
    except OSError as error:
        if must_exist:
            raise SettingsError(f"the settings file {path} cannot be read: {error.strerror}") from error
        return {}, []
    if stat.S_ISDIR(mode):
        if must_exist:
            raise SettingsError(f"the settings file {path} cannot be read: it is a directory")
        return {}, []
    from dotenv import dotenv_values  # only where a file exists

    try:
        values = dotenv_values(path, interpolate=False, encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"the settings file {path} cannot be read: {error}") from error
    warnings = []
    if mode & (stat.S_IRGRP | stat.S_IROTH):
        warnings.append(f"{path} can be read by other users; it may hold secrets: chmod 600 {path}")
    return {name: value for name, value in values.items() if value}, warnings


def _unknown_names(written: Mapping[str, str], known: Collection[str], file: Path) -> list[str]:
    """A warning for each name that sets nothing, and was meant to: it begins like ours, or is nearly one of them."""
    from difflib import get_close_matches

    warnings = []
    for name in written:
        if name in known:
            continue
        ours = name.upper().startswith(_OURS)
        if alike := get_close_matches(name.upper(), known, 1, _ALIKE if ours else _VERY_ALIKE):
            warnings.append(f"{file}: {name} is no setting, and does nothing; is {alike[0]} meant?")
        elif ours:
            warnings.append(f"{file}: {name} is no setting, and does nothing; .env.example has them all")
    return warnings


def _read_secret(variable: str, from_file: Mapping[str, str], file: Path) -> tuple[str, Origin]:
    """What is in the file that `variable` names, in the environment or in the settings file."""
    name, named_in = os.environ.get(variable) or "", Origin(variable)
    if not name:
        name, named_in = from_file.get(variable) or "", Origin(variable, file)
    if not name:
        return "", named_in
    path = Path(anchored(name, named_in.base))
    try:
        return path.read_text(encoding="utf-8").strip(), Origin(variable, path, is_secret=True)
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{variable}: {path} cannot be read: {error}") from error
