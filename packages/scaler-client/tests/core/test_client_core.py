"""The client core against a scheduler that is one `Session` and the test itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import pytest

from scaler.core import ClientCore, effects, events, task_sender, tasks
from scaler.core.cancellation import Cancellation
from scaler.core.client_core import Submission
from scaler.core.task_history import FEW, Before
from scaler.core.task_sender import BATCH_TASKS_MIN, HOLD_SECONDS, PIPELINE_TASKS, WINDOW_BYTES, WINDOW_TASKS
from scaler.core.tasks import AGAIN_TASKS_MAX, BATCH_TASKS_MAX, NumberQueue, Task
from scaler.errors import ClientQuitException, ConnectionRefusedByScheduler, DisconnectedError
from scaler_protocol.session import sequencing
from scaler_protocol.testing.session_peer import SessionPeer
from scaler_protocol.wire import graph_portions
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.call_options import NO_OPTIONS, CallOptions, encode_record, join_records
from scaler_protocol.wire.columns import Packed
from scaler_protocol.wire.envelope import Envelope
from scaler_protocol.wire.task_history import Failures, read_history
from scaler_protocol.wire.task_lists import PORTION_ROWS

CLIENT = b"c" * 16
FUNCTION = b"f" * 16
OBJECT_ID = b"o" * 16


class Scheduler:
    """Talks to one core; `sent` has what the core sent since the last look."""

    def __init__(self, core: ClientCore) -> None:
        self.core = core
        self.peer = SessionPeer()
        self.effects: list[effects.Effect] = []

    def exchange(self, now: float) -> list[m.Message]:
        """Take what the core has sent; keep other effects."""
        sent: list[m.Message] = []
        for effect in self.core.take_effects():
            if isinstance(effect, effects.Send):
                self.peer.receive(effect.envelope, effect.message, now)
                sent.append(effect.message)
            else:
                self.effects.append(effect)
        self.core.check_invariants()
        return sent

    def welcome(self, now: float, *, resumed: bool = False, credit: int = -1) -> list[m.Message]:
        self.core.handle(events.Incoming(*self.peer.welcome(resumed=resumed, task_credit=credit)), now)
        return self.exchange(now)

    def begin_anew(self, now: float) -> float:
        """Another scheduler comes, which knows of nothing. Return when it has answered: what leaves then is not taken."""
        self.peer = SessionPeer()
        while self.peer.hello is None:
            now += 0.5
            self.core.handle(events.Tick(), now)
            self.exchange(now)
        self.core.handle(events.Incoming(*self.peer.welcome(resumed=False, task_credit=-1)), now)
        return now

    def send(self, message: m.Message, now: float) -> list[m.Message]:
        self.core.handle(events.Incoming(*self.peer.say(message)), now)
        return self.exchange(now)

    def answer(self, numbers: list[int], now: float, **columns: Any) -> list[m.Message]:
        payloads = columns.pop("payloads", [b"P%d" % number for number in numbers])
        batch = m.ResultBatch(CLIENT, numbers, [1] * len(numbers), Packed.of(payloads), **columns)
        return self.send(batch, now)

    def take(self, kind: type[Any]) -> list[Any]:
        found = [effect for effect in self.effects if isinstance(effect, kind)]
        self.effects = [effect for effect in self.effects if not isinstance(effect, kind)]
        return found


@pytest.fixture
def core() -> Iterator[ClientCore]:
    core = ClientCore(CLIENT, m.Hello(m.Role.CLIENT, "c", CLIENT), address="tcp://there:1", timeout_seconds=20.0)
    core.define_function(FUNCTION, b"body", "module.name")
    yield core
    core.check_invariants()


@pytest.fixture
def scheduler(core: ClientCore) -> Scheduler:
    """A scheduler with a session."""
    scheduler = Scheduler(core)
    core.start(0.0)
    assert isinstance(scheduler.exchange(0.0)[0], m.Hello)
    scheduler.welcome(0.1)
    assert scheduler.take(effects.Connected)
    return scheduler


def submit(core: ClientCore, count: int = 1, **properties: Any) -> list[int]:
    group = core.group(**properties)
    return [core.submit(group, FUNCTION, b"payload%d" % i, (), f"future{i}") for i in range(count)]


def test_tasks_leave_together_behind_their_function(core: ClientCore, scheduler: Scheduler) -> None:
    submit(core, 3)
    core.flush()
    definition, batch = scheduler.exchange(0.2)
    assert isinstance(definition, m.FunctionDefine)
    assert definition.ids == (FUNCTION,)
    assert definition.names == ("module.name",)
    assert isinstance(batch, m.TaskBatch)
    assert list(batch.numbers) == [1, 2, 3]
    assert batch.functions == (FUNCTION,)
    assert batch.payloads.split() == [b"payload0", b"payload1", b"payload2"]


def test_a_function_is_defined_once_per_session(core: ClientCore, scheduler: Scheduler) -> None:
    submit(core)
    core.flush()
    scheduler.exchange(0.2)
    submit(core)
    core.flush()
    assert [type(message) for message in scheduler.exchange(0.3)] == [m.TaskBatch]


def batches(messages: list[m.Message]) -> list[int]:
    """Return how many tasks each batch among these has."""
    return [len(message.numbers) for message in messages if isinstance(message, m.TaskBatch)]


def test_a_few_tasks_are_held_back_while_many_are_under_way(core: ClientCore, scheduler: Scheduler) -> None:
    numbers = submit(core, PIPELINE_TASKS + 10)
    core.flush()
    scheduler.exchange(0.2)
    submit(core, 3)
    assert batches(scheduler.answer(numbers[:5], 0.3)) == [], "a result is no reason to send three tasks"
    assert core.next_deadline() == 0.3 + HOLD_SECONDS
    submit(core, 2)
    assert batches(scheduler.answer(numbers[5:6], 0.3 + HOLD_SECONDS / 2)) == []
    core.handle(events.Tick(), 0.3 + HOLD_SECONDS)
    assert batches(scheduler.exchange(0.31)) == [5]
    assert core.next_deadline() > 1.0


def test_enough_tasks_for_a_batch_are_not_held_back(core: ClientCore, scheduler: Scheduler) -> None:
    numbers = submit(core, 2 * PIPELINE_TASKS)
    core.flush()
    scheduler.exchange(0.2)
    submit(core, BATCH_TASKS_MIN)
    assert batches(scheduler.answer(numbers[:5], 0.3)) == [BATCH_TASKS_MIN]


def test_no_task_is_held_back_once_few_are_under_way(core: ClientCore, scheduler: Scheduler) -> None:
    numbers = submit(core, PIPELINE_TASKS)
    core.flush()
    scheduler.exchange(0.2)
    submit(core, 3)
    assert batches(scheduler.answer(numbers[:5], 0.3)) == [3]


def test_a_flush_sends_what_is_held_back(core: ClientCore, scheduler: Scheduler) -> None:
    numbers = submit(core, PIPELINE_TASKS + 10)
    core.flush()
    scheduler.exchange(0.2)
    submit(core, 3)
    scheduler.answer(numbers[:5], 0.3)
    core.flush()
    assert batches(scheduler.exchange(0.3)) == [3]
    assert core.next_deadline() > 1.0


class Function(NamedTuple):
    """A function as whoever submits its tasks has it."""

    function_id: bytes = FUNCTION
    body: bytes = b"body"
    name: str = "module.name"


PLAIN = Function()


def submissions(core: ClientCore, numbers: list[int], function: Function = PLAIN) -> list[Submission]:
    group = core.group()
    return [(number, function, Task(group, function.function_id, b"P", (), f"future{number}")) for number in numbers]


def test_submissions_define_their_function_and_leave_at_once_where_nothing_is_under_way(
    core: ClientCore, scheduler: Scheduler
) -> None:
    other = Function(b"g" * 16, b"another body", "module.other")
    core.submit_all(submissions(core, [1, 2, 3], other))
    definition, batch = scheduler.exchange(0.2)
    assert isinstance(definition, m.FunctionDefine)
    assert (definition.ids, definition.names) == ((other.function_id,), (other.name,))
    assert isinstance(batch, m.TaskBatch)
    assert list(batch.numbers) == [1, 2, 3]
    core.submit_all(submissions(core, [4, 5], other))
    assert scheduler.exchange(0.3) == []
    assert core.snapshot().waiting == (4, 5)


def test_submissions_leave_as_soon_as_there_are_enough_for_a_batch(core: ClientCore, scheduler: Scheduler) -> None:
    submit(core)
    core.flush()
    scheduler.exchange(0.2)
    core.submit_all(submissions(core, [core.take_number() for _ in range(2 * BATCH_TASKS_MIN + 5)]))
    assert batches(scheduler.exchange(0.3)) == [BATCH_TASKS_MIN, BATCH_TASKS_MIN]
    assert len(core.snapshot().waiting) == 5


def test_submissions_of_several_threads_may_come_in_any_order(core: ClientCore, scheduler: Scheduler) -> None:
    core.submit_all(submissions(core, [3, 1, 4, 2]))
    assert [list(batch.numbers) for batch in scheduler.exchange(0.2) if isinstance(batch, m.TaskBatch)] == [
        [1, 2, 3, 4]
    ]


def test_a_message_sent_ahead_is_the_one_the_core_would_send(core: ClientCore, scheduler: Scheduler) -> None:
    submit(core)
    core.flush()
    scheduler.exchange(0.2)
    ((number, _, task),) = submissions(core, [core.take_number()])
    found = core.message_ahead(number, task)
    assert found is not None
    envelope, message = found
    assert scheduler.peer.receive(envelope, message, 0.3), "its number is the next one"
    core.submit_ahead(number, task, message)
    assert core.snapshot().unanswered == (1, number)
    assert scheduler.exchange(0.3) == []
    scheduler.answer([number], 0.4)
    assert [completed.tokens for completed in scheduler.take(effects.Completed)] == [[task.token]]


def test_nothing_is_sent_ahead_of_tasks_that_wait_or_of_an_unknown_function(
    core: ClientCore, scheduler: Scheduler
) -> None:
    ((number, _, task),) = submissions(core, [core.take_number()])
    assert core.message_ahead(number, task) is None, "the scheduler does not know the function"
    submit(core)
    core.flush()
    scheduler.exchange(0.2)
    assert core.message_ahead(number, task) is not None
    submit(core)
    assert core.message_ahead(number, task) is None, "another task waits"


def test_effects_come_in_the_order_they_were_decided(core: ClientCore, scheduler: Scheduler) -> None:
    submit(core)
    core.flush()
    core.cancel([1])
    submit(core)
    core.flush()
    core.cancel([2])
    kinds = [
        type(effect.message) if isinstance(effect, effects.Send) else type(effect) for effect in core.take_effects()
    ]
    assert kinds == [m.FunctionDefine, m.TaskBatch, m.TaskCancel, m.TaskBatch, m.TaskCancel]


def test_groups_travel_apart(core: ClientCore, scheduler: Scheduler) -> None:
    submit(core)
    submit(core, depth=1)
    submit(core, capabilities=(("gpu", -1),))
    submit(core)
    core.flush()
    batches = [message for message in scheduler.exchange(0.2) if isinstance(message, m.TaskBatch)]
    assert [(batch.depth, batch.capabilities, list(batch.numbers)) for batch in batches] == [
        (0, (), [1, 4]),
        (1, (), [2]),
        (0, (("gpu", -1),), [3]),
    ]


def test_tasks_wait_for_the_session(core: ClientCore) -> None:
    scheduler = Scheduler(core)
    core.start(0.0)
    submit(core, 2)
    core.flush()
    assert [type(message) for message in scheduler.exchange(0.0)] == [m.Hello]
    kinds = [type(message) for message in scheduler.welcome(0.1)]
    assert kinds == [m.FunctionDefine, m.TaskBatch]


def test_answers_come_with_what_was_submitted(core: ClientCore, scheduler: Scheduler) -> None:
    submit(core, 2)
    core.flush()
    scheduler.exchange(0.2)
    scheduler.answer([2, 1], 0.3, statuses=[0, 1], durations=[7, 8])
    (completed,) = scheduler.take(effects.Completed)
    assert completed.tokens == ["future1", "future0"]
    assert list(completed.reported.statuses) == [0, 1]
    assert completed.payloads == [b"P2", b"P1"]
    assert core.unanswered_count == 0
    assert core.idle


def test_an_answer_comes_once(core: ClientCore, scheduler: Scheduler) -> None:
    submit(core)
    core.flush()
    scheduler.exchange(0.2)
    scheduler.answer([1], 0.3)
    scheduler.answer([1], 0.4)
    assert len(scheduler.take(effects.Completed)) == 1


def test_what_is_announced_again_leaves_in_smaller_batches(core: ClientCore, scheduler: Scheduler) -> None:
    """Each of these tasks costs the scheduler several times as much as a new one."""
    count = 2 * AGAIN_TASKS_MAX + 5
    submit(core, count)
    core.flush()
    scheduler.exchange(0.2)
    core.handle(events.Incoming(Envelope(0, 0, 0), m.UnknownPeer()), 0.4)
    scheduler.exchange(0.4)
    scheduler.peer.incarnation = b"t" * 16
    batches = [message for message in scheduler.welcome(0.5) if isinstance(message, m.TaskBatch)]
    assert [len(batch.numbers) for batch in batches] == [AGAIN_TASKS_MAX, AGAIN_TASKS_MAX, 5]
    assert {batch.flags for batch in batches} == {m.TaskFlag.REANNOUNCED}
    assert [number for batch in batches for number in batch.numbers] == list(range(1, count + 1))


def test_after_a_restart_everything_unanswered_is_announced_again(core: ClientCore, scheduler: Scheduler) -> None:
    submit(core, 3)
    core.flush()
    scheduler.exchange(0.2)
    scheduler.answer([2], 0.3)
    core.handle(events.Incoming(Envelope(0, 0, 0), m.UnknownPeer()), 0.4)
    scheduler.exchange(0.4)
    scheduler.peer.incarnation = b"t" * 16
    core.submit(core.group(), FUNCTION, b"new")
    messages = scheduler.welcome(0.5)
    assert [type(message) for message in messages] == [m.FunctionDefine, m.TaskBatch, m.TaskBatch]
    again, first = messages[1], messages[2]
    assert isinstance(again, m.TaskBatch)
    assert isinstance(first, m.TaskBatch)
    assert (list(again.numbers), again.flags) == ([1, 3], m.TaskFlag.REANNOUNCED)
    assert (list(first.numbers), first.flags) == ([4], 0)


def test_a_resumed_session_goes_on_where_it_was(core: ClientCore, scheduler: Scheduler) -> None:
    submit(core)
    core.flush()
    lost = core.take_effects()
    assert len(lost) == 2
    core.handle(events.Tick(), 5.0)
    scheduler.exchange(5.0)
    messages = scheduler.welcome(5.1, resumed=True)
    assert [type(message) for message in messages] == [m.FunctionDefine, m.TaskBatch]
    assert not messages[1].flags  # type: ignore[union-attr]


def test_silence_ends_every_task_in_bounded_time(core: ClientCore, scheduler: Scheduler) -> None:
    submit(core, 2)
    core.flush()
    scheduler.exchange(0.2)
    now = 0.2
    while not scheduler.take(effects.Abandoned) and now < 100:
        now = core.next_deadline()
        core.handle(events.Tick(), now)
        scheduler.exchange(now)
    assert now <= 20.5
    with pytest.raises(DisconnectedError, match=r"tcp://there:1 for 20\.. s"):
        submit(core)


def test_a_client_that_was_given_up_is_usable_again_when_the_scheduler_returns(
    core: ClientCore, scheduler: Scheduler
) -> None:
    submit(core)
    core.flush()
    scheduler.exchange(0.2)
    core.handle(events.Tick(), 30.0)
    # Should the session be resumed after all, the scheduler learns that nobody waits for the task any more.
    assert m.TaskCancel(CLIENT, [1]) in scheduler.exchange(30.0)
    assert scheduler.take(effects.Abandoned)
    scheduler.welcome(31.0, resumed=True)
    assert submit(core) == [2]


def test_goodbye_leaves_some_seconds_for_a_successor(core: ClientCore, scheduler: Scheduler) -> None:
    submit(core)
    core.flush()
    scheduler.exchange(0.2)
    core.handle(events.Incoming(*scheduler.peer.say_plain(m.Goodbye("maintenance"))), 1.0)
    core.handle(events.Tick(), 5.0)
    scheduler.exchange(5.0)
    assert not scheduler.take(effects.Abandoned)
    core.handle(events.Tick(), 11.1)
    scheduler.exchange(11.1)
    (abandoned,) = scheduler.take(effects.Abandoned)
    assert "maintenance" in abandoned.text


def test_refused_is_final(core: ClientCore) -> None:
    scheduler = Scheduler(core)
    core.start(0.0)
    submit(core)
    core.handle(events.Incoming(Envelope(0, 0, 0), m.Refused("wrong version")), 0.1)
    scheduler.exchange(0.1)
    (abandoned,) = scheduler.take(effects.Abandoned)
    assert abandoned.cause is effects.Cause.REFUSED
    with pytest.raises(ConnectionRefusedByScheduler, match="wrong version"):
        submit(core)
    assert core.next_deadline() == float("inf")


def test_a_key_that_is_not_let_in_any_more_is_final(core: ClientCore, scheduler: Scheduler) -> None:
    submit(core, 3)
    scheduler.exchange(0.2)
    core.handle(events.LinkRefused("the key was revoked"), 0.3)
    core.handle(events.LinkRefused("the key was revoked"), 0.4)
    scheduler.exchange(0.4)
    (abandoned,) = scheduler.take(effects.Abandoned)
    assert (len(abandoned.tokens), abandoned.cause) == (3, effects.Cause.REFUSED)
    assert "refuses this client: the key was revoked" in abandoned.text
    with pytest.raises(ConnectionRefusedByScheduler, match="the key was revoked"):
        submit(core)
    assert core.next_deadline() == float("inf")


def test_withdrawn_tasks_end_here_or_as_the_scheduler_says(core: ClientCore, scheduler: Scheduler) -> None:
    submit(core, 2)
    core.flush()
    scheduler.exchange(0.2)
    submit(core)
    core.withdraw([1, 2, 3, 99])
    cancel = next(message for message in scheduler.exchange(0.3) if isinstance(message, m.TaskCancel))
    (completed,) = scheduler.take(effects.Completed)
    assert list(completed.numbers) == [3]
    assert (list(cancel.numbers), cancel.waiting_only) == ([1, 2], True)
    scheduler.answer([2], 0.4, statuses=[m.Status.CANCELED])
    scheduler.answer([1], 0.4)
    assert [list(one.numbers) for one in scheduler.take(effects.Completed)] == [[2], [1]]


def test_a_new_scheduler_is_told_which_tasks_are_not_to_begin(core: ClientCore, scheduler: Scheduler) -> None:
    submit(core, 4)
    core.flush()
    scheduler.exchange(0.2)
    core.withdraw([1, 2, 3])
    scheduler.exchange(0.3)
    scheduler.answer([2], 0.4, statuses=[m.Status.CANCELED])
    core.handle(events.Incoming(Envelope(0, 0, 0), m.UnknownPeer()), 0.5)
    scheduler.exchange(0.5)
    sent = scheduler.welcome(0.6)
    assert [type(message) for message in sent] == [m.FunctionDefine, m.TaskBatch, m.TaskCancel]
    cancel = sent[2]
    assert isinstance(cancel, m.TaskCancel)
    assert (list(cancel.numbers), cancel.waiting_only) == ([1, 3], True)
    submit(core)
    core.flush()
    assert [type(message) for message in scheduler.exchange(0.7)] == [m.TaskBatch]


def test_cancel_stops_what_has_left_and_waits_for_the_confirmation(core: ClientCore, scheduler: Scheduler) -> None:
    submit(core, 2)
    core.flush()
    scheduler.exchange(0.2)
    assert core.cancel([2, 99]) == [2]
    (message,) = scheduler.exchange(0.3)
    assert message == m.TaskCancel(CLIENT, [2])
    scheduler.answer([2], 0.4, statuses=[m.Status.CANCELED])
    assert scheduler.take(effects.CancelConfirmed) == [effects.CancelConfirmed((2,))]
    assert not scheduler.take(effects.Completed)


@pytest.mark.parametrize("asked", ["before", "after"])
def test_tasks_of_a_job_are_announced_again_before_what_was_asked_about_it(
    core: ClientCore, scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    """A job that is closed takes no other tasks, and one without tasks may not be known any more."""
    submit(core, flags=int(m.TaskFlag.DETACHED))
    submit(core, flags=int(m.TaskFlag.DETACHED), depth=1)
    close = m.JobRequest(7, "close", "job")
    if asked == "before":
        core.ask_job("end of the block", close)
    core.flush()
    scheduler.exchange(0.2)
    core.handle(events.Incoming(Envelope(0, 0, 0), m.UnknownPeer()), 0.3)
    scheduler.exchange(0.3)
    monkeypatch.setattr(task_sender, "OUTBOX_BYTES_MAX", 1)
    sent = scheduler.welcome(0.4)
    if asked == "after":
        core.ask_job("end of the block", close)
        sent += scheduler.exchange(0.4)
    assert not any(isinstance(message, m.JobRequest) for message in sent), "a task has not left"
    monkeypatch.setattr(task_sender, "OUTBOX_BYTES_MAX", 1 << 20)
    core.handle(events.Tick(), 0.5)
    sent += scheduler.exchange(0.5)
    kinds = [type(message) for message in sent if isinstance(message, m.TaskBatch | m.JobRequest)]
    assert kinds == [m.TaskBatch, m.TaskBatch, m.JobRequest]
    scheduler.send(m.JobReply(7, json="[]"), 0.6)
    assert [one.token for one in scheduler.take(effects.JobAnswered)] == ["end of the block"]
    # Nothing is asked twice.
    core.handle(events.Tick(), 0.7)
    assert not any(isinstance(message, m.JobRequest) for message in scheduler.exchange(0.7))


def test_a_task_that_is_cancelled_before_a_new_scheduler_knows_it_is_over_at_once(
    core: ClientCore, scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Large tasks take a while until they have left once more. Nobody would confirm what the scheduler has not heard of."""
    core.hold_object(OBJECT_ID)
    submit(core)
    core.submit(core.group(depth=1), FUNCTION, b"payload", (OBJECT_ID,), "with an object")
    core.flush()
    scheduler.exchange(0.2)
    monkeypatch.setattr(task_sender, "OUTBOX_BYTES_MAX", 1)
    core.handle(events.Incoming(Envelope(0, 0, 0), m.UnknownPeer()), 0.3)
    scheduler.exchange(0.3)
    scheduler.welcome(0.3)
    (waits,) = core.snapshot().waiting
    assert waits == 2
    assert core.cancel([1, 2]) == [1, 2]
    sent = scheduler.exchange(0.4)
    assert [list(message.numbers) for message in sent if isinstance(message, m.TaskCancel)] == [[1]]
    assert core.unconfirmed_among([1, 2]) == [1]
    assert scheduler.take(effects.CancelConfirmed) == [effects.CancelConfirmed((2,))]
    assert scheduler.take(effects.DeleteObjects) == [effects.DeleteObjects((OBJECT_ID,))]


