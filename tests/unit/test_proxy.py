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
        ("*.example.com", True),
        ("other.org example.com", True),
        ("other.org,,\texample.com.", True),
        (".example.com:9000", True),
        ("*.ample.com", False),
        ("*:9000", True),
        ("*:9001", False),
        (".", False),
        (":9000", False),
        ("/", False),
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
        ("10.1.2.3", "10.0.0.0/8:9000", True),
        ("10.1.2.3", "10.0.0.0/8:9001", False),
        ("10.1.2.3", "10.1.2", False),
        ("10.1.2.3", "10.1.2.3/33", False),
        ("::1", "::1", True),
        ("::1", "[::1]", True),
        ("::1", "[::1]:9000", True),
        ("::1", "[::1]:9001", False),
        ("::1", "0:0:0:0:0:0:0:1", True),
        ("fd00::1", "[fd00::]/8", False),
        ("localhost", "127.0.0.1", False),
        ("localhost", "127.0.0.0/8", False),
        ("localhost", "localhost", True),
        ("minio.localhost", "localhost", True),
    ],
)
def test_no_proxy_addresses(host: str, no_proxy: str, excluded: bool) -> None:
    assert (proxy_for("https", host, 9000, {"https_proxy": PROXY, "no_proxy": no_proxy}) is None) is excluded


ALL, OWN = "http://all.example.com:1", "http://own.example.com:2"


@pytest.mark.parametrize(
    ("variables", "host"),
    [
        ({"ALL_PROXY": ALL}, "all.example.com"),
        ({"all_proxy": ALL}, "all.example.com"),
        ({"ALL_PROXY": ALL, "HTTPS_PROXY": OWN}, "own.example.com"),
        ({"all_proxy": ALL, "HTTPS_PROXY": OWN}, "own.example.com"),
        ({"https_proxy": OWN, "HTTPS_PROXY": ALL}, "own.example.com"),
        ({"https_proxy": "", "HTTPS_PROXY": OWN}, "own.example.com"),
        ({"HTTPS_PROXY": " ", "ALL_PROXY": ALL}, "all.example.com"),
        ({"HTTPS_PROXY": OWN, "ALL_PROXY": "socks5://all.example.com:1080"}, "own.example.com"),
        ({"HTTPS_PROXY": f" {OWN}/ "}, "own.example.com"),
        ({"HTTPS_PROXY": "own.example.com:2"}, "own.example.com"),
        ({"HTTPS_PROXY": "http://[fd00::7]:3128"}, "fd00::7"),
    ],
)
def test_which_variable_counts(variables: dict[str, str], host: str) -> None:
    proxy = proxy_for("https", "minio.example.com", 9000, variables)
    assert proxy is not None
    assert proxy.host == host


def test_no_proxy_in_lower_case_counts_first_and_a_final_dot_is_no_part_of_a_name() -> None:
    variables = {"https_proxy": PROXY, "no_proxy": "other.org", "NO_PROXY": "*"}
    assert proxy_for("https", "minio.example.com", 9000, variables) is not None
    variables = {"https_proxy": PROXY, "no_proxy": "", "NO_PROXY": "minio.example.com"}
    assert proxy_for("https", "MINIO.example.com.", 9000, variables) is None


def test_a_login_is_sent_and_never_shown() -> None:
    proxy = proxy_for("http", "h", 80, {"http_proxy": "http://me:canary%21@proxy.example.com:3128"})
    assert proxy is not None
    assert proxy.authorization == "Basic bWU6Y2FuYXJ5IQ=="
    assert "canary" not in f"{proxy!r} {proxy}"
    assert "bWU6" not in f"{proxy!r} {proxy}"


@pytest.mark.parametrize(
    "url",
    [
        "socks5://canary:1",
        "https://canary:1",
        "http://:canary@",
        "http://canary:port",
        "http://canary:0",
        "http://can ary:1",
        "http://canäry:1",
        "http://[canary",
    ],
)
def test_what_is_no_proxy_names_its_variable_and_not_its_value(url: str) -> None:
    with pytest.raises(SettingsError, match="HTTPS_PROXY") as raised:
        proxy_for("https", "h", 443, {"https_proxy": url})
    assert "canary" not in raised.value.message
