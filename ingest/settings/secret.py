"""A secret, where it is written, and how nothing shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ingest.settings.variables import VARIABLES

if TYPE_CHECKING:
    from pydantic import SecretStr


@dataclass(frozen=True, slots=True)
class Secret:
    """What it was at the start, and the `file` that it came from, if it came from one."""

    value: SecretStr | None
    file: Path | None

    def now(self) -> str:
        """As its file holds it by now; empty where there is none: whoever changes it need not start us again."""
        known = self.value.get_secret_value() if self.value is not None else ""
        if self.file is None:
            return known
        try:
            return self.file.read_text(encoding="utf-8").strip() or known
        except (OSError, UnicodeDecodeError):
            return known  # it is being replaced, perhaps: the one that we know may do


def wrapped(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values by field, with their secrets wrapped: a traceback that shows variables shows none from then on."""
    from pydantic import SecretStr

    secret = {field for field, variable in VARIABLES.items() if variable.secret}
    return {
        field: SecretStr(value) if field in secret and isinstance(value, str) else value
        for field, value in values.items()
    }
