"""What a command counts besides `model.Counts`, in the names of the ``--json`` object: a type beside each verb."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(slots=True)
class Figures:
    """Of a command that has none. A field of None is not said."""

    def said(self) -> dict[str, object]:
        """By name, in the order in which they are declared."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in found.items() if value is not None}