def test_a_task_cancelled_before_it_left_never_leaves(core: ClientCore, scheduler: Scheduler) -> None:
    submit(core, 3)
    core.cancel([2])
    core.flush()
    batch = scheduler.exchange(0.2)[-1]
    assert isinstance(batch, m.TaskBatch)
    assert list(batch.numbers) == [1, 3]
    assert scheduler.take(effects.CancelConfirmed)


def test_lists_of_workers_answer_whoever_asked_in_turn(core: ClientCore) -> None:
    scheduler = Scheduler(core)
    core.start(0.0)
    scheduler.exchange(0.0)
    core.ask_workers("before there is a session")
    scheduler.welcome(0.1)
    core.ask_workers("second")
    assert [message for message in scheduler.exchange(0.2) if isinstance(message, m.WorkerListRequest)]
    scheduler.effects.clear()
    few, more = m.WorkerList((b"a" * 16,), [0], ("w",)), m.WorkerList((b"a" * 16,) * 2, [0, 1], ("w", "x"))
    for answer in (few, more, more):
        scheduler.send(answer, 0.3)
    assert [(effect.token, effect.workers) for effect in scheduler.take(effects.WorkersListed)] == [
        ("before there is a session", few),
        ("second", more),
    ]


def test_a_scheduler_that_starts_anew_is_asked_again(core: ClientCore) -> None:
    scheduler = Scheduler(core)
    core.start(0.0)
    scheduler.exchange(0.0)
    scheduler.welcome(0.1)
    core.ask_workers("first")
    scheduler.exchange(0.2)
    scheduler.peer.incarnation = b"t" * 16
    core.handle(events.Incoming(Envelope(0, 0, 0), m.UnknownPeer()), 0.4)
    scheduler.exchange(0.4)
    assert m.WorkerListRequest() in scheduler.welcome(0.5)


