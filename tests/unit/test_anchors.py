"""Paths as people write them, wherever one is taken."""

from __future__ import annotations

from pathlib import Path

import pytest
import trustme

from ingest.settings import VARIABLES, Settings
from ingest.settings.anchors import anchored, anchored_url


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two places and a home; what is read lies in one of them, and we are in the other."""
    for variable in VARIABLES.values():
        monkeypatch.delenv(variable.name, raising=False)
        monkeypatch.delenv(f"{variable.name}_FILE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("home", "w1", "w2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "secret").write_text(name)
        trustme.CA().cert_pem.write_to_path(str(tmp_path / name / "minio.pem"))
    monkeypatch.chdir(tmp_path / "w2")
    return tmp_path


def load(home: Path, text: str, named: str = "../w1/.env", **flags: str) -> Settings:
    file = home / "w1" / ".env"
    file.write_text(text)
    file.chmod(0o600)
    return Settings.load(flags, env_file=Path(named))


@pytest.mark.parametrize("named", ["../w1/.env", "{home}/w1/.env", "~/../w1/.env"])
@pytest.mark.parametrize("text", ["", "INGEST_DATA_DIR=data", "INGEST_DATA_DIR=./data\n"])
def test_one_file_leads_to_one_installation(home: Path, text: str, named: str) -> None:
    settings = load(home, text, named.format(home=home))
    assert settings.data_dir.resolve() == home / "w1" / "data"
    assert settings.sqlite_path is not None
    assert settings.sqlite_path.resolve() == home / "w1" / "data" / ".ingest" / "catalog.db"


def test_what_is_relative_in_a_file_is_relative_to_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "S3_CA_BUNDLE=minio.pem\nKAFKA_CA_BUNDLE=~/minio.pem\nS3_ACCESS_KEY=k\nS3_SECRET_KEY_FILE=secret\n"
    settings = load(home, text + "DATABASE_URL=sqlite:///c%20d.db\n")
    assert settings.ca_bundle is not None
    assert settings.ca_bundle.resolve() == home / "w1" / "minio.pem"
    assert settings.kafka_ca_bundle == home / "home" / "minio.pem"
    assert settings.secret_key is not None
    assert settings.secret_key.get_secret_value() == "w1"
    assert settings.secret("secret_key").now() == "w1"
    assert settings.sqlite_path is not None
    assert settings.sqlite_path.resolve() == home / "w1" / "c d.db"
    # The environment and the flags are of where we are.
    monkeypatch.setenv("S3_CA_BUNDLE", "minio.pem")
    monkeypatch.setenv("S3_SECRET_KEY_FILE", "secret")
    settings = load(home, text, data_dir="here")
    assert settings.ca_bundle is not None
    assert settings.ca_bundle.resolve() == home / "w2" / "minio.pem"
    assert settings.secret_key is not None
    assert settings.secret_key.get_secret_value() == "w2"
    assert settings.data_dir == home / "w2" / "here"


@pytest.mark.parametrize("how", ["flag", "environment", "file"])
def test_the_home_directory_is_one_everywhere(home: Path, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"INGEST_DATA_DIR": "~/d", "S3_CA_BUNDLE": "~/minio.pem", "DATABASE_URL": "sqlite:///~/c.db"}
    text, flags = "", {}
    if how == "flag":
        flags = {"data_dir": "~/d", "ca_bundle": "~/minio.pem", "database_url": "sqlite:///~/c.db"}
    elif how == "environment":
        for name, value in values.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("S3_ACCESS_KEY", "k")
        monkeypatch.setenv("S3_SECRET_KEY_FILE", "~/secret")
    else:
        text = "".join(f"{name}={value}\n" for name, value in values.items())
    settings = load(home, text, **flags)
    assert settings.data_dir == home / "home" / "d"
    assert settings.sqlite_path == home / "home" / "c.db"
    assert settings.ca_bundle == home / "home" / "minio.pem"
    if how == "environment":
        assert settings.secret_key is not None
        assert settings.secret_key.get_secret_value() == "home"


@pytest.mark.parametrize(
    ("url", "base", "became"),
    [
        ("sqlite:///c.db", Path("/b"), "sqlite:////b/c.db"),
        ("sqlite:///c.db", None, "sqlite:///c.db"),
        ("sqlite:////abs/c.db", Path("/b"), "sqlite:////abs/c.db"),
        ("sqlite:///:memory:", Path("/b"), "sqlite:///:memory:"),
        ("sqlite:///c.db?x=1", Path("/b"), "sqlite:///c.db?x=1"),
        ("postgresql://u:p@h/n?sslrootcert=ca.pem&sslmode=require", Path("/b"),
         "postgresql://u:p@h/n?sslrootcert=/b/ca.pem&sslmode=require"),
        ("postgresql://u:p@h/n?host=/run/pg", Path("/b"), "postgresql://u:p@h/n?host=/run/pg"),
        ("no url", Path("/b"), "no url"),
    ],
)  # fmt: skip
def test_files_of_a_database_url(url: str, base: Path | None, became: str) -> None:
    assert anchored_url(url, base) == became


def test_a_path_is_left_as_it_is_where_nothing_says_otherwise() -> None:
    assert anchored("a/~b") == "a/~b"
    assert anchored("/a", Path("/b")) == "/a"
