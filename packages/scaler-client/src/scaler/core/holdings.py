"""Small collections of a client core, each owner of one fact: functions defined, objects in use, tasks permitted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from scaler_protocol.wire import messages as m
from scaler_protocol.wire.columns import Packed


class Functions:
    """Bodies of the functions this client has used, and which of them this session's scheduler knows."""

    def __init__(self, client_id: bytes) -> None:
        self._client_id = client_id
        self.bodies: dict[bytes, tuple[bytes, str]] = {}
        """Body and name, by id."""
        self.defined: set[bytes] = set()
        """Those the scheduler knows."""

    def add(self, function_id: bytes, body: bytes, name: str = "") -> None:
        """Make a function known. Doing it again costs nothing."""
        self.bodies.setdefault(function_id, (body, name))

    def forget_session(self) -> None:
        """A new session: the scheduler knows none of them."""
        self.defined.clear()

    def definition(self, needed: Iterable[bytes], serializer: bytes) -> m.FunctionDefine | None:
        """Return the message that must leave before a batch that needs these functions, if one must.

        `serializer`: the id of the batch's serializer; empty: none.
        """
        missing = [function_id for function_id in needed if function_id and function_id not in self.defined]
        if not missing:
            return None
        self.defined.update(missing)
        found = [self.bodies[function_id] for function_id in missing]
        return m.FunctionDefine(
            client=self._client_id,
            ids=tuple(missing),
            bodies=Packed.of([body for body, _ in found]),
            names=tuple(name for _, name in found),
            serializer=serializer,
        )


class ObjectUses:
    """How many unanswered tasks, references and submissions in progress need each object of this client."""

    def __init__(self) -> None:
        self.counts: Counter[bytes] = Counter()
        self.sizes: dict[bytes, int] = {}
        """Bytes of those objects of which they are known."""
        self.awaited: set[bytes] = set()
        """Answers that are being fetched, or kept in a moment: the last use may end before, and then they stay."""
        self.refused: dict[bytes, str] = {}
        """Objects that storage would not take, with its reason, for as long as somebody uses them."""
        self.foreign: set[bytes] = set()
        """Results of jobs that are being fetched, or were: they belong to their job."""
        self.results: set[bytes] = set()
        """Objects that workers have stored: results of tasks, for as long as somebody uses them."""

    def hold(self, object_id: bytes, size: int = 0) -> None:
        """Count one more use. `size`: the object's bytes; 0 where they are not known."""
        self.counts[object_id] += 1
        if self.awaited:
            self.awaited.discard(object_id)
        if size:
            self.sizes[object_id] = size

    def note_result(self, object_id: bytes) -> None:
        """An object that is held is the result of a task."""
        self.results.add(object_id)

    def release(self, object_ids: Iterable[bytes]) -> tuple[bytes, ...]:
        """Undo one `hold` each; return those that nobody needs any more."""
        free = []
        for object_id in object_ids:
            count = self.counts[object_id] - 1
            if count > 0:
                self.counts[object_id] = count
            else:
                del self.counts[object_id]
                self.refused.pop(object_id, None)
                self.sizes.pop(object_id, None)
                self.results.discard(object_id)
                if object_id not in self.awaited:
                    free.append(object_id)
        return tuple(free)


class Credit:
    """How many more tasks the scheduler permits. `left` is None where it sets no limit."""

    def __init__(self) -> None:
        self.left: int | None = None
        self.asked = 0
        """Tasks asked for and not granted yet."""

    def begin_session(self, welcome: m.Welcome) -> int:
        """Return how many to ask for again, as a new scheduler knows nothing of what was asked."""
        self.left = None if welcome.task_credit < 0 else welcome.task_credit
        asked, self.asked = self.asked, 0
        return asked

    def allows(self, count: int) -> bool:
        """Whether `count` more tasks are permitted."""
        return self.left is None or self.left >= count

    def give_back(self, count: int) -> None:
        """So many permitted tasks will not leave after all: others may in their place."""
        if self.left is not None:
            self.left += count

    def ask(self, count: int) -> int:
        """Return what to say so that `count` tasks may be submitted: all that is wanted and not granted; 0: nothing.

        The scheduler takes the latest word for the whole.
        """
        if self.left is None or count - self.left <= self.asked:
            return 0
        self.asked = count - self.left
        return self.asked

    def grant(self, count: int) -> None:
        """The scheduler permits `count` more tasks."""
        if self.left is not None:
            self.left += count
        self.asked = max(0, self.asked - count)
