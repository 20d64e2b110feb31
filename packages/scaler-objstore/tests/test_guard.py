"""What each key may do at an object storage server, around the real core."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from scaler_objstore.core import Limits, MemoryStorage, StoreCore, effects, events
from scaler_objstore.guard import Guard
from scaler_protocol.ids import content_id
from scaler_protocol.security.audit import AuditLog
from scaler_protocol.security.authority import Authority, KeyRole
from scaler_protocol.security.keys import new_key_pair, pinned_id
from scaler_protocol.wire import messages as m

SPOKEN = {KeyRole.WORKER: m.Role.AGENT, KeyRole.SCHEDULER: m.Role.SCHEDULER}


class Storage:
    """A store with keys, and its connections."""

    def __init__(self, log_path: Path) -> None:
        self.core = StoreCore(
            b"store".ljust(16),
            MemoryStorage(10_000_000),
            lambda buffers: content_id(b"".join(buffers)),
            Limits(),
            shares_segments=False,
        )
        self.authorities: dict[bytes, Authority] = {}
        self.closed: list[bytes] = []
        self.log_path = log_path
        self.guard = Guard(self.core, self, keyed=True, audit=AuditLog(log_path, "object_storage"))

    def authority_of(self, identity: bytes) -> Authority | None:
        return self.authorities.get(identity)

    def address_of(self, identity: bytes) -> str:
        return "10.0.0.7:1"

    def refresh_authorities(self) -> None:
        """Nobody's key changes here."""

    def disconnect(self, identity: bytes) -> None:
        self.authorities.pop(identity, None)
        self.closed.append(identity)

    def connect(self, role: KeyRole, *, greet: bool = True) -> bytes:
        authority = Authority(str(role), role, new_key_pair().public)
        peer = pinned_id(authority.public)
        self.authorities[peer] = authority
        if greet:
            hello = m.Hello(SPOKEN.get(role, m.Role.CLIENT), "peer", peer, to_object_storage=True)
            assert isinstance(self.say(peer, hello), m.Welcome)
        return peer

    def say(self, peer: bytes, message: m.Message) -> m.Message | None:
        self.guard.handle(events.Incoming(peer, message), 1.0)
        self.core.check_invariants()
        answers = [effect.message for effect in self.core.take_effects() if isinstance(effect, effects.Send)]
        return answers[0] if answers else None

    def put(self, peer: bytes, owner: bytes, object_id: bytes = b"o" * 16, place: bytes = b"") -> m.Message | None:
        return self.say(peer, m.ObjectPut(1, object_id, owner, [b"content"], place=place))

    def holds(self, object_id: bytes = b"o" * 16) -> bool:
        reader = self.connect(KeyRole.CLIENT)
        data = self.say(reader, m.ObjectGet(1, object_id))
        assert isinstance(data, m.ObjectData)
        return not data.missing


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path / "audit.log")


def test_an_owner_stores_and_deletes_and_whoever_knows_the_id_reads(storage: Storage) -> None:
    owner = storage.connect(KeyRole.CLIENT)
    assert storage.put(owner, owner) == m.ObjectPutReply(1)
    assert storage.holds()
    assert storage.say(owner, m.ObjectDelete(2, owner, (b"o" * 16,))) == m.ObjectDeleteReply(2)
    assert not storage.holds()


def test_a_worker_stores_for_the_client_of_its_task_and_deletes_nothing(storage: Storage) -> None:
    owner, worker = storage.connect(KeyRole.CLIENT), storage.connect(KeyRole.WORKER)
    assert storage.put(worker, owner) == m.ObjectPutReply(1)
    assert storage.say(worker, m.ObjectDelete(2, owner, (b"o" * 16,))) is None
    assert storage.closed == [worker]
    assert storage.holds()


def test_another_client_neither_stores_nor_overwrites_nor_deletes(storage: Storage) -> None:
    owner = storage.connect(KeyRole.CLIENT)
    storage.put(owner, owner)
    for forged in (
        m.ObjectPut(1, b"n" * 16, owner, [b"forged"]),
        m.ObjectDelete(2, owner, (b"o" * 16,)),
        m.ObjectDelete(2, owner, ()),
        m.Hello(m.Role.CLIENT, "x", owner, to_object_storage=True),
        m.Hello(m.Role.SCHEDULER, "x", owner, to_object_storage=True),
        m.Shutdown("forged"),
        m.StoreStatusRequest(1),
    ):
        other = storage.connect(KeyRole.CLIENT)
        assert storage.say(other, forged) is None
        assert storage.closed[-1] == other
    # In its own name it cannot touch the id either.
    other = storage.connect(KeyRole.CLIENT)
    reply = storage.put(other, other)
    assert isinstance(reply, m.ObjectPutReply)
    assert reply.status == m.ObjectStatus.NOT_YOURS
    reply = storage.say(other, m.ObjectDelete(2, other, (b"o" * 16,)))
    assert isinstance(reply, m.ObjectDeleteReply)
    assert reply.status == m.ObjectStatus.NOT_YOURS
    assert storage.holds()
    assert not storage.holds(b"n" * 16)


