"""`Client.lock` and `Client.semaphore` against the in-process cluster."""

from __future__ import annotations

import os
import threading
from typing import Any

import pytest

from scaler import Client, LockError, LockLostError, LockTimeoutError, ScalerError
from scaler.testing import InProcessCluster
from scaler_protocol.testing.waiting import wait_until


def test_it_is_held_in_the_block_and_free_after_it(client: Client) -> None:
    lock = client.lock("a")
    for _ in range(3):
        assert not lock.held
        with lock as held:
            assert held is lock
            assert lock.held
    with client.lock("a", timeout=5):
        pass


def test_blocks_of_many_threads_follow_each_other(client: Client) -> None:
    inside, most, done = 0, 0, 0

    def work() -> None:
        nonlocal inside, most, done
        with client.semaphore("a", 2):
            inside += 1
            most = max(most, inside)
            inside -= 1
            done += 1

    threads = [threading.Thread(target=work) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert done == 20
    assert most <= 2


def test_who_waits_too_long_leaves_the_queue(client: Client, cluster: InProcessCluster) -> None:
    with Client(cluster.address) as other, client.lock("a"):
        with pytest.raises(LockTimeoutError, match=r"lock 'a' was not free within 0\.1 s") as caught:
            other.lock("a", timeout=0.1).__enter__()
        assert isinstance(caught.value, TimeoutError)
        assert isinstance(caught.value, ScalerError)
    with client.lock("a", timeout=5):
        pass


def test_an_error_in_the_block_arrives_and_frees_it(client: Client) -> None:
    with pytest.raises(KeyError), client.lock("a"):
        raise KeyError("mine")
    with client.lock("a", timeout=5):
        pass


def test_it_cannot_be_taken_twice_by_one_object(client: Client) -> None:
    with client.lock("a") as lock:
        with pytest.raises(LockError, match="in use by this object"):
            lock.__enter__()
        assert lock.held


def test_different_counts_are_refused(client: Client) -> None:
    with (
        client.lock("a"),
        pytest.raises(LockError, match="semaphore 'a' of 3 cannot be had: 1 may hold it"),
        client.semaphore("a", 3),
    ):
        pass


def test_a_lock_that_is_lost_is_told_at_the_end_of_the_block(cluster: InProcessCluster, client: Client) -> None:
    lock = client.lock("a")

    def lose() -> None:
        with lock:
            # This scheduler never lets anybody keep what was held before.
            cluster.restart()
            wait_until(lambda: not lock.held)

    with pytest.raises(LockLostError, match="lock 'a' was lost while the block ran"):
        lose()
    with lock:
        assert lock.held


def test_a_block_that_is_forgotten_gives_it_back(client: Client) -> None:
    client.lock("a").__enter__()
    with client.lock("a", timeout=5):
        pass


def test_its_client_gone_it_is_free(cluster: InProcessCluster, client: Client) -> None:
    other = Client(cluster.address)
    lock = other.lock("a")
    lock.__enter__()
    other.disconnect()
    assert not lock.held
    with client.lock("a", timeout=5):
        pass


def use(client: Client) -> bool:
    with client.lock("a", timeout=5) as lock:
        return lock.held


def test_tasks_use_it_with_a_client_of_theirs(client: Client) -> None:
    assert client.map(use, [client] * 5) == [True] * 5


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"name": 3, "count": 1}, TypeError),
        ({"name": "", "count": 1}, ValueError),
        ({"name": "a" * 201, "count": 1}, ValueError),
        ({"name": "a", "count": 0}, ValueError),
        ({"name": "a", "count": True}, TypeError),
        ({"name": "a", "count": 1.0}, TypeError),
        ({"name": "a", "count": 1, "timeout": 0}, ValueError),
        ({"name": "a", "count": 1, "timeout": None}, TypeError),
    ],
)
def test_impossible_values_are_refused_at_the_call(
    client: Client, arguments: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        client.semaphore(**arguments)


@pytest.mark.parametrize("name", ["\0", "a\0b", "\n", " ", "a/../b", "\u202e", "\U0001f600" * 200])
def test_odd_names_are_names_of_their_own(client: Client, name: str) -> None:
    with client.lock(name, timeout=5), client.lock("x" + name[1:], timeout=5):
        pass


@pytest.mark.parametrize("name", ["\ud800", "a\udcff"])
def test_names_that_no_message_can_hold_are_refused(client: Client, name: str) -> None:
    """They were sent with question marks, so that different names were one lock."""
    with pytest.raises(ValueError, match="that UTF-8 can hold"):
        client.lock(name)


def test_threads_that_share_one_object_do_not_lose_a_hold(client: Client) -> None:
    lock = client.lock("a")
    ended: list[str] = []

    def use() -> None:
        try:
            with lock:
                ended.append("held")
        except LockError:
            ended.append("refused")

    for _ in range(20):
        threads = [threading.Thread(target=use) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(ended) == 160
    with client.lock("a", timeout=5):
        pass


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_process_forked_inside_the_block_leaves_it_at_once(client: Client) -> None:
    """It waited a minute for an answer. The lock stays the parent's."""
    reader, writer = os.pipe()
    child = -1
    lock = client.lock("a")
    try:
        with lock:
            child = os.fork()
            if child:
                assert os.read(reader, 1000) == b"ClientForkedError"
                assert lock.held
    except BaseException as error:
        if child == 0:
            os.write(writer, type(error).__name__.encode())
            os._exit(0)
        raise
    finally:
        if child == 0:
            os._exit(1)
    os.waitpid(child, 0)
    with client.lock("a", timeout=5):
        pass
