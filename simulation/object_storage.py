"""The requesting end of an object store in the simulation: a link, requests over it, and what to do when each ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from scaler_protocol.objects.storage import (
    CHECK_SECONDS,
    AtHomes,
    Completion,
    Done,
    Layout,
    Missing,
    Refused,
    StoreRequests,
    TimedOut,
)
from scaler_protocol.payloads.framing import FRAMED
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.envelope import UNSEQUENCED, Envelope
from scaler_protocol.wire.object_batches import joined
from simulation.clock import Clock
from simulation.network import Network

Answer = Callable[[Any], None]


def _ignore(_: Any) -> None:
    return


class ObjectStorage:
    """A peer's requests to one store, each with what to do when it ends. `identity` is the peer's address there."""

    def __init__(
        self,
        network: Network,
        address: str,
        hello: m.Hello,
        identity: bytes,
        clock: Clock,
        *,
        check_seconds: float = CHECK_SECONDS,
        waits_for_room: bool = True,
        known_clients: Callable[[], m.ClientsKnown] | None = None,
    ) -> None:
        self._requests = StoreRequests(
            hello, check_seconds=check_seconds, waits_for_room=waits_for_room, known_clients=known_clients
        )
        self._clock = clock
        self._answers: dict[int, Answer] = {}
        self._seen = b""
        self.address = address
        self.link = network.connect(identity, address, self)
        self.on_activity: Callable[[], None] = lambda: None
        self.on_message: Callable[[m.Message], None] = _ignore
        """Called with what the store says unasked."""
        self.on_welcome: Callable[[], None] = lambda: None
        """Called when a store that is new to this peer has said welcome."""
        self._arrived: list[m.Message] = []

    def deliver(self, peer: bytes, envelope: Envelope, message: m.Message) -> None:
        self._arrived.append(message)
        self.on_activity()

    def introduce(self) -> None:
        self._requests.introduce(self._clock.now)

    def put(self, object_id: bytes, owner: bytes, content: bytes, answer: Answer) -> None:
        self.put_buffers(object_id, owner, [FRAMED, content], answer)

    def put_buffers(
        self, object_id: bytes, owner: bytes, buffers: Sequence[Any], answer: Answer, *, incomplete: bool = False
    ) -> None:
        if self.link.closed:
            answer(Refused(0, None, "it has ended"))
            return
        now = self._clock.now
        self._answers[self._requests.put(object_id, owner, buffers, now, incomplete=incomplete)] = answer

    def get(
        self, object_id: bytes, wait_seconds: float, answer: Answer, *, follows: bool = False, pieces: bool = False
    ) -> None:
        number = self._requests.get(
            object_id, self._clock.now, wait_seconds=wait_seconds, follows=follows, pieces=pieces
        )
        self._answers[number] = answer

    def get_piece(self, object_id: bytes, offset: int, size: int, wait_seconds: float, answer: Answer) -> None:
        number = self._requests.get_piece(object_id, offset, size, self._clock.now, wait_seconds=wait_seconds)
        self._answers[number] = answer

    def ask_sources(self, object_id: bytes, keeps_at: str, answer: Answer) -> None:
        self._answers[self._requests.ask_sources(object_id, keeps_at, self._clock.now)] = answer

    def hold(
        self, object_ids: Sequence[bytes], owner: bytes, address: str, answer: Answer, *, are_copies: bool = False
    ) -> None:
        number = self._requests.hold(object_ids, owner, address, self._clock.now, are_copies=are_copies)
        self._answers[number] = answer

    def delete(self, object_ids: Sequence[bytes], owner: bytes, answer: Answer = _ignore) -> None:
        self._answers[self._requests.delete(object_ids, owner, self._clock.now)] = answer

    def end_owner(self, owner: bytes) -> None:
        self._answers[self._requests.end_owner(owner, self._clock.now)] = _ignore

    def keep_owner(self, owner: bytes) -> None:
        for number in self._requests.keep_owner(owner):
            del self._answers[number]

    def tell(self, message: m.Shutdown | m.ObjectsGone | m.ObjectPut) -> None:
        if not self.link.closed:
            self._requests.tell(message, self._clock.now)

    def leave(self, reason: str) -> None:
        """Say that this peer ends. To be followed by `flush` and the end of the link."""
        self._requests.leave(reason)

    def abandon(self, reason: str) -> None:
        """Close the link; whoever waits for an answer is told why there is none."""
        self.link.close(deliver_rest=True)
        answers, self._answers = self._answers, {}
        for answer in answers.values():
            answer(Refused(0, None, reason))

    def work(self) -> None:
        """Take in what arrived, do what time demands."""
        if self.link.closed:
            return
        arrived, self._arrived = self._arrived, []
        completions: list[Completion] = []
        for message in arrived:
            completions += self._requests.receive(message, self._clock.now)
            if isinstance(message, m.Welcome) and self._requests.store_incarnation != self._seen:
                self._seen = self._requests.store_incarnation
                self.on_welcome()
            elif isinstance(message, m.ObjectWanted | m.ObjectDelete | m.ObjectsLost):
                self.on_message(message)
        completions += self._requests.tick(self._clock.now)
        for completion in completions:
            if isinstance(completion, Done | Missing | Refused | TimedOut | AtHomes | Layout):
                answer = self._answers.pop(completion.request, None)
                # An answer before this one may have closed the link, and with it all requests.
                if answer is not None:
                    answer(completion)
                elif not self.link.closed:
                    raise AssertionError(f"request {completion.request} ends twice")

    def flush(self) -> None:
        for message in joined(self._requests.take_outgoing()):
            self.link.send(UNSEQUENCED, message)

    def next_deadline(self) -> float:
        return float("inf") if self.link.closed else self._requests.next_deadline()

    @property
    def takes_homes(self) -> bool:
        """Whether the store wants to hear what the store of a host has."""
        return self._requests.takes_homes

    @property
    def pending_count(self) -> int:
        return self._requests.pending_count

    @property
    def is_full(self) -> bool:
        """Whether storage has no room for something that is sent again: then the application's next objects wait."""
        return bool(self._requests.refusal)


def trouble(completion: Completion) -> str:
    """Return why a request failed, as an agent's shell words it; empty if it did not."""
    if isinstance(completion, Refused):
        return completion.text or "the object storage server refuses it"
    if isinstance(completion, TimedOut):
        return f"the object storage server has not answered for {completion.seconds:.0f} s"
    return ""
