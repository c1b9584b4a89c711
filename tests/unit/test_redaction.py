"""A secret is cut out in whatever spelling a server, a driver or a library quotes it."""

from __future__ import annotations

import html
import json
import traceback
from collections.abc import Callable, Iterator
from urllib.parse import quote, quote_plus
from xml.sax.saxutils import escape, quoteattr

import pytest

from ingest.observe.escape import escape_key
from ingest.system import redaction
from ingest.system.redaction import protect, protecting, redact, redact_causes

SECRETS = [
    "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
    'sEc"r\\et<&é+/=%41Canary',
    "it's a > b & \\\\ two\ttabs\n😀end",
    "<&>\"'/",
]
SPELLINGS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "XML text": escape,
    "XML attribute": lambda text: quoteattr(text)[1:-1],
    "HTML": html.escape,
    "HTML, twice": lambda text: html.escape(html.escape(text)),
    "XML by decimal": lambda text: "".join(c if c.isalnum() and c.isascii() else f"&#{ord(c)};" for c in text),
    "XML by hexadecimal": lambda text: "".join(c if c.isalnum() and c.isascii() else f"&#x{ord(c):X};" for c in text),
    "URL": quote,
    "URL, all of it": lambda text: quote(text, safe=""),
    "URL, small letters": lambda text: "".join(
        c if c.isalnum() and c.isascii() else "".join(f"%{byte:02x}" for byte in c.encode()) for c in text
    ),
    "URL, twice": lambda text: quote(quote(text, safe=""), safe=""),
    "form": quote_plus,
    "JSON": lambda text: json.dumps(text)[1:-1],
    "JSON, not only ASCII": lambda text: json.dumps(text, ensure_ascii=False)[1:-1],
    "JSON, slashes as well": lambda text: json.dumps(text)[1:-1].replace("/", "\\/"),
    "JSON, safe in HTML": lambda text: json.dumps(text)[1:-1].replace("<", "\\u003C").replace("&", "\\u0026"),
    "JSON, in a log line": lambda text: escape_key(json.dumps(text)[1:-1]),
    "a log line": escape_key,
    "Python": lambda text: ascii(text)[1:-1],
    "Python's bytes": lambda text: repr(text.encode())[2:-1],
    "a header": lambda text: text.encode().decode("latin-1"),
}


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    before = redaction._secrets[:], redaction._held.copy()
    redaction._secrets.clear()
    redaction._held.clear()
    yield
    redaction._secrets[:], redaction._held = before


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("secret", SECRETS)
def test_every_spelling_is_cut_out(secret: str, spelling: str) -> None:
    protect([secret])
    written = SPELLINGS[spelling](secret)
    assert redact(f"before {written} behind") == "before *** behind"


def test_what_is_no_secret_stays() -> None:
    protect(SECRETS)
    for text in ("", "s3://bucket/key & more", "sEc", 'sEc"r\\et<&é+/=%42Canary', "a\\\\b", "%2F&amp;\\u0026"):
        assert redact(text) == text


def test_one_that_is_part_of_another_leaves_nothing_of_it() -> None:
    protect(["token", "token/and/more"])
    assert redact("x token%2Fand%2Fmore token") == "x *** ***"


def test_too_short_to_be_one() -> None:
    protect(["abc", ""])
    assert redact("abc") == "abc"


def test_a_hostile_text_takes_no_time() -> None:
    """Backtracking would take longer than the world has stood."""
    protect(["a\\\\b\\\\\"\\'\\c" * 4])
    text = "a" + "\\" * 100_000 + "b" + "%25" * 10_000 + "&amp;" * 10_000
    assert redact(text) == text


def test_each_holder_protects_its_own_for_as_long_as_it_is_there() -> None:
    protect(["the process"])
    with protecting(["first", "shared"]):
        with protecting(["second", "shared"]):
            assert redact("the process first second shared") == "*** *** *** ***"
        assert redact("the process first second shared") == "*** *** second ***"
    assert redact("the process first second shared") == "*** first second shared"
    assert set(redaction._held) == {"the process"}  # nothing of a secret stays in memory


def _fail_with(secret: str) -> None:
    with protecting([secret]):
        try:
            try:
                raise ValueError(f"it is {secret}", 7)
            except ValueError:
                raise OSError(f"{secret} again")  # noqa: B904 - the context, too, is printed
        except OSError as error:
            raise KeyError(f"outer {secret}") from error


def test_what_an_error_was_raised_from_quotes_no_secret() -> None:
    with pytest.raises(KeyError) as raised:
        _fail_with("hushhush")
    lines = "".join(traceback.format_exception(raised.value)).splitlines()
    assert not any("hushhush" in line for line in lines if not line.startswith("  "))  # those are the source
    cause = raised.value.__cause__
    assert cause is not None
    assert cause.args == ("*** again",)
    assert cause.__context__ is not None
    assert cause.__context__.args == ("it is ***", 7)
    loop = ValueError("x")
    loop.__cause__ = loop
    redact_causes(loop)
