"""Who may read what is published, where keys are used."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial

import pytest

from scaler_protocol.errors import UnknownKeyError, WrongSocketError
from scaler_protocol.security.authority import Authority, KeyRole
from scaler_protocol.security.credentials import PeerSecurity, ServerSecurity
from scaler_protocol.security.keys import KeyPair, new_key_pair, pinned_id
from scaler_protocol.testing.waiting import wait_until
from scaler_protocol.transport import DealerLink
from scaler_protocol.transport.publisher import Publisher
from scaler_protocol.transport.subscriber import Subscriber

SERVER, STRANGER = new_key_pair(), new_key_pair()
KEYS: dict[KeyRole, KeyPair] = {role: new_key_pair() for role in KeyRole if role is not KeyRole.SCHEDULER}


class Keyed(Publisher):
    """A publisher that lets in one key of each role, and what it tells."""

    def __init__(self) -> None:
        self.connected: list[str] = []
        self.refused: list[str] = []
        self.keys = ServerSecurity(SERVER)
        self.allow(*KEYS)
        super().__init__(
            "tcp://127.0.0.1:0",
            security=self.keys,
            on_connected=self.note,
            on_refused=lambda _, __, reason: self.refused.append(reason),
        )

    def note(self, address: str, authority: Authority | None) -> None:
        assert authority is not None
        self.connected.append(f"{authority.name} from {address.rpartition(':')[0]}")

    def allow(self, *roles: KeyRole) -> None:
        self.keys.allow(Authority(f"the {role}", role, KEYS[role].public) for role in roles)

    def until(self, condition: Callable[[], object]) -> None:
        def is_so() -> object:
            self.update_subscribers()
            return condition()

        wait_until(is_so)

    def subscriber(self, own: KeyPair, server: KeyPair = SERVER) -> Subscriber:
        return Subscriber(self.address, [b"news"], security=PeerSecurity(own, server.public))


@pytest.fixture
def publisher() -> Iterator[Keyed]:
    with closing(Keyed()) as publisher:
        yield publisher


def hears(publisher: Keyed, subscriber: Subscriber, body: bytes) -> bool:
    publisher.update_subscribers()
    publisher.send([b"news", body])
    while (frames := subscriber.receive(0.01)) is not None:
        if frames == [b"news", body]:
            return True
    return False


@pytest.mark.parametrize("role", [KeyRole.MONITOR, KeyRole.OPERATOR])
def test_monitors_and_operators_hear(publisher: Keyed, role: KeyRole) -> None:
    with closing(publisher.subscriber(KEYS[role])) as subscriber:
        for body in (b"", b"small", bytes(70_000), bytes(3_000_000)):
            publisher.until(partial(hears, publisher, subscriber, body))
    assert publisher.connected == [f"the {role} from 127.0.0.1"]
    assert publisher.refused == []


@pytest.mark.parametrize("own", [KEYS[KeyRole.CLIENT], KEYS[KeyRole.WORKER], STRANGER, SERVER])
def test_nobody_else_does(publisher: Keyed, own: KeyPair) -> None:
    with closing(publisher.subscriber(own)) as subscriber:

        def is_refused() -> str:
            subscriber.receive(0.01)
            return subscriber.watch.refusal

        publisher.until(is_refused)
        assert subscriber.watch.refusal == str(UnknownKeyError())
    assert publisher.refused
    assert publisher.connected == []


def test_who_expects_another_server_is_told(publisher: Keyed) -> None:
    with closing(publisher.subscriber(KEYS[KeyRole.MONITOR], STRANGER)) as subscriber:

        def is_refused() -> str:
            subscriber.receive(0.01)
            return subscriber.watch.refusal

        publisher.until(is_refused)
        assert "another key than the one expected" in subscriber.watch.refusal


def test_the_owner_of_a_key_that_is_revoked_is_disconnected_and_nobody_else(publisher: Keyed) -> None:
    with (
        closing(publisher.subscriber(KEYS[KeyRole.MONITOR])) as revoked,
        closing(publisher.subscriber(KEYS[KeyRole.OPERATOR])) as other,
    ):
        publisher.until(lambda: hears(publisher, revoked, b"1") and hears(publisher, other, b"2"))
        publisher.allow(KeyRole.OPERATOR)
        publisher.refresh_authorities()
        assert publisher.update_subscribers() == 1

        def is_refused() -> str:
            revoked.receive(0.01)
            return revoked.watch.refusal

        publisher.until(is_refused)
        publisher.until(lambda: hears(publisher, other, b"3"))
        assert other.watch.lost_count == 0


def test_a_key_whose_role_has_changed_counts_no_more(publisher: Keyed) -> None:
    own = KEYS[KeyRole.MONITOR]
    with closing(publisher.subscriber(own)) as subscriber:
        publisher.until(lambda: hears(publisher, subscriber, b"1"))
        publisher.keys.allow([Authority("again", KeyRole.CLIENT, own.public)])
        publisher.refresh_authorities()
        assert publisher.update_subscribers() == 0


@pytest.mark.parametrize("role", [KeyRole.CLIENT, KeyRole.WORKER])
def test_clients_and_workers_are_told_what_listens_there(publisher: Keyed, role: KeyRole) -> None:
    own = KEYS[role]
    with closing(DealerLink(publisher.address, pinned_id(own.public), PeerSecurity(own, SERVER.public))) as link:

        def is_misdirected() -> bool:
            link.receive(10)
            return link.misdirected

        publisher.until(is_misdirected)
        assert link.trouble == str(WrongSocketError("XPUB", "ROUTER"))
