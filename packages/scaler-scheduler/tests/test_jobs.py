"""Jobs in the core alone: what is the same task, who is told what, and what a journal brings back."""

from __future__ import annotations

import json
from typing import Any

import pytest
from harness import FUNCTION, Agent, Client, Harness, identity

from scaler_protocol.wire import messages as m
from scaler_protocol.wire.call_options import NO_OPTIONS, Retries, encode_record, join_records
from scaler_protocol.wire.columns import Packed
from scaler_scheduler.core import SchedulerConfig, effects, events
from scaler_scheduler.core.jobs import journal
from scaler_scheduler.group_shares import parse_shares

DETACHED = int(m.TaskFlag.DETACHED)


def options(name: str = "job", **others: Any) -> bytes:
    return join_records([encode_record(NO_OPTIONS._replace(detached=True, name=name, **others))])


def submit(client: Client, *payloads: bytes, name: str = "job", **others: Any) -> list[int]:
    numbers = list(range(client.next_number, client.next_number + len(payloads)))
    client.next_number += len(payloads)
    batch = m.TaskBatch(
        client.id, numbers, (FUNCTION,), Packed.of(payloads), flags=DETACHED, options=options(name), **others
    )
    client.send(batch)
    return numbers


def follow(client: Client, *positions: int, name: str = "job") -> list[int]:
    payloads = [position.to_bytes(8, "little") for position in positions]
    return submit(client, *payloads, name=name, kind=m.TaskKind.JOB_RESULT)


def ask(client: Client, action: str, name: str = "job", keep: float = 0.0) -> m.JobReply:
    client.send(m.JobRequest(77, action, name, keep))
    (reply,) = client.take(m.JobReply)
    return reply


def status(client: Client, name: str = "job") -> dict[str, Any]:
    reply = ask(client, "status", name)
    assert not reply.error, reply.error
    (told,) = json.loads(reply.json)
    return dict(told)


def started(**config: Any) -> tuple[Harness, Client, Agent]:
    harness = Harness(**config)
    client = Client(harness, "client")
    client.define()
    return harness, client, Agent(harness, "agent")


def test_results_come_to_the_one_who_submits_and_to_whoever_asks() -> None:
    harness, client, agent = started()
    numbers = submit(client, b"P1", b"P2")
    agent.run_all()
    assert set(client.results()) == set(numbers)
    other = Client(harness, "other")
    asked = follow(other, 1, 0)
    results = other.results()
    assert {number: payload for number, (_, payload) in results.items()}.keys() == set(asked)
    assert status(other)["done"] == 2


def test_the_client_goes_and_the_tasks_go_on() -> None:
    harness, client, agent = started()
    submit(client, b"P1", b"P2")
    client.send(m.Goodbye("done"))
    agent.run_all()
    other = Client(harness, "other")
    assert status(other)["done"] == 2
    harness.core.check_invariants()


def test_the_same_content_again_waits_for_the_task_that_is_there() -> None:
    harness, client, agent = started()
    submit(client, b"P1", b"P1", b"P2")
    other = Client(harness, "other")
    other.define()
    # The same content twice is two tasks, in their order; in another order they are the same.
    submit(other, b"P2", b"P1", b"P1")
    assert status(other)["tasks"] == 3
    submit(other, b"P1")
    assert status(other)["tasks"] == 4
    agent.run_all()
    assert len(other.results()) == 4
    assert status(other)["done"] == 4


def test_opening_anew_counts_from_the_first_task_on() -> None:
    _, client, _ = started()
    ask(client, "open")
    submit(client, b"P1")
    ask(client, "open")
    submit(client, b"P1")
    assert status(client)["tasks"] == 1


def test_a_closed_job_refuses_other_tasks_and_says_so_at_the_end_of_the_block() -> None:
    _, client, _ = started()
    ask(client, "open")
    submit(client, b"P1")
    assert not ask(client, "close").error
    ask(client, "open")
    (number,) = submit(client, b"P2")
    assert client.results()[number][0] == m.Status.NOT_RUN
    assert "other tasks" in ask(client, "close").error


def test_limits_name_their_flags() -> None:
    _, client, _ = started(jobs_max=1, job_tasks_max=1, jobs_bytes_max=1000)
    submit(client, b"P1")
    (number,) = submit(client, b"P2")
    assert b"--job-tasks-max" in client.results()[number][1]
    assert "--jobs-max" in ask(client, "open", "second").error
    _, client, _ = started(jobs_bytes_max=1000)
    (number,) = submit(client, bytes(2000))
    assert b"--jobs-bytes-max" in client.results()[number][1]


