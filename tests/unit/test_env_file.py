"""The settings file: one that is named has to be one."""

from __future__ import annotations

from pathlib import Path

import pytest

from ingest.errors import SettingsError
from ingest.settings import Settings


def test_a_directory_is_no_settings_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match="is a directory"):
        Settings.load(env_file=tmp_path)
    (tmp_path / ".env").mkdir()  # a virtual environment, as some call it: nobody named it
    monkeypatch.chdir(tmp_path)
    assert Settings.load().warnings == ()


def test_what_is_named_and_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="No such file"):
        Settings.load(env_file=tmp_path / "missing")
