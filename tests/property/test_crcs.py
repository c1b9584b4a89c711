"""CRC32, CRC32C and CRC64NVME as published, of the whole and of parts, however the bytes come."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.model import Verified
from ingest.plan.checks import Algorithm, Check, Hasher, check_by_parts

RISING, FALLING = bytes(range(256)), bytes(reversed(range(256)))
PUBLISHED = [
    # RFC 3720, appendix B.4
    (Algorithm.CRC32C, bytes(32), "8a9136aa"),
    (Algorithm.CRC32C, b"\xff" * 32, "62a8ab43"),
    (Algorithm.CRC32C, RISING[:32], "46dd794e"),
    (Algorithm.CRC32C, FALLING[-32:], "113fdb5c"),
    (Algorithm.CRC32C, b"123456789", "e3069283"),
    # NVM Express, NVM Command Set Specification, "64b CRC test cases"
    (Algorithm.CRC64NVME, bytes(4096), "6482d367eb22b64e"),
    (Algorithm.CRC64NVME, b"\xff" * 4096, "c0ddba7302eca3ac"),
    (Algorithm.CRC64NVME, RISING * 16, "3e729f5f6750449c"),
    (Algorithm.CRC64NVME, FALLING * 16, "9a2df64b8e9e517e"),
    (Algorithm.CRC64NVME, b"123456789", "ae8b14860a799888"),
    # ISO 3309, ITU-T V.42
    (Algorithm.CRC32, b"123456789", "cbf43926"),
]
POLYNOMIALS = {
    Algorithm.CRC32: (0xEDB88320, 4),
    Algorithm.CRC32C: (0x82F63B78, 4),
    Algorithm.CRC64NVME: (0x9A6C9329AC4BC9B5, 8),
}
"""Reflected, and how many bytes they give."""
ALGORITHMS = sorted([*POLYNOMIALS, Algorithm.SHA1, Algorithm.SHA256])


def reference(algorithm: Algorithm, body: bytes) -> bytes:
    """Bit by bit, as the definition has it."""
    if algorithm not in POLYNOMIALS:
        return hashlib.new(algorithm, body).digest()
    polynomial, size = POLYNOMIALS[algorithm]
    value = ones = (1 << 8 * size) - 1
    for byte in body:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (polynomial if value & 1 else 0)
    return (value ^ ones).to_bytes(size, "big")


def verdict(check: Check, body: bytes, cut: Callable[[bytes], list[bytes]] = lambda body: [body]) -> Verified | None:
    hasher = Hasher(check)
    for chunk in cut(body):
        hasher.update(memoryview(chunk))
    return hasher.verdict()


@pytest.mark.parametrize(("algorithm", "body", "expected"), PUBLISHED)
def test_as_published(algorithm: Algorithm, body: bytes, expected: str) -> None:
    assert reference(algorithm, body).hex() == expected
    assert verdict(Check(algorithm, expected), body) is Verified.VERIFIED
    assert verdict(Check(algorithm, expected), body[:-1] + b"x") is None


@given(st.sampled_from(ALGORITHMS), st.binary(max_size=300), st.integers(1, 400), st.data())
def test_of_the_whole_however_it_comes(algorithm: Algorithm, body: bytes, piece: int, data: st.DataObject) -> None:
    check = Check(algorithm, reference(algorithm, body).hex())
    assert verdict(check, body, lambda body: pieces(body, piece)) is Verified.VERIFIED
    if body:
        assert verdict(check, flipped(body, data), lambda body: pieces(body, piece)) is None


@given(st.sampled_from(ALGORITHMS), st.binary(max_size=300), st.integers(1, 400), st.integers(1, 400), st.data())
def test_of_parts_however_they_come(
    algorithm: Algorithm, body: bytes, part: int, piece: int, data: st.DataObject
) -> None:
    """The checksum of the parts' checksums, and their number, as ``COMPOSITE`` ones are stored."""
    of_parts = [reference(algorithm, found) for found in pieces(body, part)]
    whole = reference(algorithm, b"".join(of_parts))
    check = check_by_parts(algorithm, whole, len(of_parts), len(body), part if len(of_parts) > 1 else None)
    assert not check.guesses
    assert verdict(check, body, lambda body: pieces(body, piece)) is Verified.VERIFIED
    if body:
        assert verdict(check, flipped(body, data), lambda body: pieces(body, piece)) is None
    guess = check._replace(checksum_part_size=None, guesses=(part + 1, part))
    assert verdict(guess, body) is Verified.VERIFIED
    assert verdict(guess._replace(guesses=(1000,), expected="00-2"), body) is Verified.UNVERIFIABLE


def pieces(body: bytes, size: int) -> list[bytes]:
    return [body[at : at + size] for at in range(0, len(body), size)] or [b""]


def flipped(body: bytes, data: st.DataObject) -> bytes:
    """One bit of it is another."""
    bit = data.draw(st.integers(0, 8 * len(body) - 1))
    return bytes(byte ^ (1 << bit % 8 if at == bit // 8 else 0) for at, byte in enumerate(body))
