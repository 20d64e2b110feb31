"""Ctrl-C while a command imports its libraries."""

from __future__ import annotations

import signal

import pytest

from scaler_protocol.service.interrupts import quiet_interrupts


def test_the_handler_is_the_systems_for_a_while() -> None:
    # A shell ignores it for what it runs in the background.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(ImportError), quiet_interrupts():  # noqa: PT012 - what is looked at is the block
            assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
            raise ImportError
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_what_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with quiet_interrupts():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
