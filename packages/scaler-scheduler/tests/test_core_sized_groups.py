"""Adapters hear what waiting tasks ask for: which sizes of hosts are requested, and when one more group is."""

from __future__ import annotations

from typing import Any

import pytest
from harness import Agent, Client
from test_core_scaling import COOL_DOWN, ElasticCluster, PretendedAdapter

from scaler_protocol.runtime.resources import format_amounts, parse_amounts
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.call_options import CallOptions, encode_record, join_records
from scaler_scheduler.core import effects
from scaler_scheduler.policy.group_resources import covers, host_amounts

BASE = "cores=1,mem=2GiB"
"""What hosts of the adapter have unless they are asked for more."""


class SizingAdapter(PretendedAdapter):
    """Gives the host of a group as much as it is asked for."""

    def __init__(self, cluster: ElasticCluster, url: str) -> None:
        super().__init__(cluster, url)
        self.asked: list[str] = []
        """The sizes asked for, in the order of groups; empty for none."""
        self.obeys = True
        self.sized = ["cores", "gpu", "mem"]

    def _get_worker_adapter_info(self, call: effects.CallWebhook) -> tuple[int, Any]:
        status, body = super()._get_worker_adapter_info(call)
        return status, {**body, "sized_resources": self.sized} if self.sized else body

    def _start_worker_group(self, call: effects.CallWebhook) -> tuple[int, Any]:
        assert call.body is not None
        known = len(self.groups)
        answer = super()._start_worker_group(call)
        if len(self.groups) > known:
            resources: Any = call.body.get("resources", {})
            self.asked.append(format_amounts(parse_amounts(resources)))
        return answer

    def _arrive(self, group_id: str) -> None:
        if group_id in self.groups:
            asked = self.asked[int(group_id[1:]) - 1] if self.obeys else ""
            offered = format_amounts(sorted({**dict(parse_amounts(BASE)), **dict(parse_amounts(asked))}.items()))
            names = tuple((name, -1) for name in self.capabilities[group_id])
            gpus = dict(parse_amounts(asked)).get("gpu", 0) // 1000
            devices = tuple(map(str, range(gpus)))
            agent = Agent(self.cluster.harness, group_id, capabilities=names, resources=offered, devices=devices)
            agent.send(m.GrantsHeld())
            self.cluster._queued[agent] = []
            self.groups[group_id] = agent


def sizing(strategy: str = "vanilla", **config: Any) -> tuple[ElasticCluster, SizingAdapter, Client]:
    cluster = ElasticCluster(strategy, **config)
    adapter = SizingAdapter(cluster, cluster.adapter.url)
    cluster.adapters = [adapter]
    client = Client(cluster.harness, "client")
    client.define()
    return cluster, adapter, client


def submit(client: Client, count: int, amounts: str, **fields: Any) -> None:
    record = encode_record(CallOptions(resources=parse_amounts(amounts)))
    client.submit(count, options=join_records((record,)), **fields)


def done(cluster: ElasticCluster, client: Client, count: int, seconds: float = 60.0) -> bool:
    results: dict[int, Any] = {}

    def all_done() -> bool:
        results.update(client.results())
        return len(results) >= count

    return cluster.run(seconds, all_done) and all(status == m.Status.SUCCESS for status, _ in results.values())


def test_what_a_host_needs() -> None:
    asks = [(parse_amounts("gpu=1,mem=8GiB"), 5), (parse_amounts("mem=16GiB"), 1), (parse_amounts("cores=2"), 1)]
    assert format_amounts(host_amounts(asks, 1)) == "cores=2,gpu=1,mem=16GiB"
    assert format_amounts(host_amounts(asks, 3)) == "cores=2,gpu=3,mem=32GiB"
    assert host_amounts([], 3) == ()
    assert covers(parse_amounts("gpu=2,mem=1GiB"), parse_amounts("gpu=2"))
    assert not covers(parse_amounts("gpu=2"), parse_amounts("gpu=2,mem=1"))


def test_the_first_group_has_what_waiting_tasks_ask_for() -> None:
    cluster, adapter, client = sizing()
    submit(client, 3, "gpu=1,mem=8GiB,cores=2")
    assert done(cluster, client, 3)
    assert adapter.asked[0] == "cores=2,gpu=1,mem=8GiB"


def test_nothing_is_said_of_tasks_that_ask_for_nothing() -> None:
    cluster, adapter, client = sizing()
    client.submit(3)
    assert done(cluster, client, 3)
    assert set(adapter.asked) == {""}


@pytest.mark.parametrize("strategy", ["vanilla", "capability"])
def test_a_group_comes_for_asks_that_no_connected_host_can_serve(strategy: str) -> None:
    cluster, adapter, client = sizing(strategy, task_s=0.3)
    client.submit(2)
    assert cluster.run(30.0, lambda: bool(cluster.agents))
    submit(client, 2, "gpu=1")
    assert done(cluster, client, 4)
    assert adapter.asked[0] == ""
    assert adapter.asked.count("gpu=1") == 1, "one host is enough"
    assert cluster.run(COOL_DOWN + 20.0, lambda: not adapter.groups)


def test_no_further_host_is_started_where_the_first_does_not_have_what_was_asked_for() -> None:
    cluster, adapter, client = sizing()
    adapter.obeys = False
    submit(client, 2, "gpu=1")
    cluster.run(60.0)
    assert len(adapter.asked) == 1


def test_a_size_that_is_refused_is_not_asked_for_again_and_refuses_nothing_else() -> None:
    cluster, adapter, client = sizing()

    def refuse(call: effects.CallWebhook) -> tuple[int, Any] | None:
        resources: Any = (call.body or {}).get("resources", {})
        return (400, {"error": "no node has so many"}) if resources.get("gpu", 0) > 4 else None

    adapter.fault = refuse
    submit(client, 1, "gpu=8")
    cluster.run(20.0)
    assert adapter.calls.count("start_worker_group") <= 3
    assert any("cannot bring a host with gpu=8: no node has so many" in line for line in cluster.logs)
    submit(client, 1, "gpu=4")
    assert done(cluster, client, 1)
    assert "gpu=4" in adapter.asked


def test_adapters_that_choose_no_sizes_hear_nothing_of_it() -> None:
    cluster, adapter, client = sizing()
    adapter.sized = []
    submit(client, 2, "mem=1GiB")
    assert done(cluster, client, 2)
    assert set(adapter.asked) == {""}


def test_a_repeated_request_has_the_same_size() -> None:
    cluster, adapter, client = sizing()
    bodies: list[Any] = []

    def lose(call: effects.CallWebhook) -> str | None:
        if call.body is not None and call.body["action"] == "start_worker_group":
            bodies.append(dict(call.body))
            return "lost" if len(bodies) == 1 else None
        return None

    adapter.fault = lose
    submit(client, 1, "mem=4GiB")
    assert done(cluster, client, 1)
    assert bodies[0] == bodies[1]
    assert bodies[0]["resources"] == {"mem": 4 * 1024**3}


def test_fractions_and_limits_of_the_cluster() -> None:
    cluster, adapter, client = sizing(resources="licence=2")
    submit(client, 2, "licence=1,gpu=0.5")
    assert done(cluster, client, 2)
    assert adapter.asked[0] == "gpu=1", "devices are whole"
