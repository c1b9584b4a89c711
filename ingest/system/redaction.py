"""Secrets, cut out of every text that people, logs or the database may see: the last line of defence.

Nothing puts a secret into a message on purpose. Servers, drivers and libraries may quote one all the same, each in the
spelling of its own: escaped for XML, a URL, JSON or Python, once or several times over.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from html.entities import codepoint2name
from typing import NamedTuple

SHORTEST = 4
"""Characters: anything shorter is no secret, and would cut ordinary words to pieces."""

_PLAIN = re.compile(r"[0-9A-Za-z]+")
_PIECES = re.compile(r"[0-9A-Za-z]+|\\+|.", re.DOTALL)
_SHORT = {"\n": "n", "\r": "r", "\t": "t", "\b": "b", "\f": "f"}


class _Secret(NamedTuple):
    text: str
    anchor: str
    """Letters and digits that stand in every spelling: looked for first, since most texts hold no secret."""
    spelled: re.Pattern[str]


_held: Counter[str] = Counter()
"""By how many each text is protected now."""
_secrets: list[_Secret] = []


def protect(secrets: Iterable[str]) -> None:
    """From now on these texts, too, are shown as ``***``: for a process that is ours alone."""
    _held.update(_long_enough(secrets))
    _spell_held()


@contextmanager
def protecting(secrets: Iterable[str]) -> Iterator[None]:
    """Meanwhile these texts, too, are shown as ``***``, whatever others protect at the same time.

    What an error that leaves was raised from holds none of them any more.
    """
    ours = _long_enough(secrets)
    _held.update(ours)
    _spell_held()
    try:
        yield
    except BaseException as error:
        redact_causes(error)
        raise
    finally:
        _held.subtract(ours)
        _spell_held()


def _long_enough(secrets: Iterable[str]) -> set[str]:
    return {secret for secret in secrets if len(secret) >= SHORTEST}


def _spell_held() -> None:
    known = {secret.text: secret for secret in _secrets}
    # The longest first, so that one secret that is part of another leaves nothing of it.
    texts = sorted((text for text, holders in _held.items() if holders > 0), key=len, reverse=True)
    _secrets[:] = [known.get(text) or _spell(text) for text in texts]
    for text in [text for text, holders in _held.items() if holders <= 0]:
        del _held[text]


def _spell(text: str) -> _Secret:
    anchor = max(_PLAIN.findall(text), key=len, default="")
    return _Secret(text, anchor, re.compile("".join(map(_spelled, _PIECES.findall(text)))))


def redact(text: str) -> str:
    for secret in _secrets:
        if secret.anchor in text:
            text = secret.spelled.sub("***", text)
    return text


def redact_causes(error: BaseException) -> None:
    """Cuts secrets out of what an error was raised from, before it leaves us: libraries quote what they were given."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        found = waiting.pop()
        if found is None or id(found) in seen:
            continue
        seen.add(id(found))
        found.args = tuple(redact(value) if isinstance(value, str) else value for value in found.args)
        waiting += [found.__cause__, found.__context__]


def _spelled(piece: str) -> str:
    """A pattern of every way to write a run of letters and digits, a run of backslashes, or one other character."""
    if _PLAIN.fullmatch(piece):
        return piece
    if piece[0] == "\\":
        encoded = "|".join(_encoded("\\"))
        return rf"(?:\\++|(?:{encoded})++)"  # however often doubled
    ways = [*_encoded(piece), rf"\\*+{re.escape(piece)}"]
    if piece in _SHORT:
        ways.append(rf"\\*+{_SHORT[piece]}")
    if not piece.isascii():
        octets = piece.encode("utf-8", "surrogatepass")
        ways.append(re.escape(octets.decode("latin-1")))  # as headers are read
        ways.append("".join(rf"(?i:\\*+x{octet:02x})" for octet in octets))
    return f"(?:{'|'.join(ways)})"


def _encoded(character: str) -> list[str]:
    """In a URL, in XML, and by number in JSON or Python."""
    code = ord(character)
    percents = "".join(f"(?i:%(?:25){{0,3}}{byte:02x})" for byte in character.encode("utf-8", "surrogatepass"))
    names = [f"#0*{code};", f"(?i:#x0*{code:x});"]
    if name := {39: "apos"}.get(code, codepoint2name.get(code)):
        names.append(f"{name};")
    units = character.encode("utf-16-be", "surrogatepass")
    pairs = "".join(rf"\\*+u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))
    numbers = [pairs, rf"\\*+U{code:08x}", *([rf"\\*+x{code:02x}"] if code < 256 else [])]
    also = [r"\+"] if character == " " else []
    return [percents, f"&(?:amp;){{0,3}}(?:{'|'.join(names)})", *(f"(?i:{number})" for number in numbers), *also]
