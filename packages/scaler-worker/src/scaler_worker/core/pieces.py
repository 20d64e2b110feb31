"""The pieces of one large object that is fetched into the store of this host: which to ask for where. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

PIECE_BYTES = 4 * 1024 * 1024

WINDOW = 4
"""Pieces that are asked for at once."""


@dataclass(slots=True, frozen=True)
class Piece:
    """One piece to ask for, of all buffers one after another."""

    offset: int
    size: int
    address: str
    """Of the store to ask."""


class Pieces:
    """Asks one store after another, as each fails, for what is not there yet: in order, as others get it from here in order."""

    def __init__(self, size_bytes: int, addresses: Sequence[str], piece_bytes: int = PIECE_BYTES) -> None:
        """`addresses`: the stores that have the object, best first."""
        self._size = size_bytes
        self._piece_bytes = piece_bytes
        self._addresses = list(addresses)
        self._again: list[int] = []
        """Pieces that a store did not give."""
        self._next = 0
        self._asked: dict[int, Piece] = {}
        self._ahead: dict[int, int] = {}
        """Pieces that are there, behind one that is not, and where they end."""
        self.filled = 0
        """How many bytes are there from the beginning on, without a gap."""
        self.trouble = ""
        """Why the last store failed."""

    @property
    def is_done(self) -> bool:
        """Whether all pieces are there."""
        return self.filled == self._size

    @property
    def has_failed(self) -> bool:
        """Whether no store is left to ask."""
        return not self._addresses and not self.is_done

    def take(self) -> list[Piece]:
        """Return the pieces to ask for now."""
        found: list[Piece] = []
        while self._addresses and len(self._asked) < WINDOW and (self._again or self._next < self._size):
            if self._again:
                offset = self._again.pop(0)
            else:
                offset = self._next
                self._next += self._piece_bytes
            piece = Piece(offset, min(self._piece_bytes, self._size - offset), self._addresses[0])
            self._asked[offset] = piece
            found.append(piece)
        return found

    def came(self, piece: Piece) -> None:
        """A piece is where it belongs."""
        if self._asked.get(piece.offset) != piece:
            return
        del self._asked[piece.offset]
        self._ahead[piece.offset] = piece.offset + piece.size
        while self.filled in self._ahead:
            self.filled = self._ahead.pop(self.filled)

    def failed(self, piece: Piece, trouble: str) -> None:
        """A store did not give a piece: it is not asked again."""
        if self._asked.get(piece.offset) != piece:
            return
        del self._asked[piece.offset]
        self._again.append(piece.offset)
        self._again.sort()
        if self._addresses and self._addresses[0] == piece.address:
            self._addresses.pop(0)
            self.trouble = f"the store at {piece.address or 'the centre'}: {trouble}"
