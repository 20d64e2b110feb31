"""From which store each of several hosts fetches a large object: none sends it twice at the same time."""

from __future__ import annotations

from scaler_objstore.core.chains import ADDRESSES_MAX, Chains

X, Y = b"x" * 16, b"y" * 16
PEERS = [bytes([number]) * 16 for number in range(9)]


def test_hosts_that_come_at_once_stand_in_a_chain() -> None:
    chains = Chains(600.0)
    sources = [chains.join(X, peer, f"h{number}", ["", "home"], 0.0)[0] for number, peer in enumerate(PEERS[:5])]
    assert sorted(sources[:2]) == ["", "home"]
    assert sources[2:] == ["h1", "h2", "h3"] or sources[2:] == ["h1", "h0", "h3"]
    assert len(set(sources)) == 5


def test_every_answer_names_the_stores_that_have_it_all_and_not_too_many() -> None:
    chains = Chains(600.0)
    assert sorted(chains.join(X, PEERS[0], "h0", ["", "home"], 0.0)) == ["", "home"]
    assert sorted(chains.join(X, PEERS[1], "h1", ["", "home"], 0.0)) == ["", "home"]
    assert sorted(chains.join(X, PEERS[2], "h2", ["", "home"], 0.0)) == ["", "h1", "home"]
    many = [f"home{number}" for number in range(50)]
    assert len(chains.join(Y, PEERS[0], "h0", many, 0.0)) == ADDRESSES_MAX


def test_a_source_is_free_when_its_reader_is_done_gone_or_silent() -> None:
    chains = Chains(600.0)
    assert chains.join(X, PEERS[0], "h0", [""], 0.0) == [""]
    chains.leave(X, PEERS[0])
    assert chains.join(X, PEERS[1], "h1", [""], 0.0) == [""]
    chains.leave_all(PEERS[1])
    assert chains.join(X, PEERS[2], "h2", [""], 0.0) == [""]
    assert chains.join(X, PEERS[3], "h3", [""], 599.0) == ["h2", ""]
    # It asks again: not from who fetches from it.
    assert chains.join(X, PEERS[2], "h2", [""], 601.0) == [""]


def test_nothing_is_left_of_what_has_ended() -> None:
    chains = Chains(600.0)
    for object_id in (X, Y):
        chains.join(object_id, PEERS[0], "h0", [""], 0.0)
    chains.leave(X, PEERS[0])
    chains.leave(X, PEERS[1])
    chains.remove(Y)
    assert len(chains) == 0
