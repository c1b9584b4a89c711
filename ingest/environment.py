"""Where settings come from: the environment, a ``.env`` file, and the files that hold a secret each."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from ingest.errors import SettingsError

_USUAL_FILE = Path(".env")
_OURS = ("S3_", "INGEST_", "KAFKA_", "VERIFY_")
"""Beginnings of our variables' names. In the environment such names may be anybody's, in our file they are ours."""
_ALIKE, _VERY_ALIKE = 0.6, 0.85
"""How much of two names must be the same (`difflib`) for one to be taken for the other."""


def read_sources(
    names: Mapping[str, str], secrets: Collection[str], env_file: Path | None
) -> tuple[dict[str, Any], list[str]]:
    """Field values from the environment over those from the file, and warnings; empty ones count as not given.

    `secret_files` among them are the files that secrets came from, by field.

    `names` are the fields' variables; those in `secrets` may also come from the file that ``<VARIABLE>_FILE`` names.

    Raises:
        SettingsError: a file that is named cannot be read.
    """
    from_file, warnings = _read_env_file(env_file)
    known = {*names.values(), *(f"{names[field]}_FILE" for field in secrets)}
    warnings += _unknown_names(from_file, known, env_file or _USUAL_FILE)
    written = {**from_file, **os.environ}
    values: dict[str, Any] = {}
    files: dict[str, Path] = {}
    for field, name in names.items():
        value = os.environ.get(name) or ""
        if not value and field in secrets:
            value = _read_secret_file(written.get(f"{name}_FILE"), name)
            if value:
                files[field] = Path(written[f"{name}_FILE"])
        value = value or from_file.get(name) or ""
        if value:
            values[field] = value
    return values | ({"secret_files": files} if files else {}), warnings


def _read_env_file(env_file: Path | None) -> tuple[dict[str, str], list[str]]:
    path = env_file or _USUAL_FILE
    try:
        mode = path.stat().st_mode
    except OSError as error:
        if env_file is not None:
            raise SettingsError(f"the settings file {path} cannot be read: {error.strerror}") from error
        return {}, []
    if stat.S_ISDIR(mode):
        if env_file is not None:
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


def _read_secret_file(name: str | None, variable: str) -> str:
    if not name:
        return ""
    try:
        return Path(name).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{variable}_FILE: {name} cannot be read: {error}") from error
