"""The failures of a connection that no healthy server shows, each on one that fails so, named with its own next step."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from functools import partial
from pathlib import Path

import pytest
import trustme

from ingest import errors
from ingest.http.timeouts import Timeouts
from ingest.jobs.check import check
from ingest.settings import Settings
from ingest.source import bucket
from ingest.testing.raw_server import Visit, raw_server
from tests.fixtures.process import run_ingest
from tests.fixtures.servers import Bucket
from tests.fixtures.steps import Steps

NOW = datetime.now(UTC)


async def failure(settings: Settings) -> tuple[errors.IngestError, list[int]]:
    """What `check` raises, and the steps that had passed before."""
    steps = Steps()
    with pytest.raises(errors.IngestError) as raised:
        await check(settings, listener=steps)
    assert steps.tried == [*(step.number for step in steps), len(steps) + 1]  # the one that failed was announced
    return raised.value, [step.number for step in steps]


def refusal(code: str, *, ahead: timedelta = timedelta(0)) -> tuple[bytes, str]:
    body = f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()
    return body, f"Date: {format_datetime(datetime.now(UTC) + ahead, usegmt=True)}\r\n"


async def test_a_server_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bucket, "Timeouts", partial(Timeouts, idle=0.2))
    async with raw_server(lambda visit: visit.until_closed()) as server:
        settings = Bucket(f"http://127.0.0.1:{server.port}", "statements").settings(tmp_path)
        error, passed = await failure(settings)
    assert type(error) is errors.ConnectionTimedOut
    assert "took too long" in error.message
    assert "firewall" in error.hint
    assert passed == []


@pytest.mark.parametrize(
    "said",
    [
        "<Message>malformed</Message><Region>eu-west-1</Region>",
        "<Message>the region 'us-east-1' is wrong; expecting 'eu-west-1'</Message>",
    ],
)
async def test_a_server_of_another_region(tmp_path: Path, said: str) -> None:
    """HEAD is refused with 400 and no body: what the listing is told names the region."""

    async def answer(visit: Visit) -> None:
        body = f"<Error><Code>AuthorizationHeaderMalformed</Code>{said}</Error>".encode()
        await visit.answer(b"" if visit.head.startswith(b"HEAD") else body, status="400 Bad Request")

    async with raw_server(answer) as server:
        settings = Bucket(f"http://127.0.0.1:{server.port}", "statements").settings(tmp_path)
        error, passed = await failure(settings)
    assert type(error) is errors.SignatureMismatch
    assert "S3_REGION=eu-west-1" in error.hint
    assert passed == [1, 2]


@pytest.mark.parametrize(
    ("begins", "ends", "kind", "hint"),
    [
        (NOW - timedelta(days=9), NOW - timedelta(days=1), errors.CertificateExpired, "Renew the server's certificate"),
        (NOW + timedelta(days=1), NOW + timedelta(days=9), errors.CertificateNotYetValid, "starts in the future"),
    ],
)
async def test_a_certificate_out_of_its_time(
    tmp_path: Path, begins: datetime, ends: datetime, kind: type[errors.IngestError], hint: str
) -> None:
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1", not_before=begins, not_after=ends).configure_cert(context)
    async with raw_server(lambda visit: visit.answer(), tls=context) as server:
        bucket = Bucket(f"https://127.0.0.1:{server.port}", "statements", tmp_path / "ca.pem")
        error, passed = await failure(bucket.settings(tmp_path))
    assert type(error) is kind
    assert hint in error.hint
    assert passed == []
    assert server.heads == []  # nothing signed was sent


@pytest.mark.parametrize("ahead", [timedelta(hours=1), -timedelta(hours=1)])
@pytest.mark.parametrize("code", ["RequestTimeTooSkewed", "AccessDenied", "SignatureDoesNotMatch"])
async def test_clocks_that_are_apart(tmp_path: Path, ahead: timedelta, code: str) -> None:
    """Some servers say so; of others the date beside the refusal does."""
    body, headers = refusal(code, ahead=ahead)
    async with raw_server(lambda visit: visit.answer(body, status="403 Forbidden", headers=headers)) as server:
        settings = Bucket(f"http://127.0.0.1:{server.port}", "statements").settings(tmp_path)
        error, passed = await failure(settings)
    assert type(error) is errors.ClockSkewed
    theirs = parsedate_to_datetime(headers.removeprefix("Date: ").strip())
    assert f"the server's clock: {theirs:%Y-%m-%d %H:%M:%S} UTC" in error.message
    assert f"ours: {datetime.now(UTC):%Y-%m-%d}" in error.message
    assert "NTP" in error.hint
    assert passed == []


async def _denies(visit: Visit) -> None:
    body, headers = refusal("AccessDenied")
    await visit.answer(b"" if visit.head.startswith(b"HEAD") else body, status="403 Forbidden", headers=headers)


async def test_a_policy_that_does_not_allow_it(tmp_path: Path) -> None:
    async with raw_server(_denies) as server:
        settings = Bucket(f"http://127.0.0.1:{server.port}", "statements").settings(tmp_path)
        error, passed = await failure(settings)
    assert type(error) is errors.AccessDenied
    assert "docs/operations.md" in error.hint
    assert passed == [1, 2]  # the server answers, and the client works: it is the bucket that is closed


async def test_the_banner_says_what_failed_and_what_is_next(tmp_path: Path) -> None:
    async with raw_server(_denies) as server:
        given = Bucket(f"http://127.0.0.1:{server.port}", "statements").variables(tmp_path)
        done = await run_ingest("check", variables=given, cwd=tmp_path)
    assert done.code == 1
    refused = "listing statements/: the server answered 403 AccessDenied (no)"
    assert f"✗ {refused}" in done.stdout
    assert f"✗ S3 CONNECTION TEST FAILED\nCause: {refused}" in done.stdout
    assert f"Next: {errors.AccessDenied.hint}" in done.stdout
    assert "Traceback" not in done.output
