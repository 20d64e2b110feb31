"""The agent's link to object storage, with a server by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scaler_protocol.objects.storage import Refused
from scaler_protocol.testing.waiting import wait_until
from scaler_protocol.transport import DealerLink, RouterListener
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.codec import decode, encode
from scaler_protocol.wire.envelope import UNSEQUENCED, encode_envelope
from scaler_worker.core import effects, events
from scaler_worker.processor.object_folders import ObjectFolders
from scaler_worker.shell import storage_link
from scaler_worker.shell.copy_turns import CopyTurns
from scaler_worker.shell.storage_link import StorageLink

MIB = 1024**2
OBJECTS, OBJECT_BYTES = 12, 5 * MIB


class Server:
    """Object storage that has every object that is asked for."""

    def __init__(self) -> None:
        self.listener = RouterListener("tcp://127.0.0.1:0")

    def serve(self) -> None:
        for peer, frames in self.listener.receive(100):
            message = decode(frames[1:])
            answer: m.Message
            if isinstance(message, m.Hello):
                answer = m.Welcome(b"s" * 16, hello_number=message.hello_number)
            else:
                assert isinstance(message, m.ObjectGet)
                answer = m.ObjectData(message.request, message.id, [bytes(OBJECT_BYTES)])
            self.listener.send(peer, [encode_envelope(UNSEQUENCED), *encode(answer)])
        self.listener.flush()


def test_objects_wait_in_storage_while_too_many_are_being_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage_link, "KEPT_BYTES_MAX", 4 * OBJECT_BYTES)
    begun: list[Callable[[], object]] = []
    released = asyncio.Event()

    async def to_thread(function: Callable[..., object], *args: Any) -> object:
        begun.append(lambda: function(*args))
        await released.wait()
        return function(*args)

    monkeypatch.setattr(asyncio, "to_thread", to_thread)
    server = Server()
    reported: list[events.Event] = []

    async def make() -> StorageLink:
        hello = m.Hello(role=m.Role.AGENT, name="agent", incarnation=b"a" * 16)
        link = DealerLink(server.listener.address, b"a" * 16)
        return StorageLink(server.listener.address, hello, ObjectFolders(str(tmp_path)), link, reported.append)

    with asyncio.Runner() as runner:

        def step() -> None:
            server.serve()
            runner.run(asyncio.sleep(0))

        link = runner.run(make())
        for number in range(OBJECTS):
            runner.run(_fetch(link, number))
        wait_until(lambda: len(begun) == 5, 10, step=step, what="nothing comes")
        # An answer to a small request, behind all the others, does not come either.
        for _ in range(200):
            step()
        assert len(begun) == 5
        runner.get_loop().call_soon(released.set)
        wait_until(lambda: len(reported) == OBJECTS, 20, step=step, what="not all came in the end")
        assert all(isinstance(event, events.ObjectFetched) and not event.error for event in reported)
        runner.run(_close(link))
    server.listener.close()


def test_who_asks_a_store_that_has_ended_is_told_so(tmp_path: Path) -> None:
    server = Server()
    ended: list[object] = []

    async def ask_late() -> None:
        hello = m.Hello(role=m.Role.AGENT, name="agent", incarnation=b"a" * 16)
        link = DealerLink(server.listener.address, b"a" * 16)
        storage = StorageLink(server.listener.address, hello, ObjectFolders(str(tmp_path)), link, ended.append)
        storage.close("it was killed")
        storage.tell(m.ObjectPut(0, b"i" * 16, b"o" * 16, [], incomplete=True, filled=1))
        storage.ask(lambda requests, now: requests.put(b"i" * 16, b"o" * 16, (), now), ended.append)
        assert not ended
        await asyncio.sleep(0)

    asyncio.run(ask_late())
    assert ended == [Refused(0, None, "it was killed")]
    server.listener.close()


async def _fetch(link: StorageLink, number: int) -> None:
    link.fetch(effects.FetchObject(number, number.to_bytes(16, "big"), True))


async def _close(link: StorageLink) -> None:
    link.close("the test ends")


def test_clients_take_turns_and_what_is_larger_than_all_goes_alone() -> None:
    turns = CopyTurns(bytes_max=100)
    order: list[str] = []

    async def copy(client: bytes, name: str, size: int) -> None:
        await turns.take(client, size)
        order.append(name)

    async def run() -> None:
        tasks = [asyncio.create_task(copy(b"a", f"a{number}", 60)) for number in range(3)]
        tasks += [asyncio.create_task(copy(b"b", "b0", 30)), asyncio.create_task(copy(b"c", "c0", 500))]
        await asyncio.sleep(0)
        assert order == ["a0"]
        # What is given back, and who may go on then.
        for size, expected in ((60, ["a1", "b0"]), (60, []), (30, ["c0"]), (500, ["a2"])):
            before = len(order)
            turns.give_back(size)
            await asyncio.sleep(0)
            assert order[before:] == expected
        await asyncio.gather(*tasks)

    asyncio.run(run())
