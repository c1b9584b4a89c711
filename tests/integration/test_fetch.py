"""One object's bytes are checked by what the answer's headers say of them, and only by that."""

from __future__ import annotations

import asyncio
import hashlib
import io
import zlib
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import anycrc
import pytest

from ingest.demo.server import ACCESS_KEY, SECRET_KEY
from ingest.engine.transfer import fetch
from ingest.engine.transfer.fetch import Fetch
from ingest.errors import DamagedTransfer, ObjectChanged
from ingest.model import Verified
from ingest.plan import pieces
from ingest.source.bucket import Bucket
from ingest.store.files import FileStore, Staged
from tests.fixtures import servers
from tests.fixtures.objects import ServedObject, multipart_etag

BODY = Random("statement").randbytes(300_001)
NO_MD5 = hashlib.md5(b"something else").hexdigest()
SHA256 = f"x-amz-checksum-sha256: {b64encode(hashlib.sha256(BODY).digest()).decode()}\r\n"
WRONG_SHA256 = f"x-amz-checksum-sha256: {b64encode(hashlib.sha256(b'').digest()).decode()}\r\n"
KMS = "x-amz-server-side-encryption: aws:kms\r\n"
CUSTOMER = "x-amz-server-side-encryption-customer-algorithm: AES256\r\n"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FileStore]:
    found = FileStore(tmp_path / "data", "statements")
    yield found
    found.close()


