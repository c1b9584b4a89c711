"""Settings of the verification service: what is refused, and that no message shows a secret."""

from __future__ import annotations

import pytest

from ingest.errors import SettingsError
from ingest.settings import Settings

SECRET = "canary-7d21"


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("verify_url", "ftp://verify.example.com/", "VERIFY_URL"),
        ("verify_url", "https:///v1/verify", "VERIFY_URL"),
        ("verify_url", "https://verify.example.com/a b", "VERIFY_URL"),
        ("verify_url", f"https://user:{SECRET}@verify.example.com/", "VERIFY_AUTHORIZATION"),
        ("verify_authorization", f"Bearer {SECRET}\r\nX-Other: 1", "VERIFY_AUTHORIZATION"),
        ("verify_authorization", f"Bearer {SECRET}\u00e9", "VERIFY_AUTHORIZATION"),
        ("verify_ca_bundle", "/nowhere.pem", "VERIFY_CA_BUNDLE"),
        ("verify_timeout", "soon", "VERIFY_TIMEOUT"),
        ("verify_timeout", "0s", "VERIFY_TIMEOUT"),
    ],
)
def test_a_wrong_value_is_named_and_not_shown(field: str, value: str, said: str) -> None:
    with pytest.raises(SettingsError) as raised:
        Settings.load({field: value})
    assert said in raised.value.message
    assert SECRET not in raised.value.message


def test_a_token_in_the_clear_is_warned_of() -> None:
    plain = {"verify_url": "http://verify.example.com/v1/verify", "verify_authorization": f"Bearer {SECRET}"}
    (warning,) = Settings.load(plain).warnings
    assert "VERIFY_URL is not encrypted" in warning
    assert SECRET not in warning
    assert Settings.load(plain | {"verify_url": "https://verify.example.com/v1/verify"}).warnings == ()
