"""Which pieces of a large object are asked for where, and what becomes of copies."""

from __future__ import annotations

import random

from scaler_worker.core import effects, events
from scaler_worker.core import homes as h
from scaler_worker.core.pieces import WINDOW, Piece, Pieces

X, Y, OWNER = b"x" * 16, b"y" * 16, b"a" * 16
ONE, TWO = "tcp://10.0.0.1:7", "tcp://10.0.0.2:7"
FETCH = effects.FetchObject(1, X)


def test_pieces_are_asked_for_in_order_and_some_at_a_time() -> None:
    pieces = Pieces(55, [ONE], 10)
    asked = pieces.take()
    assert asked == [Piece(10 * number, 10, ONE) for number in range(WINDOW)]
    assert pieces.take() == []
    pieces.came(asked[1])
    assert pieces.filled == 0
    pieces.came(asked[0])
    assert pieces.filled == 20
    assert pieces.take() == [Piece(40, 10, ONE), Piece(50, 5, ONE)]
    for piece in (asked[2], asked[3], Piece(40, 10, ONE)):
        pieces.came(piece)
    assert not pieces.is_done
    pieces.came(Piece(50, 5, ONE))
    assert pieces.is_done
    assert not pieces.has_failed


def test_what_a_store_does_not_give_the_next_one_is_asked_for() -> None:
    pieces = Pieces(40, [ONE, TWO], 10)
    first, second, third, _ = pieces.take()
    pieces.came(first)
    pieces.failed(third, "it is gone")
    pieces.failed(second, "it is gone")
    assert pieces.trouble == f"the store at {ONE}: it is gone"
    assert pieces.take() == [Piece(10, 10, TWO), Piece(20, 10, TWO)]
    # Answers that are late.
    pieces.came(third)
    pieces.failed(second, "twice")
    assert pieces.filled == 10
    pieces.failed(Piece(10, 10, TWO), "too")
    assert pieces.has_failed
    assert pieces.take() == []


def test_whatever_fails_every_byte_is_asked_for_until_no_store_is_left() -> None:
    for seed in range(200):
        draw = random.Random(seed)
        pieces = Pieces(draw.randrange(1, 200), [ONE, TWO, ""], 10)
        asked: list[Piece] = []
        there: set[int] = set()
        while not pieces.is_done and not pieces.has_failed:
            asked += pieces.take()
            piece = asked.pop(draw.randrange(len(asked)))
            if draw.random() < 0.05:
                pieces.failed(piece, "it is gone")
            else:
                there.update(range(piece.offset, piece.offset + piece.size))
                pieces.came(piece)
            assert there >= set(range(pieces.filled))


def with_home(copies_bytes_max: int = 100) -> h.Homes:
    homes = h.Homes(copies_bytes_max)
    homes.has_home = True
    homes.on_centre(takes_homes=True)
    return homes


def begin(homes: h.Homes, fetch: effects.FetchObject = FETCH) -> None:
    """Let an object of 60 bytes begin to come."""
    homes.fetch(fetch)
    assert homes.take_steps() == [h.FetchAtCentre(fetch, follows=True, pieces=True)]
    homes.on_layout(fetch.request, OWNER, (10, 50))
    assert homes.take_steps() == [h.AskSources(fetch)]
    homes.on_sources(fetch.request, (ONE, h.CENTRE), 0.0)
    assert homes.take_steps() == [h.FetchPieces(fetch, OWNER, (10, 50), (ONE, h.CENTRE))]


def test_a_large_object_becomes_a_copy_that_is_announced_and_read_at_home() -> None:
    homes = with_home()
    begin(homes)
    homes.on_pieces(1, "")
    told, read = homes.take_steps()
    assert told == h.TellHeld(0, OWNER, (X,), are_copies=True)
    assert read == h.FetchAt(FETCH, h.HOME)
    assert isinstance(told, h.TellHeld)
    homes.on_held(told, "")
    homes.on_fetched_at(events.ObjectFetched(1, 60), h.HOME, 0.0)
    assert homes.take_steps() == [h.Report(events.ObjectFetched(1, 60))]
    homes.on_wanted(X)
    assert homes.take_steps() == [h.Upload(X, OWNER)]


def test_a_copy_of_what_was_deleted_meanwhile_is_deleted() -> None:
    homes = with_home()
    begin(homes)
    homes.on_pieces(1, "")
    told, _ = homes.take_steps()
    assert isinstance(told, h.TellHeld)
    homes.on_held(told, "it does not exist any more", is_refused=True)
    assert homes.take_steps() == [h.DeleteAtHome(OWNER, (X,))]
    assert homes.held == 0


def test_what_cannot_come_in_pieces_comes_whole_and_once() -> None:
    homes = with_home()
    begin(homes)
    homes.on_pieces(1, "no store has it")
    whole = h.FetchAtCentre(FETCH, follows=True)
    assert homes.take_steps() == [h.DeleteAtHome(OWNER, (X,)), h.TellGone((X,)), whole]
    homes.on_homes(1, (TWO,), 0.0)
    assert homes.take_steps() == [h.FetchAt(FETCH, TWO)]


def test_without_sources_or_room_for_copies_it_comes_whole() -> None:
    homes = with_home()
    homes.fetch(FETCH)
    homes.on_layout(1, OWNER, (60,))
    homes.on_sources(1, (), 0.0)
    assert homes.take_steps()[-1] == h.FetchAtCentre(FETCH, follows=True)
    begin(homes, effects.FetchObject(2, X))
    other = effects.FetchObject(3, Y)
    homes.fetch(other)
    homes.on_layout(3, OWNER, (60,))
    assert homes.take_steps()[-1] == h.FetchAtCentre(other, follows=True)
    # A copy that is deleted makes room.
    homes.on_pieces(2, "")
    homes.on_delete(OWNER, (X,))
    homes.take_steps()
    begin(homes, effects.FetchObject(4, Y))


def test_what_is_made_here_while_it_is_fetched_is_no_copy() -> None:
    homes = with_home()
    begin(homes)
    homes.put(effects.PutObject(2, X, OWNER))
    homes.on_put_at_home(events.ObjectStored(2))
    homes.take_steps()
    homes.on_pieces(1, "no store has it")
    assert homes.take_steps() == [h.FetchAt(FETCH, h.HOME)]
    assert homes.held == 1


def test_a_host_that_leaves_does_not_upload_copies() -> None:
    homes = with_home()
    begin(homes)
    homes.on_pieces(1, "")
    homes.take_steps()
    assert homes.hand_over() == 0