@pytest.fixture(params=["whole", "ranges"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small and large objects go different ways, and must come to the same verdict."""
    if request.param == "ranges":
        monkeypatch.setattr(fetch, "SMALL", 100_000)
        monkeypatch.setattr(fetch, "TINY", 1_000)
        monkeypatch.setattr(pieces, "PIECE", 70_000)


async def staged(served: ServedObject, store: FileStore) -> Staged:
    async with served.bucket(store.data_dir) as bucket:
        found = (await Fetch(bucket, store)(served.remote())).staged
    assert isinstance(found, Staged)
    return found


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(
    ("etag", "headers", "verified"),
    [
        pytest.param("", "", Verified.VERIFIED, id="an MD5"),
        pytest.param(NO_MD5, KMS, Verified.UNVERIFIABLE, id="KMS"),
        pytest.param(NO_MD5, CUSTOMER, Verified.UNVERIFIABLE, id="customer's key"),
        pytest.param(NO_MD5, KMS + SHA256, Verified.VERIFIED, id="KMS with a checksum"),
        pytest.param("opaque", SHA256, Verified.VERIFIED, id="opaque with a checksum"),
        pytest.param("opaque", "", Verified.UNVERIFIABLE, id="opaque"),
        pytest.param(NO_MD5, "", None, id="damaged by its MD5"),
        pytest.param(NO_MD5, "x-amz-server-side-encryption: AES256\r\n", None, id="SSE-S3 keeps the MD5"),
        pytest.param(NO_MD5, KMS + WRONG_SHA256, None, id="damaged by its checksum"),
    ],
)
async def test_the_headers_decide_the_check(
    store: FileStore, etag: str, headers: str, verified: Verified | None
) -> None:
    served = ServedObject(BODY, etag, headers)
    if verified is None:
        with pytest.raises(DamagedTransfer):
            await staged(served, store)
        assert list((store.data_dir / ".ingest" / "tmp").iterdir()) == []
        return
    found = await staged(served, store)
    assert (found.verified, found.size) == (verified, len(BODY))
    assert (store.data_dir / ".ingest" / "tmp" / found.temporary).read_bytes() == BODY


@pytest.mark.usefixtures("way")
async def test_the_size_of_a_multipart_uploads_parts_is_asked_for(store: FileStore) -> None:
    """No common part size fits these, so without asking they could not be checked."""
    served = ServedObject(BODY, multipart_etag(BODY, 99_999), part_size=99_999)
    assert (await staged(served, store)).verified is Verified.VERIFIED
    damaged = ServedObject(BODY[:-1] + b"?", served.etag, part_size=99_999)
    with pytest.raises(DamagedTransfer):
        await staged(damaged, store)


DIGESTS: dict[str, Callable[[bytes], bytes]] = {
    "crc64nvme": lambda body: anycrc.Model("CRC64-NVME").calc(body).to_bytes(8, "big"),
    "crc32c": lambda body: anycrc.Model("CRC32-ISCSI").calc(body).to_bytes(4, "big"),
    "crc32": lambda body: zlib.crc32(body).to_bytes(4, "big"),
    "sha1": lambda body: hashlib.sha1(body).digest(),
    "sha256": lambda body: hashlib.sha256(body).digest(),
}


def stored(algorithm: str, body: bytes, part_size: int | None = None) -> str:
    """The header of the checksum that S3 stores with `body`, put whole or in parts: without an ``-N``, and with one."""
    digest = DIGESTS[algorithm]
    if part_size is None:
        return f"x-amz-checksum-{algorithm}: {b64encode(digest(body)).decode()}\r\nx-amz-checksum-type: FULL_OBJECT\r\n"
    parts = [digest(body[at : at + part_size]) for at in range(0, len(body), part_size)]
    whole = b64encode(digest(b"".join(parts))).decode()
    return f"x-amz-checksum-{algorithm}: {whole}-{len(parts)}\r\nx-amz-checksum-type: COMPOSITE\r\n"


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("algorithm", ["crc64nvme", "crc32c", "crc32", "sha1", "sha256"])
async def test_a_stored_checksum_proves_what_an_encrypted_objects_etag_does_not(
    store: FileStore, algorithm: str
) -> None:
    """CRC64NVME is what today's clients of AWS store with everything that they put."""
    headers = KMS + stored(algorithm, BODY)
    assert (await staged(ServedObject(BODY, NO_MD5, headers), store)).verified is Verified.VERIFIED
    with pytest.raises(DamagedTransfer):
        await staged(ServedObject(BODY[:-1] + b"?", NO_MD5, headers), store)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("algorithm", ["crc32c", "crc32", "sha1", "sha256"])
@pytest.mark.parametrize("part_size", [99_999, 300_001], ids=["four parts", "one part"])
async def test_a_stored_checksum_of_parts_proves_as_much_once_their_size_is_asked_for(
    store: FileStore, algorithm: str, part_size: int
) -> None:
    """Where a part is asked for, S3 tells that part's own checksum, which says nothing of the whole."""
    etag = f"{NO_MD5}-{-(-len(BODY) // part_size)}"
    headers = KMS + stored(algorithm, BODY, part_size)
    part = KMS + stored(algorithm, BODY[:part_size])
    served = ServedObject(BODY, etag, headers, part_size=part_size, part_headers=part)
    assert (await staged(served, store)).verified is Verified.VERIFIED
    damaged = ServedObject(BODY[:-1] + b"?", etag, headers, part_size=part_size, part_headers=part)
    with pytest.raises(DamagedTransfer):
        await staged(damaged, store)


@pytest.mark.usefixtures("way")
async def test_a_checksum_of_parts_whose_size_nobody_tells_is_no_proof_of_damage(store: FileStore) -> None:
    served = ServedObject(BODY, f"{NO_MD5}-4", KMS + stored("crc32c", BODY, 99_999))
    assert (await staged(served, store)).verified is Verified.UNVERIFIABLE


async def test_an_object_of_another_size_has_changed(store: FileStore) -> None:
    served = ServedObject(BODY)
    async with served.bucket(store.data_dir) as bucket:
        with pytest.raises(ObjectChanged):
            await Fetch(bucket, store)(served.remote()._replace(size=len(BODY) + 1))


async def test_a_real_server_takes_the_question_for_checksums(moto: servers.Bucket, tmp_path: Path) -> None:
    """`x-amz-checksum-mode` is signed and sent with each GET: harmless where unknown, and answered where known."""
    async with moto._client() as raw:
        await raw.put_object(Bucket=moto.name, Key="plain", Body=BODY)
        await raw.put_object(Bucket=moto.name, Key="kms", Body=BODY, ServerSideEncryption="aws:kms")
    store = FileStore(tmp_path / "data", moto.name)
    async with Bucket.open(moto.settings(tmp_path / "data").source, connections=4) as bucket:
        take = Fetch(bucket, store)
        for key, algorithm in (("plain", "md5"), ("kms", "sha256")):
            found = (await take(await take.newest(ServedObject(BODY).remote(key)))).staged
            assert isinstance(found, Staged)
            # The KMS one by the checksum that its uploader had stored: its etag is not looked at.
            assert (found.verified, found.digest.partition(":")[0]) == (Verified.VERIFIED, algorithm)
    store.close()


def upload_by_boto3(bucket: servers.Bucket, key: str, body: bytes) -> Any:
    """As it does it by default. Returns what a HEAD says then."""
    from boto3 import client
    from boto3.s3.transfer import TransferConfig

    place = {"aws_access_key_id": ACCESS_KEY, "aws_secret_access_key": SECRET_KEY}
    uploader = client("s3", endpoint_url=bucket.endpoint, region_name="us-east-1", **place)
    config = TransferConfig(multipart_threshold=5 << 20, multipart_chunksize=5 << 20, use_threads=False)
    try:
        uploader.upload_fileobj(io.BytesIO(body), bucket.name, key, Config=config)
        return uploader.head_object(Bucket=bucket.name, Key=key, ChecksumMode="ENABLED")
    finally:
        uploader.close()


async def test_a_checksum_of_parts_that_does_not_say_so(moto: servers.Bucket, tmp_path: Path) -> None:
    """moto sends that of boto3's uploads without its number of parts, and no type: the etag's MD5s prove the bytes."""
    body = Random("parts").randbytes(12 << 20)
    head = await asyncio.to_thread(upload_by_boto3, moto, "parts", body)
    assert "-" not in head["ChecksumCRC32"]
    assert "ChecksumType" not in head
    store = FileStore(tmp_path / "data", moto.name)
    async with Bucket.open(moto.settings(tmp_path / "data").source, connections=4) as bucket:
        take = Fetch(bucket, store)
        found = (await take(await take.newest(ServedObject(body).remote("parts")))).staged
    assert isinstance(found, Staged)
    assert found.verified is Verified.VERIFIED
    store.close()
