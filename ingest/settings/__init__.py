"""What the tool is told: the settings, their variables, and where each is read from."""

from ingest.settings.settings import Settings, read_all
from ingest.settings.variables import VARIABLES, Variable

__all__ = ["VARIABLES", "Settings", "Variable", "read_all"]
