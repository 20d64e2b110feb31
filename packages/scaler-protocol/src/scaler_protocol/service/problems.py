"""All that is wrong with the settings of a service, said at once: nobody should have to start it once for each problem."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from scaler_protocol.service.errors import ConfigurationError


class Problems:
    """Collects errors of settings."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Go on after a ConfigurationError in this block."""
        try:
            yield
        except ConfigurationError as error:
            self._lines.append(str(error))

    def raise_if_any(self) -> None:
        """Raise one ConfigurationError with the lines of all that were noted."""
        if self._lines:
            raise ConfigurationError("\n".join(self._lines))
