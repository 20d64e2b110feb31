"""What stands for an object that was sent to object storage by itself, and how long that object lives.

An object is stored for as long as a reference to it exists in its client's process, or a task needs it. A reference's share in
that is an object of Python's (see `object_uses`), which ends with the reference: nothing has to run in `__del__`, which may come
anywhere.

A pickle cannot be counted, because nobody knows when it is gone. Where a pickle is made for a task of the same client, the task
keeps the object (`InnerReferences`). Any other pickle of a reference keeps the object by itself, until it is loaded in the
same process.
"""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING, Any, Generic, NoReturn, Protocol, Self

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    from scaler.client.object_uses import ObjectUse

    T = TypeVar("T", default=Any, covariant=True)
    """Of the object. Code that does not say it has references to anything."""
else:
    import typing

    T = typing.TypeVar("T")

RELEASED_TICKET = -1
"""In a pickle: its reference was released."""


class ReferenceKeeper(Protocol):
    """The client's part that counts references to its objects. All of it may be called anywhere, at any time."""

    def share_in(self, object_id: bytes, ticket: int) -> ObjectUse | None:
        """Return a share in an object, for a new reference; it counts if the object is still referred to then.

        `ticket`: of the pickle that the reference comes from, 0 for none. None where nothing is counted any more.
        """

    def ticket_for(self, reference: ObjectReference) -> int:
        """A pickle of `reference` is made that nobody counts: keep its object, and return the pickle's ticket."""

    def look_soon(self) -> None:
        """A reference was released on purpose: see to it at once."""


keepers: weakref.WeakValueDictionary[bytes, ReferenceKeeper] = weakref.WeakValueDictionary()
"""Of the clients of this process, by identity."""


class ObjectReference(Generic[T]):
    """An object in storage; made by `Client.send_object`.

    Passed as an argument of a task, an item of `map` or a node of a graph, it stands for the object. Inside other values it
    travels as what it is. It is valid until its client calls `clear` or disconnects.

    The object is freed when its last reference is gone and no unfinished task needs it. Copies, also pickled and unpickled
    ones, are references of their own. `release` ends one early, and so does leaving a `with` block. A pickle that is not part of
    a task keeps the object until it is loaded in the same process for the first time, or the client calls `clear` or disconnects.
    """

    __slots__ = ("__weakref__", "_is_released", "_share", "name", "object_id", "owner", "size_bytes")
    # By hand, since `dataclasses` would take a tenth of the time that `import scaler` takes.
    __match_args__ = ("object_id", "owner", "name", "size_bytes")

    object_id: bytes
    """16 bytes."""
    owner: bytes
    """Identity of the client that sent it."""
    name: str
    """For people."""
    size_bytes: int

    _is_released: bool
    _share: ObjectUse | None

    def __init__(self, object_id: bytes, owner: bytes, name: str = "", size_bytes: int = 0) -> None:
        keeper = keepers.get(owner)
        self._set(object_id, owner, name, size_bytes, None if keeper is None else keeper.share_in(object_id, 0))

    def _set(self, object_id: bytes, owner: bytes, name: str, size_bytes: int, share: ObjectUse | None) -> None:
        # A reference never changes, except that it is released.
        assign = object.__setattr__
        assign(self, "object_id", object_id)
        assign(self, "owner", owner)
        assign(self, "name", name)
        assign(self, "size_bytes", size_bytes)
        assign(self, "_is_released", False)
        assign(self, "_share", share)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"cannot assign to {name!r}: an ObjectReference never changes")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"cannot delete {name!r}: an ObjectReference never changes")

    def __repr__(self) -> str:
        shown = ", ".join(f"{field}={getattr(self, field)!r}" for field in self.__match_args__)
        return f"{type(self).__qualname__}({shown})"

    def _repr_html_(self) -> str:
        """For notebooks. The object is not read."""
        from scaler.client.notebook import facts_table, size_text

        facts: dict[str, object] = {
            "name": self.name,
            "size": size_text(self.size_bytes),
            "object": self.object_id.hex(),
            "client": self.owner.hex()[:8],
            "state": "released" if self._is_released else "in storage",
        }
        return facts_table(type(self).__name__, facts)

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self._fields() == other._fields()

    def __hash__(self) -> int:
        return hash(self._fields())

    def _fields(self) -> tuple[bytes, bytes, str, int]:
        return (self.object_id, self.owner, self.name, self.size_bytes)

    def release(self) -> None:
        """Give the object up: this reference is not valid any more, and does not keep the object. Idempotent.

        Tasks submitted before still get it. Using the reference afterwards raises MissingObjects.
        """
        object.__setattr__(self, "_is_released", True)
        object.__setattr__(self, "_share", None)
        keeper = keepers.get(self.owner)
        if keeper is not None:
            keeper.look_soon()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def __copy__(self) -> ObjectReference:
        copied = ObjectReference(*self._fields())
        if self._is_released:
            copied.release()
        return copied

    def __deepcopy__(self, _memo: dict[int, Any]) -> ObjectReference:
        return self.__copy__()

    def __reduce__(self) -> tuple[Any, ...]:
        fields = self._fields()
        inner = _inner_here()
        if inner is not None:
            inner.references.append(self)
            return ObjectReference, fields
        if self._is_released:
            return _unpickled, (*fields, RELEASED_TICKET)
        keeper = keepers.get(self.owner)
        ticket = 0 if keeper is None else keeper.ticket_for(self)
        return (_unpickled, (*fields, ticket)) if ticket else (ObjectReference, fields)

    @property
    def is_released(self) -> bool:
        """Whether `release` was called, or its `with` block was left."""
        return self._is_released

    @property
    def share(self) -> ObjectUse | None:
        """Its share in the object. None where it was released, or is another process's."""
        return self._share

    @classmethod
    def with_share(cls, share: ObjectUse, owner: bytes, name: str, size_bytes: int) -> ObjectReference:
        """Return a reference that has this share in its object, which the caller counts."""
        reference = object.__new__(cls)
        reference._set(share.object_id, owner, name, size_bytes, share)
        return reference


def _unpickled(object_id: bytes, owner: bytes, name: str, size_bytes: int, ticket: int) -> ObjectReference:
    """Return a reference from a pickle with a ticket, or of a released one."""
    keeper = keepers.get(owner)
    share = keeper.share_in(object_id, ticket) if keeper is not None and ticket != RELEASED_TICKET else None
    if share is None:
        # Imported late: `import scaler` imports this module.
        from scaler.client.object_uses import ObjectUse

        share = ObjectUse(object_id)
    reference = ObjectReference.with_share(share, owner, name, size_bytes)
    if ticket == RELEASED_TICKET:
        reference.release()
    return reference


class InnerReferences:
    """Notes which references the current thread pickles while this is entered: the task that they are for keeps their objects.

    Should an interrupt keep it from being left, it ends when nobody refers to it any more.
    """

    __slots__ = ("__weakref__", "_outer", "references")

    def __init__(self) -> None:
        self.references: list[ObjectReference] = []
        self._outer: weakref.ref[InnerReferences] | None = None

    def __enter__(self) -> list[ObjectReference]:
        self._outer = _thread.inner
        _thread.inner = weakref.ref(self)
        return self.references

    def __exit__(self, *_: object) -> None:
        _thread.inner = self._outer


class _Thread(threading.local):
    inner: weakref.ref[InnerReferences] | None = None


_thread = _Thread()


def _inner_here() -> InnerReferences | None:
    inner = _thread.inner
    return None if inner is None else inner()