def test_jobs_expire_once_their_tasks_have_ended() -> None:
    harness, client, agent = started(unix_offset_seconds=1000.0)
    ask(client, "open", keep=30.0)
    submit(client, b"P1")
    harness.advance(60.0)
    assert status(client)["expires"] is None
    agent.run_all()
    assert status(client)["expires"] == harness.now + 1030.0
    harness.advance(40.0)
    assert ask(client, "status").kind == "unknown"
    assert len(harness.snapshot()["clients"]) == 1


@pytest.mark.parametrize("keep", [1.0, 4.0, 5.0, 7.0, 30.0])
def test_a_job_is_forgotten_within_a_second_after_its_time(keep: float) -> None:
    harness, client, agent = started()
    ask(client, "open", keep=600.0)
    ask(client, "open", keep=keep)
    submit(client, b"P1")
    # All jobs are looked at every five seconds: in between.
    harness.advance(61.5)
    agent.run_all()
    harness.advance(keep - 0.5)
    assert status(client)["done"] == 1
    harness.advance(1.5)
    assert ask(client, "status").kind == "unknown"
    assert len(harness.snapshot()["clients"]) == 1


def test_with_keys_a_job_is_its_owners_and_the_operators() -> None:
    harness, client, _ = started()
    harness.core.let_operators_end_cluster(())
    ask(client, "open")
    other = Client(harness, "stranger")
    assert ask(other, "status").kind == "other_owner"
    assert json.loads(ask(other, "list").json) == []
    other.define()
    (number,) = submit(other, b"P1")
    assert b"belongs to another key" in other.results()[number][1]
    harness.core.let_operators_end_cluster((other.id[:8],))
    assert status(other)["name"] == "job"


def test_cancel_and_forget() -> None:
    harness, client, agent = started()
    first, second = submit(client, b"P1", b"P2")
    ask(client, "cancel")
    agent.answer(agent.tasks(), m.Status.CANCELED, b"")
    assert {code for code, _ in client.results().values()} == {m.Status.CANCELED}
    assert status(client)["canceled"] == 2
    submit(client, b"P3")
    ask(client, "forget")
    assert [code for code, _ in client.results().values()] == [m.Status.NOT_RUN]
    assert ask(client, "status").kind == "unknown"
    harness.core.check_invariants()
    assert first < second


def test_a_future_that_is_cancelled_stops_no_task() -> None:
    _, client, agent = started()
    (number,) = submit(client, b"P1")
    client.send(m.TaskCancel(client.id, [number]))
    assert client.results()[number][0] == m.Status.CANCELED
    agent.run_all()
    assert client.results() == {}
    assert status(client)["done"] == 1


def test_nobody_waits_for_tasks_for_a_client_that_has_gone() -> None:
    """Programs that look at a job come and go while its tasks run for days."""
    harness, client, agent = started()
    submit(client, b"P1", b"P2")
    for count in range(3):
        looks = Client(harness, f"looks {count}")
        follow(looks, 0, 1)
        looks.send(m.Goodbye("seen"))
    jobs = harness.core._jobs
    assert {one for waiting in jobs._by_name["job"].followers.values() for one, _ in waiting} == {client.id}
    agent.run_all()
    assert len(client.results()) == 2
    client.send(m.Goodbye("done"))
    assert not jobs._followed
    assert not jobs.due


@pytest.mark.parametrize("has_ended", [False, True])
def test_a_client_that_comes_back_is_answered_once(has_ended: bool) -> None:
    """Its session was given up, and it announces what it waits for in the next one."""
    harness, client, agent = started()
    submit(client, b"P1")
    follower = Client(harness, "follower")
    (number,) = follow(follower, 0)
    follower.send(m.Goodbye("asleep"))
    if has_ended:
        agent.run_all()
    back = Client(harness, "follower")
    back.next_number = number
    follow(back, 0)
    agent.run_all()
    assert list(back.results()) == [number]