def test_credit_is_asked_for_as_a_whole_and_spent(core: ClientCore) -> None:
    scheduler = Scheduler(core)
    core.start(0.0)
    scheduler.exchange(0.0)
    scheduler.welcome(0.1, credit=1)
    assert core.admission.allows(1)
    submit(core)
    assert not core.admission.allows(1)
    core.ask_credit(1)
    assert scheduler.exchange(0.2) == [m.CreditRequest(1)]
    core.ask_credit(3)
    assert scheduler.exchange(0.2) == [m.CreditRequest(3)]
    core.ask_credit(2)
    assert scheduler.exchange(0.2) == []
    scheduler.effects.clear()
    scheduler.send(m.CreditGrant(2), 0.3)
    assert scheduler.take(effects.CreditArrived)
    assert core.admission.allows(2)
    assert not core.admission.allows(3)


def test_a_task_that_is_cancelled_before_it_leaves_gives_its_permission_back(core: ClientCore) -> None:
    scheduler = Scheduler(core)
    core.start(0.0)
    scheduler.exchange(0.0)
    scheduler.welcome(0.1, credit=1)
    number = core.submit(core.group(), FUNCTION, b"payload")
    assert not core.admission.allows(1)
    assert core.cancel([number]) == [number]
    assert core.admission.allows(1)


def test_tasks_given_up_before_they_left_give_their_permission_back(core: ClientCore) -> None:
    scheduler = Scheduler(core)
    core.start(0.0)
    scheduler.exchange(0.0)
    scheduler.welcome(0.1, credit=2)
    submit(core)
    core.flush()
    scheduler.exchange(0.2)
    submit(core)
    core.handle(events.Tick(), 60.0)
    scheduler.exchange(60.0)
    scheduler.welcome(60.1, resumed=True)
    assert core.admission.allows(1)
    assert not core.admission.allows(2)


def test_what_was_asked_for_is_asked_again_of_a_new_scheduler(core: ClientCore) -> None:
    scheduler = Scheduler(core)
    core.start(0.0)
    scheduler.exchange(0.0)
    scheduler.welcome(0.1, credit=0)
    core.ask_credit(2)
    scheduler.exchange(0.2)
    core.handle(events.Incoming(Envelope(0, 0, 0), m.UnknownPeer()), 0.4)
    scheduler.exchange(0.4)
    assert m.CreditRequest(2) in scheduler.welcome(0.5, credit=0)


def test_objects_are_deleted_with_their_last_task(core: ClientCore, scheduler: Scheduler) -> None:
    for _ in range(2):
        core.hold_object(OBJECT_ID)
        core.submit(core.group(), FUNCTION, b"payload", (OBJECT_ID,))
    core.flush()
    batch = scheduler.exchange(0.2)[-1]
    assert isinstance(batch, m.TaskBatch)
    assert (list(batch.object_positions), batch.objects) == ([0, 1], (OBJECT_ID, OBJECT_ID))
    scheduler.answer([1], 0.3)
    assert not scheduler.take(effects.DeleteObjects)
    scheduler.answer([2], 0.4)
    assert scheduler.take(effects.DeleteObjects) == [effects.DeleteObjects((OBJECT_ID,))]


def test_tasks_and_graphs_say_how_large_their_objects_are(core: ClientCore, scheduler: Scheduler) -> None:
    other = b"u" * 16
    core.hold_object(OBJECT_ID, 5_000_000)
    core.hold_object(other)
    core.submit(core.group(), FUNCTION, b"payload", (other, OBJECT_ID))
    core.flush()
    batch = scheduler.exchange(0.2)[-1]
    assert isinstance(batch, m.TaskBatch)
    assert list(batch.object_sizes) == [0, 5_000_000]
    for object_id in (OBJECT_ID, other):
        core.hold_object(object_id)
    submit(core)
    core.submit(core.group(), FUNCTION, b"payload", (other,))
    core.hold_object(OBJECT_ID)
    graph = replace(graph_of(2, [1]), object_positions=[0], objects=(OBJECT_ID,))
    core.submit_graph(graph, ["last"])
    core.flush()
    *_, batch, portion = scheduler.exchange(0.3)
    assert isinstance(batch, m.TaskBatch)
    assert isinstance(portion, m.GraphSubmit)
    assert not len(batch.object_sizes)
    assert list(portion.object_sizes) == [5_000_000]


def test_a_refused_object_fails_its_tasks(core: ClientCore, scheduler: Scheduler) -> None:
    core.hold_object(OBJECT_ID)
    core.hold_object(OBJECT_ID)
    core.submit(core.group(), FUNCTION, b"payload", (OBJECT_ID,), "first")
    submit(core)
    core.handle(events.ObjectRefused(OBJECT_ID, "storage is full"), 0.2)
    core.submit(core.group(), FUNCTION, b"payload", (OBJECT_ID,), "second")
    scheduler.exchange(0.2)
    failed = scheduler.take(effects.Completed)
    assert [(one.tokens, list(one.reported.statuses), one.payloads) for one in failed] == [
        (["first"], [m.Status.STORAGE_FAILED], [b"storage is full"]),
        (["second"], [m.Status.STORAGE_FAILED], [b"storage is full"]),
    ]
    assert core.unanswered_count == 1


