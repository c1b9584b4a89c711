"""What a client is told by name, what the environment says, and what neither shows."""

from __future__ import annotations

import copy
import pickle
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ingest.errors import SettingsError
from ingest.settings import Settings
from ingest.source.blocking import BlockingS3Client
from ingest.source.client import S3Client

SECRET = "c4n4ry-of-the-arguments"
ENVIRONMENT = {
    "S3_ENDPOINT": "minio.example.com:9000",
    "S3_BUCKET": "statements",
    "S3_ACCESS_KEY": "AKIAENVIRONMENT",
    "S3_SECRET_KEY": "c4n4ry-of-the-environment",
    "S3_SESSION_TOKEN": "a-token-of-the-environment",
}
KINDS: list[Callable[..., S3Client | BlockingS3Client]] = [S3Client, BlockingS3Client]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)  # there is no `.env`


@pytest.fixture(params=KINDS, ids=["awaited", "blocking"])
def make(request: pytest.FixtureRequest) -> Callable[..., Any]:
    kind: Callable[..., Any] = request.param
    return kind


def keys(settings: Settings) -> tuple[str | None, ...]:
    found = (settings.access_key, settings.secret_key, settings.session_token)
    return tuple(None if secret is None else secret.get_secret_value() for secret in found)


def test_what_is_left_out_comes_from_the_environment(make: Callable[..., Any]) -> None:
    for settings in (make().settings, make(endpoint=None, bucket="", access_key=None, secure=None).settings):
        assert settings.endpoint_url == "https://minio.example.com:9000"
        assert settings.bucket == "statements"
        assert keys(settings) == ("AKIAENVIRONMENT", "c4n4ry-of-the-environment", "a-token-of-the-environment")


def test_what_is_given_wins(make: Callable[..., Any]) -> None:
    client = make(endpoint="http://127.0.0.1:9", bucket="archive", region="eu-central-1", patience="90s")
    found = client.settings
    assert (found.endpoint_url, client.bucket, found.region) == ("http://127.0.0.1:9", "archive", "eu-central-1")
    assert found.patience.total_seconds() == 90
    assert make(secure=False, verify_ssl=False).settings.endpoint_url == "http://minio.example.com:9000"


def test_keys_that_are_given_have_no_token_of_others(make: Callable[..., Any]) -> None:
    assert keys(make(access_key="AKIAGIVEN", secret_key=SECRET).settings) == ("AKIAGIVEN", SECRET, None)
    assert keys(make(secret_key=SECRET).settings) == ("AKIAENVIRONMENT", SECRET, None)
    assert keys(make(secret_key=SECRET, session_token="its own").settings)[2] == "its own"
    told = Settings.load()
    assert keys(make(told, access_key="AKIAGIVEN", secret_key=SECRET).settings) == ("AKIAGIVEN", SECRET, None)
    assert keys(make(told, bucket="archive").settings) == keys(told)


def test_settings_and_arguments_together(make: Callable[..., Any]) -> None:
    told = Settings.load()
    assert make(told).settings is told
    both = make(told, bucket="archive", endpoint="http://127.0.0.1:9").settings
    assert (both.bucket, both.endpoint_url, both.access_key) == ("archive", "http://127.0.0.1:9", told.access_key)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"endpoint": "ftp://x"}, "S3_ENDPOINT"),
        ({"endpoint": 9000}, "S3_ENDPOINT"),
        ({"endpoint": "http://x", "secure": True}, "S3_SECURE"),
        ({"bucket": "x"}, "S3_BUCKET"),
        ({"bucket": 5}, "S3_BUCKET"),
        ({"secret_key": "two\nlines"}, "S3_SECRET_KEY"),
        ({"secret_key": 5}, "S3_SECRET_KEY"),
        ({"verify_ssl": "perhaps"}, "S3_VERIFY_SSL"),
        ({"ca_bundle": "/not/there"}, "S3_CA_BUNDLE"),
        ({"addressing_style": "dns"}, "S3_ADDRESSING_STYLE"),
        ({"secret": "a typing error"}, "'secret'"),
    ],
)
def test_a_wrong_one_is_named_and_not_shown(make: Callable[..., Any], given: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said) as caught:
        make(**given)
    assert "typing error" not in str(caught.value)


@pytest.mark.parametrize("settings", ["minio.example.com", {"endpoint": "x"}, 5])
def test_an_address_alone_is_no_settings(make: Callable[..., Any], settings: object) -> None:
    with pytest.raises(TypeError, match="endpoint="):
        make(settings)


def test_a_client_is_shown_without_its_secrets(make: Callable[..., Any]) -> None:
    client = make(access_key="AKIAGIVEN", secret_key=SECRET)
    assert repr(client) == f"<{type(client).__name__} of 'statements' at 'minio.example.com:9000'>"
    assert SECRET not in repr(vars(client))


@pytest.mark.parametrize("take", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_client_is_not_taken_along(make: Callable[..., Any], take: Callable[[object], object]) -> None:
    with pytest.raises(TypeError, match="each process"):
        take(make(secret_key=SECRET))


@pytest.mark.parametrize("make", [*KINDS, S3Client.from_settings], ids=["awaited", "blocking", "from_settings"])
def test_no_frame_of_ours_shows_a_secret(make: Callable[..., Any]) -> None:
    """As error trackers send them: with every frame's variables."""
    with pytest.raises(SettingsError) as caught:
        make(secret_key="-".join([SECRET, "x"]), bucket="x")
    ours = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    frames = [frame for frame in ours.stack if "/tests/" not in frame.filename]
    assert frames
    secrets = {SECRET, *(ENVIRONMENT[name] for name in ("S3_SECRET_KEY", "S3_SESSION_TOKEN"))}
    assert not [frame.name for frame in frames if any(secret in str(frame.locals) for secret in secrets)]


def test_settings_are_copied_and_not_pickled() -> None:
    told = Settings.load()
    assert copy.copy(told) == copy.deepcopy(told) == told
    with pytest.raises(TypeError, match="each process"):
        pickle.dumps(told)
