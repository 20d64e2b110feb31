"""The requesting end of object storage, told as conversations with a store that answers, forgets or stays silent."""

from __future__ import annotations

import random
from typing import Any

import pytest

from scaler_protocol.errors import MessageTooLargeError
from scaler_protocol.objects.storage import (
    Done,
    Missing,
    Refused,
    StoreChanged,
    StoreRequests,
    TimedOut,
    TooManyRequestsError,
)
from scaler_protocol.objects.storage import requests as rules
from scaler_protocol.wire import messages as m

ME = b"m" * 16
STORE = b"s" * 16
OTHER_STORE = b"t" * 16
OBJECT = b"o" * 16


def make(**settings: Any) -> StoreRequests:
    return StoreRequests(m.Hello(m.Role.CLIENT, "me", ME), **settings)


def welcome(requests: StoreRequests, now: float, hello: m.Hello, incarnation: bytes = STORE) -> list[object]:
    return list(requests.receive(m.Welcome(incarnation, hello_number=hello.hello_number), now))


def greeted() -> StoreRequests:
    """A requester whose hello was answered and that has nothing under way."""
    requests = make()
    number = requests.delete([OBJECT], ME, 0.0)
    hello, _ = requests.take_outgoing()
    assert isinstance(hello, m.Hello)
    welcome(requests, 0.0, hello)
    assert requests.receive(m.ObjectDeleteReply(number), 0.0) == [Done(number)]
    assert requests.next_deadline() == float("inf")
    return requests


def test_the_first_request_follows_a_hello_without_waiting_for_its_answer() -> None:
    requests = make()
    number = requests.put(OBJECT, ME, [b"header", b"body"], 0.0, name="matrix")
    hello, put = requests.take_outgoing()
    assert isinstance(hello, m.Hello)
    assert hello.incarnation == ME
    assert put == m.ObjectPut(number, OBJECT, ME, [b"header", b"body"], "matrix")
    assert requests.pending_bytes == 10
    assert requests.receive(m.ObjectPutReply(number), 0.1) == [Done(number)]
    assert (requests.pending_count, requests.pending_bytes) == (0, 0)


def test_a_key_that_the_server_goes_on_refusing_fails_what_waits() -> None:
    requests = make()
    first = requests.put(OBJECT, ME, [b"header", b"body"], 0.0)
    # The server may not have noticed yet that the key was added.
    assert requests.on_link_refused("unknown key", 0.1) == []
    second = requests.get(OBJECT, 1.0)
    later = 0.1 + rules.KEY_REFUSED_SECONDS
    assert requests.on_link_refused("unknown key", later) == [
        Refused(first, None, "unknown key"),
        Refused(second, None, "unknown key"),
    ]
    assert requests.pending_count == 0
    third = requests.get(OBJECT, later)
    assert requests.on_link_refused("unknown key", later + 1) == [Refused(third, None, "unknown key")]
    # It is let in after all: from then on nothing is held against it.
    fourth = requests.get(OBJECT, later + 2)
    hellos = [each for each in requests.take_outgoing() if isinstance(each, m.Hello)]
    welcome(requests, later + 2, hellos[-1])
    assert requests.on_link_refused("unknown key", later + 3) == []
    assert requests.receive(m.ObjectData(fourth, OBJECT, [b"x"]), later + 3) == [Done(fourth, [b"x"])]


def test_a_replaced_store_is_noticed_without_a_request() -> None:
    requests = make(check_seconds=3.0)
    requests.introduce(0.0)
    (hello,) = requests.take_outgoing()
    assert isinstance(hello, m.Hello)
    welcome(requests, 0.1, hello)
    assert requests.next_deadline() == 3.0
    assert requests.tick(2.9) == []
    assert requests.take_outgoing() == []
    assert requests.tick(3.0) == []
    (check,) = requests.take_outgoing()
    assert isinstance(check, m.Hello)
    assert welcome(requests, 3.1, check, OTHER_STORE) == [StoreChanged(OTHER_STORE)]


