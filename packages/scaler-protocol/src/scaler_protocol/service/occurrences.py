"""Warnings about what peers do wrong, which must not fill the log."""

from __future__ import annotations

import logging


class Occurrences:
    """Logs the 1st, 2nd, 4th, 8th … time something happens, with the count, so that nobody can fill the log."""

    def __init__(self, logger: logging.Logger, what: str) -> None:
        self._logger = logger
        self._what = what
        self.count = 0

    def note(self, text: str) -> None:
        """It happened once more; `text` says to whom and how."""
        self.count += 1
        if self.count & (self.count - 1) == 0:
            self._logger.warning("%d %s: %s", self.count, self._what, text)
