"""The valid references to a client's objects, counted in the thread that owns the client's state.

A reference is known by the weak reference to its share (see `object_uses`), which tells when it is gone. A pickle that nobody
counts is known by its ticket.
"""

from __future__ import annotations

import weakref

from scaler.client.object_uses import ObjectUse

TICKETS_MAX = 64
"""Pickles of one object that are told apart. Where there are more, the object stays until its references are dropped."""

FOR_GOOD = 0
"""Stands for the pickles beyond that."""


class ReferenceGroup:
    """Stands for the references of one client, of several that share an engine."""


class ReferenceTable:
    """See the module. Each reference and each ticket stands for one use of its object, which the caller counts."""

    def __init__(self) -> None:
        self._references: dict[bytes, dict[weakref.ref[ObjectUse], ReferenceGroup]] = {}
        self._tickets: dict[bytes, dict[int, ReferenceGroup]] = {}

    def add(self, share: ObjectUse, group: ReferenceGroup) -> None:
        """A reference exists, with a share that is counted."""
        assert share.reference is not None
        self._references.setdefault(share.object_id, {})[share.reference] = group

    def group_of(self, object_id: bytes) -> ReferenceGroup | None:
        """Return a group with a valid reference to an object, or a ticket for one; None where there is none."""
        for known in (self._references.get(object_id), self._tickets.get(object_id)):
            if known:
                return next(iter(known.values()))
        return None

    def end(self, reference: weakref.ref[ObjectUse], object_id: bytes) -> None:
        """A use of an object has ended: if it was a reference's share, the reference is gone."""
        known = self._references.get(object_id)
        if known is not None and known.pop(reference, None) is not None and not known:
            del self._references[object_id]

    def add_ticket(self, object_id: bytes, ticket: int, group: ReferenceGroup) -> bool:
        """A pickle was made. Return whether that is one more use of its object."""
        tickets = self._tickets.setdefault(object_id, {})
        if len(tickets) >= TICKETS_MAX:
            if FOR_GOOD in tickets:
                return False
            ticket = FOR_GOOD
        tickets[ticket] = group
        return True

    def take_ticket(self, object_id: bytes, ticket: int) -> ReferenceGroup | None:
        """A pickle was loaded: take its ticket out, which was a use of its object. None where it was taken before."""
        tickets = self._tickets.get(object_id)
        group = None if tickets is None or ticket == FOR_GOOD else tickets.pop(ticket, None)
        if tickets is not None and not tickets:
            del self._tickets[object_id]
        return group

    def drop(self, group: ReferenceGroup) -> tuple[list[weakref.ref[ObjectUse]], list[bytes]]:
        """Take out all of a group: the shares of its references, and the objects of its tickets, once for each."""
        shares = [
            (object_id, reference)
            for object_id, known in self._references.items()
            for reference, of_group in known.items()
            if of_group is group
        ]
        for object_id, reference in shares:
            self.end(reference, object_id)
        tickets = [
            (object_id, ticket)
            for object_id, known_tickets in self._tickets.items()
            for ticket, of_group in known_tickets.items()
            if of_group is group
        ]
        for object_id, ticket in tickets:
            known_tickets = self._tickets[object_id]
            del known_tickets[ticket]
            if not known_tickets:
                del self._tickets[object_id]
        return [reference for _, reference in shares], [object_id for object_id, _ in tickets]

    def __bool__(self) -> bool:
        """Whether there is a reference that may be gone any moment."""
        return bool(self._references)