def test_a_store_that_is_gone_is_asked_for_rarely() -> None:
    requests = make(check_seconds=3.0)
    requests.introduce(0.0)
    (hello,) = requests.take_outgoing()
    assert isinstance(hello, m.Hello)
    welcome(requests, 0.0, hello)
    now, hellos = 0.0, 0
    while now < 3_600.0:
        now = requests.next_deadline()
        requests.tick(now)
        hellos += len(requests.take_outgoing())
    assert hellos < 3_600 / rules.REPEAT_SECONDS_MAX + 3


def test_nothing_under_way_means_nothing_to_do() -> None:
    requests = make()
    assert requests.next_deadline() == float("inf")
    assert requests.tick(1000.0) == []
    assert requests.take_outgoing() == []


def test_get_returns_the_buffers_or_says_that_there_is_no_such_object() -> None:
    requests = greeted()
    first, second = requests.get(OBJECT, 0.0), requests.get(OBJECT, 0.0)
    assert [type(message) for message in requests.take_outgoing()] == [m.ObjectGet, m.ObjectGet]
    assert requests.receive(m.ObjectData(second, OBJECT, missing=True), 0.1) == [Missing(second)]
    assert requests.receive(m.ObjectData(first, OBJECT, [b"a", b"b"]), 0.1) == [Done(first, [b"a", b"b"])]
    assert requests.receive(m.ObjectData(first, OBJECT, [b"a", b"b"]), 0.2) == [], "a second answer is dropped"


def test_a_refusal_carries_reason_and_sentence() -> None:
    requests = greeted()
    number = requests.put(OBJECT, ME, [b"x"], 0.0)
    reply = m.ObjectPutReply(number, m.ObjectStatus.TOO_LARGE, "too large")
    assert requests.receive(reply, 0.1) == [Refused(number, m.ObjectStatus.TOO_LARGE, "too large")]


def test_a_put_that_finds_no_room_is_sent_again_until_there_is_some() -> None:
    requests = greeted()
    number = requests.put(OBJECT, ME, [b"x"], 0.0)
    (put,) = requests.take_outgoing()
    now = 0.0
    for _ in range(3):
        assert requests.receive(m.ObjectPutReply(number, m.ObjectStatus.STORAGE_FULL, "no room"), now) == []
        assert requests.refusal == "no room"
        assert requests.next_deadline() <= now + rules.FULL_PAUSE_SECONDS_MAX
        now = requests.next_deadline()
        assert requests.tick(now) == []
        (hello,) = requests.take_outgoing()
        assert isinstance(hello, m.Hello)
        welcome(requests, now, hello)
        assert requests.take_outgoing() == [put]
    assert requests.receive(m.ObjectPutReply(number), now) == [Done(number)]
    assert requests.refusal == ""


def test_a_put_that_does_not_wait_for_room_is_refused_at_once() -> None:
    requests = make(waits_for_room=False)
    number = requests.put(OBJECT, ME, [b"x"], 0.0)
    refused = requests.receive(m.ObjectPutReply(number, m.ObjectStatus.STORAGE_FULL, "no room"), 0.1)
    assert refused == [Refused(number, m.ObjectStatus.STORAGE_FULL, "no room")]
    assert requests.refusal == ""
    assert requests.pending_count == 0


def test_a_put_that_never_finds_room_is_refused_when_its_time_is_over() -> None:
    requests = greeted()
    number = requests.put(OBJECT, ME, [b"x"], 0.0)
    now = 0.0
    completions: list[object] = []
    while not completions:
        requests.receive(m.ObjectPutReply(number, m.ObjectStatus.STORAGE_FULL, "no room"), now)
        now = requests.next_deadline()
        completions = list(requests.tick(now))
        for message in requests.take_outgoing():
            if isinstance(message, m.Hello):
                welcome(requests, now, message)
    assert completions == [Refused(number, m.ObjectStatus.STORAGE_FULL, "no room")]
    assert rules.TIMEOUT_SECONDS <= now < rules.TIMEOUT_SECONDS + 2 * rules.FULL_PAUSE_SECONDS_MAX
    assert requests.refusal == ""
    assert requests.pending_count == 0


