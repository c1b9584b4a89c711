"""Where ``--listen`` may lead."""

from __future__ import annotations

import pytest

from ingest.observe.endpoints import Address


@pytest.mark.parametrize(
    ("text", "host", "port", "shown"),
    [
        ("9180", "127.0.0.1", 9180, "127.0.0.1:9180"),
        (":9180", "127.0.0.1", 9180, "127.0.0.1:9180"),
        (" 9180 ", "127.0.0.1", 9180, "127.0.0.1:9180"),
        ("127.0.0.1:9180", "127.0.0.1", 9180, "127.0.0.1:9180"),
        ("0.0.0.0:0", "0.0.0.0", 0, "0.0.0.0:0"),
        ("localhost:65535", "localhost", 65535, "localhost:65535"),
        ("node-1.example.com:80", "node-1.example.com", 80, "node-1.example.com:80"),
        ("[::1]:9180", "::1", 9180, "[::1]:9180"),
        ("[::]:9180", "::", 9180, "[::]:9180"),
        ("[fe80::1%eth0]:9180", "fe80::1%eth0", 9180, "[fe80::1%eth0]:9180"),
    ],
)
def test_read(text: str, host: str, port: int, shown: str) -> None:
    found = Address.of(text)
    assert (found.host, found.port, str(found)) == (host, port, shown)
    assert Address.of(shown) == found


@pytest.mark.parametrize(
    "text",
    [
        *("", ":", "host", "host:", "127.0.0.1", "::1", "::1:9180", "[::1]", "[::1]9180", "[]:9180", "[host]:9180"),
        *("65536", "host:65536", "123456", "-1", "+1", "1_0", "９１８０", "0x50", "9180/metrics"),  # noqa: RUF001
        *("http://127.0.0.1:9180", "//:9180", "a b:9180", "host:http", "127.0.0.1:9180:1"),
    ],
)
def test_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"it wants PORT|is no port"):
        Address.of(text)
