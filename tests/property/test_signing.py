"""Our signatures are botocore's, byte for byte, whatever key, query, header or credentials."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from botocore import auth
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotocoreCredentials
from hypothesis import example, given
from hypothesis import strategies as st

from ingest.errors import NoSuchKey
from ingest.source.credentials import Credentials
from ingest.source.endpoint import Endpoint, quote_key, quote_query
from ingest.source.signing import Signer

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
keys = st.one_of(text.filter(bool), st.text("ab/.+%~ ?#&=\\\x00\x7fé", min_size=1, max_size=30))
header_names = st.sampled_from(["if-match", "range", "x-amz-checksum-mode", "x-amz-a", "x-amz", "a", "zz"])
headers = st.dictionaries(header_names, st.text(st.characters(codec="latin-1"), max_size=30), max_size=4)
queries = st.dictionaries(text.filter(bool), text, max_size=4)
secrets = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=80)
endpoints = st.builds(
    Endpoint,
    st.sampled_from(["http", "https"]),
    st.sampled_from(["minio.example.com", "127.0.0.1", "::1"]),
    st.sampled_from([80, 443, 9000]),
    st.sampled_from(["path", "virtual"]),
    st.just("statements"),
)
moments = st.integers(0, 4_102_444_800)


@contextmanager
def botocore_clock(second: int) -> Iterator[None]:
    moment = datetime.datetime.fromtimestamp(second, datetime.UTC).replace(tzinfo=None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(auth, "get_current_datetime", lambda: moment)
        yield


def sent_headers(head: bytes) -> dict[str, str]:
    lines = head.decode().removesuffix("\r\n\r\n").split("\r\n")[1:]
    return dict(line.split(": ", 1) for line in lines)


@given(endpoints, keys, queries, headers, secrets, secrets, st.just("") | secrets, moments)
@example(
    Endpoint("http", "h", 80, "path", "b"), "a/../b//c/./%2F", {"prefix": "a b+c/%"}, {"range": ""}, "k%s", "%", "%d", 0
)
def test_the_signature_is_botocores(
    endpoint: Endpoint,
    key: str,
    query: dict[str, str],
    extra: dict[str, str],
    access_key: str,
    secret_key: str,
    token: str,
    second: int,
) -> None:
    path, asked = endpoint.key_root + quote_key(key), quote_query(query)
    names = tuple(sorted(extra))
    signer = Signer(
        Credentials(access_key, secret_key, token),
        region="eu-central-1",
        host=endpoint.host_header,
        unsigned="user-agent: x\r\naccept-encoding: identity\r\n",
        clock=lambda: float(second),
    )
    head = signer.sign("GET", path, asked, names, [extra[name] for name in names])

    url = f"{endpoint.scheme}://{endpoint}{path}" + (f"?{asked}" if asked else "")
    request = AWSRequest("GET", url, headers=extra)
    request.headers["Host"] = endpoint.host_header
    with botocore_clock(second):
        S3SigV4Auth(BotocoreCredentials(access_key, secret_key, token or None), "s3", "eu-central-1").add_auth(request)

    sent = sent_headers(head)
    for name in ("Authorization", "X-Amz-Date", "X-Amz-Content-SHA256"):
        assert sent[name.lower()] == request.headers[name]
    assert sent.get("x-amz-security-token", "") == token
    assert head.startswith(f"GET {path}{'?' * bool(asked)}{asked} HTTP/1.1\r\n".encode())
    assert sent["user-agent"] == "x"


@given(keys)
def test_quoted_keys_are_botocores(key: str) -> None:
    from botocore.utils import percent_encode

    assert quote_key(key) == percent_encode(key, safe="/~")


@given(queries)
def test_quoted_queries_are_botocores(query: dict[str, str]) -> None:
    request = AWSRequest("GET", "http://h/", params=query)
    assert quote_query(query) == S3SigV4Auth(None, "s3", "r").canonical_query_string(request)


@given(st.text(st.characters(), max_size=40), headers)
def test_no_value_can_end_its_line(value: str, extra: dict[str, str]) -> None:
    """Etags come from a server's listing: whatever it writes there stays one header."""
    signer = Signer(Credentials("key", "secret"), region="r", host="h")
    try:
        head = signer.sign("GET", "/b/k", "", ("if-match",), [f'"{value}"'])
    except UnicodeEncodeError:
        return  # a lone surrogate: nothing was sent
    assert head.count(b"\r\n") == 7
    assert b"\n" not in head.replace(b"\r\n", b"")


def test_the_signing_key_follows_the_day_and_the_credentials() -> None:
    """One signer over midnight, and after new credentials, signs as a fresh one does."""
    now = 86_399.0
    first, second = Credentials("first", "secret"), Credentials("second", "other", "token")
    signer = Signer(first, region="r", host="h", clock=lambda: now)
    for credentials in (first, second):
        signer.use(credentials)
        for moment in (86_399.0, 86_399.9, 86_400.0, 86_401.0):
            now = moment
            fresh = Signer(credentials, region="r", host="h", clock=lambda: moment)
            assert signer.sign("GET", "/b/k") == fresh.sign("GET", "/b/k")


def test_names_out_of_order_are_a_defect() -> None:
    signer = Signer(Credentials("key", "secret"), region="r", host="h")
    for names in (("range", "if-match"), ("Range",), ("range", "range")):
        with pytest.raises(ValueError, match="in order"):
            signer.sign("GET", "/b/k", "", names, ["x"] * len(names))


def test_secrets_have_no_repr() -> None:
    credentials = Credentials("AKIA", "canary-secret", "canary-token")
    signer = Signer(credentials, region="r", host="h")
    assert "canary" not in f"{credentials!r} {credentials} {signer!r} {signer}"


@pytest.mark.parametrize("key", ["", "\udcff"])
def test_what_is_no_key_is_said_to_be_none(key: str) -> None:
    with pytest.raises(NoSuchKey):
        quote_key(key)
