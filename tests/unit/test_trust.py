"""Certificates of either side: one rule for every client, and each unusable file is named when settings are read."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from ingest.errors import SettingsError
from ingest.settings import VARIABLES, Settings

PASSWORD = "canary-pass phrase"
CLIENTS = {"": "trust", "verify_": "verify_trust", "kafka_": "kafka_trust"}
every_client = pytest.mark.parametrize("client", CLIENTS, ids=["S3", "VERIFY", "KAFKA"])


def settings(client: str, **values: Any) -> Settings:
    given = {f"{client}{name}": value for name, value in values.items()}
    return Settings.model_validate({"endpoint": "https://minio.example.com", "bucket": "statements"} | given)


def context(client: str, **values: Any) -> ssl.SSLContext:
    found: ssl.SSLContext = getattr(settings(client, **values), CLIENTS[client]).context()
    return found


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """cert.pem, key.pem, both.pem, locked.pem (encrypted), other.pem (another key), ca.pem, text.pem."""
    place = tmp_path_factory.mktemp("certificates")
    ca = trustme.CA()
    ours, others = ca.issue_cert("ingest@example.com"), ca.issue_cert("other@example.com")
    ca.cert_pem.write_to_path(str(place / "ca.pem"))
    ours.cert_chain_pems[0].write_to_path(str(place / "cert.pem"))
    ours.private_key_pem.write_to_path(str(place / "key.pem"))
    ours.private_key_and_cert_chain_pem.write_to_path(str(place / "both.pem"))
    others.private_key_pem.write_to_path(str(place / "other.pem"))
    key = serialization.load_pem_private_key(ours.private_key_pem.bytes(), None)
    locked = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(PASSWORD.encode()),
    )
    (place / "locked.pem").write_bytes(locked)
    (place / "text.pem").write_text("nothing here\n")
    broken = ours.cert_chain_pems[0].bytes().replace(b"\nMI", b"\nXX", 1)
    (place / "broken.pem").write_bytes(broken)
    (place / "unreadable.pem").mkdir()
    return place


@every_client
@pytest.mark.parametrize(
    "values",
    [
        {"client_cert": "both.pem"},
        {"client_cert": "cert.pem", "client_key": "key.pem"},
        {"client_cert": "cert.pem", "client_key": "locked.pem", "client_key_password": PASSWORD},
        {"client_cert": "cert.pem", "client_key": "key.pem", "client_key_password": "not needed"},
        {"client_cert": "cert.pem", "client_key": "key.pem", "ca_bundle": "ca.pem"},
    ],
    ids=["one file", "two files", "encrypted", "needless password", "with a bundle"],
)
def test_a_certificate_of_ours(client: str, files: Path, values: dict[str, str]) -> None:
    paths = {name: value if "password" in name else files / value for name, value in values.items()}
    made = context(client, **paths)
    assert made.verify_mode is ssl.CERT_REQUIRED
    assert made.check_hostname


@every_client
@pytest.mark.parametrize(
    ("values", "named", "said"),
    [
        ({"ca_bundle": "text.pem"}, "CA_BUNDLE", "no usable PEM certificate"),
        ({"ca_bundle": "key.pem"}, "CA_BUNDLE", "no usable PEM certificate"),
        ({"ca_bundle": "nowhere.pem"}, "CA_BUNDLE", "not a readable file"),
        ({"client_cert": "nowhere.pem"}, "CLIENT_CERT", "not a readable file"),
        ({"client_cert": "unreadable.pem"}, "CLIENT_CERT", "not a readable file"),
        ({"client_cert": "cert.pem", "client_key": "nowhere.pem"}, "CLIENT_KEY", "not a readable file"),
        ({"client_cert": "text.pem", "client_key": "key.pem"}, "CLIENT_CERT", "holds no PEM certificate"),
        ({"client_cert": "broken.pem", "client_key": "key.pem"}, "CLIENT_CERT", "no usable pair"),
        ({"client_cert": "cert.pem", "client_key": "text.pem"}, "CLIENT_KEY", "holds no PEM private key"),
        ({"client_cert": "cert.pem"}, "CLIENT_KEY", "holds no PEM private key"),
        ({"client_key": "key.pem"}, "CLIENT_KEY", "CLIENT_CERT is not"),
        ({"client_cert": "cert.pem", "client_key": "other.pem"}, "CLIENT_KEY", "does not belong to"),
        ({"client_cert": "cert.pem", "client_key": "locked.pem"}, "CLIENT_KEY", "is encrypted; set"),
        (
            {"client_cert": "cert.pem", "client_key": "locked.pem", "client_key_password": "canary-wrong"},
            "CLIENT_KEY_PASSWORD",
            "does not open",
        ),
        (
            {"client_cert": "cert.pem", "client_key": "locked.pem", "client_key_password": "canary" * 500},
            "CLIENT_KEY_PASSWORD",
            "does not open",
        ),
    ],
)
def test_what_cannot_be_used_is_named(
    client: str, files: Path, values: dict[str, str], named: str, said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    paths = {name: value if "password" in name else files / value for name, value in values.items()}
    with pytest.raises(SettingsError) as raised:
        Settings.load({"endpoint": "https://h", "bucket": "statements"} | {f"{client}{n}": v for n, v in paths.items()})
    variable = VARIABLES[f"{client}{named.lower()}"].name
    assert raised.value.message.startswith(variable)
    assert said in raised.value.message
    assert raised.value.exit_code == 2
    assert "canary" not in raised.value.message
    assert capfd.readouterr() == ("", ""), "nobody is asked for a password"


@every_client
def test_what_is_trusted_does_not_depend_on_pythons_release(
    client: str, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = ssl.create_default_context

    def as_python_3_13_does(*arguments: Any, **named: Any) -> ssl.SSLContext:
        made = plain(*arguments, **named)
        made.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
        return made

    made = [context(client), context(client, ca_bundle=files / "ca.pem")]
    monkeypatch.setattr(ssl, "create_default_context", as_python_3_13_does)
    made += [context(client), context(client, ca_bundle=files / "ca.pem")]
    assert {one.verify_flags for one in made} == {made[0].verify_flags}
    assert not made[0].verify_flags & ssl.VERIFY_X509_STRICT
    assert made[0].verify_flags & ssl.VERIFY_X509_PARTIAL_CHAIN


@every_client
def test_the_systems_authorities_can_be_named_for_all(
    client: str, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.setenv(name, str(files / "nowhere.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(files / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_DIR", str(files / "nowhere"))
    (authority,) = context(client).get_ca_certs()
    assert "trustme" in str(authority["subject"])


@every_client
def test_authorities_that_cannot_be_read_are_named(client: str, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(files / "nowhere.pem"))
    with pytest.raises(SettingsError, match="SSL_CERT_FILE"):
        context(client)
    context(client, ca_bundle=files / "ca.pem")  # which is trusted alone


def test_the_check_can_be_left_out_for_the_bucket_alone(files: Path) -> None:
    made = context("", verify_ssl=False, client_cert=files / "both.pem")
    assert (made.verify_mode, made.check_hostname) == (ssl.CERT_NONE, False)
    unchecked = settings("", verify_ssl=False)
    assert unchecked.verify_trust.context().verify_mode is ssl.CERT_REQUIRED
    assert unchecked.kafka_trust.context().verify_mode is ssl.CERT_REQUIRED


@every_client
def test_a_password_is_shown_nowhere(client: str, files: Path) -> None:
    values = {"client_cert": files / "cert.pem", "client_key": files / "locked.pem", "client_key_password": PASSWORD}
    found = settings(client, **values)
    assert PASSWORD in found.secrets
    assert "canary" not in repr(found) + repr(getattr(found, CLIENTS[client]))


@pytest.mark.parametrize(
    ("variable", "plain", "encrypted"),
    [
        ("S3_CLIENT_CERT", {"S3_ENDPOINT": "http://h"}, {"S3_ENDPOINT": "https://h"}),
        ("VERIFY_CLIENT_CERT", {"VERIFY_URL": "http://h/v1"}, {"VERIFY_URL": "https://h/v1"}),
        (
            "KAFKA_CLIENT_CERT",
            {"KAFKA_TOPIC": "t", "KAFKA_SECURITY_PROTOCOL": "PLAINTEXT"},
            {"KAFKA_TOPIC": "t", "KAFKA_SECURITY_PROTOCOL": "SSL"},
        ),
    ],
)
def test_a_certificate_that_nobody_is_shown_is_said(
    variable: str,
    plain: dict[str, str],
    encrypted: dict[str, str],
    files: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(variable, str(files / "both.pem"))
    for variables, warned in ((plain, True), (encrypted, False)):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        assert any(variable in warning for warning in Settings.load().warnings) is warned
