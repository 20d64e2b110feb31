"""Every kind of large and unusual data by every road: what the task gets and what comes back, against `ProcessPoolExecutor`.

Sizes are those around what decides how a value travels. Of the libraries, those that are installed are tested. Gigabytes are in
`test_gigabytes`.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from scaler import Client
from tests.conformance.describing import Description, describe, first_difference
from tests.conformance.differences import Difference, Record, judge
from tests.conformance.kinds import is_installed, kinds
from tests.conformance.outcomes import outcome_of, raised_text
from tests.conformance.program import connected
from tests.conformance.roads import EVERY_CALL, ONE_ARGUMENT, Call, Clients, Road, identity, submitted
from tests.integration.deployment import Deployment
from tests.integration.test_symphony import Symphony

GROUPS = kinds()
FUNCTIONS: dict[str, Callable[[Any], Any]] = {"results": identity, "arguments": describe}
"""Of what comes back, it is compared what the caller has; of what a task gets, what it says itself."""

RUN_SECONDS = 300

DIFFERENCES: list[Difference] = [
    Difference(
        "A memoryview travels with its bytes, format and shape, in one piece in C order; the pool refuses all of them.",
        ("*/*memoryview*",),
        shows="'value' against 'raised'",
    ),
    Difference(
        "A memoryview of a format that no other process could make, and a released one, are refused where they are handed over.",
        ("*/memoryview of structures", "*/released memoryview"),
        ours="^SerializationError: .*(cannot pickle a memoryview whose format is|operation forbidden on released memoryview)",
    ),
    Difference(
        "What cannot be pickled is refused where it is handed over, by an error that names the argument.",
        ("*/mmap", "*/arrow tensor"),
        ours="^SerializationError: .*cannot be serialized",
    ),
    Difference(
        "Pickle protocol 5 keeps byte order, memory layout and the read-only flag of arrays; the pool's protocol 4 does not.",
        (
            "*/array of large arrays",
            "*/array of shape * of >i2",
            "*/large array over bytes",
            "*/large big-endian array",
            "*/large read-only array",
            "*/large transposed array of 3 dimensions",
        ),
    ),
]


class Oracle:
    """What the pool answers, and what the values are in this process, by (function, kind)."""

    def __init__(self) -> None:
        self.pool: dict[tuple[str, str], Description] = {}
        self.original: dict[tuple[str, str], Description] = {}
        # Forked before any of the libraries has made threads, by the first call.
        with ProcessPoolExecutor(2, multiprocessing.get_context("fork")) as pool:
            assert pool.submit(abs, -1).result() == 1
            for what, function in FUNCTIONS.items():
                calls = [Call(function, (make(),)) for make in makers().values()]
                outcomes = submitted(calls, lambda call: pool.submit(call.function, *call.args))
                for name, call, outcome in zip(makers(), calls, outcomes, strict=True):
                    self.pool[what, name] = outcome
                    self.original[what, name] = outcome_of(partial(call.function, *call.args))


def makers(*groups: str) -> dict[str, Callable[[], Any]]:
    return {name: make for group in groups or GROUPS for name, make in GROUPS[group].items()}


@pytest.fixture(scope="module")
def oracle() -> Oracle:
    return Oracle()


@pytest.fixture(scope="module")
def clients() -> Iterator[Clients]:
    with connected() as made:
        yield made


@pytest.fixture(scope="module")
def records() -> list[Record]:
    """All that were taken, of all roads."""
    return []


def take_records(oracle: Oracle, road_name: str, run: Callable[[list[Call]], list[Description]]) -> list[Record]:
    taken: list[Record] = []
    for what, function in FUNCTIONS.items():
        outcomes = run([Call(function, (make(),)) for make in makers().values()])
        for name, ours in zip(makers(), outcomes, strict=True):
            pool, original = oracle.pool[what, name], oracle.original[what, name]
            taken.append(
                {
                    "kind": what,
                    "item": name,
                    "road": road_name,
                    "home": "module",
                    "equal": ours == pool,
                    "original": ours == original,
                    "ours": raised_text(ours),
                    "pool": raised_text(pool),
                    "against pool": first_difference(ours, pool),
                    "against original": first_difference(ours, original),
                }
            )
    return taken


def problems_of(records: list[Record]) -> str:
    return "\n".join(text for text in judge(records, DIFFERENCES).problems if "met nowhere" not in text)


def by_socket(clients: Clients, calls: list[Call]) -> list[Description]:
    """As from another host: the client can neither read nor write segments."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("scaler.client.object_channel.accept_offer", lambda *_: None)
        with Client(clients.address) as client:
            return submitted(calls, lambda call: client.submit(call.function, *call.args))


ROADS: dict[str, Road] = {
    **{name: EVERY_CALL[name] for name in ("submit", "serializer", "nested", "nested starmap", "get", "in process")},
    **{name: ONE_ARGUMENT[name] for name in ("map", "starmap", "send_object")},
    "socket": by_socket,
}


@pytest.mark.timeout(RUN_SECONDS)
@pytest.mark.parametrize("road", ROADS)
def test_every_kind_travels_as_through_a_pool(
    road: str, oracle: Oracle, clients: Clients, records: list[Record]
) -> None:
    taken = take_records(oracle, road, partial(ROADS[road], clients))
    records.extend(taken)
    assert not problems_of(taken)


@pytest.mark.timeout(RUN_SECONDS)
@pytest.mark.without_keys("the stand-in has none")
def test_every_kind_travels_through_symphony(oracle: Oracle, module_deployment: Deployment, tmp_path: Path) -> None:
    client = Symphony(module_deployment, tmp_path).client
    taken = take_records(
        oracle, "symphony", lambda calls: submitted(calls, lambda call: client.submit(call.function, *call.args))
    )
    assert not problems_of(taken)


@pytest.mark.timeout(RUN_SECONDS)
def test_every_difference_on_purpose_is_still_one(records: list[Record]) -> None:
    if {record["road"] for record in records} == set(ROADS):
        assert not judge(records, DIFFERENCES).problems


@pytest.mark.parametrize("group", GROUPS)
def test_the_libraries_are_installed(group: str) -> None:
    if not is_installed(group):
        pytest.skip(f"{group} is not installed: its kinds are not tested")
    assert GROUPS[group]
