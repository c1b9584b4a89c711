"""Each way a connection can fail is named, on a server that fails that way."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest
import trustme

from ingest import S3Client, errors
from ingest.engine.options import CheckOptions
from ingest.jobs.check import TEST_BODY, TEST_KEY, check
from ingest.settings import Settings
from tests.fixtures.servers import Bucket, Certificates
from tests.fixtures.steps import Steps


async def run(settings: Settings, **options: object) -> Steps:
    steps = Steps()
    told = CheckOptions(**options)  # type: ignore[arg-type]
    assert await check(settings, told, listener=steps) == steps
    return steps


async def test_four_steps_download_and_upload(weed: Bucket, tmp_path: Path) -> None:
    await weed.put({"some/key": b"hello"})
    steps = await run(weed.settings(tmp_path), download="some/key", upload=True)
    assert [step.number for step in steps] == [1, 2, 3, 4, 0, 0]
    assert "some/key" in steps[3].lines[0]


async def test_an_upload_spares_what_someone_else_put_there(weed: Bucket, tmp_path: Path) -> None:
    async with S3Client(weed.settings(tmp_path)) as client:
        for foreign in (b"ours since 2019\n", b"x" * len(TEST_BODY)):
            await client.put(TEST_KEY, foreign)
            with pytest.raises(errors.ObjectInTheWay) as raised:
                await run(weed.settings(tmp_path), upload=True)
            assert TEST_KEY in raised.value.message
            assert raised.value.hint
            assert await client.download_file(TEST_KEY) == foreign


async def test_an_upload_goes_on_where_an_earlier_one_was_killed(weed: Bucket, tmp_path: Path) -> None:
    async with S3Client(weed.settings(tmp_path)) as client:
        await client.put(TEST_KEY, TEST_BODY)
        steps = await run(weed.settings(tmp_path), upload=True)
        assert steps[-1].title == "Upload"
        with pytest.raises(errors.NoSuchKey):
            await client.head(TEST_KEY)


async def test_an_empty_bucket_says_so(weed: Bucket, tmp_path: Path) -> None:
    assert (await run(weed.settings(tmp_path)))[3].lines == ["(Bucket is empty)"]


@pytest.mark.parametrize(
    ("overrides", "error"),
    [
        ({"access_key": "nobody"}, errors.AccessKeyUnknown),
        ({"secret_key": "wrong"}, errors.SignatureMismatch),
        ({"bucket": "no-such-bucket"}, errors.NoSuchBucket),
        ({"endpoint": "http://no-such-host.invalid:9000"}, errors.NameNotResolved),
    ],
)
async def test_what_is_wrong_is_named(
    weed: Bucket, tmp_path: Path, overrides: dict[str, str], error: type[errors.IngestError]
) -> None:
    with pytest.raises(error) as raised:
        await run(weed.settings(tmp_path, **overrides))
    assert raised.value.hint
    if error is errors.NoSuchBucket:
        assert weed.name in raised.value.message  # the buckets that do exist


async def test_refused(tmp_path: Path, moto: Bucket) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with pytest.raises(errors.ConnectionRefused):
        await run(moto.settings(tmp_path, endpoint=endpoint))


async def test_tls_is_trusted_by_ca_file_and_refused_without(weed_tls: Bucket, tmp_path: Path) -> None:
    nothing_trusted = weed_tls.settings(tmp_path, ca_bundle=None)
    steps = await run(nothing_trusted, save_ca=str(tmp_path / "saved.pem"))
    assert "SHA-256" in steps[0].lines[-1]
    assert [step.number for step in steps] == [0, 1, 2, 3, 4]  # tested with what was saved
    assert "BEGIN CERTIFICATE" in (tmp_path / "saved.pem").read_text()
    # The saved certificate is not its own issuer here, and is trusted all the same: that is what pinning means.
    assert await run(weed_tls.settings(tmp_path, ca_bundle=tmp_path / "saved.pem"))
    with pytest.raises(errors.CertificateUntrusted):
        await run(weed_tls.settings(tmp_path, ca_bundle=None))
    with pytest.raises(errors.NotTls):
        await run(weed_tls.settings(tmp_path, endpoint=weed_tls.endpoint.replace("https", "http")))


async def test_a_certificate_for_another_host(tmp_path: Path, certificates: Certificates) -> None:
    import ssl

    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("minio.example.com").configure_cert(context)
    received = bytearray()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.extend(await reader.read(100))
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    bucket = Bucket(f"https://127.0.0.1:{port}", "any-bucket", tmp_path / "ca.pem")
    with pytest.raises(errors.CertificateWrongHost):
        await run(bucket.settings(tmp_path))
    server.close()
    assert not received  # nothing signed was sent to the wrong host
