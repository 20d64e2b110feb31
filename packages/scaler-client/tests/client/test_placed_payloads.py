"""Payloads of a client that lie in shared memory: which ones, and what becomes of those that nobody can read."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from scaler.client import placed_payloads
from scaler.client.placed_payloads import ALONE_BYTES_MAX, FAILURES_MAX, PLACED_BYTES_MIN, PlacedPayloads
from scaler.core import ClientCore, effects, events
from scaler.core.effects import Payload
from scaler.serialization.results import load_outcomes, load_value
from scaler_protocol.objects.segments.batch_place import PLACE_BYTES, BatchPlace, Form
from scaler_protocol.objects.segments.batch_reading import BatchSegments
from scaler_protocol.objects.segments.layout import supported
from scaler_protocol.payloads import by_value
from scaler_protocol.payloads.framing import INLINE_BYTES_MAX, PICKLED
from scaler_protocol.payloads.unpickled import BufferedPickle, LatePayload, PayloadParts, UnpickledBytes
from scaler_protocol.payloads.values import load_arguments, load_chunk
from scaler_protocol.testing.session_peer import SessionPeer
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.call_options import NO_OPTIONS, encode_record
from scaler_protocol.wire.columns import Packed
from scaler_protocol.wire.envelope import Envelope

pytestmark = pytest.mark.skipif(not supported(), reason="needs memory without a name")

CLIENT = b"c" * 16
FUNCTION = b"f" * 16


class Client:
    """A core with its placed payloads, and the scheduler it talks to."""

    def __init__(self, *, credit: int = -1) -> None:
        self.core = ClientCore(
            CLIENT, m.Hello(m.Role.CLIENT, "c", CLIENT), address="tcp://there:1", timeout_seconds=20.0
        )
        self.core.define_function(FUNCTION, b"body", "module.name")
        self.placed = PlacedPayloads(self.core)
        self.peer = SessionPeer()
        self.core.start(0.0)
        self.take()
        self.core.handle(events.Incoming(*self.peer.welcome(resumed=False, task_credit=credit)), 0.0)
        self.take()
        self.completed: dict[object, tuple[int, Payload]] = {}

    def submit(self, *payloads: LatePayload, options: bytes = b"") -> m.TaskBatch:
        for payload in payloads:
            self.core.submit(self.core.group(options=options), FUNCTION, payload, token=payload)
        self.core.flush()
        (batch,) = self.take()
        return batch

    def take(self) -> list[m.TaskBatch]:
        batches = []
        for effect in self.core.take_effects():
            if isinstance(effect, effects.Send):
                self.peer.receive(effect.envelope, effect.message, 0.0)
                if isinstance(effect.message, m.TaskBatch):
                    self.placed.place(effect.message)
                    batches.append(effect.message)
            elif isinstance(effect, effects.Completed):
                statuses = effect.reported.statuses or [0] * len(effect.tokens)
                for token, status, payload in zip(effect.tokens, statuses, effect.payloads, strict=True):
                    self.completed[token] = (status, payload)
        self.core.check_invariants()
        return batches

    def answer(self, numbers: list[int], payloads: list[bytes], statuses: list[int] | None = None) -> list[m.TaskBatch]:
        results = m.ResultBatch(CLIENT, numbers, [1] * len(numbers), Packed.of(payloads), statuses or [])
        envelope, message = self.peer.say(results)
        assert isinstance(message, m.ResultBatch)
        self.placed.take(message)
        self.core.handle(events.Incoming(envelope, message), 0.0)
        self.core.flush()
        return self.take()


@pytest.fixture
def client() -> Iterator[Client]:
    client = Client()
    yield client
    client.placed.close()


def _read(reader: BatchSegments, place: BatchPlace) -> bytes | None:
    content = reader.read(place)
    return None if content is None else content[0]


def _place(payload: bytes) -> BatchPlace:
    place = BatchPlace.parse(payload)
    assert place is not None
    return place


LARGE = [bytes([number]) * (PLACED_BYTES_MIN + number) for number in range(20)]


def test_large_payloads_leave_as_places_and_small_ones_as_they_are(client: Client) -> None:
    batch = client.submit(b"small", *LARGE[:2], bytes(PLACED_BYTES_MIN - 1))
    assert list(batch.payloads.lengths) == [5, PLACE_BYTES, PLACE_BYTES, PLACED_BYTES_MIN - 1]
    reader = BatchSegments()
    places = [_place(payload) for payload in batch.payloads.split()[1:3]]
    assert [_read(reader, place) for place in places] == LARGE[:2]
    answer = reader.answer(places[1], Form.PAYLOAD, [b"r" * PLACED_BYTES_MIN])
    assert answer is not None
    assert not client.answer(list(batch.numbers), [b"1", b"2", answer, b"4"])
    assert list(client.completed.values()) == [(0, b"1"), (0, b"2"), (0, b"r" * PLACED_BYTES_MIN), (0, b"4")]
    reader.close()


def test_what_a_worker_cannot_read_leaves_once_more_inside_of_the_message(client: Client) -> None:
    batch = client.submit(*LARGE[:3])
    unreadable = int(m.Status.UNREADABLE)
    (again,) = client.answer(list(batch.numbers), [b"no", b"2", b"no"], [unreadable, 0, unreadable])
    assert list(again.numbers) == [batch.numbers[0], batch.numbers[2]]
    assert again.payloads.split() == [LARGE[0], LARGE[2]]
    assert client.completed == {LARGE[1]: (0, b"2")}
    assert not client.answer(list(again.numbers), [b"1", b"3"])
    assert client.completed == {LARGE[0]: (0, b"1"), LARGE[1]: (0, b"2"), LARGE[2]: (0, b"3")}


def test_who_cannot_read_what_is_inside_of_a_message_ends_the_task(client: Client) -> None:
    batch = client.submit(*LARGE[:1])
    (again,) = client.answer(list(batch.numbers), [b"no"], [int(m.Status.UNREADABLE)])
    assert not client.answer(list(again.numbers), [b"no"], [int(m.Status.UNREADABLE)])
    assert client.completed == {LARGE[0]: (int(m.Status.UNREADABLE), b"no")}


def test_where_workers_often_cannot_read_everything_travels_inside(client: Client) -> None:
    for number in range(FAILURES_MAX):
        batch = client.submit(LARGE[number])
        assert list(batch.payloads.lengths) == [PLACE_BYTES]
        (again,) = client.answer(list(batch.numbers), [b"no"], [int(m.Status.UNREADABLE)])
        client.answer(list(again.numbers), [b"1"])
    assert client.submit(LARGE[10]).payloads.split() == [LARGE[10]]


def test_a_result_that_is_not_there_makes_its_task_leave_once_more(client: Client) -> None:
    batch = client.submit(*LARGE[:2])
    places = batch.payloads.split()
    wrong = _place(places[0])._replace(stamp=bytes(16)).pack()
    (again,) = client.answer(list(batch.numbers), [wrong, b"2"])
    assert again.payloads.split() == [LARGE[0]]
    assert client.completed == {LARGE[1]: (0, b"2")}


def test_a_result_that_is_not_there_fails_a_task_that_may_not_run_twice(client: Client) -> None:
    options = encode_record(NO_OPTIONS.with_given({"idempotent": False}, "test"))
    batch = client.submit(*LARGE[:2], options=options)
    places = batch.payloads.split()
    wrong = _place(places[0])._replace(stamp=bytes(16)).pack()
    assert not client.answer(list(batch.numbers), [wrong, b"2"])
    status, text = client.completed[LARGE[0]]
    assert status == m.Status.STORAGE_FAILED
    assert b"cannot read it, and the task may not run again (idempotent=False)" in bytes(text)  # type: ignore[arg-type]
    # One that its worker could not read has not begun, and may.
    batch = client.submit(LARGE[2], options=options)
    (again,) = client.answer(list(batch.numbers), [b"no"], [int(m.Status.UNREADABLE)])
    assert again.payloads.split() == [LARGE[2]]


def test_tasks_that_were_cancelled_make_room_and_do_not_leave_again(client: Client) -> None:
    batch = client.submit(*LARGE[:2])
    client.core.cancel(list(batch.numbers))
    client.take()
    assert not client.answer(list(batch.numbers), [b"no", b""], [int(m.Status.UNREADABLE), int(m.Status.CANCELED)])
    following = client.submit(*LARGE[2:4])
    assert _place(following.payloads.split()[0]).at == _place(batch.payloads.split()[0]).at
    assert not client.completed


def test_another_session_gets_the_same_tasks_once_more(client: Client) -> None:
    batch = client.submit(*LARGE[:2])
    client.core.handle(events.Incoming(Envelope(0, 0, 0), m.UnknownPeer()), 0.4)
    client.take()
    client.peer.incarnation = b"t" * 16
    client.core.handle(events.Incoming(*client.peer.welcome(resumed=False, task_credit=-1)), 0.5)
    client.core.flush()
    (again,) = client.take()
    assert again.flags & m.TaskFlag.REANNOUNCED
    reader = BatchSegments()
    # Agents may still have the first places.
    for one in (batch, again):
        assert [_read(reader, _place(payload)) for payload in one.payloads.split()] == LARGE[:2]
    reader.close()


def test_whoever_needs_permission_for_each_task_places_none() -> None:
    client = Client(credit=5)
    assert client.submit(LARGE[0]).payloads.split() == [LARGE[0]]


def test_while_many_bytes_wait_to_leave_further_values_are_objects(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placed_payloads, "WAITING_BYTES_MAX", 2 * PLACED_BYTES_MIN)
    large = [UnpickledBytes((payload,), is_chunk=False) for payload in LARGE[:3]]
    numbers = []
    for payload in large[:2]:
        assert client.placed.alone_bytes_max == ALONE_BYTES_MAX
        numbers.append(client.core.submit(client.core.group(), FUNCTION, payload, token=payload))
    assert client.placed.alone_bytes_max == INLINE_BYTES_MAX
    client.core.cancel(numbers[:1])
    assert client.placed.alone_bytes_max == ALONE_BYTES_MAX
    client.core.submit(client.core.group(), FUNCTION, large[2], token=large[2])
    assert client.placed.alone_bytes_max == INLINE_BYTES_MAX
    client.core.flush()
    client.take()
    assert client.placed.alone_bytes_max == ALONE_BYTES_MAX


def test_answers_that_a_row_needs_stay_until_it_is_answered(client: Client) -> None:
    batch = client.submit(LARGE[0])
    reader = BatchSegments()
    answer = reader.answer(_place(batch.payloads.split()[0]), Form.PAYLOAD, [LARGE[1]])
    assert answer is not None
    row = m.GraphSubmit(
        client=CLIENT,
        first_number=0,
        functions=(FUNCTION,),
        payloads=Packed.of([b"row"]),
        dependency_counts=[1],
        dependencies=[1],
        wanted=[0],
        earlier=[batch.numbers[0]],
    )
    number = client.core.submit_graph(row, ["row"])
    client.core.flush()
    client.take()
    client.answer(list(batch.numbers), [answer])
    assert client.completed == {LARGE[0]: (0, LARGE[1])}
    following = client.submit(LARGE[2])
    assert _read(reader, _place(answer)) == LARGE[1]
    client.answer([number, following.numbers[0]], [b"done", b"done"])
    client.submit(LARGE[3])
    assert _read(reader, _place(answer)) is None
    reader.close()


VALUE = UnpickledBytes((b"v" * PLACED_BYTES_MIN,), is_chunk=False)
ITEMS = UnpickledBytes((b"a" * PLACED_BYTES_MIN, b"b" * 10), is_chunk=True)


def _no_object(object_id: bytes) -> list[memoryview]:
    raise AssertionError(object_id)


def test_bytes_that_are_not_pickled_lie_in_the_segment_as_they_are(client: Client) -> None:
    parts = PayloadParts([b"P", LARGE[0]])
    batch = client.submit(VALUE, ITEMS, b"small", parts)
    value, items, small, joined = batch.payloads.split()
    assert (len(value), len(items), small) == (PLACE_BYTES, PLACE_BYTES, b"small")
    reader = BatchSegments()
    assert reader.read(_place(value)) == list(VALUE.values)
    assert reader.read(_place(items)) == list(ITEMS.values)
    assert reader.read(_place(joined)) == [b"P" + LARGE[0]] == [bytes(parts)]
    answers = [
        reader.answer(_place(value), Form.VALUE, [b"r" * PLACED_BYTES_MIN]),
        reader.answer(_place(items), Form.ITEMS, [b"1" * PLACED_BYTES_MIN, b"2"]),
        b"3",
        b"4",
    ]
    client.answer(list(batch.numbers), [answer for answer in answers if answer is not None])
    assert load_value(client.completed[VALUE][1]) == b"r" * PLACED_BYTES_MIN
    assert load_outcomes(client.completed[ITEMS][1]) == ([b"1" * PLACED_BYTES_MIN, b"2"], {})
    reader.close()


def test_buffers_lie_beside_their_pickle_in_the_segment(client: Client) -> None:
    array = np.arange(PLACED_BYTES_MIN)
    pickled, buffers = by_value.dumps_apart(((array,), {}))
    call = BufferedPickle((PICKLED + pickled, *map(bytes, buffers)))
    batch = client.submit(call, VALUE)
    place = _place(batch.payloads.split()[0])
    reader = BatchSegments()
    content = reader.read(place)
    assert content is not None
    (given,), _ = load_arguments(BufferedPickle(content), (), None, _no_object)
    given += 1
    pickled, buffers = by_value.dumps_apart(given)
    answer = reader.answer(place, Form.BUFFERS, [PICKLED + pickled, *buffers])
    assert answer is not None
    (again,) = client.answer(list(batch.numbers), [answer, b"no"], [0, int(m.Status.UNREADABLE)])
    assert len(again.payloads.split()) == 1
    result = load_value(client.completed[call][1])
    assert (result == array + 1).all()
    result[0] = 5
    reader.close()


def test_buffers_are_part_of_what_travels_inside(client: Client) -> None:
    array = np.arange(PLACED_BYTES_MIN)
    pickled, buffers = by_value.dumps_apart(((array,), {}))
    call = BufferedPickle((PICKLED + pickled, *map(bytes, buffers)))
    batch = client.submit(call)
    (again,) = client.answer(list(batch.numbers), [b"no"], [int(m.Status.UNREADABLE)])
    (inside,) = again.payloads.split()
    (given,), _ = load_arguments(inside, (), None, _no_object)
    assert (given == array).all()
    given[0] = 5


def test_bytes_that_are_not_pickled_are_where_they_travel_inside(client: Client) -> None:
    parts = PayloadParts([b"P", LARGE[0]])
    batch = client.submit(VALUE, ITEMS, parts)
    unreadable = int(m.Status.UNREADABLE)
    (again,) = client.answer(list(batch.numbers), [b"no"] * 3, [unreadable] * 3)
    without_places = Client(credit=5)
    for inside in (again, without_places.submit(VALUE, ITEMS, parts)):
        value, items, joined = inside.payloads.split()
        assert load_arguments(value, (), None, _no_object) == (VALUE.values, {})
        assert load_chunk(items, _no_object) == (False, list(ITEMS.values))
        assert list(inside.payloads.lengths) == [len(value), len(items), len(joined)]
        assert joined == b"P" + LARGE[0]
        inside.payloads.check(3)
    without_places.placed.close()


def test_a_message_may_have_places_and_what_must_travel_inside(client: Client) -> None:
    batch = client.submit(VALUE)
    # It leaves once more, together with another one.
    client.core.submit(client.core.group(), FUNCTION, ITEMS, token=ITEMS)
    (again,) = client.answer(list(batch.numbers), [b"no"], [int(m.Status.UNREADABLE)])
    value, items = again.payloads.split()
    assert load_arguments(value, (), None, _no_object) == (VALUE.values, {})
    assert _read(BatchSegments(), _place(items)) == ITEMS.values[0]
