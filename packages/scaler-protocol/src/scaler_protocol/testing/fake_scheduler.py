"""A small scheduler on a real socket: one agent, everything it says kept, sessions as the protocol demands."""

from __future__ import annotations

import pickle
import time
from array import array
from collections.abc import Callable, Sequence
from typing import Any

import cloudpickle

from scaler_protocol.ids import content_id
from scaler_protocol.payloads.framing import PICKLED
from scaler_protocol.session import Outgoing
from scaler_protocol.testing.session_peer import SessionPeer
from scaler_protocol.testing.waiting import DEADLINE_SECONDS, wait_until
from scaler_protocol.transport import RouterListener
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.codec import decode, encode
from scaler_protocol.wire.columns import Packed
from scaler_protocol.wire.envelope import UNSEQUENCED, decode_envelope, encode_envelope
from scaler_protocol.wire.object_batches import rows_of

CLIENT = b"c" * 16


def arguments(*args: Any, **kwargs: Any) -> bytes:
    """Return the payload of a call's arguments."""
    return PICKLED + bytes(cloudpickle.dumps((args, kwargs)))


def value_of(payload: bytes) -> Any:
    """Return the value of an inline result."""
    assert payload[:1] == PICKLED, payload[:40]
    return pickle.loads(payload[1:])


