"""Whom the events' other ends are trusted by: the system's authorities, or a bundle of one's own."""

from __future__ import annotations

import ssl
from pathlib import Path

from ingest.errors import SettingsError


def context_for(bundle: Path | None, variable: str) -> ssl.SSLContext:
    """Trusts the certificates in `bundle`, which `variable` names; without one, the system's.

    Raises:
        SettingsError: the bundle holds no certificate.
    """
    try:
        context = ssl.create_default_context(cafile=str(bundle) if bundle else None)
    except (ssl.SSLError, OSError) as error:
        raise SettingsError(f"{variable}: {bundle} holds no usable PEM certificate") from error
    if bundle:
        # A pinned certificate need not be its own issuer: whatever stands in the bundle ends the chain.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context
