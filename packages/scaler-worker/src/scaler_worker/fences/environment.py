"""Which environment variables the code of tasks sees. Pure, and light: used before settings are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

SECRET_PATTERNS = ("SCALER_*TOKEN*", "SCALER_*SECRET*", "SCALER_*KEY*", "SCALER_*PASSWORD*")
"""Secrets of Scaler itself. Tasks never see them."""

NEEDED_PATTERNS = ("PYTHONPATH", "SCALER_PYTHONPATH")
"""Without these a processor would not find its modules."""

USUAL_PATTERNS = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "LC_*", "TZ", "TMPDIR")
"""What programs expect to find. A list of allowed variables adds to them; a list of denied ones takes from them."""


@dataclass(frozen=True, slots=True)
class EnvironmentFilter:
    """Patterns as of the shell (`AWS_*`), case-sensitive. A variable that both allow and deny name is denied."""

    allow: tuple[str, ...] = ()
    """Empty: all."""
    deny: tuple[str, ...] = ()

    def passes(self, name: str) -> bool:
        """Whether tasks see the variable of this name."""
        if _matches(name, SECRET_PATTERNS):
            return False
        if _matches(name, NEEDED_PATTERNS):
            return True
        if _matches(name, self.deny):
            return False
        return not self.allow or _matches(name, self.allow) or _matches(name, USUAL_PATTERNS)

    def filtered(self, environment: Mapping[str, str]) -> dict[str, str]:
        """Return the variables that tasks see."""
        return {name: value for name, value in environment.items() if self.passes(name)}


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
