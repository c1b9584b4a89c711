"""What a server says of an object's bytes becomes a check, and the check tells right bytes from wrong ones."""

from __future__ import annotations

import hashlib
import zlib
from base64 import b64encode
from collections.abc import Sequence
from datetime import UTC, datetime
from random import Random

import pytest

from ingest.model import Verified
from ingest.plan.checks import (
    MIB,
    MOST_GUESSES,
    Algorithm,
    Check,
    Hasher,
    check_for,
    inferred_part_sizes,
    possible_part_sizes,
)
from ingest.source.checksums import check_for_head, check_for_headers, check_for_part
from ingest.source.object_head import ObjectHead

BODY = Random("statement").randbytes(100_003)
MD5 = hashlib.md5(BODY).hexdigest()
SHA256 = hashlib.sha256(BODY)
KMS = {b"x-amz-server-side-encryption": b"aws:kms"}
CUSTOMER = {b"x-amz-server-side-encryption-customer-algorithm": b"AES256"}
WHOLE = {b"x-amz-checksum-type": b"FULL_OBJECT"}
PARTS = {b"x-amz-checksum-type": b"COMPOSITE"}


def multipart_etag(body: bytes, part_size: int) -> str:
    parts = [hashlib.md5(body[at : at + part_size]).digest() for at in range(0, len(body) or 1, part_size)]
    return f"{hashlib.md5(b''.join(parts)).hexdigest()}-{len(parts)}"


def stored(algorithm: str, digest: bytes, suffix: bytes = b"") -> dict[bytes, bytes]:
    return {f"x-amz-checksum-{algorithm}".encode(): b64encode(digest) + suffix}


SHA1_HEADER = stored("sha1", hashlib.sha1(BODY).digest())
SHA256_HEADER = stored("sha256", SHA256.digest())
CRC32_HEADER = stored("crc32", zlib.crc32(BODY).to_bytes(4, "big"))
NOTHING = Check(None)
UNUSUAL = multipart_etag(BODY, 999)
ONE_PART = multipart_etag(BODY, 8 << 20)


