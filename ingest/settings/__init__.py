"""What the tool is told: the settings, their variables, and where each is read from."""

from ingest.settings.settings import VARIABLES, Settings, Variable, read_all

__all__ = ["VARIABLES", "Settings", "Variable", "read_all"]
