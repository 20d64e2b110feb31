"""Keys as texts and as fingerprints, against libzmq's own."""

from __future__ import annotations

import os

import pytest
import zmq
from zmq.utils import z85

from scaler_protocol.security.authority import Authority, KeyRole
from scaler_protocol.security.credentials import ServerSecurity
from scaler_protocol.security.errors import KeyTextError
from scaler_protocol.security.keys import fingerprint, from_text, new_key_pair, pinned_id, public_of, to_text


def test_texts_are_those_of_the_specification() -> None:
    # The example of https://rfc.zeromq.org/spec/32, and keys of libzmq.
    assert to_text(bytes.fromhex("864fd26fb559f75b")) == "HelloWorld"
    for _ in range(50):
        key = os.urandom(32)
        assert to_text(key).encode() == z85.encode(key)
        assert from_text(to_text(key)) == key


def test_a_key_pair_of_libzmq_is_a_key_pair() -> None:
    public, secret = zmq.curve_keypair()
    assert to_text(public_of(from_text(secret.decode()))).encode() == public


@pytest.mark.parametrize("text", ["", "a" * 39, "a" * 41, "a" * 39 + "~", "#" * 40, "a" * 39 + "é"])
def test_other_texts_are_refused_and_not_shown(text: str) -> None:
    with pytest.raises(KeyTextError) as refused:
        from_text(text)
    assert text == "" or text not in str(refused.value)


def test_a_secret_key_is_never_shown() -> None:
    pair = new_key_pair()
    shown = repr(pair) + str(pair)
    assert to_text(pair.public) in shown
    assert to_text(pair.secret) not in shown
    assert repr(pair.secret) not in shown


def test_identities_belong_to_their_key() -> None:
    public = new_key_pair().public
    assert pinned_id(public)[:8] == fingerprint(public)
    assert len(pinned_id(public)) == 16
    assert pinned_id(public) != pinned_id(public)


def test_a_server_knows_the_keys_it_was_given_and_its_own() -> None:
    own, client, stranger = new_key_pair(), new_key_pair(), new_key_pair()
    security = ServerSecurity(own, [Authority("pricing", KeyRole.CLIENT, client.public)])
    found = security.authority(client.public)
    assert found is not None
    assert (found.name, found.role) == ("pricing", KeyRole.CLIENT)
    assert found.fingerprint == fingerprint(client.public)
    assert security.authority(stranger.public) is None
    scheduler = security.authority(own.public)
    assert scheduler is not None
    assert scheduler.role is KeyRole.SCHEDULER
    security.allow([Authority("server impostor", KeyRole.CLIENT, own.public)])
    assert security.authority(client.public) is None
    scheduler = security.authority(own.public)
    assert scheduler is not None
    assert scheduler.role is KeyRole.SCHEDULER
