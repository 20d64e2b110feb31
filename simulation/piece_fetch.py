"""One large object on its way into the store of a simulated host, as `scaler_worker.shell.piece_fetch` fetches it."""

from __future__ import annotations

from collections.abc import Callable

from scaler_protocol.objects.storage import Completion, Done, Missing
from scaler_protocol.wire import messages as m
from scaler_worker.core.homes import FetchPieces
from scaler_worker.core.pieces import Piece, Pieces
from simulation.object_storage import ObjectStorage

WAIT_S = 5.0
"""As in `scaler_worker.shell.piece_fetch`."""

PIECE_BYTES = 6
"""Objects are small in a simulation, and so are their pieces."""

PIECES_OBJECT_BYTES_MIN = 16
"""Objects from this size on come in pieces."""


class PieceFetch:
    """`on_end` is called once, with an error or an empty text. `note` is told what happens, in a few words each time."""

    def __init__(
        self,
        step: FetchPieces,
        home: ObjectStorage,
        link_of: Callable[[str], ObjectStorage | None],
        on_end: Callable[[str], None],
        note: Callable[[str], None],
    ) -> None:
        self._step = step
        self._home = home
        self._link_of = link_of
        self._on_end = on_end
        self._note = note
        self._memory = bytearray(sum(step.lengths))
        self._pieces = Pieces(len(self._memory), step.addresses, PIECE_BYTES)
        self._ended = False

    def start(self) -> None:
        """Begin. What is there grows in the buffers of the first put: on a real host they are in a segment."""
        self._note("copies begun")
        self._home.put_buffers(self._step.effect.id, self._step.owner, self._buffers(), self._on_begun, incomplete=True)

    def _buffers(self) -> list[memoryview]:
        found, at = [], 0
        for length in self._step.lengths:
            found.append(memoryview(self._memory)[at : at + length])
            at += length
        return found

    def _on_begun(self, completion: Completion) -> None:
        if isinstance(completion, Done):
            self._go_on()
        else:
            self._end(f"the store of this host does not take it: {_trouble_of(completion)}")

    def _go_on(self) -> None:
        while not self._ended:
            pieces = self._pieces.take()
            if self._pieces.is_done:
                # With bytes that nothing changes any more.
                whole = [bytes(buffer) for buffer in self._buffers()]
                self._home.put_buffers(self._step.effect.id, self._step.owner, whole, self._on_put)
                return
            if self._pieces.has_failed:
                self._end(self._pieces.trouble)
            if not pieces:
                return
            refused = [piece for piece in pieces if not self._ask(piece)]
            if not refused:
                return
            for piece in refused:
                self._pieces.failed(piece, "it has ended")

    def _ask(self, piece: Piece) -> bool:
        storage = self._link_of(piece.address)
        if storage is None:
            return False
        storage.get_piece(
            self._step.effect.id,
            piece.offset,
            piece.size,
            WAIT_S,
            lambda completion: self._on_answer(piece, completion),
        )
        return True

    def _on_answer(self, piece: Piece, completion: Completion) -> None:
        if self._ended:
            return
        if not isinstance(completion, Done):
            self._note("pieces refused")
            self._pieces.failed(piece, _trouble_of(completion))
        else:
            data = b"".join(bytes(buffer) for buffer in completion.buffers)
            if len(data) != piece.size:
                raise AssertionError(f"a piece of {piece.size} bytes has {len(data)}")
            self._note("pieces from hosts" if piece.address else "pieces from the centre")
            self._memory[piece.offset : piece.offset + piece.size] = data
            before = self._pieces.filled
            self._pieces.came(piece)
            if before < self._pieces.filled and not self._pieces.is_done:
                object_id, owner = self._step.effect.id, self._step.owner
                self._home.tell(m.ObjectPut(0, object_id, owner, [], incomplete=True, filled=self._pieces.filled))
        self._go_on()

    def _on_put(self, completion: Completion) -> None:
        done = isinstance(completion, Done)
        self._note("copies made" if done else "copies refused")
        self._end("" if done else f"the store of this host does not take it: {_trouble_of(completion)}")

    def _end(self, error: str) -> None:
        if not self._ended:
            self._ended = True
            self._on_end(error)


def _trouble_of(completion: Completion) -> str:
    if isinstance(completion, Missing):
        return "it does not have it"
    return getattr(completion, "text", "") or "no answer in time"