def test_a_task_that_is_tried_again_has_not_ended() -> None:
    _, client, agent = started(keeps_jobs=True)
    record = encode_record(NO_OPTIONS._replace(detached=True, name="job", retries=Retries(1, on=("Exception",))))
    batch = m.TaskBatch(
        client.id, [1, 2], (FUNCTION,), Packed.of([b"P1", b"P2"]), flags=DETACHED, options=join_records([record])
    )
    client.send(batch)
    first, second = agent.tasks()
    agent.answer([first, second], m.Status.RETRY, b"Pfailure")
    assert client.results() == {}
    assert status(client)["failed"] == 0
    again = sorted(agent.tasks())
    agent.answer(again[:1])
    agent.answer(again[1:], m.Status.RETRY, b"Plast failure")
    assert client.results() == {1: (m.Status.SUCCESS, b"Presult"), 2: (m.Status.FAILED, b"Plast failure")}
    assert (status(client)["done"], status(client)["failed"]) == (1, 1)
    # The task that failed is submitted again, and has as many retries as before.
    ask(client, "open")
    batch.numbers = [3, 4]
    client.send(batch)
    assert client.results() == {3: (m.Status.SUCCESS, b"Presult")}
    agent.answer(agent.tasks(), m.Status.RETRY, b"Pfailure")
    agent.answer(agent.tasks())
    assert client.results() == {4: (m.Status.SUCCESS, b"Presult")}


def test_lost_results_count_as_none() -> None:
    harness, client, agent = started()
    lost = b"o" * 16
    (number,) = submit(client, b"P1")
    agent.answer(agent.tasks(), payload=b"O" + lost, object_positions=[0], objects=(lost,))
    assert client.results()[number][1] == b"O" + lost
    harness.core.handle(events.ObjectsLost("host", (lost,)), harness.now)
    harness.settle()
    assert status(client)["lost"] == 1
    (asked,) = follow(client, 0)
    assert client.results()[asked][0] == m.Status.MISSING_OBJECT
    ask(client, "open")
    submit(client, b"P1")
    agent.run_all()
    assert (status(client)["lost"], status(client)["done"]) == (0, 1)


def journals(harness: Harness) -> dict[bytes, list[bytes]]:
    found: dict[bytes, list[bytes]] = {}
    for effect in harness.other_effects:
        if isinstance(effect, effects.AppendJournal):
            found.setdefault(effect.job, []).append(effect.record)
        elif isinstance(effect, effects.DropJournal):
            found.pop(effect.job, None)
    return found


def restarted(records: dict[bytes, list[bytes]], **config: Any) -> Harness:
    harness = Harness(keeps_jobs=True, **config)
    for job, of_job in records.items():
        assert harness.core.restore_job(job, of_job, harness.now) == []
    harness.settle()
    return harness


@pytest.mark.parametrize("restarts", [1, 2])
def test_what_a_worker_says_late_of_a_run_whose_result_is_lost_ends_no_other_run(restarts: int) -> None:
    harness, client, agent = started(keeps_jobs=True)
    lost = b"o" * 16
    submit(client, b"P1")
    held = agent.tasks()
    agent.answer(held, payload=b"O" + lost, object_positions=[0], objects=(lost,))
    records = journals(harness)
    again = restarted(records)
    again.core.handle(events.ObjectsLost("host", (lost,)), again.now)
    back, successor = Client(again, "client"), Agent(again, "agent")
    ask(back, "open")
    back.define()
    (number,) = submit(back, b"P1")
    if restarts == 2:
        # The journal says which run it waits for.
        (job,) = records
        again = restarted({job: records[job] + journals(again)[job]})
        back, successor = Client(again, "client"), Agent(again, "agent")
        back.define()
        announce(back, [number], b"P1")
    # It has not heard that an earlier scheduler had this answer.
    successor.answer(held, payload=b"O" + lost, object_positions=[0], objects=(lost,))
    again.advance(20.0)
    assert back.results() == {}
    successor.run_all()
    assert back.results() == {number: (m.Status.SUCCESS, b"Presult")}
    again.core.check_invariants()


def test_a_journal_that_does_not_say_what_began_again_keeps_the_numbers() -> None:
    """Journals of earlier versions are such."""
    harness, client, agent = started(keeps_jobs=True)
    for _ in range(2):
        ask(client, "open")
        submit(client, b"P1")
        held = agent.tasks()
        agent.answer(held, m.Status.FAILED, b"Perror")
    ((job, records),) = journals(harness).items()
    earlier = []
    for record in records:
        kind, header, blob = journal.unpack(record)
        if kind is journal.Kind.AGAIN:
            del header["series"]
        earlier.append(journal.pack(kind, header, blob))
    assert earlier != records
    again = restarted({job: earlier[:-1]})
    successor = Agent(again, "agent")
    again.advance(20.0)
    ((_, number, _),) = successor.tasks()
    assert number == 1


