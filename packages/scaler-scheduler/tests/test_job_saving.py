"""Answers of the core that wait until a store has the journals of jobs."""

from __future__ import annotations

from typing import Any

from harness import FUNCTION, Client, Harness

from scaler_protocol.wire import messages as m
from scaler_protocol.wire.call_options import NO_OPTIONS, encode_record, join_records
from scaler_protocol.wire.columns import Packed
from scaler_scheduler.core import effects, events
from scaler_scheduler.core.jobs.saving import STORE_SECONDS


def started(**config: Any) -> tuple[Harness, Client]:
    harness = Harness(keeps_jobs=True, journals_wait=True, **config)
    client = Client(harness, "client")
    client.define()
    return harness, client


def submit(client: Client, payload: bytes) -> int:
    number = client.next_number
    client.next_number += 1
    options = join_records([encode_record(NO_OPTIONS._replace(detached=True, name="job"))])
    flags = int(m.TaskFlag.DETACHED)
    client.send(m.TaskBatch(client.id, [number], (FUNCTION,), Packed.of([payload]), flags=flags, options=options))
    return number


def request(client: Client, action: str) -> list[m.JobReply]:
    client.send(m.JobRequest(77, action, "job", 0.0))
    return client.take(m.JobReply)


def waits(harness: Harness) -> list[int]:
    return [effect.wait for effect in harness.other_effects if isinstance(effect, effects.SyncJournal) and effect.wait]


def tell(harness: Harness, event: events.JournalsStored | events.JournalsBehind) -> None:
    harness.core.handle(event, harness.now)
    harness.settle()


def test_only_answers_that_say_that_something_is_kept_wait_for_the_store() -> None:
    harness, client = started()
    assert request(client, "open")
    submit(client, b"P1")
    assert request(client, "close") == []
    # Others are answered meanwhile.
    other = Client(harness, "other")
    (status,) = request(other, "status")
    assert not status.error
    (wait,) = waits(harness)
    tell(harness, events.JournalsStored(wait + 1))
    assert client.take(m.JobReply) == []
    tell(harness, events.JournalsStored(wait))
    (reply,) = client.take(m.JobReply)
    assert not reply.error
    tell(harness, events.JournalsStored(wait))
    assert client.take(m.JobReply) == []


def test_the_list_waits_for_what_its_client_has_submitted() -> None:
    harness, client = started()
    submit(client, b"P1")
    assert request(client, "list") == []
    (wait,) = waits(harness)
    tell(harness, events.JournalsStored(wait))
    assert len(client.take(m.JobReply)) == 1
    # Nothing new, nothing to wait for.
    assert len(request(client, "list")) == 1


def test_cancelling_and_forgetting_wait_too() -> None:
    harness, client = started()
    request(client, "open")
    submit(client, b"P1")
    for number, action in enumerate(("cancel", "forget")):
        assert request(client, action) == []
        tell(harness, events.JournalsStored(waits(harness)[number]))
        assert len(client.take(m.JobReply)) == 1


def test_no_answer_waits_for_longer_than_its_deadline() -> None:
    harness, client = started()
    request(client, "open")
    assert request(client, "close") == []
    harness.advance(STORE_SECONDS - 5.0)
    assert client.take(m.JobReply) == []
    harness.advance(10.0)
    (reply,) = client.take(m.JobReply)
    assert "has not said for 20 s" in reply.error
    tell(harness, events.JournalsStored(waits(harness)[0]))
    assert client.take(m.JobReply) == []


def test_no_further_tasks_while_too_much_waits() -> None:
    harness, client = started()
    first = submit(client, b"P1")
    tell(harness, events.JournalsBehind("the store is slow"))
    refused = submit(client, b"P2")
    results = client.results()
    assert first not in results
    assert results[refused] == (m.Status.NOT_RUN, b"the store is slow")
    client.send(m.JobRequest(78, "open", "another", 0.0))
    assert [reply.error for reply in client.take(m.JobReply)] == ["the store is slow"]
    tell(harness, events.JournalsBehind(""))
    again = submit(client, b"P2")
    assert again not in client.results()
