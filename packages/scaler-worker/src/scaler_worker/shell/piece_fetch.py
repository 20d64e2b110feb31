"""Fetches one large object in pieces into the store of this host, which passes on what has come.

The pieces are written into a segment of this process, which the store has mapped from the beginning.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

from scaler_protocol.errors import TransportError
from scaler_protocol.objects.segments import Lease, pack_place
from scaler_protocol.objects.storage import Completion, Done, Missing
from scaler_protocol.wire import messages as m
from scaler_worker.core.homes import FetchPieces
from scaler_worker.core.pieces import Piece, Pieces
from scaler_worker.shell.storage_link import StorageLink

WAIT_SECONDS = 5.0
"""How long a store may take until it has a piece that is on its way there."""


class PieceFetch:
    """One object. `on_end` is called once, with an error or an empty text."""

    def __init__(
        self,
        step: FetchPieces,
        home: StorageLink,
        link_of: Callable[[str], StorageLink | None],
        on_end: Callable[[str], None],
    ) -> None:
        """`home`: the store of this host. `link_of` returns the link to a store, and may raise TransportError."""
        self._step = step
        self._home = home
        self._link_of = link_of
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._pieces = Pieces(sum(step.lengths), step.addresses)
        self._lease: Lease | None = None
        self._writing: set[asyncio.Task[None]] = set()
        self._ended = False

    def start(self) -> None:
        """Begin."""
        step = self._step
        self._lease = self._home.begin_segment(step.effect.id, step.lengths)
        if self._lease is None:
            self._end("there is no memory for it that the store of this host can map")
        else:
            self._put(incomplete=True, on_done=self._on_begun)

    def _put(self, *, incomplete: bool, on_done: Callable[[Completion], None]) -> None:
        assert self._lease is not None
        object_id, owner, place = self._step.effect.id, self._step.owner, pack_place(self._lease.place)
        self._home.ask(
            lambda requests, now: requests.put(object_id, owner, (), now, place=place, incomplete=incomplete), on_done
        )

    def _on_begun(self, completion: Completion) -> None:
        if isinstance(completion, Done):
            self._go_on()
        else:
            self._end(f"the store of this host does not take it: {trouble_of(completion)}")

    def _go_on(self) -> None:
        if self._ended:
            return
        for piece in self._pieces.take():
            self._ask(piece)
        if self._pieces.is_done:
            self._put(incomplete=False, on_done=self._on_put)
        elif self._pieces.has_failed:
            self._end(self._pieces.trouble)

    def _ask(self, piece: Piece) -> None:
        object_id, offset, size = self._step.effect.id, piece.offset, piece.size
        try:
            link = self._link_of(piece.address)
        except TransportError as error:
            self._loop.call_soon(self._fail, piece, str(error))
            return
        if link is None:
            self._loop.call_soon(self._fail, piece, "it has ended")
            return
        link.ask(
            lambda requests, now: requests.get_piece(object_id, offset, size, now, wait_seconds=WAIT_SECONDS),
            partial(self._on_answer, piece),
        )

    def _on_answer(self, piece: Piece, completion: Completion) -> None:
        if self._ended:
            return
        if isinstance(completion, Done):
            writing = self._loop.create_task(self._write(piece, completion.buffers))
            self._writing.add(writing)
            writing.add_done_callback(self._writing.discard)
        else:
            self._fail(piece, trouble_of(completion))

    async def _write(self, piece: Piece, buffers: Any) -> None:
        lease = self._lease
        assert lease is not None
        if sum(map(len, buffers)) != piece.size:
            self._fail(piece, "it sends another piece than it was asked for")
            return
        try:
            await asyncio.to_thread(lease.fill, piece.offset, buffers)
        except (OSError, ValueError) as error:
            self._end(f"it cannot be kept on this host: {error}")
            return
        del buffers
        if self._ended:
            return
        before = self._pieces.filled
        self._pieces.came(piece)
        if before < self._pieces.filled and not self._pieces.is_done:
            object_id, owner = self._step.effect.id, self._step.owner
            self._home.tell(m.ObjectPut(0, object_id, owner, [], incomplete=True, filled=self._pieces.filled))
        self._go_on()

    def _fail(self, piece: Piece, trouble: str) -> None:
        self._pieces.failed(piece, trouble)
        self._go_on()

    def _on_put(self, completion: Completion) -> None:
        done = isinstance(completion, Done)
        self._end("" if done else f"the store of this host does not take it: {trouble_of(completion)}")

    def _end(self, error: str) -> None:
        if not self._ended:
            self._ended = True
            self._lease = None
            # Later: `start` may be in the middle of a step.
            self._loop.call_soon(self._on_end, error)


def trouble_of(completion: Completion) -> str:
    """Return why a request has not done what it was to do."""
    if isinstance(completion, Missing):
        return "it does not have it"
    return getattr(completion, "text", "") or "no answer in time"
