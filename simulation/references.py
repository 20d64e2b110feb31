"""Objects that an application has sent by themselves: references to them come and go, and tasks use them."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from scaler.core import ClientCore

REFERENCES_MAX = 5
"""An application has no more at a time."""


class References:
    """The references of one client. Each stands for one use of its object, as every task that reads it does."""

    def __init__(self, core: ClientCore, random: Random) -> None:
        self._core = core
        self._random = random
        self._kept: list[tuple[bytes, bytes]] = []
        """Object and content of each reference. There may be several to one object."""
        self.dropped: list[bytes] = []
        """Objects of references that are gone."""

    def argument(self, content: bytes, store: Callable[[bytes], bytes]) -> tuple[bytes, bytes]:
        """Return an object that a task is to read, and its content, with one use counted for the task.

        It is an object that a reference names, or `content`, of which `store` makes one; perhaps with a reference as well.
        """
        way = self._random.random()
        if self._kept and way < 0.4:
            object_id, content = self._random.choice(self._kept)
            self._core.hold_object(object_id)
        else:
            object_id = store(content)
        if way < 0.2 or way > 0.8:
            self._core.hold_object(object_id)
            self._kept.append((object_id, content))
        while len(self._kept) > REFERENCES_MAX or (self._kept and self._random.random() < 0.2):
            self._drop(self._random.randrange(len(self._kept)))
        return object_id, content

    def drop_all(self) -> None:
        """The application is done with all of them."""
        while self._kept:
            self._drop(-1)

    def _drop(self, position: int) -> None:
        object_id, _ = self._kept.pop(position)
        self.dropped.append(object_id)
        self._core.release_objects((object_id,))