def test_a_journal_brings_tasks_and_results_back() -> None:
    harness, client, agent = started(keeps_jobs=True)
    ask(client, "open", keep=500.0)
    submit(client, b"P1", b"P2", b"P3")
    agent.answer(agent.tasks()[:1])
    kept = journals(harness)
    again = restarted(kept)
    other = Client(again, "other")
    before = status(other)
    assert (before["done"], before["tasks"], before["keep"]) == (1, 3, 500.0)
    successor = Agent(again, "agent2")
    again.advance(10.0)
    successor.run_all()
    asked = follow(other, 0, 1, 2)
    assert set(other.results()) == set(asked)
    again.core.check_invariants()
    # All of it comes back once more from both journals together.
    (job,) = kept
    third = restarted({job: kept[job] + journals(again)[job]})
    assert status(Client(third, "third"))["done"] == 3


def test_a_client_announces_its_tasks_again_after_a_restart() -> None:
    harness, client, _ = started(keeps_jobs=True)
    numbers = submit(client, b"P1", b"P1")
    again = restarted(journals(harness))
    back = Client(again, "client")
    back.define()
    batch = m.TaskBatch(
        back.id,
        numbers,
        (FUNCTION,),
        Packed.of([b"P1", b"P1"]),
        flags=DETACHED | m.TaskFlag.REANNOUNCED,
        options=options(),
    )
    back.send(batch)
    assert status(back)["tasks"] == 2
    agent = Agent(again, "agent")
    again.advance(10.0)
    agent.run_all()
    assert set(back.results()) == set(numbers)


def announce(client: Client, numbers: list[int], *payloads: bytes, **others: Any) -> None:
    """Submit tasks that were sent to an earlier scheduler already."""
    flags = DETACHED | m.TaskFlag.REANNOUNCED
    client.send(
        m.TaskBatch(client.id, numbers, (FUNCTION,), Packed.of(payloads), flags=flags, options=options(**others))
    )


@pytest.mark.parametrize("ends", [m.Status.FAILED, m.Status.CANCELED])
@pytest.mark.parametrize("times", [1, 2])
def test_a_task_that_has_ended_does_not_run_again_because_its_client_missed_the_answer(
    ends: m.Status, times: int
) -> None:
    harness, client, agent = started(keeps_jobs=True)
    for _ in range(times):
        # The second time it is submitted again, as it has no result.
        ask(client, "open")
        numbers = submit(client, b"P1", b"P2")
        if ends is m.Status.CANCELED:
            ask(client, "cancel")
        agent.answer(agent.tasks(), ends, b"Perror")
    again = restarted(journals(harness))
    back, successor = Client(again, "client"), Agent(again, "agent")
    back.define()
    announce(back, numbers, b"P1", b"P2")
    again.advance(20.0)
    assert successor.tasks() == []
    text = b"" if ends is m.Status.CANCELED else b"Perror"
    assert back.results() == dict.fromkeys(numbers, (ends, text))


def test_what_was_cancelled_stays_so_though_its_scheduler_is_killed_before_workers_have_stopped_it() -> None:
    harness, client, agent = started(keeps_jobs=True)
    numbers = submit(client, b"P1", b"P2", b"P3")
    held = agent.tasks()
    ask(client, "cancel")
    again = restarted(journals(harness))
    back, successor = Client(again, "client"), Agent(again, "agent")
    assert status(back)["canceled"] == 3
    attempts = [attempt for *_, attempt in held]
    successor.send(
        m.Inventory(held[0][0], [number for _, number, _ in held], attempts, [m.HeldState.RUNNING] * len(held))
    )
    assert [sorted(one.numbers) for one in successor.take(m.TaskCancel)] == [sorted(number for _, number, _ in held)]
    back.define()
    announce(back, numbers, b"P1", b"P2", b"P3")
    again.advance(20.0)
    assert successor.tasks() == []
    assert back.results() == dict.fromkeys(numbers, (m.Status.CANCELED, b""))
    # Who submits it again has it run.
    other = Client(again, "other")
    other.define()
    submit(other, b"P1")
    successor.run_all()
    assert (status(other)["done"], status(other)["canceled"]) == (1, 2)