def test_an_answer_of_the_wrong_kind_completes_nothing() -> None:
    requests = greeted()
    number = requests.put(OBJECT, ME, [b"x"], 0.0)
    assert requests.receive(m.ObjectDeleteReply(number), 0.1) == []
    assert requests.receive(m.ObjectData(number, OBJECT, [b"y"]), 0.1) == []
    assert requests.pending_count == 1


def test_silence_is_met_by_a_hello_and_only_its_answer_by_the_request_again() -> None:
    requests = greeted()
    number = requests.put(OBJECT, ME, [b"x"], 0.0)
    (put,) = requests.take_outgoing()
    due = requests.next_deadline()
    assert requests.tick(due) == []
    (hello,) = requests.take_outgoing()
    assert isinstance(hello, m.Hello), "bytes are not sent again to somebody who is not there"
    assert welcome(requests, due, hello) == []
    assert requests.take_outgoing() == [put]
    assert requests.receive(m.ObjectPutReply(number), due) == [Done(number)]


def test_a_request_that_is_never_answered_times_out_once() -> None:
    requests = make(timeout_seconds=20.0)
    number = requests.get(OBJECT, 0.0)
    completions = []
    steps = 0
    while (due := requests.next_deadline()) != float("inf"):
        completions += requests.tick(due)
        steps += 1
        assert steps < 50
    assert completions == [TimedOut(number, 20.0)]
    assert requests.receive(m.ObjectData(number, OBJECT, [b"late"]), 21.0) == []


class Knowing:
    """A scheduler's requests, with a check of the server each three seconds, and the clients that it knows."""

    def __init__(self) -> None:
        self.known = m.ClientsKnown((ME,))
        self.requests = make(check_seconds=3.0, known_clients=lambda: self.known)
        self.now = 0.0
        self.requests.introduce(self.now)

    def check(self, *, answered_by: bytes = STORE) -> list[m.Message]:
        """Return what goes before the next hello, which this server answers; empty: nobody does."""
        *before, hello = self.requests.take_outgoing()
        assert isinstance(hello, m.Hello)
        if answered_by:
            welcome(self.requests, self.now, hello, answered_by)
        self.now = self.requests.next_deadline()
        self.requests.tick(self.now)
        return before


def test_a_scheduler_says_which_clients_it_knows_when_that_changes() -> None:
    peer = Knowing()
    # A server that has not met this scheduler takes nothing but its hello.
    assert peer.check() == []
    assert peer.check() == [m.ClientsKnown((ME,))]
    assert peer.check() == []
    peer.known = m.ClientsKnown((ME, OBJECT))
    assert peer.check() == []
    assert peer.check() == [m.ClientsKnown((ME, OBJECT))]
    assert peer.check() == []
    peer.known = m.ClientsKnown(())
    assert peer.check() == []
    assert peer.check() == [m.ClientsKnown(())]


def test_what_a_scheduler_knows_is_said_until_a_hello_behind_it_is_answered() -> None:
    peer = Knowing()
    assert peer.check() == []
    for _ in range(3):
        assert peer.check(answered_by=b"") == [m.ClientsKnown((ME,))]
    assert peer.check() == [m.ClientsKnown((ME,))]
    assert peer.check() == []


def test_what_a_scheduler_knows_is_said_to_another_server_and_one_that_forgot_it() -> None:
    peer = Knowing()
    peer.check()
    peer.check()
    assert peer.check(answered_by=OTHER_STORE) == []
    assert peer.check(answered_by=OTHER_STORE) == [m.ClientsKnown((ME,))]
    assert peer.check(answered_by=OTHER_STORE) == []
    # It forgot this scheduler, and takes in who it is, but not what came before that.
    peer.known = m.ClientsKnown(())
    assert peer.check(answered_by=OTHER_STORE) == []
    peer.requests.receive(m.UnknownPeer(), peer.now)
    assert peer.check(answered_by=OTHER_STORE) == [m.ClientsKnown(())]
    assert peer.check(answered_by=OTHER_STORE) == [m.ClientsKnown(())]
    assert peer.check(answered_by=OTHER_STORE) == []


