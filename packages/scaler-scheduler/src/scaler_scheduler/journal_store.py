"""What keeps journals of jobs in a store: what `StoredJournals` asks of it, and what goes wrong there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol


class JournalStoreError(Exception):
    """The store has not done what was asked, or not said so. It may do so later."""


class TakenError(Exception):
    """Another scheduler has the journals."""


class RecordsLostError(Exception):
    """The store has lost records of a job, so no further ones are added to them."""


class JournalStore(Protocol):
    """Journals in a store. All methods raise JournalStoreError, and may be called in any thread, by one at a time."""

    held_seconds: float
    """So long a scheduler of which nothing is heard has the journals. It renews that four times in this time."""

    gather_seconds: float
    """How long records may wait for others before they are written together, where nobody waits for them."""

    def take(self) -> None:
        """Become the one that writes here. Raises TakenError where another scheduler is."""

    def load(self, note: Callable[[str], None]) -> Iterator[tuple[bytes, list[bytes]]]:
        """Yield each job with its records. `note` is told what is wrong with them, in sentences."""

    def append(self, job: bytes, records: list[bytes]) -> None:
        """Append records to a job's journal, by `flush` at the latest. Raises TakenError, RecordsLostError.

        If it fails, it is called again with the same records.
        """

    def drop(self, job: bytes) -> None:
        """Remove a job's journal, by `flush` at the latest. No job has this id again. Raises TakenError."""

    def flush(self) -> None:
        """Have all in the store that was appended and dropped. Raises TakenError."""

    def tidy(self) -> None:
        """Do a part of what makes the journals shorter. Nothing depends on it. Raises TakenError."""

    def renew(self) -> None:
        """Say that this scheduler still has the journals. Raises TakenError."""

    def close(self) -> None:
        """Let go of the journals."""


def taken_text(holder: str, held_seconds: float) -> str:
    """Return what is said of the scheduler that has the journals."""
    return f"another scheduler keeps its jobs there ({holder}); they are free {held_seconds:g} s after it has ended"
