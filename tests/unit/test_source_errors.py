"""Every refusal of a server has its name, its retryability and one harmless line."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from ingest import errors
from ingest.http.dates import parse_http_date
from ingest.source.errors import ErrorDocument, error_from_response, is_error_document, parse_error, shown

NOW = datetime(2026, 11, 24, 7, 30, 52, tzinfo=UTC)
DATE = {b"date": b"Tue, 24 Nov 2026 07:30:50 GMT"}
XML = b'<?xml version="1.0" encoding="UTF-8"?>\n'
NGINX = b"<html>\r\n<head><title>404 Not Found</title></head></html>"


def document(code: str, message: str = "", extra: str = "") -> bytes:
    return XML + f"<Error><Code>{code}</Code><Message>{message}</Message>{extra}</Error>".encode()


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (403, "InvalidAccessKeyId", errors.AccessKeyUnknown),
        (403, "SignatureDoesNotMatch", errors.SignatureMismatch),
        (400, "AuthorizationHeaderMalformed", errors.SignatureMismatch),
        (400, "ExpiredToken", errors.CredentialsExpired),
        (403, "RequestTimeTooSkewed", errors.ClockSkewed),
        (403, "AccessDenied", errors.AccessDenied),
        (403, "InvalidObjectState", errors.ObjectArchived),
        (404, "NoSuchBucket", errors.NoSuchBucket),
        (404, "NoSuchKey", errors.NoSuchKey),
        (412, "PreconditionFailed", errors.ObjectChanged),
        (416, "InvalidRange", errors.RangeNotSatisfiable),
        (400, "RequestTimeout", errors.ConnectionTimedOut),
        (500, "InternalError", errors.ServerFault),
        (503, "SlowDown", errors.SlowDown),
        (429, "TooManyRequests", errors.SlowDown),
        (301, "PermanentRedirect", errors.RedirectRefused),
        (400, "NeverHeardOfIt", errors.UnexpectedResponse),
        (502, "NeverHeardOfIt", errors.ServerFault),
        (200, "InternalError", errors.ServerFault),
        (200, "SlowDown", errors.SlowDown),
        (200, "NeverHeardOfIt", errors.ServerFault),
    ],
)
def test_codes(status: int, code: str, expected: type[errors.SourceError]) -> None:
    error = error_from_response(status, DATE, document(code, "why"), "GET a/b", now=NOW)
    assert type(error) is expected
    for word in ("GET a/b", str(status), code, "why") if expected is not errors.ClockSkewed else ("clock",):
        assert word in error.message


def test_a_proxy_that_takes_signed_headers_away_is_not_the_keys_policy() -> None:
    """As nginx does where it caches, in the words of MinIO and rclone."""
    body = document("AccessDenied", "There were headers present in the request which were not signed")
    error = error_from_response(403, DATE, body, "GET a/b", now=NOW)
    assert type(error) is errors.AccessDenied
    assert "proxy" in error.hint
    assert "policy" not in error.hint


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (301, errors.RedirectRefused),
        (304, errors.UnexpectedResponse),
        (400, errors.UnexpectedResponse),
        (401, errors.CredentialsError),
        (403, errors.AccessDenied),
        (404, errors.NoSuchKey),
        (407, errors.UnexpectedResponse),
        (412, errors.ObjectChanged),
        (416, errors.RangeNotSatisfiable),
        (418, errors.UnexpectedResponse),
        (429, errors.SlowDown),
        (500, errors.ServerFault),
        (501, errors.UnexpectedResponse),
        (502, errors.ServerFault),
        (503, errors.SlowDown),
        (504, errors.ServerFault),
    ],
)
def test_answers_without_a_body_go_by_their_status(status: int, expected: type[errors.SourceError]) -> None:
    assert type(error_from_response(status, DATE, b"", "HEAD k", now=NOW)) is expected


@pytest.mark.parametrize("status", [200, 400, 403, 404, 412, 416])
def test_a_web_page_says_nothing_of_an_object(status: int) -> None:
    """A proxy's or console's 404 must not be taken for "the object is gone"."""
    assert type(error_from_response(status, DATE, NGINX, "GET k", now=NOW)) is errors.UnexpectedResponse


def test_the_header_names_the_code_where_a_body_cannot() -> None:
    headers = {**DATE, b"x-minio-error-code": b"NoSuchBucket"}
    assert type(error_from_response(404, headers, b"", "HEAD k", now=NOW)) is errors.NoSuchBucket


@pytest.mark.parametrize("body", [document("AccessDenied"), document("SignatureDoesNotMatch"), b""])
def test_a_refusal_with_clocks_apart_is_clock_skew_and_names_both(body: bytes) -> None:
    headers = {b"date": b"Tue, 24 Nov 2026 09:30:50 GMT"}
    error = error_from_response(403, headers, body, "GET k", now=NOW)
    assert type(error) is errors.ClockSkewed
    assert "2026-11-24 09:30:50" in error.message
    assert "2026-11-24 07:30:52" in error.message


def test_redirects_name_their_target_and_region() -> None:
    headers = {b"location": b"https://user:pw@elsewhere.example.com/b/k", b"x-amz-bucket-region": b"eu-west-1"}
    error = error_from_response(307, headers, b"", "GET k", now=NOW)
    assert "elsewhere.example.com" in error.message
    assert "eu-west-1" in error.message
    assert "pw" not in error.message


def test_a_wrong_region_names_the_right_one() -> None:
    body = document("AuthorizationHeaderMalformed", "wrong", "<Region>eu-west-1</Region>")
    assert "S3_REGION=eu-west-1" in error_from_response(400, DATE, body, "GET k", now=NOW).hint


@pytest.mark.parametrize(
    "body",
    [
        b"Client sent an HTTP request to an HTTPS server.\n",
        b"<h1>400</h1>The plain HTTP request was sent to HTTPS port",
    ],
)
def test_plain_http_to_a_tls_port(body: bytes) -> None:
    assert type(error_from_response(400, {}, body, "GET k", now=NOW)) is errors.NotTls


def test_only_what_helps_is_retryable() -> None:
    retryable = {
        code
        for code in ("SlowDown", "InternalError", "RequestTimeout", "ExpiredToken", "AccessDenied", "NoSuchKey", "X")
        if error_from_response(403, DATE, document(code), "GET k", now=NOW).retryable
    }
    assert retryable == {"SlowDown", "InternalError", "RequestTimeout", "ExpiredToken"}


def test_messages_are_one_harmless_line() -> None:
    hostile = "a\r\nb\x1b[31m\u202ec" + "x" * 900
    error = error_from_response(403, DATE, document("AccessDenied", hostile), "GET k", now=NOW)
    assert error.message.isprintable()
    assert len(error.message) < 400
    assert shown("a\nb\u202e é") == "a\\nb\\u202e é"


def test_secrets_that_a_server_echoes_are_left_out() -> None:
    extra = "<AWSAccessKeyId>canary</AWSAccessKeyId><StringToSign>canary</StringToSign><Token-0>canary</Token-0>"
    error = error_from_response(403, DATE, document("SignatureDoesNotMatch", "no", extra), "GET k", now=NOW)
    assert "canary" not in f"{error.message} {error.hint} {error!r}"


@pytest.mark.parametrize(
    ("body", "is_error"),
    [
        (document("X"), True),
        (b"<Error><Code>X</Code></Error>", True),
        (b'\xef\xbb\xbf <?xml version="1.0"?><Error xmlns="x"><Code>X</Code></Error>', True),
        (b"<ListBucketResult><Error><Code>X</Code></Error></ListBucketResult>", False),
        (b"<Errors/>", False),
        (b"%PDF-1.7 <Error>", False),
        (b"", False),
    ],
)
def test_error_documents_are_known_by_their_root(body: bytes, is_error: bool) -> None:
    assert is_error_document(body) is is_error
    assert bool(parse_error(body).code) is is_error


def test_the_first_code_counts() -> None:
    body = b"<Error><Code>SlowDown</Code><Detail><Code>NoSuchKey</Code></Detail></Error>"
    assert parse_error(body) == ErrorDocument("SlowDown")


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (b"Tue, 24 Nov 2026 07:30:52 GMT", NOW),
        (b"Tue, 24 Foo 2026 07:30:52 GMT", None),
        (b"Tue, 31 Feb 2026 07:30:52 GMT", None),
        (b"Tue, 24 Nov 2026 07:30:52 CET", None),
        (b"Sat, 01 Jan 0000 00:00:00 GMT", None),
        (b"Sat, 01 Jan 99999999999999999999 00:00:00 GMT", None),
        (b"Tuesday, 24-Nov-26 07:30:52 GMT", None),
        (b"\xff", None),
        (b"", None),
    ],
)
def test_http_dates(written: bytes, read: datetime | None) -> None:
    assert parse_http_date(written) == read