def test_what_a_scheduler_knows_is_said_once_a_minute_in_any_case() -> None:
    peer = Knowing()
    said = [peer.check() for _ in range(2 + int(rules.KNOWN_AGAIN_SECONDS / 3.0) + 2)]
    assert len([before for before in said if before]) == 2


def test_a_restarted_store_is_told_who_we_are_and_asked_everything_again() -> None:
    requests = greeted()
    numbers = [requests.get(bytes([n]) * 16, 0.0) for n in range(3)]
    asked = requests.take_outgoing()
    for _ in numbers:
        assert requests.receive(m.UnknownPeer(), 0.1) == []
    (hello,) = requests.take_outgoing()
    assert isinstance(hello, m.Hello)
    later = requests.get(OBJECT, 0.2)
    requests.take_outgoing()
    assert welcome(requests, 0.3, hello, OTHER_STORE) == [StoreChanged(OTHER_STORE)]
    assert requests.take_outgoing() == asked, "what was sent behind the hello need not be repeated"
    assert requests.receive(m.ObjectData(later, OBJECT, [b""]), 0.4) == [Done(later, [b""])]


def test_a_welcome_to_an_older_hello_is_ignored() -> None:
    requests = make()
    requests.get(OBJECT, 0.0)
    first, _ = requests.take_outgoing()
    requests.tick(requests.next_deadline())
    assert isinstance(first, m.Hello)
    requests.take_outgoing()
    assert welcome(requests, 3.0, first) == []
    assert requests.take_outgoing() == []


def test_a_store_that_refuses_us_ends_every_request_also_later_ones() -> None:
    requests = make()
    put = requests.put(OBJECT, ME, [b"x"], 0.0)
    get = requests.get(OBJECT, 0.0)
    delete = requests.delete([OBJECT], ME, 0.0)
    text = "protocol version 9 is not 1"
    assert requests.receive(m.Refused(text), 0.1) == [Refused(number, None, text) for number in (put, get, delete)]
    requests.take_outgoing()
    later = requests.get(OBJECT, 0.2)
    assert requests.next_deadline() <= 0.2
    assert requests.tick(0.2) == [Refused(later, None, text)]
    assert requests.take_outgoing() == []
    assert requests.next_deadline() == float("inf")


def test_a_long_wait_is_asked_in_pieces() -> None:
    requests = greeted()
    number = requests.get(OBJECT, 0.0, wait_seconds=25.0)
    waits, now = [], 0.0
    while True:
        (get,) = requests.take_outgoing()
        assert isinstance(get, m.ObjectGet)
        waits.append(get.wait_seconds)
        now += get.wait_seconds
        completions = requests.receive(m.ObjectData(get.request, OBJECT, missing=True), now)
        if completions:
            break
    assert waits == [10.0, 10.0, 5.0]
    assert completions == [Missing(number)]


def test_a_store_that_will_not_wait_is_not_asked_in_a_tight_loop() -> None:
    requests = greeted()
    requests.get(OBJECT, 0.0, wait_seconds=25.0)
    (get,) = requests.take_outgoing()
    assert isinstance(get, m.ObjectGet)
    assert requests.receive(m.ObjectData(get.request, OBJECT, missing=True), 0.001) == []
    assert requests.take_outgoing() == []
    assert requests.next_deadline() == pytest.approx(rules.REPEAT_SECONDS)