@pytest.mark.parametrize("role", [KeyRole.MONITOR, KeyRole.ADAPTER])
def test_others_have_no_business_here(storage: Storage, role: KeyRole) -> None:
    peer = storage.connect(role, greet=False)
    assert storage.say(peer, m.Hello(m.Role.CLIENT, "x", peer, to_object_storage=True)) is None
    assert storage.closed == [peer]


def test_the_scheduler_is_known_by_its_key(storage: Storage) -> None:
    owner, scheduler = storage.connect(KeyRole.CLIENT), storage.connect(KeyRole.SCHEDULER)
    storage.put(owner, owner)
    assert isinstance(storage.say(scheduler, m.StoreStatusRequest(1)), m.StoreStatus)
    assert storage.say(scheduler, m.ObjectDelete(2, owner, ())) == m.ObjectDeleteReply(2)
    assert not storage.holds()


def test_the_scheduler_says_whom_it_knows_and_which_results_are_gone(storage: Storage) -> None:
    scheduler, owner = storage.connect(KeyRole.SCHEDULER), storage.connect(KeyRole.CLIENT)
    storage.say(scheduler, m.ClientsKnown((owner,)))
    storage.say(scheduler, m.ObjectsGone((b"x" * 16,)))
    assert storage.closed == []
    # Clients know of themselves only.
    storage.say(owner, m.ClientsKnown((scheduler,)))
    assert storage.closed == [owner]


def test_contents_in_segments_are_not_shared_between_keys(storage: Storage) -> None:
    first, second = storage.connect(KeyRole.CLIENT), storage.connect(KeyRole.CLIENT)
    storage.put(first, first, b"1" * 16, place=b"segment of the first")
    storage.put(second, second, b"2" * 16, place=b"segment of the second")
    storage.put(second, second, b"3" * 16)
    reader = storage.connect(KeyRole.WORKER)
    places = []
    for object_id in (b"1" * 16, b"2" * 16, b"3" * 16):
        data = storage.say(reader, m.ObjectGet(1, object_id, mappable=True))
        assert isinstance(data, m.ObjectData)
        places.append(data.place)
    assert places == [b"segment of the first", b"segment of the second", b""]


def test_of_ten_thousand_forged_messages_none_is_accepted(storage: Storage) -> None:
    seed = 15
    print(f"seed {seed}")
    rng = random.Random(seed)
    owner = storage.connect(KeyRole.CLIENT)
    storage.put(owner, owner)
    roles = [KeyRole.CLIENT, KeyRole.ADAPTER, KeyRole.MONITOR, KeyRole.OPERATOR]
    for _ in range(10_000):
        forger = storage.connect(rng.choice(roles), greet=False)
        forgeries: list[m.Message] = [
            m.Hello(rng.choice([m.Role.AGENT, m.Role.SCHEDULER]), "x", forger, to_object_storage=True),
            m.Hello(m.Role.CLIENT, "x", owner, to_object_storage=True),
            m.ObjectPut(1, rng.choice([b"o" * 16, rng.randbytes(16)]), owner, [b"forged"]),
            m.ObjectDelete(rng.randrange(3), owner, rng.choice([(), (b"o" * 16,)])),
            m.Shutdown("forged"),
            m.StoreStatusRequest(1),
        ]
        forged = rng.choice(forgeries)
        assert storage.say(forger, forged) is None
        assert storage.closed[-1] == forger
    assert storage.guard.doorkeeper.refused_count == 10_000
    assert storage.holds()


def test_connections_and_refusals_are_recorded(storage: Storage) -> None:
    storage.connect(KeyRole.CLIENT)
    thief = storage.connect(KeyRole.WORKER)
    storage.say(thief, m.Shutdown("forged"))
    lines = [json.loads(line) for line in storage.log_path.read_text().splitlines()]
    assert [(line["event"], line["role"]) for line in lines] == [
        ("connect", "client"),
        ("connect", "worker"),
        ("refusal", "worker"),
    ]
