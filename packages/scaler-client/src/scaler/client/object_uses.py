"""Who uses an object in storage: counted for exactly as long as somebody holds what stands for the use.

A thread that is interrupted while it submits a large argument may have counted a use and not handed it to a task yet. No clean-up
code is sure to run then: it can be interrupted as well. So a use is an object of Python's. When nothing refers to it any more, a
weak reference's callback, which is an append to a deque and not Python code, tells the owner of the counts.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence


class ObjectUse:
    """One use of an object."""

    __slots__ = ("__weakref__", "object_id", "reference")

    def __init__(self, object_id: bytes) -> None:
        self.object_id = object_id
        self.reference: weakref.ref[ObjectUse] | None = None
        """What tells of its end, once it is counted and until somebody has taken it over."""


class HeldObject(bytes):
    """An object's id that holds one use of it. Copies, parts and sums of it are plain bytes that hold none."""

    use: ObjectUse

    def __new__(cls, use: ObjectUse) -> HeldObject:
        """Return the id of the object that is in use."""
        held = super().__new__(cls, use.object_id)
        held.use = use
        return held


class InnerObject(HeldObject):
    """Of an object whose reference travels inside a value: it must exist, and whoever runs the task needs no copy of it."""


def take_out_inner(objects: Sequence[bytes]) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    """Return the objects that a task names, and those whose references are inside its values."""
    inner = tuple([one for one in objects if type(one) is InnerObject])
    return (tuple([one for one in objects if type(one) is not InnerObject]), inner) if inner else (tuple(objects), ())


class UsesByReference:
    """The uses that are counted and that no task has taken over. Used by one thread, the owner's."""

    def __init__(self, tell: Callable[[weakref.ref[ObjectUse]], object]) -> None:
        """`tell`, which must be a built-in, is called with the reference of a use that nothing refers to any more."""
        self._tell = tell
        self._object_ids: dict[weakref.ref[ObjectUse], bytes] = {}

    def count(self, use: ObjectUse) -> None:
        """The use is counted from now on."""
        reference = weakref.ref(use, self._tell)
        use.reference = reference
        self._object_ids[reference] = use.object_id

    def take_over(self, held: Sequence[bytes]) -> tuple[bytes, ...]:
        """End these uses without anybody being told; return the ids of those that had not ended. Plain bytes end nothing."""
        ids = []
        for one in held:
            if not isinstance(one, HeldObject):
                ids.append(one)
            elif one.use.reference is not None and self._object_ids.pop(one.use.reference, None) is not None:
                ids.append(bytes(one))
        return tuple(ids)

    def died(self, reference: weakref.ref[ObjectUse]) -> tuple[bytes, ...]:
        """Return the object whose use has ended with what `reference` referred to; nothing where somebody has taken it over."""
        object_id = self._object_ids.pop(reference, None)
        return () if object_id is None else (object_id,)

    def __len__(self) -> int:
        return len(self._object_ids)