def test_a_get_waits_on_while_its_object_may_come() -> None:
    requests, now = greeted(), 100.0
    number = requests.get(OBJECT, now, wait_seconds=10.0)
    for _ in range(9):
        (get,) = requests.take_outgoing()
        assert isinstance(get, m.ObjectGet)
        assert get.wait_seconds == 10.0
        now += 10.0
        assert requests.receive(m.ObjectData(get.request, OBJECT, missing=True, may_come=True), now) == []
    (get,) = requests.take_outgoing()
    assert isinstance(get, m.ObjectGet)
    # The bytes stop: nothing more is waited for than before.
    assert requests.receive(m.ObjectData(get.request, OBJECT, missing=True), now + 10.0) == [Missing(number)]
    assert requests.pending_count == 0


def test_a_get_waits_for_what_may_come_only_so_long() -> None:
    requests, start = greeted(), 100.0
    number, now = requests.get(OBJECT, start, wait_seconds=10.0), start
    completions: list[object] = []
    while not completions:
        assert now < start + rules.COMING_SECONDS_MAX
        (get,) = requests.take_outgoing()
        assert isinstance(get, m.ObjectGet)
        now += get.wait_seconds
        completions += requests.receive(m.ObjectData(get.request, OBJECT, missing=True, may_come=True), now)
    assert completions == [Missing(number)]
    assert now == start + rules.COMING_SECONDS_MAX


def test_a_get_that_does_not_wait_is_missing_at_once() -> None:
    requests = greeted()
    number = requests.get(OBJECT, 1.0)
    (get,) = requests.take_outgoing()
    assert isinstance(get, m.ObjectGet)
    assert requests.receive(m.ObjectData(get.request, OBJECT, missing=True, may_come=True), 1.0) == [Missing(number)]


def test_puts_beyond_the_window_wait_and_keep_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "PUT_WINDOW_BYTES", 100)
    requests = greeted()
    numbers = [requests.put(bytes([n]) * 16, ME, [b"x" * 60], 0.0) for n in range(3)]
    sent = requests.take_outgoing()
    for number in numbers:
        (put,) = sent
        assert isinstance(put, m.ObjectPut)
        assert put.request == number
        assert requests.receive(m.ObjectPutReply(number), 0.1) == [Done(number)]
        sent = requests.take_outgoing()
    assert sent == []


def test_a_delete_waits_for_the_answers_to_the_puts_of_its_objects() -> None:
    requests = greeted()
    put = requests.put(OBJECT, ME, [b"x"], 0.0)
    requests.take_outgoing()
    delete = requests.delete([b"p" * 16, OBJECT], ME, 0.0)
    assert requests.take_outgoing() == []
    requests.receive(m.ObjectPutReply(put), 0.1)
    assert requests.take_outgoing() == [m.ObjectDelete(delete, ME, (b"p" * 16, OBJECT))]
    assert requests.receive(m.ObjectDeleteReply(delete), 0.2) == [Done(delete)]


def test_what_no_message_can_carry_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "OBJECT_BYTES_MAX", 100)
    requests = make()
    with pytest.raises(MessageTooLargeError, match="1 buffers and 101 bytes"):
        requests.put(OBJECT, ME, [bytes(101)], 0.0)
    with pytest.raises(MessageTooLargeError, match="1023 buffers"):
        requests.put(OBJECT, ME, [b""] * 1023, 0.0)
    with pytest.raises(ValueError, match="not in one piece"):
        requests.put(OBJECT, ME, [memoryview(b"abcdef")[::2]], 0.0)
    assert requests.pending_count == 0


def test_a_cancelled_get_does_not_complete() -> None:
    requests = greeted()
    plain, waiting = requests.get(OBJECT, 0.0), requests.get(OBJECT, 0.0, wait_seconds=30.0)
    _, second = requests.take_outgoing()
    assert isinstance(second, m.ObjectGet)
    requests.receive(m.ObjectData(second.request, OBJECT, missing=True), 10.0)
    (piece,) = requests.take_outgoing()
    assert isinstance(piece, m.ObjectGet)
    requests.cancel(plain)
    requests.cancel(waiting)
    requests.cancel(12345)
    assert requests.pending_count == 0
    assert requests.receive(m.ObjectData(piece.request, OBJECT, [b"x"]), 11.0) == []


