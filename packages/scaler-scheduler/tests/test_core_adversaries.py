"""Peers that speak of what is not theirs: tasks of other agents, identities of other clients, objects they were never given."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import pytest
from harness import FUNCTION, Agent, Client, Harness, Peer, definition, identity

from scaler_protocol.ids import content_id
from scaler_protocol.session import RefusedByPeer, Session
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.columns import Packed
from scaler_protocol.wire.envelope import UNSEQUENCED
from scaler_scheduler.core import effects, events
from scaler_scheduler.core.records import AgentRecord
from scaler_scheduler.core.recovery import CLAIM_BYTES, SHARE_BYTES_MAX, Claim, Recovery

ATTEMPTS = 10_000


def results(client: bytes, number: int, attempt: int = 1, **columns: object) -> m.ResultBatch:
    return m.ResultBatch(client, [number], [attempt], Packed.of([b"Pforged"]), **columns)  # type: ignore[arg-type]


def graph_of_two(client: Client, first: int) -> m.GraphSubmit:
    """Two rows, the second of which waits for the first and is wanted."""
    return m.GraphSubmit(client.id, first, (FUNCTION,), Packed.of([b"", b""]), [0, 1], [0], [1])


def disconnected(harness: Harness) -> list[bytes]:
    return [effect.peer for effect in harness.other_effects if isinstance(effect, effects.Disconnect)]


class TestAgents:
    def test_cannot_claim_a_queued_task_that_they_were_never_given(self) -> None:
        harness = Harness()
        client, thief = Client(harness, "client"), Agent(harness, "thief", capacity=0)
        client.define()
        (number,) = client.submit()
        thief.send(m.Inventory(client.id, [number], [1], [1]))
        (cancel,) = thief.take(m.TaskCancel)
        assert list(cancel.numbers) == [number]
        thief.send(results(client.id, number))
        assert client.results() == {}
        honest = Agent(harness, "honest")
        honest.run_all()
        assert client.results() == {number: (m.Status.SUCCESS, b"Presult")}

    def test_may_claim_what_they_held_before_their_session_ended(self) -> None:
        harness = Harness()
        client, agent = Client(harness, "client"), Agent(harness, "agent")
        client.define()
        (number,) = client.submit()
        held = agent.tasks()
        again = Agent(harness, "agent", capacity=0)
        again.send(m.Inventory(client.id, [number], [1], [1]))
        assert again.take(m.TaskCancel) == []
        again.answer(held)
        assert client.results() == {number: (m.Status.SUCCESS, b"Presult")}

    def test_cannot_claim_what_another_agent_held_before(self) -> None:
        harness = Harness()
        client, agent = Client(harness, "client"), Agent(harness, "agent")
        client.define()
        (number,) = client.submit()
        agent.connection.close("done")
        harness.settle()
        thief = Agent(harness, "thief", capacity=0)
        thief.send(m.Inventory(client.id, [number], [1], [1]))
        assert len(thief.take(m.TaskCancel)) == 1

    def test_cannot_answer_tasks_of_others(self) -> None:
        harness = Harness()
        client, honest = Client(harness, "client"), Agent(harness, "honest", capacity=5)
        client.define()
        numbers = client.submit(5)
        held = honest.tasks()
        forger = Agent(harness, "forger", capacity=0)
        for number in numbers:
            forger.send(results(client.id, number), m.TaskReturn(client.id, [number], [1]))
        assert client.results() == {}
        honest.answer(held)
        assert sorted(client.results()) == numbers

    def test_cannot_answer_twice(self) -> None:
        harness = Harness()
        client, agent = Client(harness, "client"), Agent(harness, "agent")
        client.define()
        client.submit()
        held = agent.tasks()
        agent.answer(held)
        assert len(client.results()) == 1
        agent.answer(held)
        assert client.results() == {}

    def test_cannot_speak_as_a_task_of_another_agent(self) -> None:
        harness = Harness()
        client, honest = Client(harness, "client"), Agent(harness, "honest")
        client.define()
        (number,) = client.submit()
        forger = Agent(harness, "forger", capacity=0)
        forger.send(m.Output(client.id, number, 1, b"forged"))
        assert client.take(m.Output) == []
        honest.send(m.Output(client.id, number, 1, b"said"))
        assert [output.data for output in client.take(m.Output)] == [b"said"]

    def test_cannot_have_objects_deleted_by_naming_them_in_a_result(self) -> None:
        harness = Harness()
        client = Client(harness, "client")
        Agent(harness, "agent")
        client.define()
        (number,) = client.submit()
        harness.other_effects.clear()
        forger = Agent(harness, "forger", capacity=0)
        forger.send(results(client.id, number, object_positions=[0], objects=(identity("object"),)))
        forger.send(results(client.id, 99, object_positions=[0], objects=(identity("object"),)))
        assert harness.to_store() == []
        # What the agent itself stored for a task that was taken from it is deleted.
        again = Agent(harness, "agent", capacity=0)
        again.send(results(client.id, number, object_positions=[0], objects=(identity("object"),)))
        assert [type(message) for message in harness.to_store()] == [m.ObjectDelete]

    def test_cannot_answer_for_the_agent_that_claimed_an_absent_clients_task(self) -> None:
        harness = Harness(recovery_grace_seconds=5)
        holder, forger = Agent(harness, "holder"), Agent(harness, "forger", capacity=0)
        absent = identity("client")
        holder.send(m.Inventory(absent, [1], [1], [1]))
        forger.send(m.Inventory(absent, [1], [1], [1]))
        assert len(forger.take(m.TaskCancel)) == 1
        forger.send(results(absent, 1))
        client = Client(harness, "client")
        client.define()
        client.submit(1, flags=m.TaskFlag.REANNOUNCED)
        assert client.results() == {}
        holder.answer([(absent, 1, 1)])
        assert client.results() == {1: (m.Status.SUCCESS, b"Presult")}

    def test_cannot_replace_a_result_that_another_agent_has_sent(self) -> None:
        harness = Harness(recovery_grace_seconds=5)
        honest, forger = Agent(harness, "honest"), Agent(harness, "forger")
        absent = identity("client")
        honest.answer([(absent, 1, 1)])
        forger.send(results(absent, 1))
        client = Client(harness, "client")
        client.define()
        client.submit(1, flags=m.TaskFlag.REANNOUNCED)
        assert client.results() == {1: (m.Status.SUCCESS, b"Presult")}

    def test_cannot_make_attempts_of_a_graph_overflow(self) -> None:
        harness = Harness(recovery_grace_seconds=5)
        forger, client = Agent(harness, "forger", capacity=0), Client(harness, "client")
        client.define()
        graph = m.GraphSubmit(client.id, 1, (FUNCTION,), Packed.of([b"P"]), [0], [], [0])
        client.send(graph)
        forger.send(m.Inventory(client.id, [1], [0xFFFF], [1]))
        agent = Agent(harness, "agent")
        agent.run_all()
        assert sorted(client.results()) == [1]


class TestIdentities:
    def test_of_another_client_are_refused(self) -> None:
        harness = Harness()
        client, agent = Client(harness, "client"), Agent(harness, "agent")
        client.define()
        (number,) = client.submit()
        thief = Peer(harness, identity("thief"), m.Hello(m.Role.CLIENT, "thief", client.id))
        assert not thief.connection.established
        agent.run_all()
        assert sorted(client.results()) == [number]
        assert thief.take(m.ResultBatch) == []

    def test_of_another_agent_are_refused(self) -> None:
        harness = Harness()
        agent = Agent(harness, "agent")
        thief = Peer(harness, identity("thief"), m.Hello(m.Role.AGENT, "thief", agent.id, worker_names=("w",)))
        assert not thief.connection.established

    def test_of_another_client_are_refused_to_relayed_ones(self) -> None:
        harness = Harness()
        agent, client = Agent(harness, "agent"), Client(harness, "client")
        relayed = events.RelayedPeer(agent.id, identity("nested"))
        nested = Peer(harness, relayed, m.Hello(m.Role.CLIENT, "nested", client.id))
        assert not nested.connection.established
        also = Peer(harness, events.RelayedPeer(agent.id, client.id), m.Hello(m.Role.CLIENT, "nested", client.id))
        assert not also.connection.established
        client.define()
        client.submit()
        assert len(agent.tasks()) == 1


def test_a_peer_that_breaks_the_rules_loses_its_connection() -> None:
    harness = Harness()
    client = Client(harness, "client")
    client.send(results(client.id, 1))
    assert disconnected(harness) == [client.id]


def test_an_agent_keeps_its_connection_if_a_client_inside_breaks_the_rules() -> None:
    harness = Harness()
    agent = Agent(harness, "agent")
    nested = Client(harness, "nested", relayed_by=agent)
    nested.send(results(nested.id, 1))
    assert disconnected(harness) == []


def test_monitors_do_not_learn_the_ids_of_objects() -> None:
    harness = Harness()
    client = Client(harness, "client")
    client.define()
    secret = identity("secret")
    client.submit(1, object_positions=[0], objects=(secret,))
    assert secret.hex() not in str(harness.snapshot())
    assert harness.seen(client)["tasks"][0]["objects"] == 1


def test_nothing_forged_is_accepted() -> None:
    """Ten thousand forged messages between honest work: each task is answered once, by the agent that had it."""
    seed = 15
    print(f"seed {seed}")
    rng = random.Random(seed)
    harness = Harness()
    client, other = Client(harness, "client"), Client(harness, "other")
    client.define()
    other.define()
    honest = Agent(harness, "honest", capacity=20)
    forger = Agent(harness, "forger", capacity=0)
    everything = client.submit(20)
    held = honest.tasks()
    everything += client.submit(20)
    forgeries: list[Callable[[], m.Message]] = [
        lambda: m.Inventory(client.id, [rng.choice(everything)], [rng.choice([1, 2, 0xFFFF])], [1]),
        lambda: results(client.id, rng.choice(everything), rng.choice([1, 2])),
        lambda: results(client.id, rng.choice(everything), object_positions=[0], objects=(identity("object"),)),
        lambda: results(other.id, rng.choice(everything)),
        lambda: m.TaskReturn(client.id, [rng.choice(everything)], [1]),
        lambda: m.Output(client.id, rng.choice(everything), 1, b"forged"),
        lambda: m.ChunkFailures(client.id, rng.choice(everything), 1, 3, b"Eforged"),
        lambda: m.ClientGone(client.id),
    ]
    for number in range(ATTEMPTS):
        # The checks take most of the time. What one forgery does to the tables stays there: a hundred are looked at together.
        harness.checks_each_step = number % 100 == 99
        forger.send(rng.choice(forgeries)())
        forger.received.clear()
    harness.checks_each_step = True
    assert client.results() == {}
    assert other.results() == {}
    assert client.take(m.Output) == []
    assert harness.to_store() == []
    honest.answer(held)
    honest.run_all()
    assert client.results() == dict.fromkeys(everything, (m.Status.SUCCESS, b"Presult"))
    assert forger.connection.established


class TestLimits:
    @pytest.mark.parametrize(
        "hello",
        [
            m.Hello(m.Role.CLIENT, "n" * 5_000, identity("large")),
            m.Hello(m.Role.CLIENT, "n", identity("large"), hostname="h" * 5_000),
            m.Hello(m.Role.AGENT, "n", identity("large"), worker_names=("w",) * 70_000),
            m.Hello(m.Role.AGENT, "n", identity("large"), worker_names=("w" * 5_000,)),
            m.Hello(m.Role.AGENT, "n", identity("large"), worker_names=("w",), capabilities=(("c" * 5_000, 1),)),
            m.Hello(m.Role.AGENT, "n", identity("large"), worker_names=("w",), capabilities=(("c", 1),) * 2_000),
        ],
    )
    def test_who_says_too_much_of_itself_is_refused(self, hello: m.Hello) -> None:
        harness = Harness()
        peer = Peer(harness, hello.incarnation, hello)
        assert not peer.connection.established
        (refused,) = peer.take(RefusedByPeer)
        assert "at most" in refused.reason
        assert len(refused.reason) < 200

    def test_names_of_functions_are_cut(self) -> None:
        harness = Harness()
        client = Client(harness, "client")
        client.send(definition(client.id, name="f" * 1_000_000))
        assert harness.core.function_names([FUNCTION]) == ["f" * 1_000]

    def test_the_id_of_a_function_is_the_hash_of_its_content(self) -> None:
        harness = Harness()
        squatter, client, agent = Client(harness, "squatter"), Client(harness, "client"), Agent(harness, "agent")
        squatter.send(m.FunctionDefine(squatter.id, (FUNCTION,), Packed.of([b"Pforged"])))
        client.define()
        client.submit(1)
        agent.run_all()
        assert client.results() == {1: (m.Status.SUCCESS, b"Presult")}
        assert disconnected(harness) == [squatter.id]

    def test_a_serializer_makes_another_function_of_the_same_bytes(self) -> None:
        serializer, body = b"Pserializer", b"Sbody"
        key = content_id(serializer)
        harness = Harness()
        honest, agent = Client(harness, "honest"), Agent(harness, "agent")
        ids = (content_id(body, key), key)
        honest.send(m.FunctionDefine(honest.id, ids, Packed.of([body, serializer]), serializer=key))
        honest.send(m.TaskBatch(honest.id, [1], ids[:1], Packed.of([b"P"]), serializer=key))
        (define,) = agent.take(m.FunctionDefine)
        assert (define.ids, define.serializer) == (ids, key)
        for name, content, serializer_id in (
            ("plain", body, b""),
            ("joined", key + body, b""),
            ("other", body, FUNCTION),
        ):
            forger = Client(harness, name)
            message = m.FunctionDefine(forger.id, ids[:1], Packed.of([content]), serializer=serializer_id)
            forger.send(message)
            assert disconnected(harness)[-1:] == [forger.id]

    @pytest.mark.parametrize(("limit", "value"), [("FUNCTIONS_MAX", 2), ("FUNCTION_BYTES_MAX", 24)])
    def test_functions_of_a_client_are_limited_and_forgotten_with_it(
        self, monkeypatch: pytest.MonkeyPatch, limit: str, value: int
    ) -> None:
        monkeypatch.setattr(f"scaler_scheduler.core.functions.{limit}", value)
        harness = Harness()
        client, hoarder = Client(harness, "client"), Client(harness, "hoarder")
        client.define()
        for body in (b"P1", b"P2", b"P1"):
            hoarder.send(definition(hoarder.id, body))
        assert disconnected(harness) == []
        names = harness.core.function_names([FUNCTION, content_id(b"P1"), content_id(b"P2")])
        assert names == ["module.f"] * 3
        assert harness.count("functions") == 3
        hoarder.send(definition(hoarder.id, b"P3"))
        assert disconnected(harness) == [hoarder.id]
        # Only the client's own is left. The names of the others are kept for monitors, up to a number.
        assert harness.count("functions") == 1

    def test_tasks_with_too_many_capabilities_end_their_clients_session(self) -> None:
        harness = Harness()
        client = Client(harness, "client")
        client.define()
        client.submit(1, capabilities=tuple((f"c{index}", 1) for index in range(2_000)))
        assert disconnected(harness) == [client.id]

    def test_combinations_of_options_do_not_pile_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("scaler_scheduler.core.records.OPTIONS_MAX", 10)
        harness = Harness()
        client = Client(harness, "client")
        client.define()
        for depth in range(50):
            client.submit(1, depth=depth)
        agent = Agent(harness, "agent")
        agent.run_all()
        assert len(client.results()) == 50

    def test_a_batch_of_too_many_tasks_ends_its_clients_session(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("scaler_scheduler.core.client_requests.BATCH_TASKS_MAX", 10)
        harness = Harness()
        client = Client(harness, "client")
        client.define()
        client.submit(10)
        assert disconnected(harness) == []
        client.submit(11)
        assert disconnected(harness) == [client.id]

    def test_unfinished_tasks_of_a_client_are_limited(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("scaler_scheduler.core.records.CLIENT_TASKS_MAX", 10)
        harness = Harness()
        client, other = Client(harness, "client"), Client(harness, "other")
        for each in (client, other):
            each.define()
            for _ in range(10):
                each.submit()
        harness.advance(1.0)
        assert disconnected(harness) == []
        client.submit()
        harness.advance(1.0)
        assert disconnected(harness) == [client.id]

    @pytest.mark.parametrize(("limit", "value"), [("CLIENT_GRAPHS_MAX", 3), ("CLIENT_GRAPH_BYTES_MAX", 4 * 2 * 50)])
    def test_unfinished_graphs_of_a_client_are_limited(
        self, limit: str, value: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(f"scaler_scheduler.core.records.{limit}", value)
        harness = Harness()
        client = Client(harness, "client")
        client.define()
        for number in range(3):
            client.send(graph_of_two(client, 10 * number))
        harness.advance(1.0)
        assert disconnected(harness) == []
        client.send(graph_of_two(client, 30))
        harness.advance(1.0)
        assert disconnected(harness) == [client.id]

    def test_cancelling_very_many_rows_of_very_many_graphs_takes_no_time(self) -> None:
        harness = Harness()
        client = Client(harness, "client")
        client.define()
        for number in range(100):
            client.send(graph_of_two(client, 10 * number))
        began = time.thread_time()
        client.send(m.TaskCancel(client.id, range(2_000_000)))
        assert time.thread_time() < began + 5.0
        assert len(client.results()) == 100

    def test_clients_inside_the_tasks_of_an_agent_are_limited(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("scaler_scheduler.core.sessions.INSIDE_AGENT_MAX", 2)
        harness = Harness()
        agent, other = Agent(harness, "agent"), Agent(harness, "other")
        first, second, third = (Client(harness, name, relayed_by=agent) for name in ("first", "second", "third"))
        assert [each.connection.established for each in (first, second, third)] == [True, True, False]
        assert Client(harness, "fourth", relayed_by=other).connection.established
        first.connection.close("done")
        harness.settle()
        assert Client(harness, "fifth", relayed_by=agent).connection.established

    def test_refused_peers_do_not_fill_the_log(self) -> None:
        harness = Harness()
        for number in range(1000):
            hello = m.Hello(m.Role.CLIENT, f"me {number}", number.to_bytes(16, "big"), protocol_version=99)
            harness.core.handle(events.Incoming(hello.incarnation, UNSEQUENCED, hello), harness.now)
        harness.settle()
        harness.advance(5.0)
        logged = [effect.text for effect in harness.other_effects if isinstance(effect, effects.Log)]
        refused = [text for text in logged if text.startswith("refused ")]
        assert len(refused) == 11
        assert refused[0].startswith("refused client me 0: ")
        assert refused[-1] == "refused 990 more peers within a second or two"

    def test_long_farewells_are_cut(self) -> None:
        harness = Harness()
        client = Client(harness, "client")
        client.connection.close("x" * 1_000_000)
        harness.settle()
        logged = [effect.text for effect in harness.other_effects if isinstance(effect, effects.Log)]
        assert max(map(len, logged)) < 2_000


class TestRecovery:
    def agent(self, name: str) -> AgentRecord:
        return AgentRecord(identity(name), m.Hello(m.Role.AGENT, name, identity(name)), Session(1), 0.0)

    def test_very_many_results_take_no_time(self) -> None:
        recovery, count = Recovery(), 50_000
        batch = m.ResultBatch(identity("client"), range(count), [1] * count, Packed.of([b"P"] * count))
        began = time.thread_time()
        recovery.keep_result(self.agent("agent"), batch, 1.0)
        assert time.thread_time() < began + 10.0
        kept = recovery.take_result(identity("client"), count - 1)
        assert kept == m.ResultBatch(identity("client"), [count - 1], [1], Packed.of([b"P"]))

    def test_one_agent_cannot_use_all_the_room(self) -> None:
        recovery, greedy, modest = Recovery(), self.agent("greedy"), self.agent("modest")
        large = b"P" * (SHARE_BYTES_MAX // 3)
        for number in range(10):
            batch = m.ResultBatch(identity(f"c{number}"), [1], [1], Packed.of([large]))
            recovery.keep_result(greedy, batch, 1.0)
        assert recovery.size_bytes <= SHARE_BYTES_MAX
        assert recovery.claim(identity("client"), 1, Claim(modest, 1), 1.0)
        recovery.keep_result(modest, m.ResultBatch(identity("client"), [2], [1], Packed.of([large])), 1.0)
        assert recovery.take_result(identity("client"), 2) is not None

    def test_the_room_is_there_again_when_things_are_taken_or_dropped(self) -> None:
        recovery, agent = Recovery(), self.agent("agent")
        client = identity("client")
        for number in range(4):
            assert recovery.claim(client, number, Claim(agent, 1), 1.0)
            assert recovery.claim(client, number, Claim(agent, 2), 1.0)
        assert recovery.size_bytes == 4 * CLAIM_BYTES
        for _ in range(3):
            recovery.keep_result(agent, m.ResultBatch(client, [0, 9], [2, 1], Packed.of([b"P", b"P"])), 1.0)
        recovery.take_result(client, 9)
        recovery.take_claim(client, 1)
        recovery.withdraw_claims(client, [2], [2], agent)
        recovery.drop_agent(agent)
        recovery.drop_client(client)
        assert recovery.size_bytes == 0
        assert len(recovery) == 0

    def test_claims_have_a_bound(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("scaler_scheduler.core.recovery.SHARE_BYTES_MAX", CLAIM_BYTES)
        recovery, agent = Recovery(), self.agent("agent")
        assert recovery.claim(identity("client"), 1, Claim(agent, 1), 1.0)
        assert not recovery.claim(identity("client"), 2, Claim(agent, 1), 1.0)