@pytest.mark.parametrize(
    ("etag", "headers", "expected"),
    [
        pytest.param(MD5, {}, Check(Algorithm.MD5, MD5), id="an MD5"),
        pytest.param(
            MD5, {b"x-amz-server-side-encryption": b"AES256"}, Check(Algorithm.MD5, MD5), id="SSE-S3 keeps the MD5"
        ),
        pytest.param(MD5, SHA256_HEADER, Check(Algorithm.MD5, MD5), id="an MD5 is enough"),
        pytest.param(MD5, KMS, NOTHING, id="KMS"),
        pytest.param(MD5, {b"x-amz-server-side-encryption": b"aws:kms:dsse"}, NOTHING, id="double KMS"),
        pytest.param(MD5, CUSTOMER, NOTHING, id="customer's key"),
        pytest.param(MD5, KMS | SHA256_HEADER, Check(Algorithm.SHA256, SHA256.hexdigest()), id="KMS with a checksum"),
        pytest.param(f"{MD5}-1", {}, Check(Algorithm.MD5_PARTS, f"{MD5}-1", len(BODY)), id="one part"),
        pytest.param(f"{MD5}-01", {}, NOTHING, id="no number of parts"),
        pytest.param(MD5.upper(), {}, NOTHING, id="upper case is no MD5"),
        pytest.param("opaque", {}, NOTHING, id="opaque"),
        pytest.param("", {}, NOTHING, id="empty"),
        pytest.param(UNUSUAL, {}, NOTHING, id="no common part size fits"),
        pytest.param("opaque", CRC32_HEADER, Check(Algorithm.CRC32, f"{zlib.crc32(BODY):08x}"), id="CRC32"),
        pytest.param(
            "opaque", SHA1_HEADER | CRC32_HEADER, Check(Algorithm.SHA1, hashlib.sha1(BODY).hexdigest()), id="SHA-1"
        ),
        pytest.param(
            "opaque",
            SHA256_HEADER | SHA1_HEADER | WHOLE,
            Check(Algorithm.SHA256, SHA256.hexdigest()),
            id="the strongest",
        ),
        pytest.param(
            UNUSUAL, CRC32_HEADER | WHOLE, Check(Algorithm.CRC32, f"{zlib.crc32(BODY):08x}"), id="multipart, whole"
        ),
        pytest.param(UNUSUAL, SHA256_HEADER | PARTS, NOTHING, id="over parts"),
        pytest.param(UNUSUAL, CRC32_HEADER, NOTHING, id="multipart, and not said of what"),
        pytest.param(ONE_PART, CRC32_HEADER, Check(Algorithm.MD5_PARTS, ONE_PART, len(BODY)), id="the etag tells more"),
        pytest.param(UNUSUAL, KMS | CRC32_HEADER, NOTHING, id="KMS, multipart, and not said of what"),
        pytest.param(
            UNUSUAL,
            stored("crc64nvme", b"12345678"),
            Check(Algorithm.CRC64NVME, "3132333435363738"),
            id="never over parts",
        ),
        pytest.param(
            UNUSUAL,
            stored("sha256", SHA256.digest(), b"-7"),
            Check(Algorithm.SHA256, f"{SHA256.hexdigest()}-7", guesses=(len(BODY),)),
            id="over parts, by its suffix; no common size fits",
        ),
        pytest.param(
            "opaque",
            stored("crc32c", b"1234", b"-1") | PARTS,
            Check(Algorithm.CRC32C, "31323334-1", checksum_part_size=len(BODY)),
            id="over one part",
        ),
        pytest.param(UNUSUAL, stored("crc32c", b"1234", b"-2") | WHOLE, NOTHING, id="over parts, and said not to be"),
        pytest.param("opaque", stored("crc32c", b"1234", b"-0"), NOTHING, id="over no parts"),
        pytest.param("opaque", stored("crc32c", b"1234", b"-x"), NOTHING, id="no number of parts in the suffix"),
        pytest.param(
            MD5,
            KMS | stored("crc64nvme", b"12345678") | WHOLE,
            Check(Algorithm.CRC64NVME, b"12345678".hex()),
            id="KMS with the default of today's clients",
        ),
        pytest.param("opaque", stored("crc32c", b"1234"), Check(Algorithm.CRC32C, b"1234".hex()), id="CRC32C"),
        pytest.param("opaque", stored("sha256", b"short"), NOTHING, id="wrong length"),
        pytest.param("opaque", {b"x-amz-checksum-sha256": b"\xff*"}, NOTHING, id="no base64"),
        pytest.param(
            "opaque",
            stored("crc64nvme", b"12345678") | stored("crc32c", b"1234") | SHA1_HEADER,
            Check(Algorithm.SHA1, hashlib.sha1(BODY).hexdigest()),
            id="a digest before a checksum",
        ),
        pytest.param("opaque", stored("xxhash64", b"12345678"), NOTHING, id="unknown here"),
    ],
)
def test_headers_become_a_check(etag: str, headers: dict[bytes, bytes], expected: Check) -> None:
    assert check_for_headers(headers, etag, len(BODY)) == expected


@pytest.mark.parametrize(
    ("sse", "checksums", "kind", "expected"),
    [
        ("", {}, "", Check(Algorithm.MD5, MD5)),
        ("aws:kms", {}, "", NOTHING),
        ("customer", {"sha256": b64encode(SHA256.digest()).decode()}, "", Check(Algorithm.SHA256, SHA256.hexdigest())),
        ("aws:kms", {"sha256": b64encode(SHA256.digest()).decode()}, "COMPOSITE", NOTHING),
    ],
)
def test_a_head_becomes_the_same_check(sse: str, checksums: dict[str, str], kind: str, expected: Check) -> None:
    head = ObjectHead(
        size=len(BODY),
        etag=MD5,
        last_modified=datetime(2026, 1, 1, tzinfo=UTC),
        storage_class="STANDARD",
        parts_count=None,
        part_size=None,
        checksums=checksums,
        checksum_type=kind,
        sse=sse,
        version_id="",
        restore="",
    )
    assert check_for_head(head) == expected


