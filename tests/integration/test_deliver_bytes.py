"""Bytes on their way out: bounded memory, and a damaged copy never makes a complete request."""

from __future__ import annotations

import hashlib
import os
import re
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from pydantic import SecretStr

from ingest.delivery.service import MOST_ANSWER_BYTES, Answer, Service, Submission, WrongBytes
from ingest.plan.rulings import Ruling
from ingest.settings import Settings
from ingest.testing.raw_server import RawServer, Visit, raw_server

SIZE = 48 << 20
SETTINGS = Settings.model_validate({"endpoint": "minio.example.com:9000", "bucket": "statements"})


class Counter:
    """Takes bodies without keeping them."""

    def __init__(self, answer: bytes = b"{}") -> None:
        self.answer = answer
        self.taken, self.stated = 0, 0

    async def __call__(self, visit: Visit) -> None:
        found = re.search(rb"Content-Length: (\d+)", visit.head)
        assert found is not None
        self.stated, self.taken = int(found[1]), 0
        while self.taken < self.stated:
            chunk = await visit.reader.read(1 << 16)
            if not chunk:
                return
            self.taken += len(chunk)
        await visit.answer(self.answer)


@asynccontextmanager
async def verifying(counter: Counter) -> AsyncIterator[tuple[Service, RawServer]]:
    async with raw_server(counter) as server:
        settings = SETTINGS.model_copy(update={"verify_url": f"http://127.0.0.1:{server.port}/v1/verify"})
        async with Service(settings.service, settings.source) as service:
            yield service, server


async def post(service: Service, path: Path, submission: Submission) -> Answer:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return await service.post(submission, descriptor)
    finally:
        os.close(descriptor)


def a_parcel(content: bytes, digest: str = "") -> Submission:
    return Submission("large.bin", "e1", len(content), digest or f"md5:{hashlib.md5(content).hexdigest()}", {})


async def test_a_large_copy_is_never_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "large.bin"
    path.write_bytes(os.urandom(1 << 20) * (SIZE >> 20))
    with path.open("rb") as file:
        submission = Submission(
            "large.bin", "e1", SIZE, f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}", {}
        )
    counter = Counter()
    async with verifying(counter) as (service, _):
        tracemalloc.start()
        try:
            answer = await post(service, path, submission)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert answer.ruling is Ruling.DELIVERED
    assert counter.taken == counter.stated > SIZE
    assert peak < SIZE // 8


@pytest.mark.parametrize("size", [0, 1000, (256 << 10), (256 << 10) + 1, 3 << 20])
@pytest.mark.parametrize("damage", ["", "flipped", "shorter", "longer"])
async def test_a_damaged_copy_never_makes_a_complete_request(tmp_path: Path, size: int, damage: str) -> None:
    content = os.urandom(size)
    damaged = {
        "": content,
        "flipped": content[:-1] + bytes([(*b"\0", *content)[-1] ^ 1]),
        "shorter": content[:-1],
        "longer": content + b"!",
    }
    path = tmp_path / "copy"
    path.write_bytes(damaged[damage])
    counter = Counter()
    async with verifying(counter) as (service, server):
        if damaged[damage] == content:
            assert (await post(service, path, a_parcel(content))).ruling is Ruling.DELIVERED
            assert counter.taken == counter.stated > size
            return
        with pytest.raises(WrongBytes):
            await post(service, path, a_parcel(content))
        assert server.connections == 0 or counter.taken < counter.stated
        if server.connections:
            await server.closed[0].wait()  # it cannot be taken for the start of something else
        path.write_bytes(content)
        assert (await post(service, path, a_parcel(content))).ruling is Ruling.DELIVERED


async def test_a_verdict_that_comes_before_the_end_of_the_bytes_is_a_verdict(tmp_path: Path) -> None:
    path = tmp_path / "large.bin"
    content = os.urandom(3 << 20)
    path.write_bytes(content)

    async def refuse(visit: Visit) -> None:
        await visit.answer(b'{"reason": "too large"}', status="413 Content Too Large")
        await visit.until_closed()

    async with raw_server(refuse) as server:
        settings = SETTINGS.model_copy(update={"verify_url": f"http://127.0.0.1:{server.port}/v1/verify"})
        async with Service(settings.service, settings.source) as service:
            answer = await post(service, path, a_parcel(content))
    assert (answer.ruling, answer.status, answer.body) == (Ruling.REJECTED, 413, '{"reason": "too large"}')


async def test_a_proxy_of_the_environment_is_used_and_netrc_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".netrc").write_text("machine verify.example.com login someone password else\n")
    (tmp_path / ".netrc").chmod(0o600)
    (tmp_path / "copy").write_bytes(b"x")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    async with raw_server(Counter()) as proxy:
        monkeypatch.setenv("http_proxy", f"http://user:pass@127.0.0.1:{proxy.port}")
        monkeypatch.setenv("no_proxy", "other.example.com")
        values = {"verify_url": "http://verify.example.com/v1/verify", "verify_authorization": SecretStr("Bearer x")}
        told = SETTINGS.model_copy(update=values)
        async with Service(told.service, told.source) as service:
            assert (await post(service, tmp_path / "copy", a_parcel(b"x"))).ruling is Ruling.DELIVERED
    (head,) = proxy.heads
    assert head.startswith(b"POST http://verify.example.com/v1/verify HTTP/1.1")
    assert b"\r\nAuthorization: Bearer x\r\n" in head
    assert b"\r\nProxy-Authorization: Basic dXNlcjpwYXNz\r\n" in head


@pytest.mark.parametrize("answer", [b'{"ok": true}', b"", b"plain \xff\x00 text", b"x" * (MOST_ANSWER_BYTES + 5000)])
async def test_an_answer_is_kept_up_to_its_bound(tmp_path: Path, answer: bytes) -> None:
    path = tmp_path / "copy"
    path.write_bytes(b"x")
    async with verifying(Counter(answer)) as (service, _):
        kept = (await post(service, path, a_parcel(b"x"))).body
    assert kept == answer[:MOST_ANSWER_BYTES].decode("utf-8", "replace").replace("\0", "\ufffd")


def test_the_idempotency_key_names_one_version_of_one_object_of_one_source() -> None:
    def service(endpoint: str, bucket: str) -> Service:
        values = {"endpoint": endpoint, "bucket": bucket, "verify_url": "https://verify.example.com/v1/verify"}
        told = Settings.model_validate(values)
        return Service(told.service, told.source)

    ours = service("minio.example.com:9000", "statements")
    assert ours.idempotency_key("k", "e") == "999fd91b34de8a8bb404421b6f6cdcaa38794a0deb7f3e10ab23c7530bb9fb6c"
    others = [
        ours.idempotency_key("k", "f"),
        ours.idempotency_key("l", "e"),
        service("minio.example.com:9001", "statements").idempotency_key("k", "e"),
        service("minio.example.com:9000", "statement").idempotency_key("sk", "e"),
    ]
    assert len({ours.idempotency_key("k", "e"), *others}) == 5
