"""TLS as every client of ours does it: which certificates are trusted, and which one says who we are.

One rule for the bucket, the verification service and the broker. A bundle of one's own is trusted alone: pinning means
that no public authority can vouch for someone else. Without one the system's authorities are (OpenSSL's
``SSL_CERT_FILE`` and ``SSL_CERT_DIR`` name others). Whatever is trusted ends the chain, also a server's own certificate
without its authority's; and no extensions are insisted on that only Python 3.13 and later want: companies' authorities
seldom carry all of them, and what is trusted may not depend on the release of Python. Host names and dates are always
checked.
"""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from ingest.errors import SettingsError

_LONGEST_PASSWORD = 1000
"""Characters; Python takes 1,023 bytes."""


@dataclass(frozen=True, slots=True)
class Trust:
    """One server's side of TLS. `prefix` begins the variables that the messages name: S3, VERIFY or KAFKA.

    `certificate` and `key` are PEM files; without `key`, the certificate's file holds it as well.
    """

    prefix: str
    bundle: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    password: str = field(default="", repr=False)
    checked: bool = True
    """False accepts any certificate of the server."""

    @property
    def is_own(self) -> bool:
        """Whether files of one's own are named, so that there is something to be wrong."""
        return any((self.bundle, self.certificate, self.key))

    def context(self) -> ssl.SSLContext:
        """
        Raises:
            SettingsError: a file cannot be used; the message names its variable.
        """
        context = self._trusting() if self.checked else unchecked_context()
        if self.certificate is not None:
            self._present(context, self.certificate, self.key or self.certificate)
        elif self.key is not None:
            raise SettingsError(
                f"{self.prefix}_CLIENT_KEY is set, and {self.prefix}_CLIENT_CERT is not: both or neither"
            )
        return context

    def _trusting(self) -> ssl.SSLContext:
        named = os.environ.get("SSL_CERT_FILE")
        if self.bundle is None and named and not os.access(named, os.R_OK):
            raise SettingsError(f"SSL_CERT_FILE: {named} cannot be read")  # OpenSSL would trust nobody, without a word
        try:
            context = ssl.create_default_context(cafile=str(self.bundle) if self.bundle else None)
        except (ssl.SSLError, OSError) as error:
            raise SettingsError(f"{self.prefix}_CA_BUNDLE: {self.bundle} holds no usable PEM certificate") from error
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        return context

    def _present(self, context: ssl.SSLContext, certificate: Path, key: Path) -> None:
        self._require(certificate, b"CERTIFICATE-----", "CLIENT_CERT", "PEM certificate")
        self._require(key, b"PRIVATE KEY-----", "CLIENT_KEY", "PEM private key")
        asked = False

        def password() -> str:
            nonlocal asked
            asked = True
            return self.password[:_LONGEST_PASSWORD]  # never asked for on the terminal

        try:
            context.load_cert_chain(certificate, key, password)
        except (ssl.SSLError, OSError) as error:
            self._explain(error, asked, certificate, key)

    def _require(self, path: Path, mark: bytes, variable: str, wanted: str) -> None:
        try:
            content = path.read_bytes()
        except OSError as error:
            raise SettingsError(f"{self.prefix}_{variable}: {path} cannot be read: {error.strerror}") from error
        if mark not in content:
            raise SettingsError(f"{self.prefix}_{variable}: {path} holds no {wanted}")

    def _explain(self, error: OSError, asked: bool, certificate: Path, key: Path) -> NoReturn:
        reason = error.reason if isinstance(error, ssl.SSLError) else None
        if reason in ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH"):
            said = f"{self.prefix}_CLIENT_KEY: the key in {key} does not belong to the certificate in {certificate}"
        elif asked and not self.password:
            said = f"{self.prefix}_CLIENT_KEY: the key in {key} is encrypted; set {self.prefix}_CLIENT_KEY_PASSWORD"
        elif asked:
            said = f"{self.prefix}_CLIENT_KEY_PASSWORD does not open the key in {key}"
        else:
            said = f"{self.prefix}_CLIENT_CERT: {certificate} and {key} are no usable pair ({reason or error.strerror})"
        raise SettingsError(said) from error


def unchecked_context() -> ssl.SSLContext:
    """TLS that any certificate satisfies."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
