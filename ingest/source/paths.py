"""The spellings in which people and events name an object. Keys that come from a listing never pass through here."""

from __future__ import annotations

from urllib.parse import unquote

from ingest.errors import SettingsError


def normalise_key(text: str, bucket: str) -> str:
    """The key behind ``s3://bucket/key``, ``/bucket/key``, ``bucket/key`` or ``key``, URL-encoded or not.

    An escape is decoded only where the whole text is a valid encoding: a lone ``%`` is a letter of the key.

    Raises:
        SettingsError: it names another bucket, or no key.
    """
    path = text.strip("\r\n")
    if path.lower().startswith("s3://"):
        named, _, key = path[5:].partition("/")
        if named != bucket:
            raise SettingsError(f"{text!r} is in bucket {named!r}, and S3_BUCKET is {bucket!r}")
    else:
        key = path.removeprefix("/")
        key = key.removeprefix(f"{bucket}/")
    key = _unescaped(key)
    if not _is_unicode(key):
        raise SettingsError(f"{text!a} is not UTF-8 text, and every S3 key is")
    if not key:
        raise SettingsError(f"{text!r} names no object", hint="Write s3://bucket/key, or just the key.")
    return key


def _unescaped(key: str) -> str:
    if "%" not in key:
        return key
    try:
        decoded = unquote(key, errors="strict")
    except UnicodeDecodeError:
        return key
    every_escape_is_valid = all(_is_hex(piece[:2]) for piece in key.split("%")[1:])
    return decoded if every_escape_is_valid else key


def _is_unicode(key: str) -> bool:
    """False for the lone surrogates by which Python stands for undecodable bytes of a command line."""
    try:
        key.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_hex(pair: str) -> bool:
    return len(pair) == 2 and all(letter in "0123456789abcdefABCDEF" for letter in pair)


def spellings(text: str, bucket: str) -> list[str]:
    """The keys that `text` may mean, the likeliest first: a key may begin like the bucket's name, or hold a ``%``.

    Raises:
        SettingsError: it names another bucket, or no key.
    """
    literal = [] if text.lower().startswith("s3://") else [text, text.removeprefix("/")]
    # Slashes and line ends alone name no object, unless just that is its key.
    normal = text if text and not text.strip("/\r\n") else normalise_key(text, bucket)
    return list(dict.fromkeys(key for key in (*literal, normal) if key))


_SCHEMES = ("s3://", "s3a://", "s3n://")


def is_url(text: str) -> bool:
    """Whether it is written with a scheme, as ``s3://bucket/prefix``."""
    return text.lower().startswith(_SCHEMES)


def other_prefixes(text: str, bucket: str) -> list[str]:
    """What a prefix may mean besides what it says: without bucket, leading slash, closing ``*``; without all last.

    Never everything, unless a URL or a lone ``*`` says so; nothing for a text that is written as a prefix is.
    """
    found = [text]
    for simpler in (_without_bucket, _without_slashes, _without_stars):
        found += [simpler(each, bucket) for each in found]
    everything = is_url(text) or not text.strip("*")
    return [each for each in dict.fromkeys(found) if each != text and not is_url(each) and (each or everything)]


def _without_bucket(text: str, bucket: str) -> str:
    if is_url(text):
        named, _, rest = text.partition("://")[2].partition("/")
        return rest if named == bucket else text
    return (
        text.removeprefix("/").removeprefix(f"{bucket}/") if text.removeprefix("/").startswith(f"{bucket}/") else text
    )


def _without_slashes(text: str, _bucket: str) -> str:
    return text.lstrip("/")


def _without_stars(text: str, _bucket: str) -> str:
    plain = text.rstrip("*")
    return text if "*" in plain or "?" in plain else plain
