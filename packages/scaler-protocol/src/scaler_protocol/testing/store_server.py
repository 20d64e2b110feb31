"""A process of the object storage server, and clients that wait for its answers."""

from __future__ import annotations

import os
import select
import signal
import time
from pathlib import Path

from scaler_protocol.objects.storage import Completion, Done, Missing, StoreChanged, StoreRequests
from scaler_protocol.service.child import ChildService
from scaler_protocol.transport import DealerLink
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.codec import decode, encode
from scaler_protocol.wire.envelope import UNSEQUENCED, Frame, encode_envelope
from scaler_protocol.wire.object_batches import joined

ENVELOPE = encode_envelope(UNSEQUENCED)
TIMEOUT_SECONDS = 20.0


class StoreClient:
    """The requesting end over a real socket, on the calling thread."""

    def __init__(self, address: str, role: m.Role = m.Role.CLIENT, *, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self.incarnation = os.urandom(16)
        self.requests = StoreRequests(m.Hello(role, "test", self.incarnation), timeout_seconds=timeout_seconds)
        self.link = DealerLink(address, self.incarnation)
        self.store_changes = 0

    def close(self) -> None:
        """Close the connection."""
        self.link.close()

    def put(self, *buffers: Frame, object_id: bytes | None = None, owner: bytes | None = None) -> bytes:
        """Store an object; return its id."""
        object_id = os.urandom(16) if object_id is None else object_id
        completion = self.try_put(object_id, *buffers, owner=owner)
        assert isinstance(completion, Done), completion
        return object_id

    def try_put(self, object_id: bytes, *buffers: Frame, owner: bytes | None = None) -> Completion:
        """Ask to store an object; return the answer."""
        return self.wait(self.requests.put(object_id, owner or self.incarnation, buffers, time.monotonic()))

    def get(self, object_id: bytes, wait_seconds: float = 0.0) -> list[bytes] | None:
        """Return an object's buffers, or None where it does not exist."""
        completion = self.wait(self.requests.get(object_id, time.monotonic(), wait_seconds=wait_seconds))
        if isinstance(completion, Missing):
            return None
        assert isinstance(completion, Done), completion
        return [bytes(buffer) for buffer in completion.buffers]

    def delete(self, *ids: bytes, owner: bytes | None = None) -> Completion:
        """Delete objects."""
        return self.wait(self.requests.delete(ids, owner or self.incarnation, time.monotonic()))

    def wait(self, request: int) -> Completion:
        """Move messages until this request completes. Requests are waited for one after the other."""
        deadline = time.monotonic() + 2 * TIMEOUT_SECONDS
        while time.monotonic() < deadline:
            self.flush()
            for completion in self._receive():
                if isinstance(completion, StoreChanged):
                    self.store_changes += 1
                elif completion.request == request:
                    return completion
        raise AssertionError(f"request {request} did not complete")

    def flush(self) -> None:
        """Send what is to be sent."""
        for message in joined(self.requests.take_outgoing()):
            self.send(*encode(message))

    def send(self, *frames: Frame) -> None:
        """Send a message as it is."""
        self.link.send([ENVELOPE, *frames])

    def _receive(self) -> list[Completion]:
        received = self.link.receive(100)
        if not received:
            if not self.link.readable():
                select.select([self.link.fd], [], [], 0.05)
            return self.requests.tick(time.monotonic())
        now = time.monotonic()
        return [completion for frames in received for completion in self.requests.receive(decode(frames[1:]), now)]


class StoreServer:
    """One server process and the clients of a test; all end with the test."""

    def __init__(self, module: str = "scaler_objstore") -> None:
        """`module` is what is run: the server, or what changes something in it first."""
        self.module = module
        self.service: ChildService | None = None
        self.address = "tcp://127.0.0.1:0"
        self.clients: list[StoreClient] = []

    def start(self, *arguments: str) -> None:
        """Start the process, at the address of the one before if there was one."""
        self.service = ChildService.start(self.module, [self.address, *arguments])
        self.address = str(self.service.wait_ready()["object_storage"])

    def client(self, role: m.Role = m.Role.CLIENT, *, timeout_seconds: float = TIMEOUT_SECONDS) -> StoreClient:
        """Return a new client."""
        client = StoreClient(self.address, role, timeout_seconds=timeout_seconds)
        self.clients.append(client)
        return client

    def kill(self) -> None:
        """Kill the process; the next one has the same address."""
        assert self.service is not None
        os.kill(self.service.pid, signal.SIGKILL)
        self.service.join(TIMEOUT_SECONDS)

    def close(self) -> None:
        """End the clients and the process."""
        for client in self.clients:
            client.close()
        if self.service is not None:
            self.service.terminate()

    @property
    def rss_bytes(self) -> int:
        """How much memory the process has."""
        assert self.service is not None
        return int(Path(f"/proc/{self.service.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