def test_what_is_told_follows_a_hello() -> None:
    requests = make()
    requests.tell(m.StoreStatusRequest(7), 0.0)
    requests.tell(m.Shutdown("enough"), 0.0)
    hello, asked, shutdown = requests.take_outgoing()
    assert isinstance(hello, m.Hello)
    assert (asked, shutdown) == (m.StoreStatusRequest(7), m.Shutdown("enough"))


def test_unanswered_requests_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "PENDING_MAX", 2)
    requests = make()
    requests.get(OBJECT, 0.0)
    requests.put(OBJECT, ME, [b"x"], 0.0)
    with pytest.raises(TooManyRequestsError, match="2 requests"):
        requests.delete([OBJECT], ME, 0.0)


class _ForgetfulStore:
    """Answers correctly when it answers; restarts and forgets who said hello."""

    def __init__(self) -> None:
        self.objects: dict[bytes, list[object]] = {}
        self.greeted = False
        self.incarnation = 0

    def restart(self) -> None:
        self.greeted = False
        self.incarnation += 1

    def answer(self, message: m.Message) -> m.Message:
        if isinstance(message, m.Hello):
            self.greeted = True
            return m.Welcome(self.incarnation.to_bytes(16, "little"), hello_number=message.hello_number)
        if not self.greeted:
            return m.UnknownPeer()
        if isinstance(message, m.ObjectPut):
            self.objects[message.id] = message.buffers
            return m.ObjectPutReply(message.request)
        if isinstance(message, m.ObjectDelete):
            for object_id in message.ids:
                self.objects.pop(object_id, None)
            return m.ObjectDeleteReply(message.request)
        assert isinstance(message, m.ObjectGet)
        buffers = self.objects.get(message.id)
        return m.ObjectData(message.request, message.id, buffers or [], buffers is None)


@pytest.mark.parametrize("seed", range(50))
def test_over_a_link_that_loses_and_delays_every_request_completes_once_and_deletes_stay_deleted(seed: int) -> None:
    chance = random.Random(seed)
    store, requests, now = _ForgetfulStore(), make(timeout_seconds=200.0), 0.0
    to_store: list[m.Message] = []
    to_us: list[m.Message] = []
    open_requests: dict[int, tuple[str, bytes]] = {}
    live: set[bytes] = set()

    def settle(completions: list[rules.Completion]) -> None:
        for completion in completions:
            if isinstance(completion, StoreChanged):
                continue
            open_requests.pop(completion.request)
            assert not isinstance(completion, Refused | TimedOut)

    for step in range(400):
        now += chance.random()
        if step < 200:
            roll = chance.random()
            if roll < 0.3:
                object_id = chance.randbytes(16)
                live.add(object_id)
                open_requests[requests.put(object_id, ME, [object_id], now)] = ("put", object_id)
            elif roll < 0.5 and live:
                object_id = chance.choice(sorted(live))
                live.remove(object_id)
                open_requests[requests.delete([object_id], ME, now)] = ("delete", object_id)
            elif roll < 0.6 and live:
                object_id = chance.choice(sorted(live))
                open_requests[requests.get(object_id, now)] = ("get", object_id)
            elif roll < 0.65:
                store.restart()
            elif roll < 0.75:
                # A connection breaks: what was under way in both directions is lost, a prefix may have arrived.
                del to_store[chance.randint(0, len(to_store)) :]
                del to_us[chance.randint(0, len(to_us)) :]
        to_store += requests.take_outgoing()
        for _ in range(chance.randint(0, 8)):
            if to_store:
                to_us.append(store.answer(to_store.pop(0)))
        for _ in range(chance.randint(0, 8)):
            if to_us:
                settle(requests.receive(to_us.pop(0), now))
        settle(requests.tick(now))
    assert not open_requests
    assert requests.next_deadline() == float("inf")
    assert set(store.objects) == live


