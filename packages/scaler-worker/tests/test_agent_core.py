"""The agent's decisions, event by event, without sockets or processes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import pytest
from agent_harness import BODY, CLIENT, FUNCTION, OTHER, AgentHarness

from scaler_protocol.ids import content_id
from scaler_protocol.payloads.environment_body import EnvironmentParts, frame_environment
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.batch_rows import Reported
from scaler_protocol.wire.columns import Packed
from scaler_protocol.wire.messages import Status
from scaler_protocol.wire.task_lists import PORTION_ROWS, RESULT_ROWS
from scaler_worker.core import effects, events
from scaler_worker.core.capacity import GROWTH, HELD_BYTES, HELD_FEW
from scaler_worker.core.deaths import DELAY_SECONDS_MAX, UNSTARTED_DEATHS_MAX
from scaler_worker.core.endings import TAKE_BACK_SECONDS
from scaler_worker.core.lifecycle import FAILED_STARTS_MAX
from scaler_worker.core.nesting import CLIENTS_MAX
from scaler_worker.core.reporting import HOLD_SECONDS


def returned(harness: AgentHarness) -> list[int]:
    return sorted(number for message in harness.said(m.TaskReturn) for number in message.numbers)


# --- the ordinary way


def test_every_task_is_answered_once_with_its_attempt() -> None:
    harness = AgentHarness()
    harness.submit([1, 2, 3], attempt=7)
    harness.finish(0)
    harness.finish(1)
    harness.finish(0)
    assert {number: harness.results[CLIENT, number][:2] for number in (1, 2, 3)} == dict.fromkeys((1, 2, 3), (7, 0))


def test_unknown_functions_are_tried_one_at_a_time() -> None:
    harness = AgentHarness()
    harness.submit(range(10))
    assert [len(harness.handed[p]) for p in (0, 1)] == [1, 1]


def test_short_tasks_are_handed_over_in_slices_and_shared_evenly() -> None:
    harness = AgentHarness()
    harness.learn(microseconds=5)
    harness.submit(range(2000))
    assert [len(harness.handed[p]) for p in (0, 1)] == [513, 512]
    harness.submit(range(3000, 3010))
    assert len(harness.handed[0]) == 513


def test_few_short_tasks_are_shared_evenly_too() -> None:
    harness = AgentHarness()
    harness.learn(microseconds=5)
    harness.submit(range(10))
    assert [len(harness.handed[p]) for p in (0, 1)] == [6, 5]


def test_long_tasks_are_never_handed_over_ahead() -> None:
    harness = AgentHarness()
    harness.learn(microseconds=2_000_000)
    harness.submit(range(10))
    assert harness.running() == [0, 1]
    assert [len(processor.tasks) for processor in harness.look().processors.values()] == [1, 1]


def test_capacity_follows_the_measured_duration() -> None:
    harness = AgentHarness(slots=2, queue_limit=500)
    assert harness.look().capacity == 4
    harness.learn(microseconds=2_000_000)
    assert harness.look().capacity == 2
    for number in range(40):
        harness.submit([number])
        harness.finish(harness.holder(number), microseconds=10_000)
    assert 10 <= harness.look().capacity <= 14
    for number in range(100, 200):
        harness.submit([number])
        harness.finish(harness.holder(number), microseconds=1)
    assert harness.look().capacity == 1000


@pytest.mark.parametrize("where", ["arguments", "inputs", "results"])
def test_capacity_follows_the_bytes_of_messages(where: str) -> None:
    harness = AgentHarness(slots=2, queue_limit=1000)
    for number in range(250):
        harness.submit([number])
        harness.finish(harness.holder(number), microseconds=1)
    assert harness.look().capacity == 2000
    large = bytes(65_536)
    for number in range(250, 350):
        fields: dict[str, Any] = {}
        if where == "arguments":
            fields["payloads"] = Packed.of([large])
        elif where == "inputs":
            fields |= {"input_positions": [0], "inputs": Packed.of([large])}
        harness.submit([number], **fields)
        harness.finish(harness.holder(number), microseconds=1, payload=large if where == "results" else None)
    held = harness.look().capacity
    assert 0.9 * HELD_BYTES <= held / 2 * len(large) <= 1.1 * HELD_BYTES
    for number in range(350, 450):
        harness.submit([number])
        harness.finish(harness.holder(number), microseconds=1)
    assert harness.look().capacity == 2000


def test_a_new_agent_wants_few_tasks_until_it_has_seen_some() -> None:
    harness = AgentHarness(slots=2, queue_limit=1000)
    harness.submit([0])
    harness.finish(harness.holder(0), microseconds=1)
    assert harness.look().capacity == 2 * HELD_FEW
    for number in range(1, 50):
        harness.submit([number])
        harness.finish(harness.holder(number), microseconds=1)
    assert harness.look().capacity == 2 * 50 * GROWTH


def test_of_tasks_with_very_large_messages_a_few_are_wanted_all_the_same() -> None:
    harness = AgentHarness(slots=2, queue_limit=2000)
    for number in range(30):
        harness.submit([number], payloads=Packed.of([bytes(4 * 1024 * 1024)]))
        harness.finish(harness.holder(number), microseconds=1)
    assert harness.look().capacity == 2 * HELD_FEW


def test_a_queue_limit_of_one_holds_one_task_per_worker() -> None:
    harness = AgentHarness(slots=2, queue_limit=1)
    assert harness.look().capacity == 2


def test_deeper_tasks_go_first() -> None:
    harness = AgentHarness(slots=1)
    harness.submit([1])
    harness.submit([2])
    harness.submit([3], depth=2)
    harness.submit([4], depth=1)
    for expected in (1, 3, 4, 2):
        assert harness.running() == [expected]
        harness.finish(0)


def test_functions_are_sent_to_each_processor_once() -> None:
    harness = AgentHarness(slots=1)
    for number in range(3):
        harness.submit([number])
        harness.finish(0)
    assert [effect.functions for effect in harness.take(effects.SendTasks)] == [((FUNCTION, b"Pbody"),), (), ()]


def test_a_task_whose_function_was_never_sent_is_refused_with_a_sentence() -> None:
    harness = AgentHarness()
    harness.submit([1], functions=(b"u" * 16,))
    assert harness.status(1) == Status.NOT_RUN
    assert b"was not sent" in harness.results[CLIENT, 1][2]


def test_a_function_with_the_id_of_another_one_stays_unknown() -> None:
    harness = AgentHarness(slots=1)
    forged = content_id(b"Pforged")
    harness.say(m.FunctionDefine(OTHER, (forged,), Packed.of([b"Pbody"])))
    harness.submit([1], OTHER, functions=(forged,))
    assert harness.results[OTHER, 1][1] == Status.NOT_RUN
    harness.define(b"Pforged")
    harness.submit([2], functions=(forged,))
    assert [effect.functions for effect in harness.take(effects.SendTasks)] == [((forged, b"Pforged"),)]


def test_a_client_s_functions_are_forgotten_with_it() -> None:
    harness = AgentHarness(slots=1)
    harness.define(BODY, OTHER)
    harness.submit([1])
    harness.finish(0)
    harness.say(m.ClientGone(CLIENT))
    harness.submit([2], OTHER)
    harness.finish(0)
    harness.say(m.ClientGone(OTHER))
    harness.submit([3])
    assert harness.status(3) == Status.NOT_RUN


def test_nothing_is_learnt_of_a_function_that_no_client_defines_any_more() -> None:
    harness = AgentHarness(slots=1)
    harness.submit([1])
    harness.say(m.ClientGone(CLIENT))
    harness.finish(0, microseconds=1, statuses=[Status.CANCELED])
    harness.take(effects.SendTasks)
    harness.define(client=OTHER)
    harness.submit(range(10, 20), client=OTHER)
    # Of tasks that are known to be quick, it would be handed several.
    assert [len(effect.tasks) for effect in harness.take(effects.SendTasks)] == [1]


def test_payload_columns_are_cut_where_the_slices_are() -> None:
    harness = AgentHarness(slots=1)
    harness.say(
        m.TaskBatch(
            CLIENT,
            range(4),
            (FUNCTION,),
            Packed.of([b"a", b"bb", b"ccc", b"dddd"]),
            attempts=[1, 1, 1, 1],
            input_positions=[1, 1, 3],
            inputs=Packed.of([b"x", b"yy", b"z"]),
        )
    )
    slices = []
    for _ in range(4):
        harness.finish(0, microseconds=3_000)
        slices += harness.take(effects.SendTasks)
    assert b"".join(bytes(effect.tasks.payload()) for effect in slices) == b"abbcccdddd"
    inputs = {
        effect.tasks.numbers[position]: payload
        for effect in slices
        for position, payload in zip(*effect.tasks.inputs()[:2], strict=True)
    }
    assert inputs == {1: b"yy", 3: b"z"}


# --- chains


def submit_chains(harness: AgentHarness, lengths: Sequence[int], first: int = 0) -> None:
    """Chains of so many links, one behind the other in a batch; each link takes the result of the one before."""
    ends = list(accumulate(lengths))
    links = [row for row in range(ends[-1]) if row not in (0, *ends)]
    harness.submit(
        range(first, first + ends[-1]),
        input_positions=links,
        inputs=Packed.of([b""] * len(links)),
        input_sources=[1] * len(links),
        chain_ends=ends,
    )


def test_a_chain_stays_on_one_processor() -> None:
    harness = AgentHarness(slots=2)
    harness.learn(1)
    harness.take(effects.SendTasks)
    submit_chains(harness, [10, 10, 1, 10])
    handed = harness.take(effects.SendTasks)
    assert {effect.processor for effect in handed} == {0, 1}
    for effect in handed:
        tasks = effect.tasks
        assert tasks.start in (0, 10, 20, 21)
        assert tasks.stop in (10, 20, 21, 31)
        positions, _, sources = tasks.inputs()
        assert all(source <= position for position, source in zip(positions, sources, strict=True))


def test_a_chain_of_unknown_length_in_time_is_handed_over_whole_and_nothing_with_it() -> None:
    harness = AgentHarness(slots=1)
    submit_chains(harness, [5, 5])
    (effect,) = harness.take(effects.SendTasks)
    assert list(effect.tasks.numbers) == [0, 1, 2, 3, 4]


def test_recall_gives_back_whole_chains() -> None:
    harness = AgentHarness(slots=1)
    submit_chains(harness, [1, 4, 3])
    harness.say(m.TaskRecall(1))
    assert returned(harness) == [5, 6, 7]
    harness.say(m.TaskRecall(5))
    assert returned(harness) == [1, 2, 3, 4]


def test_what_is_left_of_a_chain_after_its_processor_died_goes_back_to_the_scheduler() -> None:
    harness = AgentHarness(slots=1)
    submit_chains(harness, [4])
    harness.finish(0)
    harness.said(m.ResultBatch)
    harness.step(events.ProcessorExited(0, 1, "it died"))
    assert returned(harness) == [2, 3]
    assert harness.status(1) == Status.PROCESSOR_DIED
    # What had come before it is told after what comes back, so the scheduler never queues a link that is still here.
    assert not harness.look().queued


def test_links_of_a_chain_come_back_from_the_last_to_the_first_where_answers_were_lost() -> None:
    harness = AgentHarness(slots=1)
    submit_chains(harness, [5])
    harness.finish(0)
    harness.sent.clear()
    # It had run two more, and had not yet said so, when it died in the fourth.
    harness.step(events.ProcessorExited(0, 3, "it died"))
    told = [list(message.numbers) for message in harness.sent if isinstance(message, m.TaskReturn | m.ResultBatch)]
    assert told == [[4], [3], [1, 2]]
    assert not harness.look().queued


def test_a_chain_that_had_not_begun_when_its_processor_died_stays() -> None:
    harness = AgentHarness(slots=1)
    harness.learn(100)
    submit_chains(harness, [2, 2])
    harness.step(events.ProcessorExited(0, harness.front_index(0), "it died"))
    assert returned(harness) == [1]
    assert [list(numbers) for numbers in harness.look().queued] == [[2, 3]]


def test_a_slow_link_loses_those_behind_it_to_the_scheduler() -> None:
    harness = AgentHarness(slots=1)
    submit_chains(harness, [4])
    harness.wait(TAKE_BACK_SECONDS)
    (effect,) = harness.take(effects.TakeBack)
    front = harness.front_index(0)
    harness.step(events.ProcessorGaveBack(effect.processor, 1, front + 1))
    assert returned(harness) == [1, 2, 3]
    harness.wait(1.0)
    assert harness.take(effects.TakeBack) == []


def test_a_link_that_blocks_loses_those_behind_it_to_the_scheduler() -> None:
    harness = AgentHarness(slots=1)
    submit_chains(harness, [3])
    harness.block(0)
    assert returned(harness) == [1, 2]


def test_cancelling_a_link_in_the_queue_returns_those_behind_it() -> None:
    harness = AgentHarness(slots=1)
    harness.submit([100])
    submit_chains(harness, [4, 2])
    harness.say(m.TaskCancel(CLIENT, [1]))
    assert returned(harness) == [2, 3]
    assert harness.status(1) == Status.CANCELED
    assert [list(numbers) for numbers in harness.look().queued] == [[0], [4, 5]]


def test_skipped_links_say_nothing_about_how_long_tasks_take() -> None:
    harness = AgentHarness(slots=1)
    submit_chains(harness, [3])
    harness.finish(0, microseconds=5_000_000)
    known = harness.look().mean_task_microseconds
    harness.finish(0, 2, microseconds=0, statuses=[Status.FAILED, Status.SKIPPED])
    assert harness.look().mean_task_microseconds == known
    assert harness.status(2) == Status.SKIPPED


# --- recall, cancel, time out


def test_recall_gives_back_the_newest_tasks_not_handed_over() -> None:
    harness = AgentHarness()
    harness.submit(range(10))
    harness.say(m.TaskRecall(3))
    assert returned(harness) == [7, 8, 9]
    harness.say(m.TaskRecall(100))
    assert returned(harness) == [2, 3, 4, 5, 6]
    assert harness.running() == [0, 1]


def test_a_recall_that_finds_nothing_is_answered_by_a_heartbeat() -> None:
    harness = AgentHarness()
    harness.said(m.Heartbeat)
    harness.say(m.TaskRecall(1))
    assert [heartbeat.queued for heartbeat in harness.said(m.Heartbeat)] == [0]


def test_a_queued_task_is_cancelled_at_once() -> None:
    harness = AgentHarness()
    harness.submit(range(4))
    harness.say(m.TaskCancel(CLIENT, [3]))
    assert harness.status(3) == Status.CANCELED
    assert harness.take(effects.CancelTask) == []


def test_of_withdrawn_tasks_those_that_wait_are_given_back() -> None:
    harness = AgentHarness(slots=1)
    harness.submit(range(6))
    harness.say(m.TaskCancel(CLIENT, [0, 2, 4, 5], waiting_only=True))
    # The first one runs.
    assert returned(harness) == [2, 4, 5]
    assert harness.take(effects.CancelTask) == []
    assert [list(numbers) for numbers in harness.look().queued] == [[1], [3]]
    harness.finish(0)
    assert harness.status(0) == Status.SUCCESS


def test_a_cancel_of_another_attempt_is_ignored() -> None:
    harness = AgentHarness()
    harness.submit(range(4))
    harness.say(m.TaskCancel(CLIENT, [3], [2]))
    assert (CLIENT, 3) not in harness.results


def test_a_running_task_is_asked_to_end_and_its_answer_passed_on() -> None:
    harness = AgentHarness(slots=1)
    harness.submit([1])
    harness.say(m.TaskCancel(CLIENT, [1]))
    assert harness.take(effects.CancelTask) == [effects.CancelTask(0, 0, Status.CANCELED)]
    harness.finish(0, statuses=[Status.CANCELED])
    harness.wait(5)
    assert harness.status(1) == Status.CANCELED
    assert harness.take(effects.KillProcessor) == []


def test_a_task_that_does_not_end_when_asked_ends_with_its_processor() -> None:
    harness = AgentHarness(slots=1)
    harness.submit([1])
    harness.say(m.TaskCancel(CLIENT, [1]))
    harness.wait(0.9)
    assert harness.take(effects.KillProcessor) == []
    harness.wait(0.2)
    assert harness.take(effects.KillProcessor) == [effects.KillProcessor(0)]
    harness.submit([2])
    harness.step(events.ProcessorExited(0, 0, "killed"))
    assert harness.status(1) == Status.CANCELED
    assert harness.take(effects.StartProcessor) == [effects.StartProcessor(1, 0)]
    harness.step(events.ProcessorReady(1, 2000))
    assert harness.running() == [2]


def test_the_task_after_one_that_had_to_be_killed_does_not_pay_for_it() -> None:
    harness = AgentHarness(slots=1)
    harness.learn(microseconds=100)
    harness.submit([1, 2])
    harness.say(m.TaskCancel(CLIENT, [1]))
    harness.wait(1.1)
    assert harness.take(effects.KillProcessor) == [effects.KillProcessor(0)]
    harness.finish(0)
    running = harness.front_index(0) if harness.look().processors[0].tasks else None
    harness.step(events.ProcessorExited(0, running, "killed"))
    harness.step(events.ProcessorReady(1, 2000))
    assert harness.running() == [2]
    assert (CLIENT, 2) not in harness.results


def test_a_task_times_out() -> None:
    harness = AgentHarness(slots=1, task_timeout_seconds=3)
    harness.submit([1, 2])
    harness.wait(2.9)
    assert harness.take(effects.CancelTask) == []
    harness.wait(0.2)
    (cancel,) = harness.take(effects.CancelTask)
    assert (cancel.index, cancel.status) == (0, Status.TIMED_OUT)
    assert "3 s" in cancel.text
    harness.wait(1.1)
    harness.step(events.ProcessorExited(0, 0, "killed"))
    assert harness.status(1) == Status.TIMED_OUT
    assert harness.results[CLIENT, 1][2] == cancel.text.encode()


def test_tasks_behind_a_slow_one_are_taken_back_for_others() -> None:
    harness = AgentHarness(slots=1)
    harness.learn(microseconds=100)
    harness.submit(range(10))
    assert len(harness.look().processors[0].tasks) == 10
    harness.wait(0.06)
    assert harness.take(effects.TakeBack) == [effects.TakeBack(0)]
    first = harness.front_index(0)
    harness.step(events.ProcessorGaveBack(0, 1, first + 1))
    harness.say(m.TaskRecall(100))
    assert returned(harness) == list(range(1, 10))
    assert harness.running() == [0]


def test_a_processor_may_give_back_before_it_has_read_what_it_was_handed_last() -> None:
    harness = AgentHarness(slots=1)
    slow = harness.define(b"another function")
    harness.learn(microseconds=100)
    harness.submit([900_001], functions=(slow,))
    harness.finish(0, microseconds=100)
    harness.submit([0], functions=(slow,))
    harness.submit(range(1, 10))
    harness.wait(0.06)
    assert harness.take(effects.TakeBack) == [effects.TakeBack(0)]
    read = harness.front_index(0) + 1
    harness.step(events.ProcessorGaveBack(0, 1, read))
    harness.finish(0)
    assert len(harness.look().processors[0].tasks) == 9
    assert harness.front_index(0) > read
    harness.wait(0.06)
    assert harness.take(effects.TakeBack) == [effects.TakeBack(0)]
    # Another thread answers than the one that reads tasks: it knows of none behind those that it gave back before.
    harness.step(events.ProcessorGaveBack(0, 2, read))
    assert harness.take(effects.KillProcessor) == []
    # They are handed over anew.
    for number in range(1, 10):
        assert harness.running() == [number]
        harness.finish(0)
    assert {number for client, number in harness.results if client == CLIENT} >= set(range(10))


# --- death


def test_only_the_running_task_of_a_dead_processor_fails() -> None:
    harness = AgentHarness(slots=1)
    harness.learn(microseconds=100)
    harness.submit(range(10))
    first = harness.front_index(0)
    harness.step(events.ProcessorExited(0, first + 2, "processor 1000 was killed by SIGSEGV"))
    assert harness.results[CLIENT, 2] == (1, Status.PROCESSOR_DIED, b"processor 1000 was killed by SIGSEGV")
    harness.step(events.ProcessorReady(1, 2000))
    assert [number for _, number in harness.handed[1]] == [0, 1, 3, 4, 5, 6, 7, 8, 9]


def test_a_processor_that_dies_between_tasks_costs_nobody_an_attempt() -> None:
    harness = AgentHarness(slots=1)
    harness.submit([1])
    harness.step(events.ProcessorExited(0, None, "killed"))
    harness.step(events.ProcessorReady(1, 2000))
    harness.finish(1)
    assert harness.status(1) == Status.SUCCESS


def test_a_processor_that_dies_before_its_answer_is_here_died_of_the_task_it_began_last() -> None:
    """It had run 0 and 1, and died while it described, pickled or sent what became of them."""
    harness = AgentHarness(slots=1)
    harness.learn(microseconds=100)
    harness.submit(range(4))
    first = harness.front_index(0)
    harness.step(events.ProcessorExited(0, first + 1, "it ended"))
    assert (harness.results[CLIENT, 1]) == (1, Status.PROCESSOR_DIED, b"it ended")
    harness.step(events.ProcessorReady(1, 2000))
    assert [number for _, number in harness.handed[1]] == [0, 2, 3]


def test_a_task_that_is_answered_has_nothing_to_do_with_a_later_death() -> None:
    harness = AgentHarness(slots=1)
    harness.learn(microseconds=100)
    harness.submit(range(2))
    first = harness.front_index(0)
    harness.finish(0)
    harness.step(events.ProcessorExited(0, first, "it ended"))
    harness.step(events.ProcessorReady(1, 2000))
    assert [number for _, number in harness.handed[1]] == [1]
    assert (CLIENT, 1) not in harness.results


def test_a_task_that_is_always_next_when_its_processor_dies_is_counted_in_the_end() -> None:
    """For instance because its processor dies of reading it."""
    harness = AgentHarness(slots=1)
    harness.submit([1])
    for number in range(UNSTARTED_DEATHS_MAX):
        assert (CLIENT, 1) not in harness.results
        assert [task for _, task in harness.handed[number]] == [1]
        harness.step(events.ProcessorExited(number, None, "it ended"))
        harness.wait(DELAY_SECONDS_MAX)
        harness.step(events.ProcessorReady(number + 1, 2000))
    assert harness.results[CLIENT, 1] == (1, Status.PROCESSOR_DIED, b"it ended")
    # The next attempt is counted anew.
    harness.submit([1], attempt=2)
    harness.step(events.ProcessorExited(UNSTARTED_DEATHS_MAX, None, "it ended"))
    assert sum(map(len, harness.look().queued)) == 1


def test_processors_that_die_again_and_again_are_started_more_and_more_slowly() -> None:
    harness = AgentHarness(slots=1)
    waits = []
    for number in range(12):
        harness.submit([number])
        before = harness.now
        harness.step(events.ProcessorExited(number, 0, "it ended"))
        while not harness.take(effects.StartProcessor):
            assert harness.core.next_deadline() - harness.now <= DELAY_SECONDS_MAX
            harness.now = harness.core.next_deadline()
            harness.plain(m.Heartbeat())
            harness.step(events.Tick())
        waits.append(harness.now - before)
        harness.step(events.ProcessorReady(number + 1, 2000))
    assert waits[0] == 0
    assert waits[1:5] == pytest.approx([0.01, 0.02, 0.04, 0.08])
    assert waits[-1] == pytest.approx(DELAY_SECONDS_MAX)
    # One that answers a task ends the row.
    harness.submit([100])
    harness.finish(12)
    harness.step(events.ProcessorExited(12, 0, "it ended"))
    assert harness.take(effects.StartProcessor) == [effects.StartProcessor(13, 0)]


def test_one_that_retires_is_replaced_at_once_and_costs_nobody_anything() -> None:
    harness = AgentHarness(slots=1)
    for number in range(2 * UNSTARTED_DEATHS_MAX):
        harness.submit([number]) if not number else None
        # What came after it had answered and before it was gone.
        harness.step(events.ProcessorExited(number, None, "its descriptors were closed", retired=True))
        assert harness.take(effects.StartProcessor)[-1] == effects.StartProcessor(number + 1, 0)
        harness.step(events.ProcessorReady(number + 1, 2000))
    assert harness.running() == [0]
    assert not harness.results


def test_a_faulty_processor_is_killed_and_its_task_has_used_up_an_attempt() -> None:
    harness = AgentHarness(slots=1)
    harness.submit([1])
    harness.step(events.ProcessorFaulty(0, "sent a record that cannot be read"))
    harness.step(events.ProcessorFaulty(0, "sent a record that cannot be read"))
    assert harness.take(effects.KillProcessor) == [effects.KillProcessor(0)]
    harness.step(events.ProcessorExited(0, 0, "processor 1000 was killed"))
    text = b"processor 1000 was killed; it sent a record that cannot be read"
    assert harness.results[CLIENT, 1] == (1, Status.PROCESSOR_DIED, text)


def test_cancelled_tasks_of_a_dead_processor_are_answered() -> None:
    harness = AgentHarness(slots=1)
    harness.learn(microseconds=100)
    harness.submit(range(4))
    harness.say(m.TaskCancel(CLIENT, [0, 2]))
    harness.step(events.ProcessorExited(0, harness.front_index(0), "killed"))
    assert (harness.status(0), harness.status(2)) == (Status.CANCELED, Status.CANCELED)
    harness.step(events.ProcessorReady(1, 2000))
    assert [number for _, number in harness.handed[1]] == [1, 3]


def test_processors_that_cannot_start_stop_the_agent() -> None:
    harness = AgentHarness(slots=1, ready=False)
    harness.welcome()
    for _ in range(FAILED_STARTS_MAX):
        harness.wait(DELAY_SECONDS_MAX)
        (started,) = harness.take(effects.StartProcessor)
        harness.step(events.ProcessorExited(started.processor, None, "no memory"))
    assert harness.take(effects.Stop) == [effects.Stop("no processor can be started: no memory", 1)]


def test_a_preload_that_fails_stops_the_agent_at_once() -> None:
    harness = AgentHarness(slots=2, ready=False)
    harness.step(events.ProcessorExited(0, None, "--preload x: no", fatal=True))
    assert harness.take(effects.Stop) == [effects.Stop("no processor can be started: --preload x: no", 1)]
    assert harness.look().stopped


def test_a_processor_that_answers_what_it_was_not_given_is_replaced() -> None:
    harness = AgentHarness(slots=1)
    harness.submit([1])
    harness.step(events.ProcessorResults(0, 5, 1, [1], b"x", Reported(durations=[1])))
    assert harness.take(effects.KillProcessor) == [effects.KillProcessor(0)]
    harness.step(events.ProcessorResults(99, 0, 1, [1], b"x", Reported(durations=[1])))


# --- nesting


def test_a_blocked_task_lends_its_slot() -> None:
    harness = AgentHarness(slots=1)
    harness.submit([1])
    before = harness.look().capacity
    harness.block(0)
    assert harness.look().capacity == before + 1
    (started,) = harness.take(effects.StartProcessor)[-1:]
    harness.step(events.ProcessorReady(started.processor, 2000))
    harness.submit([2], depth=1)
    assert harness.running() == [1, 2]
    harness.finish(started.processor)
    harness.step(events.ProcessorUnblocked(0))
    harness.finish(0)
    assert harness.status(1) == harness.status(2) == Status.SUCCESS


def test_what_was_handed_over_behind_a_blocked_task_runs_elsewhere() -> None:
    harness = AgentHarness(slots=1)
    harness.learn(microseconds=100)
    harness.submit([1, 2, 3])
    harness.take(effects.StartProcessor)
    harness.block(0)
    (started,) = harness.take(effects.StartProcessor)
    harness.step(events.ProcessorReady(started.processor, 2000))
    assert [number for _, number in harness.handed[started.processor]] == [2, 3]


def test_no_new_task_starts_while_more_run_than_there_are_slots() -> None:
    harness = AgentHarness(slots=1)
    harness.submit([1])
    harness.block(0)
    harness.step(events.ProcessorReady(1, 2000))
    harness.submit([2], depth=1)
    harness.step(events.ProcessorUnblocked(0))
    harness.submit([3], depth=1)
    harness.finish(1)
    assert harness.running() == [1]
    harness.finish(0)
    assert harness.running() == [3]


def test_beyond_the_slots_one_task_of_each_depth_starts_per_slot() -> None:
    harness = AgentHarness(slots=1)
    harness.submit([1])
    harness.block(0)
    harness.step(events.ProcessorReady(1, 2000))
    harness.submit([2], depth=1)
    harness.block(1)
    harness.submit([3], depth=0)
    harness.submit([4], depth=1)
    assert harness.running() == [1, 2]
    harness.submit([5], depth=2)
    (started,) = harness.take(effects.StartProcessor)[-1:]
    harness.step(events.ProcessorReady(started.processor, 2001))
    assert harness.running() == [1, 2, 5]


def test_branches_of_a_recursion_go_on_side_by_side() -> None:
    harness = AgentHarness(slots=2)
    for depth in range(4):
        harness.submit([depth, 100 + depth], depth=depth)
        for started in harness.take(effects.StartProcessor):
            harness.step(events.ProcessorReady(started.processor, 2000 + started.processor))
        if depth < 3:
            harness.block(harness.holder(depth))
            harness.block(harness.holder(100 + depth))
    assert harness.running() == [0, 1, 2, 3, 100, 101, 102, 103]
    # One branch is done three levels up: its next one may start, although the other branch is deeper.
    for depth in (3, 2, 1):
        harness.step(events.ProcessorUnblocked(harness.holder(depth)))
        harness.finish(harness.holder(depth))
    harness.submit([50, 51], depth=1)
    assert harness.running() == [0, 50, 100, 101, 102, 103]
    assert returned(harness) == []


def test_tasks_that_may_not_start_make_room_for_deeper_ones_where_they_take_it() -> None:
    harness = AgentHarness(slots=1)
    harness.submit([1])
    harness.block(0)
    harness.step(events.ProcessorReady(1, 2000))
    harness.submit([2], depth=1)
    harness.submit([3], depth=0)
    harness.block(1)
    # There is room for one more.
    assert returned(harness) == []
    harness.submit([4], depth=0)
    harness.wait(1.1)
    assert returned(harness) == [3, 4]
    harness.submit([3, 4], depth=0, attempt=2)
    harness.wait(1.1)
    assert returned(harness) == [3, 4]


def test_a_hundred_levels_need_a_hundred_processors_and_no_more() -> None:
    harness = AgentHarness(slots=1)
    for depth in range(100):
        harness.submit([depth], depth=depth)
        for started in harness.take(effects.StartProcessor):
            harness.step(events.ProcessorReady(started.processor, 2000 + started.processor))
        harness.block(harness.holder(depth))
    assert len(harness.look().processors) <= 102
    for depth in reversed(range(100)):
        harness.step(events.ProcessorUnblocked(harness.holder(depth)))
        harness.finish(harness.holder(depth))
    assert len(harness.results) == 100
    harness.wait(11)
    assert len(harness.take(effects.StopProcessor)) >= 99
    alive = [p for p in harness.look().processors.values() if p.state is not m.ProcessorState.STOPPING]
    assert len(alive) == 1


def test_relays_find_the_processor_their_client_lives_in() -> None:
    harness = AgentHarness(slots=2)
    harness.step(events.RelayOpened(1, OTHER))
    harness.step(events.RelayFrames(1, OTHER, [b"envelope", b"header"]))
    assert harness.said(m.Relay) == [m.Relay(OTHER, [b"envelope", b"header"])]
    harness.plain(m.Relay(OTHER, [b"answer"]))
    assert harness.take(effects.DeliverRelay) == [effects.DeliverRelay(1, OTHER, [b"answer"])]
    harness.step(events.RelayClosed(1, OTHER))
    assert harness.said(m.ClientGone) == [m.ClientGone(OTHER)]
    harness.plain(m.Relay(OTHER, [b"late"]))
    assert harness.take(effects.DeliverRelay) == []


def test_clients_inside_a_dead_processor_are_reported_gone() -> None:
    harness = AgentHarness(slots=1)
    harness.step(events.RelayOpened(0, OTHER))
    harness.step(events.RelayFrames(0, OTHER, [b"hello"]))
    harness.step(events.ProcessorExited(0, None, "killed"))
    assert harness.said(m.ClientGone) == [m.ClientGone(OTHER)]


def test_clients_of_which_the_scheduler_never_heard_are_not_reported_gone() -> None:
    """Otherwise a task could make so many, while nothing can be told, that the agent has no memory left."""
    harness = AgentHarness(slots=1, ready=False)
    for number in range(1000):
        client = number.to_bytes(16, "big")
        harness.step(events.RelayOpened(0, client))
        harness.step(events.RelayFrames(0, client, [b"hello"]))
        harness.step(events.RelayClosed(0, client))
    harness.welcome()
    assert harness.said(m.ClientGone) == []
    harness.step(events.RelayOpened(0, OTHER))
    harness.step(events.RelayFrames(0, OTHER, [b"hello"]))
    harness.step(events.RelayClosed(0, OTHER))
    assert harness.said(m.ClientGone) == [m.ClientGone(OTHER)]


# --- clients that go


def test_the_tasks_of_a_client_that_is_gone_are_dropped() -> None:
    harness = AgentHarness(slots=1)
    harness.define(BODY, OTHER)
    harness.submit([1, 2, 3])
    harness.submit([1], OTHER)
    harness.say(m.ClientGone(CLIENT))
    assert harness.take(effects.CancelTask) == [effects.CancelTask(0, 0, Status.CANCELED)]
    harness.finish(0, statuses=[Status.CANCELED])
    harness.finish(0)
    assert list(harness.results) == [(OTHER, 1)]


def test_a_client_that_comes_back_is_served_though_its_old_task_still_ends() -> None:
    harness = AgentHarness(slots=1)
    harness.submit([1])
    harness.say(m.ClientGone(CLIENT))
    harness.define()
    harness.submit([1], attempt=1)
    harness.wait(1.1)
    harness.step(events.ProcessorExited(0, 0, "killed"))
    harness.step(events.ProcessorReady(1, 2000))
    harness.finish(1)
    assert harness.status(1) == Status.SUCCESS


def environment(owner: bytes) -> bytes:
    return frame_environment(EnvironmentParts(owner, 1, b"", (), ()))


def test_the_environment_of_a_client_that_has_left_ends_behind_later_tasks_too() -> None:
    harness = AgentHarness(slots=1)
    body = environment(CLIENT)
    serializer = harness.define(body, OTHER)
    function = content_id(BODY, serializer)
    harness.say(m.FunctionDefine(OTHER, (function,), Packed.of([BODY]), serializer=serializer))
    harness.submit([1], OTHER, functions=(function,), serializer=serializer)
    harness.finish(0)
    assert not harness.take(effects.EndEnvironment)
    harness.say(m.ClientGone(CLIENT))
    assert effects.EndEnvironment(0, CLIENT) in harness.take(effects.EndEnvironment)
    # A client inside one of its tasks goes on.
    harness.effects.clear()
    harness.submit([2], OTHER, functions=(function,), serializer=serializer)
    assert [type(effect) for effect in harness.effects] == [effects.SendTasks, effects.EndEnvironment]
    harness.finish(0)
    harness.effects.clear()
    harness.define(body, CLIENT)
    harness.submit([3], OTHER, functions=(function,), serializer=serializer)
    assert not harness.take(effects.EndEnvironment), "it is here again"


def test_a_teardown_is_not_part_of_the_next_task() -> None:
    harness = AgentHarness(slots=1, task_timeout_seconds=2.0)
    harness.step(events.ProcessorTeardown(0, True))
    harness.submit([1])
    harness.wait(5)
    assert not harness.take(effects.CancelTask)
    harness.step(events.ProcessorTeardown(0, False))
    harness.wait(1.9)
    assert not harness.take(effects.CancelTask)
    harness.wait(0.2)
    assert [effect.index for effect in harness.take(effects.CancelTask)] == [0]


def test_a_task_that_is_cancelled_during_a_teardown_does_not_end_it() -> None:
    harness = AgentHarness(slots=1)
    harness.step(events.ProcessorTeardown(0, True))
    harness.submit([1])
    harness.say(m.TaskCancel(CLIENT, [1], [1]))
    harness.wait(5)
    assert not harness.take(effects.KillProcessor)
    harness.wait(10)
    assert harness.take(effects.KillProcessor), "it is not believed for ever"


# --- objects


def test_objects_named_by_a_batch_are_fetched_once_and_ahead() -> None:
    harness = AgentHarness(slots=2)
    harness.submit([1, 2], object_positions=[0, 1], objects=(b"o" * 16, b"o" * 16))
    (fetch,) = harness.take(effects.FetchObject)
    harness.step(events.ObjectWanted(0, b"o" * 16))
    harness.step(events.ObjectWanted(1, b"o" * 16))
    harness.step(events.ObjectFetched(fetch.request, 100))
    assert [(e.processor, e.status) for e in harness.take(effects.AnswerObject)] == [(0, 0), (1, 0)]
    harness.step(events.ObjectWanted(1, b"o" * 16))
    assert [(e.processor, e.status) for e in harness.take(effects.AnswerObject)] == [(1, 0)]
    assert harness.take(effects.FetchObject) == []


def test_an_object_that_cannot_be_had_is_said_to_be() -> None:
    harness = AgentHarness(slots=1)
    for event_fields, status in (({"missing": True}, Status.MISSING_OBJECT), ({"error": "x"}, Status.STORAGE_FAILED)):
        harness.step(events.ObjectWanted(0, b"o" * 16))
        (fetch,) = harness.take(effects.FetchObject)
        harness.step(events.ObjectFetched(fetch.request, **event_fields))
        assert [answer.status for answer in harness.take(effects.AnswerObject)] == [status]


def test_without_a_storage_server_objects_cannot_be_had() -> None:
    harness = AgentHarness(slots=1, storage=False)
    harness.step(events.ObjectWanted(0, b"o" * 16))
    assert [answer.status for answer in harness.take(effects.AnswerObject)] == [Status.STORAGE_FAILED]


def test_a_large_result_is_told_when_it_is_stored() -> None:
    harness = AgentHarness(slots=1)
    harness.learn(microseconds=100)
    harness.submit([1, 2, 3])
    harness.finish(0, 3, object_positions=[1], objects=(b"o" * 16,), object_sizes=[10])
    assert sorted(number for _, number in harness.results if number < 10) == [1, 3]
    (put,) = harness.take(effects.PutObject)
    assert (put.id, put.owner) == (b"o" * 16, CLIENT)
    harness.step(events.ObjectStored(put.request))
    batch = harness.said(m.ResultBatch)[-1]
    assert (list(batch.numbers), list(batch.object_positions), batch.objects) == ([2], [0], (b"o" * 16,))


def test_a_large_exception_is_told_as_a_failure_when_it_is_stored() -> None:
    harness = AgentHarness(slots=1)
    harness.learn(microseconds=100)
    harness.submit([1, 2, 3])
    statuses = [Status.SUCCESS, Status.FAILED, Status.FAILED]
    harness.finish(0, 3, statuses=statuses, object_positions=[1], objects=(b"o" * 16,), object_sizes=[10])
    assert (harness.status(1), harness.status(3)) == (Status.SUCCESS, Status.FAILED)
    assert (CLIENT, 2) not in harness.results
    (put,) = harness.take(effects.PutObject)
    harness.step(events.ObjectStored(put.request))
    batch = harness.said(m.ResultBatch)[-1]
    assert (list(batch.numbers), list(batch.statuses)) == ([2], [Status.FAILED])
    assert (list(batch.object_positions), batch.objects) == ([0], (b"o" * 16,))


def test_a_large_exception_that_cannot_be_stored_is_a_failure_of_storage() -> None:
    harness = AgentHarness(slots=1)
    harness.submit([1])
    statuses = [Status.FAILED]
    harness.finish(0, statuses=statuses, object_positions=[0], objects=(b"o" * 16,), object_sizes=[10])
    (put,) = harness.take(effects.PutObject)
    harness.step(events.ObjectStored(put.request, "storage is full"))
    assert harness.status(1) == Status.STORAGE_FAILED


def test_a_large_result_that_cannot_be_stored_is_a_failure() -> None:
    harness = AgentHarness(slots=1)
    harness.submit([1])
    harness.finish(0, object_positions=[0], objects=(b"o" * 16,), object_sizes=[10])
    (put,) = harness.take(effects.PutObject)
    harness.step(events.ObjectStored(put.request, "storage is full"))
    assert harness.status(1) == Status.STORAGE_FAILED
    assert b"storage is full" in harness.results[CLIENT, 1][2]


def test_a_task_cancelled_while_its_result_is_stored_is_answered_once() -> None:
    harness = AgentHarness(slots=1)
    harness.submit([1])
    harness.finish(0, object_positions=[0], objects=(b"o" * 16,), object_sizes=[10])
    harness.say(m.TaskCancel(CLIENT, [1]))
    (put,) = harness.take(effects.PutObject)
    harness.step(events.ObjectStored(put.request))
    assert harness.status(1) == Status.CANCELED


def test_cancelling_an_attempt_leaves_the_upload_of_another_one_alone() -> None:
    harness = AgentHarness(slots=1)
    harness.submit([1], attempt=2)
    harness.finish(0, object_positions=[0], objects=(b"o" * 16,), object_sizes=[10])
    harness.say(m.TaskCancel(CLIENT, [1], [1]))
    (put,) = harness.take(effects.PutObject)
    harness.step(events.ObjectStored(put.request))
    assert harness.results[CLIENT, 1][:2] == (2, Status.SUCCESS)


def test_the_cache_forgets_what_was_not_used_for_longest() -> None:
    harness = AgentHarness(slots=1, object_cache_bytes=100)
    for name in (b"1", b"2", b"3"):
        harness.step(events.ObjectWanted(0, name * 16))
        (fetch,) = harness.take(effects.FetchObject)
        harness.step(events.ObjectFetched(fetch.request, 40))
    assert harness.take(effects.DropObject) == [effects.DropObject(b"1" * 16)]


def test_a_place_that_is_out_of_date_makes_the_host_fetch_the_object_itself() -> None:
    harness = AgentHarness(slots=2)
    harness.submit([1], object_positions=[0], objects=(b"o" * 16,))
    (fetch,) = harness.take(effects.FetchObject)
    assert not fetch.whole
    harness.step(events.ObjectFetched(fetch.request, 100))
    harness.step(events.ObjectWanted(0, b"o" * 16, place_gone=True))
    assert harness.take(effects.DropObject) == [effects.DropObject(b"o" * 16)]
    (fetch,) = harness.take(effects.FetchObject)
    assert fetch.whole
    # Another processor finds it out meanwhile: one fetch serves both.
    harness.step(events.ObjectWanted(1, b"o" * 16, place_gone=True))
    assert harness.take(effects.FetchObject) == []
    harness.step(events.ObjectFetched(fetch.request, 100))
    assert [(answer.processor, answer.status) for answer in harness.take(effects.AnswerObject)] == [(0, 0), (1, 0)]


def test_a_result_that_went_with_its_processor_may_be_computed_again() -> None:
    harness = AgentHarness(slots=1)
    harness.submit([1])
    harness.finish(0, object_positions=[0], objects=(b"o" * 16,), object_sizes=[10])
    (put,) = harness.take(effects.PutObject)
    harness.step(events.ObjectStored(put.request, "its processor has died", lost=True))
    assert harness.status(1) == Status.PROCESSOR_DIED
    assert b"has died" in harness.results[CLIENT, 1][2]


# --- the session


def test_nothing_is_lost_while_there_is_no_scheduler_yet() -> None:
    harness = AgentHarness(slots=1)
    harness.submit([1, 2])
    harness.scheduler.session = None
    harness.finish(0)
    harness.unknown_peer()
    harness.welcome(incarnation=b"t" * 16)
    assert harness.status(1) == Status.SUCCESS
    (inventory,) = harness.said(m.Inventory)
    # What has ended is claimed too: else the result that follows is that of a task which nobody has.
    assert (list(inventory.numbers), list(inventory.attempts), list(inventory.states)) == ([2, 1], [1, 1], [1, 1])


def test_the_inventory_names_queued_and_running_tasks_of_every_client() -> None:
    harness = AgentHarness(slots=1)
    harness.define(BODY, OTHER)
    harness.submit([1, 2])
    harness.submit([5], OTHER)
    harness.unknown_peer()
    harness.welcome(incarnation=b"t" * 16)
    held = {
        (inventory.client, number): state
        for inventory in harness.said(m.Inventory)
        for number, state in zip(inventory.numbers, inventory.states, strict=True)
    }
    assert held == {(CLIENT, 1): 1, (CLIENT, 2): 0, (OTHER, 5): 0}


def test_a_scheduler_that_starts_again_hears_what_is_held_before_it_may_send_anything() -> None:
    harness = AgentHarness(slots=1)
    assert [hello.capacity for hello in harness.said(m.Hello)] == [0]
    harness.submit([1, 2])
    harness.sent.clear()
    harness.unknown_peer()
    harness.welcome(incarnation=b"t" * 16)
    told = [message for message in harness.sent if isinstance(message, m.Hello | m.Inventory | m.Heartbeat)]
    assert [type(message) for message in told] == [m.Hello, m.Inventory, m.Heartbeat]
    assert [getattr(message, "capacity", None) for message in told] == [0, None, harness.look().capacity]


def test_what_many_tasks_are_held_is_told_in_portions() -> None:
    harness = AgentHarness(slots=1, queue_limit=2 * PORTION_ROWS + 10)
    numbers = range(1, 2 * PORTION_ROWS + 10)
    harness.submit(numbers)
    harness.sent.clear()
    harness.unknown_peer()
    harness.welcome(incarnation=b"t" * 16)
    told = [message for message in harness.sent if isinstance(message, m.Inventory | m.Heartbeat)]
    # The capacity last: a scheduler that knew of free room and not yet of the tasks would send them to another one.
    assert [type(message) for message in told] == [m.Inventory, m.Inventory, m.Inventory, m.Heartbeat]
    inventories = harness.said(m.Inventory)
    assert max(len(inventory.numbers) for inventory in inventories) == PORTION_ROWS
    assert sorted(number for inventory in inventories for number in inventory.numbers) == list(numbers)
    assert [state for inventory in inventories for state in inventory.states].count(m.HeldState.RUNNING) == 1


def test_many_tasks_go_back_in_portions_the_last_ones_first() -> None:
    harness = AgentHarness(slots=1, queue_limit=3 * PORTION_ROWS)
    harness.submit(range(1, 2 * PORTION_ROWS + 10))
    harness.step(events.StopRequested("the test says so", 5.0))
    messages = harness.said(m.TaskReturn)
    assert max(len(message.numbers) for message in messages) == PORTION_ROWS
    in_queue = [number for message in reversed(messages) for number in message.numbers]
    assert in_queue == sorted(in_queue)
    assert len(in_queue) >= 2 * PORTION_ROWS


def test_many_results_are_told_in_portions() -> None:
    harness = AgentHarness(slots=1, queue_limit=2 * RESULT_ROWS + 10)
    numbers = range(1, 2 * RESULT_ROWS + 10)
    harness.submit(numbers)
    harness.say(m.TaskCancel(CLIENT, numbers))
    told = harness.said(m.ResultBatch)
    assert max(len(batch.numbers) for batch in told) <= RESULT_ROWS
    assert len(told) >= 2
    assert len({number for batch in told for number in batch.numbers}) >= 2 * RESULT_ROWS


def test_a_resumed_session_needs_no_inventory() -> None:
    harness = AgentHarness(slots=1)
    harness.submit([1])
    harness.unknown_peer()
    harness.welcome(resumed=True)
    harness.finish(0)
    assert harness.said(m.Inventory) == []
    assert harness.status(1) == Status.SUCCESS


def test_the_agent_ends_when_no_scheduler_answers() -> None:
    harness = AgentHarness(slots=1, ready=False, death_timeout_seconds=30)
    harness.wait(31)
    (stop,) = harness.take(effects.Stop)
    assert stop.status == 1
    assert "30 s" in stop.reason


def test_an_agent_that_is_refused_says_why() -> None:
    harness = AgentHarness(slots=1, ready=False)
    harness.plain(m.Refused("python 2.7 is too old"))
    assert harness.take(effects.Stop) == [effects.Stop("the scheduler refuses this agent: python 2.7 is too old", 1)]


def test_an_agent_whose_key_is_refused_goes_on_trying_and_says_why() -> None:
    harness = AgentHarness(slots=2, death_timeout_seconds=30, scheduler_address="tcp://there:1")
    harness.step(events.RelayOpened(0, OTHER))
    harness.take(effects.Log)
    for _ in range(3):
        harness.step(events.LinkRefused("it was revoked"))
    (line,) = harness.take(effects.Log)
    assert line.level == 30
    assert "the scheduler at tcp://there:1 refuses this agent: it was revoked; trying for another" in line.text
    reason = "it does not let in the worker any more: it was revoked"
    assert harness.take(effects.RefuseClient) == [effects.RefuseClient(0, OTHER, reason)]
    # So is a client that is made meanwhile.
    harness.step(events.RelayOpened(1, CLIENT))
    assert harness.take(effects.RefuseClient) == [effects.RefuseClient(1, CLIENT, reason)]
    harness.now += 31
    harness.step(events.Tick())
    (stop,) = harness.take(effects.Stop)
    assert stop.status == 1
    assert stop.reason.startswith("no scheduler has answered at tcp://there:1 for ")
    assert stop.reason.endswith(" s: it was revoked")


def test_an_agent_that_is_let_in_again_has_forgotten_why_not() -> None:
    harness = AgentHarness(slots=1, death_timeout_seconds=30)
    harness.step(events.LinkRefused("it was revoked"))
    harness.unknown_peer()
    harness.welcome()
    harness.take(effects.Log)
    harness.step(events.RelayOpened(0, OTHER))
    assert harness.take(effects.RefuseClient) == []
    harness.now += 31
    harness.step(events.Tick())
    (stop,) = harness.take(effects.Stop)
    assert "revoked" not in stop.reason


def test_a_task_that_exceeds_a_limit_of_its_own_is_reported_as_that() -> None:
    harness = AgentHarness(slots=1)
    harness.submit([1])
    harness.step(events.ProcessorExited(0, harness.front_index(0), "it exceeded a limit", exceeded=True))
    assert harness.results[CLIENT, 1] == (1, Status.LIMIT_EXCEEDED, b"it exceeded a limit")


def test_a_heartbeat_shows_every_worker() -> None:
    harness = AgentHarness(slots=2)
    harness.submit([7])
    harness.step(events.Figures(5.0, 10, 20, {0: events.ProcessorFigures(12.5, 1000)}))
    harness.said(m.Heartbeat)
    harness.wait(2.1)
    heartbeat = harness.said(m.Heartbeat)[-1]
    assert (list(heartbeat.processor_pids), list(heartbeat.processor_states)) == ([1000, 1001], [2, 1])
    assert (list(heartbeat.processor_cpu_percents), list(heartbeat.processor_rss_bytes)) == ([125, 0], [1000, 0])
    assert (heartbeat.processor_tasks[0], heartbeat.processor_functions[0]) == (7, FUNCTION)
    assert heartbeat.processor_environments == b""


def test_a_heartbeat_names_what_clients_have_set_up() -> None:
    harness = AgentHarness(slots=3)
    harness.step(events.ProcessorEnvironment(1, "plugins:\n database" + " x" * 1000))
    harness.step(events.ProcessorEnvironment(2, "plugins: gone"))
    harness.step(events.ProcessorEnvironment(2, ""))
    harness.step(events.ProcessorEnvironment(99, "nowhere"))
    harness.wait(2.1)
    first, second, third = harness.said(m.Heartbeat)[-1].processor_environments.decode().split("\n")
    assert (first, second[:23], len(second), third) == ("", "plugins: database x x x", 500, "")


def test_output_is_passed_on_with_the_task_s_number() -> None:
    harness = AgentHarness(slots=1)
    harness.submit([7])
    harness.step(events.ProcessorOutput(0, 0, 1, b"hello\n"))
    harness.step(events.ProcessorOutput(0, 5, 1, b"of no task"))
    assert harness.said(m.Output) == [m.Output(CLIENT, 7, 1, b"hello\n")]


def test_failed_items_of_a_chunk_are_told_before_its_result() -> None:
    harness = AgentHarness(slots=1)
    harness.submit([7])
    harness.step(events.ChunkFailures(0, 0, 2, b"the first"))
    harness.step(events.ChunkFailures(0, 5, 2, b"of no task"))
    harness.step(events.ChunkFailures(0, 0, 2, b"the first once more"))
    assert harness.said(m.ChunkFailures) == [m.ChunkFailures(CLIENT, 7, 1, 2, b"the first")]


# --- leaving


def test_stopping_gives_back_what_has_not_started_and_waits_for_the_rest() -> None:
    harness = AgentHarness(slots=1)
    harness.submit([1, 2, 3])
    harness.step(events.StopRequested("SIGTERM", 5.0))
    assert returned(harness) == [2, 3]
    assert harness.said(m.Drain) == [m.Drain()]
    assert harness.look().capacity == 0
    harness.submit([4])
    assert returned(harness) == [4]
    assert harness.take(effects.Stop) == []
    harness.finish(0)
    assert harness.take(effects.Stop) == [effects.Stop("SIGTERM", 0)]
    assert harness.status(1) == Status.SUCCESS
    assert harness.said(m.Goodbye) == [m.Goodbye("SIGTERM")]


def test_stopping_does_not_wait_longer_than_its_grace() -> None:
    harness = AgentHarness(slots=1)
    harness.submit([1])
    harness.step(events.StopRequested("SIGTERM", 5.0))
    harness.wait(4.9)
    assert harness.take(effects.Stop) == []
    harness.wait(0.2)
    assert harness.take(effects.Stop) == [effects.Stop("SIGTERM", 0)]


def test_draining_takes_back_what_lies_in_pipes() -> None:
    harness = AgentHarness(slots=1)
    harness.learn(microseconds=100)
    harness.submit([1, 2, 3])
    harness.say(m.Drain())
    assert harness.take(effects.TakeBack) == [effects.TakeBack(0)]
    harness.step(events.ProcessorGaveBack(0, 1, harness.front_index(0) + 1))
    assert returned(harness) == [2, 3]
    harness.finish(0)
    assert harness.take(effects.Stop) == [effects.Stop("drained", 0)]


def test_shutdown_by_the_scheduler_ends_soon() -> None:
    harness = AgentHarness(slots=1)
    harness.submit([1])
    harness.say(m.Shutdown("enough"))
    harness.wait(1.1)
    assert harness.take(effects.Stop) == [effects.Stop("enough", 0)]


@pytest.mark.parametrize(
    "event",
    [
        events.Tick(),
        events.ProcessorReady(77, 1),
        events.ProcessorResults(77, 0, 1, [0], b"", Reported(durations=[0])),
        events.ProcessorBlocked(77, 1, 1),
        events.ProcessorUnblocked(77),
        events.ProcessorGaveBack(77, 1, 1),
        events.ProcessorExited(77, None, "x"),
        events.ProcessorOutput(77, 0, 1, b""),
        events.ChunkFailures(77, 0, 1, b""),
        events.RelayOpened(77, OTHER),
        events.RelayFrames(77, OTHER, []),
        events.RelayClosed(77, OTHER),
        events.ObjectWanted(77, b"o" * 16),
        events.ObjectFetched(77),
        events.ObjectStored(77),
        events.Figures(),
    ],
    ids=lambda event: type(event).__name__,
)
@pytest.mark.parametrize("stage", ["connecting", "idle", "running", "blocked", "leaving", "stopped"])
def test_events_of_what_does_not_exist_change_nothing(event: events.Event, stage: str) -> None:
    harness = AgentHarness(slots=1, ready=stage != "connecting")
    if stage in ("running", "blocked", "leaving"):
        harness.submit([1])
    if stage == "blocked":
        harness.block(0)
    if stage == "leaving":
        harness.say(m.Drain())
    if stage == "stopped":
        harness.say(m.Drain())
    running = harness.running()
    harness.step(event)
    assert harness.running() == running
    assert harness.results == {}


# --- results under load


def test_results_travel_together_while_there_is_more_to_do() -> None:
    harness = AgentHarness(slots=1)
    harness.learn(microseconds=10_000)
    harness.submit(range(20))
    harness.finish(0)
    assert [list(batch.numbers) for batch in harness.said(m.ResultBatch)[1:]] == [[0]], "the first one is not held"
    harness.now += 0.001
    harness.finish(0)
    harness.now += 0.001
    harness.finish(0)
    assert not harness.said(m.ResultBatch)
    assert harness.core.next_deadline() <= harness.now + HOLD_SECONDS
    harness.wait(HOLD_SECONDS)
    assert [list(batch.numbers) for batch in harness.said(m.ResultBatch)] == [[1, 2]]


def test_results_are_held_no_longer_than_tasks_are_queued() -> None:
    harness = AgentHarness(slots=1)
    harness.learn(microseconds=15_000)
    harness.submit(range(5))
    harness.said(m.ResultBatch)
    for told in ([0], [], [1, 2], [3]):
        harness.finish(0)
        assert [number for batch in harness.said(m.ResultBatch) for number in batch.numbers] == told


def test_one_task_at_a_time_is_never_held() -> None:
    harness = AgentHarness(slots=1)
    for number in range(5):
        harness.submit([number])
        harness.finish(0, microseconds=10)
        assert harness.said(m.ResultBatch)


def test_no_more_than_so_many_results_are_held() -> None:
    harness = AgentHarness(slots=1)
    harness.learn(microseconds=1)
    harness.submit(range(5000))
    harness.finish(0, 1, microseconds=1)
    harness.said(m.ResultBatch)
    harness.finish(0, 200, microseconds=1)
    assert not harness.said(m.ResultBatch)
    harness.finish(0, 100, microseconds=1)
    assert sum(len(batch.numbers) for batch in harness.said(m.ResultBatch)) == 300


def test_a_blocked_task_may_be_waiting_for_the_result() -> None:
    harness = AgentHarness(slots=2)
    harness.learn(microseconds=500_000)
    harness.submit(range(10))
    for processor in (0, 1):
        harness.finish(processor)
        harness.said(m.ResultBatch)
    harness.block(0)
    harness.finish(1)
    assert harness.said(m.ResultBatch)


def test_a_new_scheduler_hears_of_held_results_at_once() -> None:
    harness = AgentHarness(slots=1)
    harness.learn(microseconds=10_000)
    harness.submit(range(20))
    harness.finish(0)
    harness.finish(0)
    harness.said(m.ResultBatch)
    harness.unknown_peer()
    # What was told and not acknowledged is told again.
    harness.results.clear()
    harness.welcome(incarnation=b"t" * 16)
    assert 1 in [number for batch in harness.said(m.ResultBatch) for number in batch.numbers]


def test_an_agent_that_waits_for_its_scheduler_says_so() -> None:
    harness = AgentHarness(ready=False, scheduler_address="tcp://there:1")
    harness.wait(7.0)
    (waiting,) = harness.take(effects.Log)
    assert waiting.level == 30
    assert waiting.text.startswith(
        "no scheduler answers at tcp://there:1 yet (waited for 5 s); trying for another 295 s"
    )
    harness.welcome()
    assert harness.take(effects.Log)[0] == effects.Log(20, "the scheduler at tcp://there:1 answers")


# --- what a hostile task writes into its processor's channel


@pytest.mark.parametrize("kind", [events.ProcessorBlocked, events.ProcessorGaveBack])
@pytest.mark.parametrize(("generation", "next_index"), [(7, 1), (0, 1), (1, 0), (1, 1000), (2**32 - 1, 2**63)])
def test_a_processor_that_gives_back_what_it_was_not_given_is_replaced(
    kind: type[events.ProcessorBlocked] | type[events.ProcessorGaveBack], generation: int, next_index: int
) -> None:
    harness = AgentHarness(slots=1)
    harness.submit([1])
    harness.finish(0)
    harness.submit([2])
    harness.step(kind(0, generation, next_index))
    assert [effect.processor for effect in harness.take(effects.KillProcessor)] == [0]
    assert list(harness.look().processors[0].tasks) == [2], "its death will be counted against it"


def test_a_processor_that_says_that_it_waits_in_a_task_that_it_gives_back_is_replaced() -> None:
    harness = AgentHarness(slots=1)
    harness.submit([1])
    harness.finish(0)
    harness.submit([2])
    harness.step(events.ProcessorBlocked(0, 1, 1))
    assert [effect.processor for effect in harness.take(effects.KillProcessor)] == [0]
    harness.step(events.ProcessorExited(0, 1, "it was killed"))
    for started in harness.take(effects.StartProcessor):
        harness.step(events.ProcessorReady(started.processor, 1000 + started.processor))
    assert harness.status(2) == Status.PROCESSOR_DIED
    harness.submit([3])
    assert harness.running() == [3]


def relay_opened(harness: AgentHarness, processor: int, client: bytes) -> bool:
    """Open a client inside a processor; return whether the processor lives on."""
    harness.step(events.RelayOpened(processor, client))
    return not harness.take(effects.KillProcessor)


def test_a_processor_whose_client_is_not_this_worker_s_is_replaced() -> None:
    harness = AgentHarness(slots=1, identity_prefix=b"k" * 8)
    assert relay_opened(harness, 0, b"k" * 8 + b"n" * 8)
    assert not relay_opened(harness, 0, b"x" * 16)
    harness.step(events.RelayClosed(0, b"x" * 16))
    harness.wait(5.0)
    assert not harness.said(m.ClientGone), "the scheduler would close the connection for it"


def test_no_processor_speaks_for_a_client_of_another_one() -> None:
    harness = AgentHarness(slots=2)
    client = b"n" * 16
    assert relay_opened(harness, 0, client)
    harness.step(events.RelayFrames(1, client, [b"forged"], False))
    harness.step(events.RelayClosed(1, client))
    assert not harness.said(m.Relay)
    assert not harness.said(m.ClientGone)
    assert not relay_opened(harness, 1, client)
    harness.step(events.RelayFrames(0, client, [b"honest"], False))
    assert [relay.inner for relay in harness.said(m.Relay)] == [[b"honest"]]


def test_clients_of_a_processor_are_bounded() -> None:
    harness = AgentHarness(slots=1)
    for number in range(CLIENTS_MAX):
        assert relay_opened(harness, 0, number.to_bytes(16, "big"))
    assert not relay_opened(harness, 0, b"n" * 16)
