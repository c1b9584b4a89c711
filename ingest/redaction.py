"""Secrets, cut out of every text that people, logs or the database may see: the last line of defence.

Nothing puts a secret into a message on purpose. Servers, drivers and libraries may quote one all the same.
"""

from __future__ import annotations

from collections.abc import Iterable

SHORTEST = 4
"""Characters: anything shorter is no secret, and would cut ordinary words to pieces."""

_secrets: list[str] = []


def protect(secrets: Iterable[str]) -> None:
    """From now on these texts, and no others, are shown as ``***``."""
    # The longest first, so that one secret that is part of another leaves nothing of it.
    _secrets[:] = sorted({secret for secret in secrets if len(secret) >= SHORTEST}, key=len, reverse=True)


def redact(text: str) -> str:
    for secret in _secrets:
        if secret in text:
            text = text.replace(secret, "***")
    return text