class FakeScheduler:
    """Serves one agent. With `storage` it is an object storage server too, which holds `objects`."""

    def __init__(self, *, storage: bool = False, incarnation: bytes = b"s" * 16) -> None:
        self._router = RouterListener("tcp://127.0.0.1:0")
        self.address = self._router.address
        self._store = RouterListener("tcp://127.0.0.1:0") if storage else None
        self.objects: dict[bytes, list[bytes]] = {}
        self.puts: list[m.ObjectPut] = []
        self.hello: m.Hello | None = None
        self.received: list[m.Message] = []
        self.results: dict[int, tuple[int, bytes]] = {}
        """Number to (status, payload)."""
        self.durations: dict[int, int] = {}
        self.capacity = 0
        self.processor_states: list[int] = []
        """What the agent's last heartbeat said of its processors."""
        self.gets = 0
        self._session = SessionPeer(incarnation)
        self._peer = b""
        self._numbers = 0

    def close(self) -> None:
        """Close the sockets."""
        self._router.close()
        if self._store is not None:
            self._store.close()

    # --- talking

    def send(self, message: m.Message) -> None:
        """Send a sequenced message to the peer."""
        self._transmit(self._session.say(message))

    def send_plain(self, message: m.Message) -> None:
        """Send a message to the peer that is not sequenced."""
        self._transmit(self._session.say_plain(message))

    def _transmit(self, *outgoing: Outgoing) -> None:
        for envelope, message in outgoing:
            self._router.send(self._peer, [encode_envelope(envelope), *encode(message)])

    def define(self, function: Callable[..., Any], client: bytes = CLIENT) -> bytes:
        """Send a function to the peer, and return its id."""
        return self.define_body(PICKLED + cloudpickle.dumps(function), client)

    def define_body(self, body: bytes, client: bytes = CLIENT) -> bytes:
        """Send the body of a function to the peer, and return its id."""
        self.send(m.FunctionDefine(client, (content_id(body),), Packed.of([body])))
        return content_id(body)

    def submit(
        self, function: Callable[..., Any], payloads: Sequence[bytes], *, client: bytes = CLIENT, **fields: Any
    ) -> range:
        """Send one batch of calls of `function`; return their numbers."""
        return self.submit_body(PICKLED + cloudpickle.dumps(function), payloads, client=client, **fields)

    def submit_body(self, body: bytes, payloads: Sequence[bytes], *, client: bytes = CLIENT, **fields: Any) -> range:
        """Send one batch of calls of the function with this body."""
        first, self._numbers = self._numbers, self._numbers + len(payloads)
        numbers = range(first, self._numbers)
        batch = m.TaskBatch(
            client=client,
            numbers=array("Q", numbers),
            attempts=array("H", [1]) * len(payloads),
            functions=(self.define_body(body, client),),
            payloads=Packed.of(payloads),
            **fields,
        )
        self.send(batch)
        return numbers

    def forget_session(self, incarnation: bytes) -> None:
        """Be a scheduler that has just started and knows nobody."""
        self._session = SessionPeer(incarnation)

    # --- listening

    def poll(self) -> None:
        """Take in what has come."""
        for peer, frames in self._router.receive(100):
            envelope, message = decode_envelope(frames[0]), decode(frames[1:])
            self._peer = peer
            accepted = self._session.receive(envelope, message, time.monotonic())
            if isinstance(accepted, m.Hello):
                self._welcome(accepted)
            elif accepted is not None:
                self._take(accepted)
            self._transmit(*self._session.take_outgoing())
        if self._store is not None:
            for peer, frames in self._store.receive(100):
                self._serve_storage(self._store, peer, decode(frames[1:]))

    def _welcome(self, hello: m.Hello) -> None:
        self.hello, self.capacity = hello, hello.capacity
        address = self._store.address if self._store is not None else ""
        self._transmit(self._session.welcome(heartbeat_seconds=0.2, object_storage_address=address))

    def _serve_storage(self, store: RouterListener, peer: bytes, message: m.Message) -> None:
        answer: m.Message
        if isinstance(message, m.ObjectBatch):
            for row in rows_of(message):
                self._serve_storage(store, peer, row)
            return
        if isinstance(message, m.Hello):
            answer = m.Welcome(b"o" * 16, hello_number=message.hello_number)
        elif isinstance(message, m.ObjectPut):
            self.puts.append(message)
            self.objects[message.id] = [bytes(buffer) for buffer in message.buffers]
            answer = m.ObjectPutReply(message.request)
        else:
            assert isinstance(message, m.ObjectGet)
            self.gets += 1
            found = self.objects.get(message.id)
            answer = m.ObjectData(message.request, message.id, found or [], missing=found is None)
        store.send(peer, [encode_envelope(UNSEQUENCED), *encode(answer)])

    def _take(self, message: m.Message) -> None:
        self.received.append(message)
        if isinstance(message, m.Heartbeat):
            self.capacity = message.capacity
            self.processor_states = list(message.processor_states)
        elif isinstance(message, m.ResultBatch):
            self.capacity = message.capacity
            statuses = message.statuses if len(message.statuses) else [0] * len(message.numbers)
            for number, status, payload in zip(message.numbers, statuses, message.payloads.split(), strict=True):
                assert number not in self.results, f"two results of task {number}"
                self.results[number] = (status, payload)
            self.durations.update(zip(message.numbers, message.durations, strict=True))

    # --- waiting

    def wait_until(self, condition: Callable[[], object], seconds: float = DEADLINE_SECONDS) -> None:
        """Serve until the condition holds; AssertionError when it does not within so many seconds."""
        wait_until(condition, seconds, what=lambda: f"last: {self.received[-3:]}", step=self.poll, pause_seconds=0.0005)

    def wait_until_running(self, tasks: int = 1) -> None:
        """Wait until the agent says that so many tasks run."""
        self.wait_until(lambda: self.processor_states.count(m.ProcessorState.RUNNING) == tasks)

    def wait_for_results(self, numbers: Sequence[int], seconds: float = DEADLINE_SECONDS) -> list[tuple[int, bytes]]:
        """Wait for these results, and return status and payload of each."""
        self.wait_until(lambda: all(number in self.results for number in numbers), seconds)
        return [self.results[number] for number in numbers]

    def values(self, numbers: Sequence[int], seconds: float = DEADLINE_SECONDS) -> list[Any]:
        """Wait for successes and return their values."""
        outcomes = self.wait_for_results(numbers, seconds)
        assert all(status == 0 for status, _ in outcomes), outcomes[:3]
        return [value_of(payload) for _, payload in outcomes]