@pytest.mark.parametrize(
    ("size", "parts", "expected"),
    [
        (20 * MIB, 3, [8 * MIB, 8_000_000, 10_000_000]),
        (20 * MIB, 4, [5 * MIB]),
        (16 * MIB + 1, 3, [8 * MIB, 8_000_000]),
        (1 << 40, 2, []),
        (0, 2, []),
    ],
)
def test_part_sizes_are_inferred_from_their_number(size: int, parts: int, expected: list[int]) -> None:
    assert inferred_part_sizes(size, parts) == expected
    assert len(expected) <= MOST_GUESSES


@pytest.mark.parametrize(
    ("size", "parts", "known", "expected"),
    [
        (14 * MIB, 3, (), [5 * MIB, 5_000_000, 6 * MIB, -(-14 * MIB // 3), 6_000_000, 7_000_000]),
        (24 * MIB, 3, (), [8 * MIB, 10 * MIB, 10_000_000, 9 * MIB, 11 * MIB, 9_000_000, 11_000_000, 12_000_000]),
        (24 * MIB, 3, (11 * MIB, MIB), [11 * MIB, 8 * MIB, 10 * MIB, 10_000_000]),
        (100, 2, (), [50]),
        (100, 101, (), []),
        (100, 1, (), []),
        (0, 2, (), []),
        (8 * 10**15, 2, (), []),
    ],
)
def test_the_part_sizes_that_a_number_of_parts_allows(
    size: int, parts: int, known: Sequence[int], expected: list[int]
) -> None:
    """The likeliest first; as few of an absurd size as of any that takes long to hash."""
    found = possible_part_sizes(size, parts, known)
    assert all(-(-size // part_size) == parts for part_size in found)
    assert found[: len(expected)] == expected if expected else len(found) <= MOST_GUESSES


def test_a_known_part_size_must_fit_the_number_of_parts() -> None:
    etag = f"{MD5}-3"
    assert check_for(etag, 3000, part_size=1000) == Check(Algorithm.MD5_PARTS, etag, 1000)
    assert check_for(etag, 3000, part_size=2000) == NOTHING


def test_a_server_that_ignores_the_part_number_tells_no_part_size() -> None:
    etag = f"{MD5}-3"
    assert check_for(etag, 20 * MIB, part_size=20 * MIB).guesses == (8 * MIB, 8_000_000, 10_000_000)


CHECKS = [
    pytest.param(Check(Algorithm.MD5, MD5), id="md5"),
    pytest.param(Check(Algorithm.SHA256, SHA256.hexdigest()), id="sha256"),
    pytest.param(Check(Algorithm.SHA1, hashlib.sha1(BODY).hexdigest()), id="sha1"),
    pytest.param(Check(Algorithm.CRC32, f"{zlib.crc32(BODY):08x}"), id="crc32"),
    pytest.param(Check(Algorithm.MD5_PARTS, multipart_etag(BODY, 1000), 1000), id="parts"),
    pytest.param(Check(Algorithm.MD5_PARTS, multipart_etag(BODY, 100_003), 100_003), id="one whole part"),
    pytest.param(Check(Algorithm.MD5_PARTS, multipart_etag(BODY, 100_002), 100_002), id="a last part of one byte"),
    pytest.param(Check(Algorithm.MD5_PARTS, multipart_etag(BODY, 1000), guesses=(1001, 1000)), id="guessed parts"),
]


def hashed(check: Check, body: bytes, *cuts: int) -> Hasher:
    hasher = Hasher(check)
    view = memoryview(body)
    for first, last in zip((0, *cuts), (*cuts, len(body)), strict=True):
        hasher.update(view[first:last])
    return hasher


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("cuts", [(), (1,), (1000, 2000), (999, 1000, 1001), tuple(range(0, 100_003, 7777))])
def test_right_bytes_are_verified_however_they_come(check: Check, cuts: tuple[int, ...]) -> None:
    assert hashed(check, BODY, *cuts).verdict() is Verified.VERIFIED


@pytest.mark.parametrize("check", [param for param in CHECKS if param.id != "guessed parts"])
@pytest.mark.parametrize("at", [0, 50_000, 100_002])
def test_one_wrong_bit_is_found(check: Check, at: int) -> None:
    wrong = bytearray(BODY)
    wrong[at] ^= 1
    assert hashed(check, bytes(wrong)).verdict() is None
    assert hashed(check, BODY[:-1]).verdict() is None
    assert hashed(check, BODY + b"\0").verdict() is None


def test_a_guess_that_fails_is_no_proof_of_damage() -> None:
    check = Check(Algorithm.MD5_PARTS, multipart_etag(BODY, 1000), guesses=(1001, 1002))
    assert hashed(check, BODY).verdict() is Verified.UNVERIFIABLE


def test_nothing_to_check_is_said_so() -> None:
    assert hashed(NOTHING, BODY).verdict() is Verified.UNVERIFIABLE


@pytest.mark.parametrize("etag", [hashlib.md5(b"").hexdigest(), multipart_etag(b"", 5)])
def test_an_empty_object_is_verified(etag: str) -> None:
    assert hashed(check_for(etag, 0), b"").verdict() is Verified.VERIFIED


@pytest.mark.parametrize("check", [*CHECKS, pytest.param(NOTHING, id="nothing")])
def test_the_catalogs_digest_is_of_the_local_bytes(check: Check) -> None:
    expected = f"md5:{MD5}" if check.algorithm is Algorithm.MD5 else f"sha256:{SHA256.hexdigest()}"
    assert hashed(check, BODY, 10).digest() == expected


@pytest.mark.parametrize("algorithm", Algorithm)
def test_whatever_can_be_named_can_be_computed(algorithm: Algorithm) -> None:
    assert hashed(Check(algorithm, "00"), BODY).verdict() is None


def part_head(part_size: int, checksums: dict[str, str], etag: str = UNUSUAL, sse: str = "") -> ObjectHead:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    return ObjectHead(len(BODY), etag, moment, "STANDARD", None, part_size, checksums, "COMPOSITE", sse, "", "")


def test_a_part_tells_the_size_that_the_etag_lacked() -> None:
    assert check_for_part(NOTHING, part_head(999, {})) == Check(Algorithm.MD5_PARTS, UNUSUAL, 999)
    guess = Check(Algorithm.MD5_PARTS, UNUSUAL, guesses=(1, 2))
    assert check_for_part(guess, part_head(900, {})) == guess  # of another number of parts: it stays a guess


def test_a_part_tells_the_size_that_a_checksum_lacked_and_its_own_checksum_is_not_that_of_the_whole() -> None:
    guess = Check(Algorithm.CRC32C, "01020304-101", guesses=(len(BODY),))
    of_the_part = {"crc32c": b64encode(b"part").decode()}
    sharp = check_for_part(guess, part_head(999, of_the_part, sse="aws:kms"))
    assert sharp == Check(Algorithm.CRC32C, "01020304-101", checksum_part_size=999)
    assert check_for_part(guess, part_head(900, of_the_part, sse="aws:kms")) == guess
    assert check_for_part(NOTHING, part_head(999, of_the_part, sse="aws:kms")) == NOTHING


def test_an_etag_that_is_a_proof_comes_before_a_checksum_of_parts() -> None:
    guess = Check(Algorithm.CRC32C, "01020304-101", guesses=(len(BODY),))
    assert check_for_part(guess, part_head(999, {})) == Check(Algorithm.MD5_PARTS, UNUSUAL, 999)
