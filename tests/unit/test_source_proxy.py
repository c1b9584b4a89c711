"""Which requests go through a proxy, as the environment says."""

from __future__ import annotations

import pytest

from ingest.errors import SettingsError
from ingest.http.proxy import Proxy, proxy_for

PROXY = "http://proxy.example.com:3128"


@pytest.mark.parametrize("variable", ["https_proxy", "HTTPS_PROXY"])
def test_each_scheme_has_its_variable(variable: str) -> None:
    assert proxy_for("https", "minio.example.com", 9000, {variable: PROXY}) == Proxy("proxy.example.com", 3128)
    assert proxy_for("http", "minio.example.com", 9000, {variable: PROXY}) is None
    assert proxy_for("https", "minio.example.com", 9000, {variable: ""}) is None


@pytest.mark.parametrize(
    ("no_proxy", "excluded"),
    [
        ("*", True),
        ("minio.example.com", True),
        ("MINIO.example.com", True),
        ("example.com", True),
        (".example.com", True),
        ("other.org, example.com", True),
        ("example.com:9000", True),
        ("example.com:9001", False),
        ("ample.com", False),
        ("minio.example.com.evil.org", False),
        ("10.0.0.0/8", False),
        ("", False),
        (" , ", False),
    ],
)
def test_no_proxy_names(no_proxy: str, excluded: bool) -> None:
    variables = {"https_proxy": PROXY, "NO_PROXY": no_proxy}
    assert (proxy_for("https", "minio.example.com", 9000, variables) is None) is excluded


@pytest.mark.parametrize(
    ("host", "no_proxy", "excluded"),
    [
        ("10.1.2.3", "10.0.0.0/8", True),
        ("10.1.2.3", "10.1.2.3", True),
        ("10.1.2.3", "10.1.2.3:9000", True),
        ("11.1.2.3", "10.0.0.0/8", False),
        ("fd00::1", "fd00::/8", True),
        ("::1", "::1", True),
    ],
)
def test_no_proxy_addresses(host: str, no_proxy: str, excluded: bool) -> None:
    assert (proxy_for("https", host, 9000, {"https_proxy": PROXY, "no_proxy": no_proxy}) is None) is excluded


def test_a_login_is_sent_and_never_shown() -> None:
    proxy = proxy_for("http", "h", 80, {"http_proxy": "http://me:canary%21@proxy.example.com:3128"})
    assert proxy is not None
    assert proxy.authorization == "Basic bWU6Y2FuYXJ5IQ=="
    assert "canary" not in f"{proxy!r} {proxy}"
    assert "bWU6" not in f"{proxy!r} {proxy}"


@pytest.mark.parametrize("url", ["socks5://canary:1", "https://canary:1", "http://:canary@", "http://canary:port"])
def test_what_is_no_proxy_names_its_variable_and_not_its_value(url: str) -> None:
    with pytest.raises(SettingsError, match="HTTPS_PROXY") as raised:
        proxy_for("https", "h", 443, {"https_proxy": url})
    assert "canary" not in raised.value.message
