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


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("INGEST_RETENTON=365d", "INGEST_RETENTION"),
        ("S3_SECRET_KY=x", "S3_SECRET_KEY"),
        ("S3_ACCESSKEY=x", "S3_ACCESS_KEY"),
        ("KAFKA_BOOTSTRAP_SERVER=k:9092", "KAFKA_BOOTSTRAP_SERVERS"),
        ("VERIFY_AUTHORISATION_FILE=x", "VERIFY_AUTHORIZATION_FILE"),
        ("s3_endpoint=minio:9000", "S3_ENDPOINT"),
        ("DATABASE_URI=sqlite:///x", "DATABASE_URL"),
        ("INGEST_DIRECTORY_OF_EVERYTHING_ELSE=x", ""),
        ("KAFKA_=x", "KAFKA_TOPIC"),
    ],
)
def test_a_name_that_sets_nothing_is_said_with_the_one_that_is_meant(tmp_path: Path, line: str, meant: str) -> None:
    file = tmp_path / "settings"
    file.write_text(f"S3_BUCKET=statements\n{line}\n")
    file.chmod(0o600)
    (warning,) = Settings.load(env_file=file).warnings
    assert warning.startswith(f"{file}: {line.partition('=')[0]} is no setting, and does nothing; ")
    assert (f"is {meant} meant?" if meant else ".env.example") in warning


def test_names_of_others_and_of_ours_are_no_mistake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """AWS's own, those of a shell that shares the file, files of secrets, and whatever the environment has."""
    (tmp_path / "secret").write_text("x")
    file = tmp_path / "settings"
    names = ["AWS_PROFILE=x", "TZ=UTC", "POSTGRES_PASSWORD=x", f"S3_SECRET_KEY_FILE={tmp_path}/secret"]
    file.write_text("\n".join([*names, "S3_ACCESS_KEY=k"]))
    file.chmod(0o600)
    monkeypatch.setenv("INGEST_SERVICE_HOST", "10.0.0.1")  # as Kubernetes tells of a service by the name of `ingest`
    assert Settings.load(env_file=file).warnings == ()