def test_a_scheduler_that_has_not_got_the_jobs_yet_makes_none_and_answers_for_none() -> None:
    _, client, agent = started(jobs_are_elsewhere=True)
    assert "has not let go" in ask(client, "list").error
    assert "has not let go" in ask(client, "open").error
    (new,) = submit(client, b"P1")
    announce(client, [77], b"P2")
    ((number, (code, text)),) = client.results().items()
    assert (number, code) == (new, m.Status.NOT_RUN)
    assert b"Try again later" in text
    assert agent.tasks() == []


def test_a_task_that_may_not_run_twice_does_not_where_a_scheduler_has_lost_its_job() -> None:
    harness = Harness()
    client, agent = Client(harness, "client"), Agent(harness, "agent")
    client.define()
    announce(client, [1], b"P1", idempotent=False)
    announce(client, [2], b"P2")
    harness.advance(20.0)
    assert [number for _, number, _ in agent.tasks()] == [2]
    (code, text) = client.results()[1]
    assert code != m.Status.SUCCESS
    assert b"idempotent=False" in text


def test_what_a_worker_holds_is_no_other_task_where_the_end_of_a_journal_is_lost() -> None:
    harness, client, agent = started(keeps_jobs=True)
    submit(client, b"P1")
    kept = journals(harness)
    numbers = submit(client, b"P2", b"P3")
    held = agent.tasks()
    # The power fails: the last record is lost, and a worker host somewhere else has its tasks.
    again = restarted(kept, incarnation=identity("later"))
    back, successor = Client(again, "client"), Agent(again, "agent")
    attempts = [attempt for *_, attempt in held]
    successor.send(
        m.Inventory(held[0][0], [number for _, number, _ in held], attempts, [m.HeldState.RUNNING] * len(held))
    )
    successor.answer(held, payload=b"Pof another task")
    back.define()
    announce(back, numbers[1:], b"P3")
    again.advance(20.0)
    assert back.results() == {}
    successor.run_all()
    assert back.results()[numbers[1]] == (m.Status.SUCCESS, b"Presult")
    again.core.check_invariants()


def test_results_stay_with_their_tasks_where_a_record_of_tasks_is_lost() -> None:
    harness, client, agent = started(keeps_jobs=True)
    ask(client, "open")
    submit(client, b"P1", b"P2")
    submit(client, b"P3", b"P4")
    tasks = agent.tasks()
    while len(tasks) < 4:
        agent.answer(tasks[-1:], payload=b"P%d" % tasks[-1][1])
        tasks += agent.tasks()
    agent.answer([task for task in tasks if task[1] == 4], payload=b"P4")
    ask(client, "close")
    records = journals(harness)
    (job,) = records
    kinds = [journal.unpack(record)[0] for record in records[job]]
    del records[job][kinds.index(journal.Kind.TASKS)]
    again = Harness(keeps_jobs=True)
    (problem,) = again.core.restore_job(job, records[job], again.now)
    assert "missing" in problem
    again.settle()
    other = Client(again, "other")
    told = status(other)
    assert (told["tasks"], told["closed"]) == (4, False)
    asked = follow(other, 0, 3)
    found = other.results()
    assert found[asked[1]] == (m.Status.SUCCESS, b"P4")
    assert b"submit the job again" in found[asked[0]][1] or found[asked[0]] == (m.Status.SUCCESS, b"P1")


def test_tasks_whose_function_is_lost_run_when_they_are_submitted_again() -> None:
    harness, client, _ = started(keeps_jobs=True)
    submit(client, b"P1")
    records = journals(harness)
    (job,) = records
    records[job] = [one for one in records[job] if journal.unpack(one)[0] is not journal.Kind.FUNCTION]
    again = restarted(records)
    other, agent = Client(again, "other"), Agent(again, "agent")
    assert status(other)["failed"] == 1
    other.define()
    (number,) = submit(other, b"P1")
    agent.run_all()
    assert other.results()[number][0] == m.Status.SUCCESS
    assert status(other)["done"] == 1