# --- segments

PLACE = bytes(range(24))


def test_who_introduces_itself_learns_of_segments_before_it_asks_for_anything() -> None:
    requests = make()
    requests.introduce(0.0)
    requests.introduce(0.1)
    (hello,) = requests.take_outgoing()
    assert isinstance(hello, m.Hello)
    assert (requests.store_incarnation, requests.segment_offer) == (b"", b"")
    requests.receive(m.Welcome(STORE, hello_number=hello.hello_number, segment_offer=b"offer"), 0.2)
    assert (requests.store_incarnation, requests.segment_offer) == (STORE, b"offer")
    assert requests.next_deadline() == float("inf")


def test_a_put_may_say_where_the_bytes_are() -> None:
    requests = greeted()
    number = requests.put(OBJECT, ME, (), 0.0, name="matrix", place=PLACE)
    assert requests.take_outgoing() == [m.ObjectPut(number, OBJECT, ME, [], "matrix", PLACE)]
    assert requests.pending_bytes == 0
    refusal = m.ObjectPutReply(number, m.ObjectStatus.NO_SEGMENT, "it is not there")
    assert requests.receive(refusal, 0.1) == [Refused(number, m.ObjectStatus.NO_SEGMENT, "it is not there")]


def test_a_get_that_can_map_may_be_told_a_place() -> None:
    requests = greeted()
    number = requests.get(OBJECT, 0.0, mappable=True)
    assert requests.take_outgoing() == [m.ObjectGet(number, OBJECT, mappable=True)]
    assert requests.receive(m.ObjectData(number, OBJECT, place=PLACE), 0.1) == [Done(number, [], PLACE)]


def test_the_end_of_an_owner_is_told_until_it_is_answered_however_long_that_takes() -> None:
    requests = greeted()
    number = requests.end_owner(b"a" * 16, 0.0)
    assert requests.take_outgoing() == [m.ObjectDelete(number, b"a" * 16, ())]
    told = 0
    now = 0.0
    while now < 10 * 60.0:
        now = requests.next_deadline()
        assert requests.tick(now) == []
        for message in requests.take_outgoing():
            if isinstance(message, m.Hello):
                welcome(requests, now, message)
            told += isinstance(message, m.ObjectDelete)
    assert told > 10
    assert requests.receive(m.ObjectDeleteReply(number), now) == [Done(number)]
    assert requests.next_deadline() == float("inf")


def test_an_owner_that_lives_after_all_is_not_ended_any_more() -> None:
    requests = greeted()
    number = requests.end_owner(b"a" * 16, 0.0)
    other = requests.end_owner(b"b" * 16, 0.0)
    assert requests.keep_owner(b"a" * 16) == [number]
    assert requests.pending_count == 1
    assert requests.receive(m.ObjectDeleteReply(number), 1.0) == []
    assert requests.receive(m.ObjectDeleteReply(other), 1.0) == [Done(other)]
    assert requests.next_deadline() == float("inf")


def test_a_delete_of_nothing_is_refused_because_it_would_end_the_owner() -> None:
    with pytest.raises(ValueError, match="nothing"):
        make().delete([], ME, 0.0)


def test_a_message_that_cannot_be_sent_refuses_its_request_alone() -> None:
    requests = greeted()
    first = requests.put(OBJECT, ME, [b"a"], 0.0)
    second = requests.get(OBJECT, 0.0)
    put, get = requests.take_outgoing()
    [refused] = requests.refuse(put, "its name is no text", 0.0)
    assert refused == Refused(first, m.ObjectStatus.MALFORMED, "its name is no text")
    assert requests.refuse(put, "again", 0.0) == []
    assert requests.refuse(m.Hello(m.Role.CLIENT, "me", ME), "no request at all", 0.0) == []
    assert isinstance(get, m.ObjectGet)
    assert requests.receive(m.ObjectData(get.request, OBJECT, [b"a"]), 0.0) == [Done(second, [b"a"])]
