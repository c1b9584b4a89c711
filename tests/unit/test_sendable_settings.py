"""Settings that become part of a request: what would change the request is refused, and no secret is shown."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ingest.errors import CredentialsError, SettingsError
from ingest.settings import VARIABLES, Settings
from ingest.source.credentials import ChainCredentials

CANARY = "canary-5e17"
KEYS = {"S3_ACCESS_KEY": "AKIAEXAMPLE", "S3_SECRET_KEY": "of the example"}
INJECTIONS = ["\r\nX-Other: 1", "\n", "\rX", "\x00", "\x1b[31m", "\x7f", "\u0085", "\u2028", "é", "\udcff"]


def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variables: Mapping[str, str]) -> Settings:
    monkeypatch.chdir(tmp_path)
    for variable in VARIABLES.values():
        monkeypatch.delenv(variable.name, raising=False)
    return Settings.load({field_of(name): value for name, value in variables.items()})


def field_of(name: str) -> str:
    return next(field for field, variable in VARIABLES.items() if variable.name == name)


@pytest.mark.parametrize("ending", INJECTIONS, ids=ascii)
@pytest.mark.parametrize(
    "name", ["S3_ACCESS_KEY", "S3_SECRET_KEY", "S3_SESSION_TOKEN", "S3_REGION", "S3_ENDPOINT", "S3_BUCKET"]
)
def test_nothing_ends_its_line(name: str, ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError) as raised:
        load(tmp_path, monkeypatch, {**KEYS, name: CANARY + ending})
    assert raised.value.message.startswith(f"{name}: ")
    assert VARIABLES[field_of(name)].wants in raised.value.message
    assert CANARY not in raised.value.message
    assert raised.value.exit_code == 2


@pytest.mark.parametrize("name", ["abc?x=1", "a b#c", "a b", "a/b", "a\\b", "..", ".ingest", "abc%2f", "ab", "a" * 64, "tenant:abc", "a&b"])  # fmt: skip
def test_what_is_no_bucket(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match="S3_BUCKET: "):
        load(tmp_path, monkeypatch, {"S3_BUCKET": name})


@pytest.mark.parametrize("name", ["statements", "st.2026-01.x", "Old_Statements.EU", "123", "_left-", "a" * 63])
def test_what_is_a_bucket(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load(tmp_path, monkeypatch, {"S3_BUCKET": name}).bucket == name


@pytest.mark.parametrize(
    "address",
    ["minio?x=1", "minio#x", "minio/x", "münchen.example", "a b:9000", "http://[::1", "host:port", "a@b", "a,b"],
)
def test_what_is_no_endpoint(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match="S3_ENDPOINT: "):
        load(tmp_path, monkeypatch, {"S3_ENDPOINT": address})


@pytest.mark.parametrize("address", ["minio", "my_minio:9000", "10.0.0.7:9000", "[::1]:9000", "xn--mnchen-3ya.example"])
def test_what_is_an_endpoint(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load(tmp_path, monkeypatch, {"S3_ENDPOINT": f"http://{address}/"}).endpoint == address


@pytest.mark.parametrize("name", ["data\udcff", "data\0"])
def test_a_directory_that_no_catalog_can_name(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match="INGEST_DATA_DIR: "):
        load(tmp_path, monkeypatch, {"INGEST_DATA_DIR": name})


@pytest.mark.parametrize("field", ["access_key", "token"])
def test_the_chain_of_aws_is_held_to_the_same(field: str) -> None:
    found = {"access_key": "AKIAEXAMPLE", "secret_key": "s", "token": "t", field: f"{CANARY}\r\nX-Other: 1"}

    class Chosen:
        async def get_frozen_credentials(self) -> SimpleNamespace:
            return SimpleNamespace(**found)

    chain: Any = ChainCredentials()
    chain._chosen = Chosen()
    with pytest.raises(CredentialsError) as raised:
        asyncio.run(chain.refresh())
    assert CANARY not in raised.value.message
