"""Sockets that close themselves when they are collected."""

from __future__ import annotations

import os
import socket
import sys
import warnings
from collections.abc import Callable, Iterator

import pytest

from scaler_protocol.transport.closing_socket import ClosingSocket, closing_pair
from scaler_protocol.transport.endpoints import begin_connect, listen


@pytest.fixture(autouse=True)
def said(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[object]]:
    """What Python could not raise; nothing is expected, and every warning is an error."""
    unraisable: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", unraisable.append)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield unraisable
    assert not unraisable


def is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def new_listener() -> socket.socket:
    return listen("tcp://127.0.0.1:0", 1)[0][0]


@pytest.mark.parametrize(
    "make", [ClosingSocket, lambda: closing_pair()[0], new_listener], ids=["new", "pair", "listener"]
)
def test_one_that_nobody_closed_is_closed_without_a_warning(make: Callable[[], socket.socket]) -> None:
    opened = make()
    descriptor = opened.fileno()
    assert is_open(descriptor)
    del opened
    assert not is_open(descriptor)


def test_one_that_connects_is_of_this_kind() -> None:
    listeners, bound = listen("tcp://127.0.0.1:0", 1)
    connecting = begin_connect(bound)
    assert {type(each) for each in (*listeners, connecting)} == {ClosingSocket}


def test_a_pair_is_connected() -> None:
    first, second = closing_pair()
    first.send(b"x")
    assert second.recv(10) == b"x"


def test_closed_or_detached_ones_are_left_alone() -> None:
    closed, (detached, _) = ClosingSocket(), closing_pair()
    closed.close()
    descriptor = detached.detach()
    del closed, detached
    assert is_open(descriptor)
    os.close(descriptor)


def test_one_that_could_not_be_made_says_nothing_more() -> None:
    with pytest.raises(OSError, match="not supported"):
        ClosingSocket(12345)