def test_a_task_that_needs_a_refused_object_is_not_sent_among_many(core: ClientCore, scheduler: Scheduler) -> None:
    core.hold_object(OBJECT_ID)
    core.hold_object(OBJECT_ID)
    core.handle(events.ObjectRefused(OBJECT_ID, "storage is full"), 0.2)
    plain = submissions(core, [core.take_number() for _ in range(BATCH_TASKS_MIN + 8)])
    number, function, task = plain[0]
    core.submit_all([(number, function, task._replace(objects=(OBJECT_ID,))), *plain[1:]])
    sent = [n for message in scheduler.exchange(0.2) if isinstance(message, m.TaskBatch) for n in message.numbers]
    assert sent == [number for number, _, _ in plain[1:]]
    (failed,) = scheduler.take(effects.Completed)
    assert (failed.tokens, list(failed.reported.statuses), failed.payloads) == (
        ["future1"],
        [m.Status.STORAGE_FAILED],
        [b"storage is full"],
    )
    # The reference that still holds it is the only use of it that is left.
    assert not scheduler.take(effects.DeleteObjects)
    core.release_objects((OBJECT_ID,))
    scheduler.exchange(0.3)
    assert scheduler.take(effects.DeleteObjects) == [effects.DeleteObjects((OBJECT_ID,))]


def test_a_task_that_fails_for_a_refused_object_spends_no_credit(core: ClientCore) -> None:
    scheduler = Scheduler(core)
    core.start(0.0)
    scheduler.exchange(0.0)
    scheduler.welcome(0.1, credit=1)
    core.hold_object(OBJECT_ID)
    core.hold_object(OBJECT_ID)
    core.handle(events.ObjectRefused(OBJECT_ID, "storage is full"), 0.2)
    (plain,) = submissions(core, [core.take_number()])
    core.submit_all([(plain[0], plain[1], plain[2]._replace(objects=(OBJECT_ID,)))])
    assert core.admission.credit_left == 1
    core.release_objects((OBJECT_ID,))