def test_results_of_tasks_whose_records_are_lost_at_the_end_of_the_journal() -> None:
    harness, client, agent = started(keeps_jobs=True)
    submit(client, b"P1", b"P2", b"P3")
    task, *_ = agent.tasks()
    agent.answer([task], payload=b"R")
    ask(client, "close")
    records = journals(harness)
    (job,) = records
    records[job] = [one for one in records[job] if journal.unpack(one)[0] is not journal.Kind.TASKS]
    again = Harness(keeps_jobs=True)
    problems = again.core.restore_job(job, records[job], again.now)
    assert problems == ["the records of 2 tasks are missing: submit the job again"]
    again.settle()
    other, agent = Client(again, "other"), Agent(again, "agent")
    told = status(other)
    assert (told["tasks"], told["done"], told["failed"], told["closed"]) == (3, 1, 2, False)
    other_number = follow(other, task[1] - 1)[0]
    assert other.results()[other_number] == (m.Status.SUCCESS, b"R")
    # It takes the tasks again, as new ones.
    other.define()
    (number,) = submit(other, b"P2")
    agent.run_all()
    assert other.results()[number][0] == m.Status.SUCCESS
    assert status(other)["tasks"] == 4


def test_a_closed_job_whose_last_tasks_are_lost_takes_them_again() -> None:
    harness, client, _ = started(keeps_jobs=True)
    submit(client, b"P1")
    submit(client, b"P2")
    ask(client, "close")
    records = journals(harness)
    (job,) = records
    kinds = [journal.unpack(record)[0] for record in records[job]]
    del records[job][len(kinds) - 1 - kinds[::-1].index(journal.Kind.TASKS)]
    again = Harness(keeps_jobs=True)
    assert again.core.restore_job(job, records[job], again.now) == [
        "the records of 1 task are missing: submit the job again"
    ]
    again.settle()
    other, agent = Client(again, "other"), Agent(again, "agent")
    assert status(other)["closed"] is False
    other.define()
    numbers = submit(other, b"P1", b"P2")
    # The first one was announced again: an agent may have it.
    again.advance(10)
    agent.run_all()
    results = other.results()
    assert [results[number][0] for number in numbers] == [m.Status.SUCCESS] * 2
    assert (status(other)["done"], status(other)["failed"]) == (2, 1)


def test_records_that_cannot_be_read_lose_nothing_else() -> None:
    harness, client, _ = started(keeps_jobs=True)
    submit(client, b"P1")
    submit(client, b"P2")
    (job,), records = journals(harness), next(iter(journals(harness).values()))
    again = Harness(keeps_jobs=True)
    problems = again.core.restore_job(job, [records[0], b"\x09nonsense", *records[1:]], again.now)
    assert len(problems) == 1
    assert "record 1 cannot be read" in problems[0]
    assert status(Client(again, "other"))["tasks"] == 2
    assert Harness().core.restore_job(job, records[1:], 0.0)
    assert Harness().core.restore_job(job, [b""], 0.0)


def test_a_forgotten_job_has_no_journal() -> None:
    harness, client, _ = started(keeps_jobs=True)
    submit(client, b"P1")
    ask(client, "forget")
    assert journals(harness) == {}


@pytest.mark.parametrize(
    "record", [b"", b"\x01", b"\x01\xff\xff\xff\xff", b"\x63\x02\x00\x00\x00{}", b"\x01\x02\0\0\0[]"]
)
def test_what_is_no_record_is_refused(record: bytes) -> None:
    with pytest.raises(ValueError, match=r"record|header|Expecting|delimiter|kind|Kind"):
        journal.unpack(record)


def test_config_has_defaults() -> None:
    config = SchedulerConfig(incarnation=b"s" * 16)
    assert (config.jobs_max, config.job_tasks_max, config.keeps_jobs) == (1000, 1_000_000, False)


def test_the_tasks_of_a_job_count_for_the_group_of_who_opened_it() -> None:
    shares = parse_shares(["pricing=3", "research=1"])
    harness = Harness(shares=shares, keeps_jobs=True)
    client = Client(harness, "client", group="pricing")
    client.define()
    agent = Agent(harness, "agent")
    submit(client, b"P1", b"P2")
    client.send(m.Goodbye("done"))
    groups = harness.core._state.groups
    assert groups is not None
    assert groups.by_name["pricing"].status().running == 2
    agent.run_all()
    other = Client(harness, "other")
    assert status(other)["done"] == 2
    # The journal says which group it was.
    restored = Harness(shares=shares, keeps_jobs=True)
    records = [effect.record for effect in harness.other_effects if isinstance(effect, effects.AppendJournal)]
    assert records
    assert not restored.core.restore_job(b"j" * 16, records, restored.now)
    assert [client.hello.group for client in restored.core._state.clients.values()] == ["pricing"]
    assert not ask(other, "forget").error
    harness.core.check_invariants()
