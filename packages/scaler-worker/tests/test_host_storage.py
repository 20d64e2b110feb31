"""The stores that a host talks to, over real sockets: what becomes of one that nobody can reach."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

from scaler_protocol.testing.waiting import wait_until
from scaler_protocol.transport import RouterListener
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.codec import decode, encode
from scaler_protocol.wire.envelope import UNSEQUENCED, encode_envelope
from scaler_worker.core import effects, events
from scaler_worker.processor.object_folders import ObjectFolders
from scaler_worker.shell.host_storage import REACH_SECONDS, HostStorage


class Centre:
    """Object storage that names one home for every object, and has none itself."""

    def __init__(self, home: str) -> None:
        self.listener = RouterListener("tcp://127.0.0.1:0")
        self._home = home

    def serve(self) -> None:
        for peer, frames in self.listener.receive(100):
            message = decode(frames[1:])
            answer: m.Message
            if isinstance(message, m.Hello):
                answer = m.Welcome(b"s" * 16, hello_number=message.hello_number, takes_homes=True)
            else:
                assert isinstance(message, m.ObjectGet)
                if message.follows_homes:
                    answer = m.ObjectHomes(message.request, message.id, (self._home,))
                else:
                    answer = m.ObjectPutReply(message.request, m.ObjectStatus.UNREACHED, "its store does not answer")
            self.listener.send(peer, [encode_envelope(UNSEQUENCED), *encode(answer)])
        self.listener.flush()


def reported_of(home: str, folder: Path) -> str:
    """Fetch an object whose only home is at `home`, and return the error that is reported."""
    centre = Centre(home)
    reported: list[events.Event] = []

    async def make() -> HostStorage:
        hello = m.Hello(role=m.Role.AGENT, name="agent", incarnation=b"a" * 16)
        host = HostStorage(hello, ObjectFolders(str(folder)), None, reported.append, None, None)
        host.use_centre(centre.listener.address)
        host.fetch(effects.FetchObject(1, b"i" * 16))
        return host

    async def close(host: HostStorage) -> None:
        host.close("the test ends")

    with asyncio.Runner() as runner:

        def step() -> None:
            centre.serve()
            runner.run(asyncio.sleep(0))

        host = runner.run(make())
        wait_until(lambda: bool(reported), 30, step=step, what="the fetch does not end")
        runner.run(close(host))
    centre.listener.close()
    (event,) = reported
    assert isinstance(event, events.ObjectFetched)
    return event.error


def test_a_store_whose_host_refuses_connections_is_given_up_soon(tmp_path: Path) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        # Bound, and nobody listens: connections are refused.
        address = f"tcp://127.0.0.1:{bound.getsockname()[1]}"
        assert (
            f"the store at {address}: there has been no connection for 0.5 s, and its host refuses it"
            in reported_of(address, tmp_path)
        )


def test_a_store_that_is_silent_has_longer(tmp_path: Path) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        text = reported_of(address, tmp_path)
    assert f"the store at {address}: there has been no connection for {REACH_SECONDS:g} s" in text
    assert "refuses" not in text
