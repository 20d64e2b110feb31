"""Values of some size between a client and workers on its host: they lie in shared memory, whatever becomes of the tasks."""

from __future__ import annotations

import os
import pickle
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from scaler import Client
from scaler.client.placed_payloads import PLACED_BYTES_MIN, PlacedPayloads
from scaler.core.task_sender import WINDOW_BYTES
from scaler.serialization.repeated_values import COPIES_BYTES_MAX
from scaler_protocol.objects.segments.batch_place import PLACE_BYTES
from scaler_protocol.objects.segments.batch_segment import BatchSegment
from scaler_protocol.payloads.framing import INLINE_BYTES_MAX
from scaler_protocol.wire import messages as m
from tests.integration import functions as f
from tests.integration.deployment import wait_for

# Elsewhere nothing can be placed.
pytestmark = pytest.mark.skipif("SCALER_TEST_ADDRESS" in os.environ, reason="the cluster may be on another host")


ALONE_BYTES = 4 * 1024 * 1024


class Counts:
    """Counts payloads that leave, and results that come, as places."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left = self.came = 0
        place, take = PlacedPayloads.place, PlacedPayloads.take

        def counting_place(placed: PlacedPayloads, batch: m.TaskBatch) -> None:
            place(placed, batch)
            self.left += list(batch.payloads.lengths).count(PLACE_BYTES)

        def counting_take(placed: PlacedPayloads, batch: m.ResultBatch) -> None:
            self.came += list(batch.payloads.lengths).count(PLACE_BYTES)
            take(placed, batch)

        monkeypatch.setattr(PlacedPayloads, "place", counting_place)
        monkeypatch.setattr(PlacedPayloads, "take", counting_take)


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> Counts:
    return Counts(monkeypatch)


@pytest.fixture
def unreadable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers find other stamps than those they are told, as if the places were on another host."""
    put = BatchSegment.put

    def put_elsewhere(
        segment: BatchSegment, numbers: Sequence[int], payloads: Sequence[bytes], now: float
    ) -> list[bytes] | None:
        places = put(segment, numbers, payloads, now)
        return places and [place[:-16] + bytes(16) for place in places]

    monkeypatch.setattr(BatchSegment, "put", put_elsewhere)


def values(count: int, seed: int, least: int = PLACED_BYTES_MIN, most: int = 250_000) -> list[bytes]:
    source = random.Random(seed)
    return [source.randbytes(source.randrange(least, most)) for _ in range(count)]


def test_each_value_goes_and_comes_as_a_place(client: Client, counts: Counts) -> None:
    given = values(200, 1)
    assert [future.result() for future in [client.submit(f.echo, one) for one in given]] == given
    assert (counts.left, counts.came) == (200, 200)
    assert client.submit(f.echo, given[0][1:]).result() == given[0][1:]
    assert counts.came == 201


def test_chunks_of_a_map_are_placed(client: Client, counts: Counts) -> None:
    given = values(300, 2, most=40_000)
    assert client.map(f.echo, given) == given
    assert 0 < counts.came <= counts.left < 300


def test_bytes_by_themselves_are_placed_up_to_four_mebibytes(client: Client, counts: Counts) -> None:
    given = values(10, 6, least=INLINE_BYTES_MAX + 1, most=ALONE_BYTES)
    assert [future.result() for future in [client.submit(f.echo, one) for one in given]] == given
    assert (counts.left, counts.came) == (10, 10)
    again = values(10, 7, least=INLINE_BYTES_MAX + 1, most=ALONE_BYTES)
    assert client.map(f.echo, again) == again
    assert counts.came == 20
    # Not where they travel with others, or in rows of graphs.
    pairs = values(2, 8, least=INLINE_BYTES_MAX + 1, most=1024 * 1024)
    assert client.starmap(max, [tuple(pairs)]) == [max(pairs)]  # type: ignore[arg-type]  # of any number of arguments
    graph = {"a": (f.echo, pairs[0]), "b": (f.echo, "a")}
    assert client.get(graph, ["b"], block=True)["b"] == pairs[0]
    assert counts.came == 20


