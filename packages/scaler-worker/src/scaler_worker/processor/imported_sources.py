"""Files of modules that tasks have imported: whether they were edited since.

Python imports a module once. A program that is run again after an edit would find the old code in processes that have run tasks
of it before. So when the first task of another client comes, a processor in which that is so ends, and a new one imports what
there is now. Only what tasks have imported here counts, and nothing that is installed.
"""

from __future__ import annotations

import sys

from scaler_protocol.runtime.origins import Stamp, is_users_source, source_of, stamp_of

_CLIENTS_MAX = 256


class ImportedSources:
    """On the main thread. Costs something when a function has been loaded, and when another client comes."""

    def __init__(self) -> None:
        self._names = set(sys.modules)
        """Modules that were looked at. Those that are here before any task, the next processor has too."""
        self._stamps: dict[str, Stamp | None] = {}
        self.clients: set[bytes] = set()
        """Those that have had a task here."""

    def note(self) -> None:
        """A function has been loaded and has run: note what was imported."""
        new = sys.modules.keys() - self._names
        for name in new:
            path = source_of(name)
            if is_users_source(path):
                self._stamps.setdefault(path, stamp_of(path))
        self._names |= new

    def edited_before(self, client: bytes) -> str:
        """The first task of this client is about to run here: return a file that was edited, or nothing."""
        if len(self.clients) >= _CLIENTS_MAX:
            self.clients.clear()
        self.clients.add(client)
        return next((path for path, stamp in self._stamps.items() if stamp and stamp_of(path) not in (stamp, None)), "")