def test_a_submission_looks_at_no_other_task_while_an_object_is_refused(
    core: ClientCore, scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    core.hold_object(OBJECT_ID)
    core.handle(events.ObjectRefused(OBJECT_ID, "storage is full"), 0.2)

    def look_at_all(_: Cancellation) -> None:
        raise AssertionError("a submission looked at all tasks")

    monkeypatch.setattr(Cancellation, "fail_tasks_of_refused_objects", look_at_all)
    submit(core)
    core.submit_all(submissions(core, [core.take_number()]))
    core.flush()
    assert batches(scheduler.exchange(0.2)) == [2]


def test_tasks_behind_one_whose_sending_ends_the_session_are_abandoned(
    core: ClientCore, scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The first message, which defines the function, may be as large as it likes. The one behind it is too much.
    monkeypatch.setattr(sequencing, "message_bytes", lambda _: sequencing.OUTBOX_BYTES_MAX)
    core.hold_object(OBJECT_ID)
    all_of_them = submissions(core, [core.take_number() for _ in range(2 * BATCH_TASKS_MIN + 5)])
    number, function, task = all_of_them[-1]
    all_of_them[-1] = (number, function, task._replace(objects=(OBJECT_ID,)))
    core.submit_all(all_of_them)
    scheduler.exchange(0.2)
    assert core.unanswered_count == 0
    abandoned = scheduler.take(effects.Abandoned)
    assert [token for one in abandoned for token in one.tokens] == [task.token for _, _, task in all_of_them]
    assert {(one.cause, "cannot go on" in one.text) for one in abandoned} == {(effects.Cause.DISCONNECTED, True)}
    assert scheduler.take(effects.DeleteObjects) == [effects.DeleteObjects((OBJECT_ID,))]


def test_an_answer_in_storage_is_fetched_and_then_deleted(core: ClientCore, scheduler: Scheduler) -> None:
    submit(core, 2)
    core.flush()
    scheduler.exchange(0.2)
    scheduler.answer([1, 2], 0.3, payloads=[b"O" + OBJECT_ID, b"Pvalue"], object_positions=[0], objects=(OBJECT_ID,))
    assert scheduler.take(effects.FetchObject) == [effects.FetchObject(1, OBJECT_ID, "future0")]
    (inline,) = scheduler.take(effects.Completed)
    assert inline.tokens == ["future1"]
    assert core.unanswered_count == 1
    core.handle(events.ObjectFetched(1, [b"Pbig"]), 0.4)
    scheduler.exchange(0.4)
    (fetched,) = scheduler.take(effects.Completed)
    assert (fetched.tokens, fetched.payloads) == (["future0"], [[b"Pbig"]])
    assert scheduler.take(effects.DeleteObjects) == [effects.DeleteObjects((OBJECT_ID,))]


@pytest.mark.parametrize("end", ["cancelled", "given up"])
@pytest.mark.parametrize("is_of_job", [True, False])
def test_a_large_result_that_nobody_waits_for_stays_where_it_is_its_job_s(
    core: ClientCore, scheduler: Scheduler, end: str, is_of_job: bool
) -> None:
    """Storage refuses to delete it, together with all that is named beside it."""
    (number,) = submit(core, flags=int(m.TaskFlag.DETACHED) if is_of_job else 0)
    core.flush()
    scheduler.exchange(0.2)
    if end == "cancelled":
        assert core.cancel([number]) == [number]
    else:
        core.handle(events.Tick(), 30.0)
        scheduler.exchange(30.0)
        scheduler.welcome(30.1, resumed=True)
        assert scheduler.take(effects.Abandoned)
    # It was on its way already.
    scheduler.answer([number], 31.0, payloads=[b"O" + OBJECT_ID], object_positions=[0], objects=(OBJECT_ID,))
    deleted = [effects.DeleteObjects((OBJECT_ID,))]
    assert scheduler.take(effects.DeleteObjects) == ([] if is_of_job else deleted)
    assert not core._answers.ended_of_jobs


@pytest.mark.parametrize("end", ["fetched", "cancelled", "closed"])
@pytest.mark.parametrize("is_used", [False, True])
def test_an_answer_is_left_in_storage_until_somebody_asks(
    core: ClientCore, scheduler: Scheduler, end: str, is_used: bool
) -> None:
    submit(core, 1)
    core.flush()
    scheduler.exchange(0.2)
    scheduler.answer([1], 0.3, payloads=[b"O" + OBJECT_ID], object_positions=[0], objects=(OBJECT_ID,))
    assert scheduler.take(effects.FetchObject) == [effects.FetchObject(1, OBJECT_ID, "future0")]
    assert core.stored_value(1) == ("future0", OBJECT_ID)
    assert core.leave(1, "stands for it")
    assert not core.leave(1, "too late")
    assert (core.is_left(1), core.stored_value(1), core.unanswered_count) == (True, None, 0)
    assert core.unanswered_tokens() == ["stands for it"]
    core.check_invariants()
    if is_used:
        core.hold_object(OBJECT_ID)
    if end == "fetched":
        core.fetch_left(1, "future0")
        core.fetch_left(1, "once more")
        assert (core.is_left(1), core.unanswered_count) == (False, 1)
        core.handle(events.ObjectFetched(1, [b"Pbig"]), 0.4)
    elif end == "cancelled":
        assert core.cancel([1]) == [1]
    else:
        core.close(effects.Cause.CLOSED, "it ends")
    scheduler.exchange(0.4)
    if end == "fetched":
        (fetched,) = scheduler.take(effects.Completed)
        assert (fetched.tokens, fetched.payloads) == (["future0"], [[b"Pbig"]])
    elif end == "closed":
        (abandoned,) = scheduler.take(effects.Abandoned)
        assert abandoned.tokens == ["stands for it"]
    deleted = [effects.DeleteObjects((OBJECT_ID,))]
    assert scheduler.take(effects.DeleteObjects) == ([] if is_used else deleted)
    if is_used:
        # Its last use takes it along.
        core.release_objects((OBJECT_ID,))
        scheduler.exchange(0.5)
        assert scheduler.take(effects.DeleteObjects) == deleted
    assert core.unanswered_tokens() == []


def test_what_workers_have_stored_is_known_while_it_is_used(core: ClientCore) -> None:
    core.hold_object(b"sent")
    for _ in range(2):
        core.hold_object(OBJECT_ID)
        core.note_result(OBJECT_ID)
    core.check_invariants()
    assert core.stored_results == {OBJECT_ID}
    core.release_objects((OBJECT_ID, b"sent"))
    assert core.stored_results == {OBJECT_ID}
    core.release_objects((OBJECT_ID,))
    assert core.stored_results == set()


class TestAnswersThatOtherRowsRead:
    """The scheduler gives a large result of a graph's row to the client at once: its object has to outlive its readers."""

    def begin(self, core: ClientCore, scheduler: Scheduler, *, keeps: bool = False) -> None:
        core.submit_graph(graph_of(2, [0, 1]), ["zero", "one"], keeps=keeps)
        core.flush()
        scheduler.exchange(0.2)

    def answer(self, scheduler: Scheduler) -> None:
        scheduler.answer([1], 0.3, payloads=[b"O" + OBJECT_ID], object_positions=[0], objects=(OBJECT_ID,))

    def test_it_is_known_as_stored_by_a_worker_until_then(self, core: ClientCore, scheduler: Scheduler) -> None:
        self.begin(core, scheduler)
        self.answer(scheduler)
        assert core.stored_results == {OBJECT_ID}
        core.handle(events.ObjectFetched(1, [b"Pbig"]), 0.4)
        scheduler.answer([2], 0.4, payloads=[b"Psmall"])
        assert core.stored_results == set()

    def deleted(self, scheduler: Scheduler) -> bool:
        scheduler.exchange(0.5)
        return scheduler.take(effects.DeleteObjects) == [effects.DeleteObjects((OBJECT_ID,))]

    @pytest.mark.parametrize("fetched_first", [True, False])
    def test_one_that_is_fetched_is_deleted_when_both_are_over(
        self, core: ClientCore, scheduler: Scheduler, fetched_first: bool
    ) -> None:
        self.begin(core, scheduler)
        self.answer(scheduler)
        for fetches in (fetched_first, not fetched_first):
            assert not self.deleted(scheduler)
            if fetches:
                core.handle(events.ObjectFetched(1, [b"Pbig"]), 0.4)
            else:
                scheduler.answer([2], 0.4)
        assert self.deleted(scheduler)

    @pytest.mark.parametrize("order", ["graph, future", "future, graph"])
    def test_one_that_is_left_is_deleted_when_both_are_over(
        self, core: ClientCore, scheduler: Scheduler, order: str
    ) -> None:
        self.begin(core, scheduler)
        self.answer(scheduler)
        core.leave(1, "stands for it")
        core.hold_object(OBJECT_ID)
        for over in order.split(", "):
            assert not self.deleted(scheduler)
            if over == "graph":
                scheduler.answer([2], 0.4)
            else:
                core.cancel([1])
                core.release_objects((OBJECT_ID,))
        assert self.deleted(scheduler)

    def test_one_that_is_left_after_its_graph_is_over(self, core: ClientCore, scheduler: Scheduler) -> None:
        self.begin(core, scheduler)
        self.answer(scheduler)
        scheduler.answer([2], 0.4)
        core.leave(1, "stands for it")
        core.hold_object(OBJECT_ID)
        assert not self.deleted(scheduler)
        core.release_objects((OBJECT_ID,))
        assert self.deleted(scheduler)

    @pytest.mark.parametrize("when", ["before it came", "while it is fetched"])
    def test_one_that_is_cancelled_is_read_on(self, core: ClientCore, scheduler: Scheduler, when: str) -> None:
        self.begin(core, scheduler)
        if when == "before it came":
            core.cancel([1])
        self.answer(scheduler)
        if when == "while it is fetched":
            core.cancel([1])
        assert not self.deleted(scheduler)
        scheduler.answer([2], 0.4)
        assert self.deleted(scheduler)

    def test_one_that_is_kept_is_there_as_long_as_its_reference(self, core: ClientCore, scheduler: Scheduler) -> None:
        self.begin(core, scheduler, keeps=True)
        self.answer(scheduler)
        scheduler.answer([2], 0.4)
        # Whoever is told of the answer counts its use only then.
        core.hold_object(OBJECT_ID)
        assert not self.deleted(scheduler)
        core.release_objects((OBJECT_ID,))
        assert self.deleted(scheduler)

    def test_all_goes_with_the_client(self, core: ClientCore, scheduler: Scheduler) -> None:
        self.begin(core, scheduler)
        self.answer(scheduler)
        core.close(effects.Cause.CLOSED, "it ends")
        assert self.deleted(scheduler)

    def test_the_last_answer_is_needed_by_nobody_else(self, core: ClientCore, scheduler: Scheduler) -> None:
        self.begin(core, scheduler)
        scheduler.answer([2], 0.3)
        self.answer(scheduler)
        core.handle(events.ObjectFetched(1, [b"Pbig"]), 0.4)
        assert self.deleted(scheduler)


def test_an_answer_in_storage_stays_there_if_its_graph_keeps_it(core: ClientCore, scheduler: Scheduler) -> None:
    core.submit_graph(graph_of(3, [0, 1, 2]), ["a", "b", "c"], keeps=True)
    core.flush()
    scheduler.exchange(0.2)
    other_id = b"q" * 16
    payloads = [b"O" + OBJECT_ID, b"Pvalue", b"O" + other_id]
    statuses = [m.Status.SUCCESS, m.Status.SUCCESS, m.Status.FAILED]
    columns = {"statuses": statuses, "object_positions": [0, 2], "objects": (OBJECT_ID, other_id)}
    scheduler.answer([1, 2, 3], 0.3, payloads=payloads, **columns)
    # A failure is no value: its tokens want to know it.
    assert scheduler.take(effects.FetchObject) == [effects.FetchObject(3, other_id)]
    (completed,) = scheduler.take(effects.Completed)
    assert (completed.tokens, completed.payloads) == (["a", "b"], payloads[:2])
    assert not scheduler.take(effects.DeleteObjects)


def test_an_answer_that_storage_lost_is_a_failure(core: ClientCore, scheduler: Scheduler) -> None:
    submit(core)
    core.flush()
    scheduler.exchange(0.2)
    scheduler.answer([1], 0.3, payloads=[b"O" + OBJECT_ID], object_positions=[0], objects=(OBJECT_ID,))
    core.handle(events.ObjectFetchFailed(1, m.Status.MISSING_OBJECT, "gone"), 0.4)
    scheduler.exchange(0.4)
    (completed,) = scheduler.take(effects.Completed)
    assert (completed.reported.statuses, completed.payloads) == ([m.Status.MISSING_OBJECT], [b"gone"])


def test_a_large_failure_is_fetched_and_stays_a_failure(core: ClientCore, scheduler: Scheduler) -> None:
    submit(core)
    core.flush()
    scheduler.exchange(0.2)
    columns = {"statuses": [m.Status.FAILED], "object_positions": [0], "objects": (OBJECT_ID,)}
    scheduler.answer([1], 0.3, payloads=[b"O" + OBJECT_ID], **columns)
    assert scheduler.take(effects.FetchObject) == [effects.FetchObject(1, OBJECT_ID)]
    core.handle(events.ObjectFetched(1, [b"Pbig"]), 0.4)
    scheduler.exchange(0.4)
    (completed,) = scheduler.take(effects.Completed)
    assert (list(completed.reported.statuses), completed.payloads) == ([m.Status.FAILED], [[b"Pbig"]])
    assert scheduler.take(effects.DeleteObjects) == [effects.DeleteObjects((OBJECT_ID,))]


def test_what_needs_the_task_of_a_refused_object_fails_for_the_same_reason(
    core: ClientCore, scheduler: Scheduler
) -> None:
    core.hold_object(OBJECT_ID)
    needed = core.submit(core.group(), FUNCTION, b"payload", (OBJECT_ID,), "needed")
    free = core.submit(core.group(), FUNCTION, b"payload", (), "free")
    linked = replace(
        graph_of(3, [0, 1, 2]), dependency_counts=[1, 1, 1], dependencies=[3, 0, 4], earlier=[needed, free]
    )
    core.submit_graph(linked, ["behind", "further behind", "of the other"])
    core.flush()
    scheduler.exchange(0.2)
    core.handle(events.ObjectRefused(OBJECT_ID, "storage is full"), 0.3)
    scheduler.exchange(0.3)
    (failed,) = scheduler.take(effects.Completed)
    assert failed.tokens == ["needed", "behind", "further behind"]
    assert failed.payloads == [b"storage is full"] * 3
    assert list(failed.reported.statuses) == [m.Status.STORAGE_FAILED] * 3


class TestFailureOfSeveralRows:
    """Rows of a graph that failed for the same reason share the object that says so: the last one to read it deletes it."""

    @pytest.fixture(autouse=True)
    def graph(self, core: ClientCore, scheduler: Scheduler) -> None:
        core.submit_graph(graph_of(3, [0, 1, 2]), ["a", "b", "c"])
        core.flush()
        scheduler.exchange(0.2)

    def fail(self, scheduler: Scheduler) -> None:
        scheduler.answer(
            [1, 2, 3],
            0.3,
            payloads=[b"O" + OBJECT_ID] * 3,
            statuses=[m.Status.FAILED] * 3,
            object_positions=[0, 1, 2],
            objects=(OBJECT_ID,) * 3,
        )

    def test_it_is_deleted_when_all_have_it(self, core: ClientCore, scheduler: Scheduler) -> None:
        self.fail(scheduler)
        assert [fetch.number for fetch in scheduler.take(effects.FetchObject)] == [1, 2, 3]
        for number in (2, 1):
            core.handle(events.ObjectFetched(number, [b"Pbig"]), 0.4)
            scheduler.exchange(0.4)
            assert not scheduler.take(effects.DeleteObjects)
        core.handle(events.ObjectFetched(3, [b"Pbig"]), 0.4)
        scheduler.exchange(0.4)
        assert [one.tokens for one in scheduler.take(effects.Completed)] == [["b"], ["a"], ["c"]]
        assert scheduler.take(effects.DeleteObjects) == [effects.DeleteObjects((OBJECT_ID,))]

    def test_rows_that_are_cancelled_while_it_is_fetched_leave_it_to_the_others(
        self, core: ClientCore, scheduler: Scheduler
    ) -> None:
        self.fail(scheduler)
        core.cancel([1, 3])
        scheduler.exchange(0.4)
        assert not scheduler.take(effects.DeleteObjects)
        core.handle(events.ObjectFetched(2, [b"Pbig"]), 0.4)
        scheduler.exchange(0.4)
        assert scheduler.take(effects.DeleteObjects) == [effects.DeleteObjects((OBJECT_ID,))]

    def test_the_last_one_that_is_cancelled_deletes_it_once(self, core: ClientCore, scheduler: Scheduler) -> None:
        self.fail(scheduler)
        core.handle(events.ObjectFetched(2, [b"Pbig"]), 0.4)
        core.cancel([1, 3])
        scheduler.exchange(0.4)
        assert scheduler.take(effects.DeleteObjects) == [effects.DeleteObjects((OBJECT_ID,))]

    def test_rows_that_were_cancelled_before_leave_it_to_the_others(
        self, core: ClientCore, scheduler: Scheduler
    ) -> None:
        core.cancel([1])
        scheduler.exchange(0.25)
        self.fail(scheduler)
        assert [fetch.number for fetch in scheduler.take(effects.FetchObject)] == [2, 3]
        assert not scheduler.take(effects.DeleteObjects)
        core.cancel([2, 3])
        scheduler.exchange(0.4)
        assert scheduler.take(effects.DeleteObjects) == [effects.DeleteObjects((OBJECT_ID,))]

    def test_a_client_that_closes_deletes_it_once(self, core: ClientCore, scheduler: Scheduler) -> None:
        self.fail(scheduler)
        core.close(effects.Cause.CLOSED, "done")
        scheduler.exchange(0.4)
        assert scheduler.take(effects.DeleteObjects) == [effects.DeleteObjects((OBJECT_ID,))]


def test_a_client_stops_nothing_in_a_cluster_that_ends(core: ClientCore, scheduler: Scheduler) -> None:
    submit(core)
    core.flush()
    scheduler.exchange(0.2)
    core.handle(events.Incoming(*scheduler.peer.say_plain(m.Shutdown("SIGTERM received"))), 0.3)
    assert not any(isinstance(message, m.TaskCancel) for message in scheduler.exchange(0.3))
    (abandoned,) = scheduler.take(effects.Abandoned)
    assert abandoned.cause is effects.Cause.DISCONNECTED
    assert "has ended" in abandoned.text
    with pytest.raises(DisconnectedError, match="has ended"):
        submit(core)


def graph_of(rows: int, wanted: list[int]) -> m.GraphSubmit:
    return m.GraphSubmit(
        client=CLIENT,
        first_number=0,
        functions=(FUNCTION,),
        payloads=Packed.of([b"row"] * rows),
        dependency_counts=[0] + [1] * (rows - 1),
        dependencies=list(range(rows - 1)),
        wanted=wanted,
    )


def asking(seconds: float) -> bytes:
    return encode_record(NO_OPTIONS.with_given({"deadline_seconds": seconds}, "test"))


def test_a_deadline_ends_a_task_while_no_scheduler_answers_and_the_next_one_is_told(
    core: ClientCore, scheduler: Scheduler
) -> None:
    (number,) = submit(core, options=asking(6.0))
    (without,) = submit(core)
    core.flush()
    scheduler.exchange(0.2)
    core.handle(events.Tick(), 1.0)
    assert core.next_deadline() <= 7.0
    for now in (3.0, 5.0, 6.9):
        core.handle(events.Tick(), now)
        scheduler.exchange(now)
    assert not scheduler.take(effects.Completed)
    core.handle(events.Tick(), 7.0)
    (stop,) = [message for message in scheduler.exchange(7.0) if isinstance(message, m.TaskCancel)]
    assert list(stop.numbers) == [number]
    (completed,) = scheduler.take(effects.Completed)
    assert list(completed.numbers) == [number]
    assert completed.tokens == ["future0"]
    assert list(completed.reported.statuses) == [m.Status.TIMED_OUT]
    text = bytes(completed.payloads[0]).decode()
    assert (
        "6 s after it was submitted (deadline_seconds); the scheduler at tcp://there:1 has not answered for 6.9 s"
        in text
    )
    assert core.is_unanswered(without)
    # The scheduler is back, and says what it will of the task: nothing follows but the confirmation.
    scheduler.welcome(8.0, resumed=True)
    scheduler.answer([number], 8.1, payloads=[b"late"])
    assert not scheduler.take(effects.Completed)
    scheduler.answer([without], 8.2)
    assert [list(one.numbers) for one in scheduler.take(effects.Completed)] == [[without]]


def test_a_scheduler_that_answers_ends_tasks_itself(core: ClientCore, scheduler: Scheduler) -> None:
    (number,) = submit(core, options=asking(1.0))
    core.flush()
    scheduler.exchange(0.2)
    now = 0.2
    while now < 4.0:
        scheduler.send(m.Heartbeat(), now)
        now = max(now + 0.1, min(core.next_deadline(), now + 0.5))
        core.handle(events.Tick(), now)
        scheduler.exchange(now)
    assert core.is_unanswered(number)
    scheduler.answer([number], now)
    (completed,) = scheduler.take(effects.Completed)
    assert not len(completed.reported.statuses)


def test_a_deadline_ends_a_whole_graph_and_what_needs_a_task_while_no_scheduler_answers(
    core: ClientCore, scheduler: Scheduler
) -> None:
    graph = graph_of(3, [0, 2])
    graph.options = join_records([asking(5.0)])
    first = core.submit_graph(graph, ["first row", "last row"])
    core.flush()
    scheduler.exchange(0.2)
    for now in (0.3, 3.0, 5.0, 5.3):
        core.handle(events.Tick(), now)
        scheduler.exchange(now)
    (completed,) = scheduler.take(effects.Completed)
    assert list(completed.numbers) == [first, first + 2]
    assert list(completed.reported.statuses) == [m.Status.TIMED_OUT] * 2
    assert not core.unanswered_count


def asking_to_count(**options: Any) -> bytes:
    return encode_record(NO_OPTIONS.with_given(options, "test"))


def retry_notice(number: int, attempt: int, count: bytes) -> m.ResultBatch:
    return m.ResultBatch(CLIENT, [number], [attempt], Packed.of([count]), [m.Status.RETRY])


def linked_graph(options: bytes, rows: int = 1) -> m.GraphSubmit:
    """A graph whose first row needs a task that was submitted before; the last row is wanted."""
    counts, needs = [1] * rows, [rows, *range(rows - 1)]
    payloads = Packed.of([b"row"] * rows)
    graph = m.GraphSubmit(CLIENT, 0, (FUNCTION,), payloads, counts, needs, [rows - 1], earlier=[1])
    return replace(graph, options=join_records([options]))


def test_a_graph_that_is_submitted_anew_has_its_deadline_and_its_failures(
    core: ClientCore, scheduler: Scheduler
) -> None:
    """The scheduler, which was started anew, does not know what it needs any more, and asks for the values."""
    submit(core)
    first = core.submit_graph(linked_graph(asking_to_count(deadline_seconds=30, retries=3), rows=2), ["last row"])
    core.flush()
    scheduler.exchange(1.0)
    scheduler.send(retry_notice(first, 1, b"1"), 2.0)
    scheduler.send(retry_notice(first + 1, 4, b"2"), 3.0)
    scheduler.answer([first + 1], 11.0, payloads=[(1).to_bytes(8, "little")], statuses=[m.Status.SKIPPED])
    anew = linked_graph(asking_to_count(deadline_seconds=30, retries=3), rows=3)
    before = Before(first, {1: first, 2: first + 1})
    now = core.submit_graph(anew, ["last row"], before=before)
    core.flush()
    (sent,) = [message for message in scheduler.exchange(11.0) if isinstance(message, m.GraphSubmit)]
    assert not sent.flags & m.TaskFlag.REANNOUNCED
    history = read_history(sent.options, 1)
    assert history.waited == pytest.approx([9.0])
    assert history.failures == {now + 1: Failures(1, 1), now + 2: Failures(2, 4)}
    # Nobody answers any more: its time is over when it would have been.
    for at in (20.0, 29.0, 30.9):
        core.handle(events.Tick(), at)
        scheduler.exchange(at)
    assert core.is_unanswered(now + 2)
    core.handle(events.Tick(), 32.1)
    assert not core.is_unanswered(now + 2)


def test_a_graph_that_is_submitted_anew_without_such_options_says_nothing(
    core: ClientCore, scheduler: Scheduler
) -> None:
    first = core.submit_graph(linked_graph(b""), ["row"])
    core.flush()
    scheduler.exchange(1.0)
    scheduler.answer([first], 5.0, payloads=[(1).to_bytes(8, "little")], statuses=[m.Status.SKIPPED])
    core.submit_graph(linked_graph(b""), ["row"], before=Before(first, {0: first}))
    core.flush()
    (sent,) = [message for message in scheduler.exchange(5.0) if isinstance(message, m.GraphSubmit)]
    assert sent.options == b""


def given_back(scheduler: Scheduler) -> list[tuple[list[object], list[int]]]:
    """The tokens and statuses of what was completed."""
    completed = scheduler.take(effects.Completed)
    return [(one.tokens, list(one.reported.statuses)) for one in completed]


@pytest.mark.parametrize("is_confirmed", [False, True])
def test_what_needs_a_task_that_has_ended_here_is_given_back(
    core: ClientCore, scheduler: Scheduler, is_confirmed: bool
) -> None:
    """The scheduler would take that one for cancelled, and with it what needs it: its caller knows what it ended with."""
    (number,) = submit(core, options=asking(6.0))
    core.flush()
    scheduler.exchange(0.2)
    for now in (1.0, 3.0, 5.0, 7.0):
        core.handle(events.Tick(), now)
        scheduler.exchange(now)
    assert given_back(scheduler) == [(["future0"], [m.Status.TIMED_OUT])]
    if is_confirmed:
        # A scheduler that knows nothing of it says so by itself.
        scheduler.begin_anew(8.0)
        scheduler.exchange(15.0)
    core.hold_object(OBJECT_ID)
    graph = replace(linked_graph(b""), object_positions=[0], objects=(OBJECT_ID,), earlier=[number])
    first = core.submit_graph(graph, ["row"])
    core.flush()
    core.check_invariants()
    sent = [message for message in scheduler.exchange(15.0) if isinstance(message, m.GraphSubmit)]
    if is_confirmed:
        assert [one.first_number for one in sent] == [first]
        assert not given_back(scheduler)
        return
    assert not sent
    (completed,) = scheduler.take(effects.Completed)
    assert (completed.numbers, completed.tokens) == ([first], ["row"])
    assert list(completed.reported.statuses) == [m.Status.SKIPPED]
    assert completed.payloads == [number.to_bytes(8, "little")]
    assert scheduler.take(effects.DeleteObjects) == [effects.DeleteObjects((OBJECT_ID,))]
    assert not core.is_unanswered(first)


def test_what_needs_a_row_that_has_ended_here_is_given_back_as_long_as_its_graph_lives(
    core: ClientCore, scheduler: Scheduler
) -> None:
    """A graph leaves once more with its cancelled rows, for any scheduler that comes: each knows them as cancelled."""
    first = core.submit_graph(graph_of(3, [0, 1, 2]), ["a", "b", "c"])
    core.flush()
    scheduler.exchange(0.2)
    assert core.cancel([first]) == [first]
    now = scheduler.begin_anew(1.0)
    core.flush()
    scheduler.exchange(now)
    # More of the graph's numbers than those of the cancelled row: these are known, and the row waits for them.
    both = replace(linked_graph(b""), dependency_counts=[2], dependencies=[1, 2], earlier=[first, first + 1])
    core.submit_graph(both, ["of both"])
    core.submit_graph(replace(linked_graph(b""), earlier=[first + 1]), ["of the other"])
    core.flush()
    core.check_invariants()
    (sent,) = [message for message in scheduler.exchange(now) if isinstance(message, m.GraphSubmit)]
    assert list(sent.earlier) == [first + 1]
    (completed,) = scheduler.take(effects.Completed)
    assert (completed.tokens, list(completed.reported.statuses)) == (["of both"], [m.Status.SKIPPED])
    assert completed.payloads == [first.to_bytes(8, "little")]
    scheduler.answer([first + 1, first + 2], now)
    core.check_invariants()
    core.submit_graph(replace(linked_graph(b""), earlier=[first]), ["later"])
    core.flush()
    assert [one.earlier for one in scheduler.exchange(now) if isinstance(one, m.GraphSubmit)] == [[first]]


def test_what_is_given_back_counts_on_when_it_is_submitted_once_more(core: ClientCore, scheduler: Scheduler) -> None:
    options = asking_to_count(deadline_seconds=30, retries=3)
    (number,) = submit(core)
    first = core.submit_graph(linked_graph(options, rows=2), ["last row"])
    core.flush()
    scheduler.exchange(1.0)
    scheduler.send(retry_notice(first + 1, 4, b"2"), 3.0)
    scheduler.answer([first + 1], 11.0, payloads=[number.to_bytes(8, "little")], statuses=[m.Status.SKIPPED])
    core.cancel([number])
    second = core.submit_graph(
        linked_graph(options, rows=2), ["last row"], before=Before(first, {0: first, 1: first + 1})
    )
    assert given_back(scheduler)[-1] == (["last row"], [m.Status.SKIPPED])
    without = replace(linked_graph(options, rows=1), earlier=[], dependency_counts=[0], dependencies=[])
    third = core.submit_graph(without, ["last row"], before=Before(second, {0: second + 1}))
    core.flush()
    (sent,) = [message for message in scheduler.exchange(11.0) if isinstance(message, m.GraphSubmit)]
    history = read_history(sent.options, 1)
    # It has left when the time was told next, with the message at 3 s.
    assert history.waited == pytest.approx([8.0])
    assert history.failures == {third: Failures(2, 4)}


def test_a_task_whose_arguments_could_not_be_read_has_its_deadline_and_its_failures(
    core: ClientCore, scheduler: Scheduler
) -> None:
    (number,) = submit(core, options=asking_to_count(deadline_seconds=30, retries=3))
    core.flush()
    scheduler.exchange(1.0)
    core.handle(events.Tick(), 1.0)
    scheduler.exchange(1.0)
    scheduler.send(retry_notice(number, 2, b"1"), 5.0)
    sent = scheduler.answer([number], 11.0, payloads=[b"no"], statuses=[m.Status.UNREADABLE])
    (again,) = [message for message in sent if isinstance(message, m.TaskBatch)]
    assert not again.flags & m.TaskFlag.REANNOUNCED
    history = read_history(again.options, 1)
    assert history.waited == pytest.approx([10.0])
    assert history.failures == {number: Failures(1, 2)}


@pytest.mark.parametrize("how", ["alone", "ahead", "as graphs"])
def test_of_tasks_that_have_ended_no_time_is_kept(core: ClientCore, scheduler: Scheduler, how: str) -> None:
    """A program that submits one task after the other may do so for years."""
    submit(core)
    core.flush()
    scheduler.exchange(0.2)
    scheduler.answer([1], 0.2)
    for count in range(2 * FEW):
        now = 0.3 + count / 1000
        if how == "ahead":
            number = core.take_number()
            task = Task(core.group(options=asking(3600.0)), FUNCTION, b"payload", (), "future")
            found = core.message_ahead(number, task)
            assert found is not None
            scheduler.peer.receive(*found, now)
            core.submit_ahead(number, task, found[1])
        elif how == "alone":
            (number,) = submit(core, options=asking(3600.0))
            core.flush()
        else:
            graph = graph_of(1, [0])
            graph.options = join_records([asking(3600.0)])
            number = core.submit_graph(graph, ["row"])
            core.flush()
        scheduler.exchange(now)
        scheduler.answer([number], now)
    assert core._table.history.entries_count <= FEW + 10


@pytest.mark.parametrize("has_left", [True, False])
def test_a_cancelled_row_is_cancelled_where_its_graph_leaves_later(
    core: ClientCore, scheduler: Scheduler, has_left: bool
) -> None:
    """What needs it waits for nothing else, and would never end."""
    core.submit_graph(graph_of(2, [0, 1]), ["blocked", "behind"])
    if has_left:
        core.flush()
        scheduler.exchange(0.2)
    assert core.cancel([1]) == [1]
    now = 1.0
    sent: list[m.Message] = []
    if has_left:
        assert m.TaskCancel(CLIENT, [1]) in scheduler.exchange(0.3)
        # A new scheduler, which knows of nothing.
        now = scheduler.begin_anew(now)
        sent = scheduler.exchange(now)
    core.flush()
    sent += scheduler.exchange(now + 0.1)
    kinds = [type(message) for message in sent if isinstance(message, m.GraphSubmit | m.TaskCancel)]
    assert kinds == [m.GraphSubmit, m.TaskCancel]
    cancel = next(message for message in sent if isinstance(message, m.TaskCancel))
    assert list(cancel.numbers) == [1]


def test_a_graph_takes_a_range_of_numbers(core: ClientCore, scheduler: Scheduler) -> None:
    submit(core)
    first = core.submit_graph(graph_of(3, [1, 2]), ["one", "two"])
    assert first == 2
    assert submit(core) == [5]
    core.flush()
    graph = scheduler.exchange(0.2)[-1]
    assert isinstance(graph, m.GraphSubmit)
    assert graph.first_number == 2
    scheduler.answer([4, 3], 0.3)
    (completed,) = scheduler.take(effects.Completed)
    assert completed.tokens == ["two", "one"]
    assert not core.snapshot().graphs


def test_a_graph_is_announced_again_with_what_is_still_wanted(core: ClientCore, scheduler: Scheduler) -> None:
    core.submit_graph(graph_of(3, [1, 2]), ["one", "two"])
    core.flush()
    scheduler.exchange(0.2)
    scheduler.answer([2], 0.3)
    core.handle(events.Incoming(Envelope(0, 0, 0), m.UnknownPeer()), 0.4)
    scheduler.exchange(0.4)
    graph = scheduler.welcome(0.5)[-1]
    assert isinstance(graph, m.GraphSubmit)
    assert (list(graph.wanted), graph.flags) == ([2], m.TaskFlag.REANNOUNCED)


def test_a_large_graph_leaves_in_portions(
    core: ClientCore, scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph_portions, "PORTION_ROWS", 3)
    core.submit_graph(graph_of(8, [7, 0, 4]), ["seven", "zero", "four"])
    core.flush()
    portions = [message for message in scheduler.exchange(0.2) if isinstance(message, m.GraphSubmit)]
    assert [(one.first_row, len(one.payloads), list(one.wanted), one.row_count) for one in portions] == [
        (0, 3, [0], 8),
        (3, 3, [1], 8),
        (6, 2, [1], 8),
    ]
    scheduler.answer([1, 5, 8], 0.3)
    (completed,) = scheduler.take(effects.Completed)
    assert completed.tokens == ["zero", "four", "seven"]


def test_rows_cancelled_between_portions(
    core: ClientCore, scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the scheduler knows of is stopped there; what it does not know of never leaves as wanted."""
    monkeypatch.setattr(graph_portions, "PORTION_ROWS", 2)
    monkeypatch.setattr(task_sender, "OUTBOX_BYTES_MAX", 1)
    core.submit_graph(graph_of(6, [1, 3, 5]), ["one", "three", "five"])
    core.flush()
    monkeypatch.setattr(task_sender, "OUTBOX_BYTES_MAX", 1 << 20)
    core.cancel([2, 4])
    core.flush()
    _, portion, cancel, *portions = scheduler.exchange(0.3)
    assert scheduler.take(effects.CancelConfirmed) == [effects.CancelConfirmed((4,))]
    assert cancel == m.TaskCancel(CLIENT, [2])
    assert [list(one.wanted) for one in (portion, *portions) if isinstance(one, m.GraphSubmit)] == [[1], [], [1]]


def test_a_graph_given_up_between_portions_goes_no_further(
    core: ClientCore, scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph_portions, "PORTION_ROWS", 2)
    monkeypatch.setattr(task_sender, "OUTBOX_BYTES_MAX", 1)
    core.submit_graph(graph_of(6, [1, 5]), ["one", "five"])
    core.flush()
    monkeypatch.setattr(task_sender, "OUTBOX_BYTES_MAX", 1 << 20)
    core.cancel([2, 6])
    core.flush()
    _, portion, *rest = scheduler.exchange(0.3)
    assert isinstance(portion, m.GraphSubmit)
    assert rest == [m.TaskCancel(CLIENT, [1, 2])]
    assert not core.snapshot().graphs


def test_a_graph_that_had_left_in_part_begins_anew_with_a_new_scheduler(
    core: ClientCore, scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph_portions, "PORTION_ROWS", 2)
    monkeypatch.setattr(task_sender, "OUTBOX_BYTES_MAX", 1)
    core.submit_graph(graph_of(5, [4]), ["four"])
    core.flush()
    core.handle(events.Incoming(Envelope(0, 0, 0), m.UnknownPeer()), 0.4)
    scheduler.exchange(0.4)
    monkeypatch.setattr(task_sender, "OUTBOX_BYTES_MAX", 1 << 20)
    portions = [message for message in scheduler.welcome(0.5) if isinstance(message, m.GraphSubmit)]
    # No worker can hold any of it: this is no announcement of something known.
    assert [(one.first_row, one.flags) for one in portions] == [(0, 0), (2, 0), (4, 0)]


def test_cancelling_the_last_wanted_row_stops_the_whole_graph(core: ClientCore, scheduler: Scheduler) -> None:
    core.submit_graph(graph_of(3, [2]), ["two"])
    core.flush()
    scheduler.exchange(0.2)
    core.cancel([3])
    assert scheduler.exchange(0.3) == [m.TaskCancel(CLIENT, [1, 2, 3])]


def test_many_tasks_are_cancelled_in_portions(core: ClientCore, scheduler: Scheduler) -> None:
    rows = 2 * PORTION_ROWS + 5
    core.submit_graph(graph_of(rows, [rows - 1]), ["last"])
    core.flush()
    scheduler.exchange(0.2)
    core.cancel([rows])
    cancels = [message for message in scheduler.exchange(0.3) if isinstance(message, m.TaskCancel)]
    assert [len(cancel.numbers) for cancel in cancels] == [PORTION_ROWS, PORTION_ROWS, 5]
    assert [number for cancel in cancels for number in cancel.numbers] == list(range(1, rows + 1))


def test_closing_abandons_everything_and_says_goodbye(core: ClientCore, scheduler: Scheduler) -> None:
    submit(core, 2)
    core.close(effects.Cause.CLOSED, "done")
    core.close(effects.Cause.CLOSED, "again")
    assert scheduler.exchange(0.2) == [m.Goodbye("done")]
    (abandoned,) = scheduler.take(effects.Abandoned)
    assert abandoned.tokens == ["future0", "future1"]
    with pytest.raises(ClientQuitException, match="done"):
        submit(core)


def test_large_batches_are_cut(core: ClientCore, scheduler: Scheduler) -> None:
    group = core.group()
    for _ in range(10):
        core.submit(group, FUNCTION, bytes(1024 * 1024))
    submit(core, 5000)
    core.flush()
    batches = [message for message in scheduler.exchange(0.2) if isinstance(message, m.TaskBatch)]
    numbers = [number for batch in batches for number in batch.numbers]
    assert numbers == list(range(1, 5011))
    assert max(len(batch.numbers) for batch in batches) <= BATCH_TASKS_MAX < 5000
    assert max(len(batch.payloads.data) for batch in batches) <= 5 * 1024 * 1024 + 100


def test_an_unacknowledged_flood_waits_in_the_client(core: ClientCore, scheduler: Scheduler) -> None:
    group = core.group()
    for _ in range(100):
        core.submit(group, FUNCTION, bytes(1024 * 1024))
    core.flush()
    first = scheduler.exchange(0.2)
    assert 60 <= sum(len(message.numbers) for message in first if isinstance(message, m.TaskBatch)) < 100
    # A heartbeat acknowledges what was received; the rest follows.
    core.handle(events.Incoming(*scheduler.peer.say_plain(m.Heartbeat())), 0.3)
    rest = scheduler.exchange(0.3)
    assert sum(len(message.numbers) for message in [*first, *rest] if isinstance(message, m.TaskBatch)) == 100


def test_no_more_large_payloads_are_under_way_than_the_window_takes(core: ClientCore, scheduler: Scheduler) -> None:
    group = core.group()
    count = 2 * WINDOW_BYTES // 1024**2
    for _ in range(count):
        core.submit(group, FUNCTION, bytes(1024**2))
    left: list[int] = []
    for now in (0.2, 0.3, 0.4, 0.5):
        core.flush()
        left += [n for batch in scheduler.exchange(now) if isinstance(batch, m.TaskBatch) for n in batch.numbers]
        core.handle(events.Incoming(*scheduler.peer.say_plain(m.Heartbeat())), now)
        core.check_invariants()
    assert WINDOW_BYTES <= len(left) * 1024**2 < WINDOW_BYTES + 6 * 1024**2
    # One is cancelled, the others are answered: the rest leaves.
    core.cancel(left[:1])
    answered = left[1:]
    result = m.ResultBatch(CLIENT, answered, [1] * len(answered), Packed.of([b"P"] * len(answered)))
    freed = scheduler.send(result, 0.6)
    left += [n for batch in freed if isinstance(batch, m.TaskBatch) for n in batch.numbers]
    for now in (0.7, 0.8, 0.9):
        core.flush()
        left += [n for batch in scheduler.exchange(now) if isinstance(batch, m.TaskBatch) for n in batch.numbers]
        core.handle(events.Incoming(*scheduler.peer.say_plain(m.Heartbeat())), now)
        core.check_invariants()
    assert left == list(range(1, count + 1))


def test_output_and_notices_are_passed_on(core: ClientCore, scheduler: Scheduler) -> None:
    scheduler.send(m.Notice("no worker has gpu", kind="unservable"), 0.2)
    core.handle(events.Incoming(*scheduler.peer.say_plain(m.Output(CLIENT, 1, 2, b"text", 3))), 0.3)
    scheduler.exchange(0.3)
    assert scheduler.take(effects.ShowNotice) == [effects.ShowNotice(1, "no worker has gpu", "unservable")]
    assert scheduler.take(effects.WriteOutput) == [effects.WriteOutput(1, 2, b"text", 3)]


def test_progress_is_told_to_the_task_s_token(core: ClientCore, scheduler: Scheduler) -> None:
    (number,) = submit(core)
    for said in (number, number + 1):
        message = m.TaskProgress(CLIENT, said, 1.0, 2.0, "rows")
        core.handle(events.Incoming(*scheduler.peer.say_plain(message)), 0.3)
    scheduler.exchange(0.3)
    assert scheduler.take(effects.Progressed) == [effects.Progressed("future0", 1.0, 2.0, "rows")]


def test_heartbeats_go_out_while_nothing_else_does(core: ClientCore, scheduler: Scheduler) -> None:
    core.handle(events.Tick(), core.next_deadline())
    assert [type(message) for message in scheduler.exchange(2.2)] == [m.Heartbeat]


def test_the_scheduler_is_given_a_window_of_tasks_and_the_rest_waits_here(
    core: ClientCore, scheduler: Scheduler
) -> None:
    numbers = submit(core, WINDOW_TASKS + 30_000)
    core.flush()
    left = [n for message in scheduler.exchange(1.0) if isinstance(message, m.TaskBatch) for n in message.numbers]
    assert WINDOW_TASKS <= len(left) < WINDOW_TASKS + 5000
    assert left == numbers[: len(left)]
    # Nothing leaves for a single answer; a quarter of the window later many leave together.
    assert not any(isinstance(message, m.TaskBatch) for message in scheduler.answer(left[:1], 1.1))
    quarter = len(left) - WINDOW_TASKS * 3 // 4
    more = [
        n
        for message in scheduler.answer(left[1:quarter], 1.2)
        if isinstance(message, m.TaskBatch)
        for n in message.numbers
    ]
    assert more == numbers[len(left) : len(left) + len(more)]
    assert len(more) > WINDOW_TASKS // 5


def test_urgent_tasks_leave_first_even_while_the_window_is_full(core: ClientCore, scheduler: Scheduler) -> None:
    def leave(now: float) -> list[int]:
        core.flush()
        return [n for one in scheduler.exchange(now) if isinstance(one, m.TaskBatch) for n in one.numbers]

    def with_priority(priority: int) -> bytes:
        return encode_record(CallOptions(priority=priority))

    submit(core, WINDOW_TASKS + 5000)
    leave(1.0)
    submit(core, 3, options=with_priority(-1))
    submit(core, 1)
    urgent = submit(core, 3, options=with_priority(1))
    most_urgent = submit(core, 2, options=with_priority(2))
    assert leave(1.1) == [*urgent, *most_urgent]
    assert leave(1.2) == []
    # These have a window too.
    submit(core, WINDOW_TASKS + 5000, options=with_priority(1))
    assert WINDOW_TASKS // 2 < len(leave(1.3)) < WINDOW_TASKS + 5000


def test_rows_that_need_earlier_tasks_wait_with_the_tasks_while_the_window_is_full(
    core: ClientCore, scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task_sender, "WINDOW_TASKS", 8)

    def link(number: int) -> int:
        row = m.GraphSubmit(CLIENT, 0, (FUNCTION,), Packed.of([b"P"]), [1], [1], [0], earlier=[number])
        core.submit_graph(row, [f"future{number}"])
        core.flush()
        return row.first_number

    def left(messages: list[m.Message]) -> list[int]:
        return [one.first_number for one in messages if isinstance(one, m.GraphSubmit)]

    (before,) = submit(core)
    core.flush()
    chain = [before]
    while len(chain) < 30:
        chain.append(link(chain[-1]))
    assert left(scheduler.exchange(1.0)) == chain[1:8]
    # Graphs that need nothing go on, and what is cancelled makes no room that it had not taken.
    core.submit_graph(m.GraphSubmit(CLIENT, 0, (FUNCTION,), Packed.of([b"P"]), [0], [], [0]), ["graph"])
    core.cancel(chain[-5:])
    core.flush()
    (graph,) = left(scheduler.exchange(1.1))
    assert graph > chain[-1]
    assert left(scheduler.answer(chain[:1], 1.2)) == []
    more = left(scheduler.answer([graph, *chain[1:8]], 1.3))
    assert more == chain[8:16]
    assert left(scheduler.answer(more, 1.4)) == chain[16:24]
    assert left(scheduler.answer(chain[16:24], 1.5)) == chain[24:25]
    scheduler.answer(chain[24:25], 1.6)
    assert core.unanswered_count == 0


def test_what_waits_leaves_in_the_order_of_its_numbers_whatever_its_kind(
    core: ClientCore, scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task_sender, "WINDOW_TASKS", 8)
    monkeypatch.setattr(tasks, "BATCH_TASKS_MAX", 4)

    def left(messages: list[m.Message]) -> list[int]:
        numbers: list[int] = []
        for one in messages:
            if isinstance(one, m.GraphSubmit):
                numbers.append(one.first_number)
            elif isinstance(one, m.TaskBatch):
                numbers += one.numbers
        return numbers

    submit(core, 8)
    core.flush()
    under_way = left(scheduler.exchange(1.0))
    row = m.GraphSubmit(CLIENT, 0, (FUNCTION,), Packed.of([b"P"]), [1], [1], [0], earlier=[1])
    core.submit_graph(row, ["future"])
    group = core.group(capabilities=(("gpu", 1),))
    other = core.submit(group, FUNCTION, b"P")
    # The program submits as many as are answered, so that the window is always full, and tasks always wait.
    sent: list[int] = []
    for now in range(2, 8):
        submit(core, 8)
        core.flush()
        under_way = left(scheduler.answer(under_way, float(now)))
        sent += under_way
        core.check_invariants()
    assert {row.first_number, other} <= set(sent[:6])
    assert sorted(sent) == list(range(9, 9 + len(sent)))


def test_a_number_queue_is_a_queue_with_a_fast_in() -> None:
    queue = NumberQueue()
    for number in range(0, 40_000, 2):
        queue.append(number)
    for _ in range(15):
        assert queue.head(3) == list(queue)[:3]
        queue.drop(1000)
    assert len(queue) == 5000
    assert 30_000 in queue
    assert 29_998 not in queue
    assert 30_001 not in queue
    queue.append(50_000)
    assert list(queue)[-1] == 50_000
    queue.clear()
    assert not queue
    queue.append(7)
    assert list(queue) == [7]


def test_a_batch_without_results_answers_nothing(core: ClientCore, scheduler: Scheduler) -> None:
    (number,) = submit(core)
    core.flush()
    scheduler.exchange(0.2)
    scheduler.answer([], 0.3)
    assert scheduler.take(effects.Completed) == []
    scheduler.answer([number], 0.4)
    assert [completed.numbers for completed in scheduler.take(effects.Completed)] == [[number]]


def test_tasks_with_options_wait_in_the_group_that_they_share(core: ClientCore, scheduler: Scheduler) -> None:
    scheduler.welcome(0.0, credit=0)
    numbers = submit(core, 2, options=b'{"label":"curves"}') + submit(core, 1, options=b'{"label":"books"}')
    # Raises where one of them waits in a group that is not its own.
    core.check_invariants()
    assert core.unanswered_count == len(numbers)