MAKES: list[Callable[[int], Any]] = [
    lambda seed: np.random.default_rng(seed).random(ALONE_BYTES // 8 - seed),
    lambda seed: np.asfortranarray(np.random.default_rng(seed).random((2, ALONE_BYTES // 16 - seed))),
    lambda seed: np.random.default_rng(seed).random(ALONE_BYTES // 4 - seed)[::2],
    lambda seed: pd.DataFrame({"a": np.random.default_rng(seed).random(ALONE_BYTES // 16), "b": seed}),
    lambda seed: [np.random.default_rng(seed).random(ALONE_BYTES // 32) for _ in range(3)],
    lambda seed: [str(number) for number in range(seed, 400_000)],
    lambda seed: bytearray(random.Random(seed).randbytes(ALONE_BYTES)),
    lambda seed: chr(97 + seed) * ALONE_BYTES,
]
IDS = ["array", "fortran", "stretched", "frame", "list of arrays", "list", "bytearray", "text"]


@pytest.mark.parametrize("make", MAKES, ids=IDS)
def test_values_by_themselves_are_placed_up_to_four_mebibytes(
    client: Client, counts: Counts, make: Callable[[int], Any]
) -> None:
    given = [make(seed) for seed in range(4)]
    came = [future.result() for future in [client.submit(f.echo, one) for one in given]]
    assert list(map(pickle.dumps, came)) == list(map(pickle.dumps, given))
    assert (counts.left, counts.came) == (4, 4)
    given = [make(seed) for seed in range(4, 8)]
    assert list(map(pickle.dumps, client.map(f.echo, given))) == list(map(pickle.dumps, given))
    assert counts.came == 8


def test_arrays_may_be_changed_there_and_here(client: Client, counts: Counts) -> None:
    array = np.zeros(ALONE_BYTES // 8)
    changed = client.submit(f.add_one_in_place, array).result()
    assert (changed == 1).all()
    assert not array.any()
    changed += 1
    fixed = np.zeros(ALONE_BYTES // 8)
    fixed.flags.writeable = False
    assert not client.submit(f.echo, fixed).result().flags.writeable
    assert client.map(f.is_writable, [array, fixed]) == [True, False]
    assert counts.came == 2


def test_a_value_of_many_tasks_is_placed_until_its_copies_take_much_memory(client: Client, counts: Counts) -> None:
    (given,) = values(1, 9, least=INLINE_BYTES_MAX + 1, most=1024 * 1024)
    for _ in range(3):
        assert client.submit(f.echo, given).result() == given
    assert counts.came == 3
    copies = COPIES_BYTES_MAX // len(given)
    # Both workers are busy until all have been submitted, so that all are under way at once.
    busy = [client.submit(time.sleep, 1.0) for _ in range(2)]
    futures = [client.submit(f.echo, given) for _ in range(copies + 20)]
    assert [future.result() for future in futures] == [given] * (copies + 20)
    assert [future.result() for future in busy] == [None, None]
    assert counts.came < 3 + copies + 20
    assert client.submit(f.echo, given).result() == given


def test_while_many_bytes_wait_to_leave_values_become_objects(
    client: Client, counts: Counts, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("scaler.client.placed_payloads.WAITING_BYTES_MAX", 2 * ALONE_BYTES)
    core = client.operations.engine.core
    window = WINDOW_BYTES // ALONE_BYTES
    given = values(window + 10, 10, least=ALONE_BYTES - 1, most=ALONE_BYTES)
    begun = str(tmp_path / "begun")
    busy = [client.submit(f.wait_for_file, None, begun) for _ in range(2)]
    futures = [client.submit(f.echo, one) for one in given[: window + 3]]
    wait_for("payloads that wait", lambda: core.waiting_bytes >= 2 * ALONE_BYTES)
    futures += [client.submit(f.echo, one) for one in given[window + 3 :]]
    Path(begun).touch()
    assert [future.result() for future in busy] == [None, None]
    assert [future.result() for future in futures] == given
    assert window <= counts.left <= window + 3
    left = counts.left
    assert client.submit(f.echo, given[0]).result() == given[0]
    assert counts.left == left + 1


def test_what_no_worker_can_read_arrives_all_the_same(client: Client, counts: Counts, unreadable: None) -> None:
    given = values(100, 3, most=400_000)
    assert [future.result() for future in [client.submit(f.echo, one) for one in given]] == given
    assert client.map(f.echo, values(100, 4)) == values(100, 4)
    arrays = [np.full(ALONE_BYTES // 8 - row, row) for row in range(4)]
    came = [future.result() for future in [client.submit(f.echo, one) for one in arrays]]
    assert list(map(pickle.dumps, came)) == list(map(pickle.dumps, arrays))
    assert counts.left > 0
    assert counts.came == 0
    left = counts.left
    assert client.submit(f.echo, given[0][1:]).result() == given[0][1:]
    assert counts.left <= left + 1


def test_futures_as_arguments_have_placed_results(client: Client, counts: Counts) -> None:
    for seed in range(10):
        given = values(8, 10 + seed)
        futures = [client.submit(f.echo, one) for one in given]
        following = [client.submit(f.echo, future) for future in futures]
        others = [client.submit(f.echo, one) for one in values(8, 30 + seed)]
        last = [client.submit(len, future) for future in following]
        assert [future.result() for future in last] == list(map(len, given))
        assert [future.result() for future in following] == given
        assert [future.result() for future in others] == values(8, 30 + seed)
    assert counts.came > 0


def test_another_attempt_reads_the_arguments_again(client: Client, counts: Counts, tmp_path: Path) -> None:
    given = values(6, 5)
    futures = [client.submit(f.pass_on_after_death, one, str(tmp_path / str(row))) for row, one in enumerate(given)]
    assert [future.result() for future in futures] == given
    assert counts.left == 6
    alone = [os.fsencode(tmp_path / f"alone{row}") + bytes(1) + one for row, one in enumerate(given)]
    futures = [client.submit(f.come_back_after_death, one) for one in alone]
    assert [future.result() for future in futures] == alone
    assert counts.left == 12


def test_cancelled_tasks_do_not_mix_with_those_that_follow(client: Client, counts: Counts) -> None:
    for seed in range(5):
        cancelled = [client.submit(f.echo, one) for one in values(40, 50 + seed)]
        for future in cancelled[::2]:
            future.cancel()
        given = values(40, 60 + seed)
        assert [future.result() for future in [client.submit(f.echo, one) for one in given]] == given
        kept = [(one, future) for one, future in zip(values(40, 50 + seed), cancelled, strict=True)]
        assert all(future.result() == one for one, future in kept if not future.cancelled())
    assert counts.came > 0
