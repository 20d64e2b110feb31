"""Refusals that anybody can cause fill no log, and none is lost from the count."""

from __future__ import annotations

from scaler_protocol.security.repeated_refusals import HOSTS_MAX, OTHERS, REPEAT_SECONDS, RepeatedRefusals


def test_one_line_a_minute_for_each_host_and_kind() -> None:
    refusals = RepeatedRefusals()
    assert refusals.note("10.0.0.7:1", "no key", "it has no key", 0.0) == ("10.0.0.7:1", 0)
    assert refusals.note("10.0.0.7:2", "no key", "it has no key", 1.0) is None
    assert refusals.note("10.0.0.7:3", "unknown key", "its key is unknown", 1.0) == ("10.0.0.7:3", 0)
    assert refusals.note("10.0.0.8:2", "no key", "it has no key", 1.0) == ("10.0.0.8:2", 0)
    assert refusals.note("10.0.0.7:4", "no key", "it has no key", REPEAT_SECONDS) == ("10.0.0.7:4", 1)


def test_what_was_left_out_is_written_a_minute_later() -> None:
    refusals = RepeatedRefusals()
    for port in range(40):
        refusals.note(f"[::1]:{port}", "no key", "it has no key", 0.0)
    assert refusals.take_due(REPEAT_SECONDS - 1) == []
    assert refusals.take_due(REPEAT_SECONDS) == [("[::1]", "it has no key", 39)]
    assert refusals.take_due(2 * REPEAT_SECONDS) == []
    assert refusals.note("[::1]:1", "no key", "it has no key", 2 * REPEAT_SECONDS) == ("[::1]:1", 0)


def test_very_many_hosts_share_a_line() -> None:
    refusals = RepeatedRefusals()
    written = [
        refusals.note(f"10.{host >> 8}.{host & 255}.1:5", "no key", "it has no key", 0.0)
        for host in range(HOSTS_MAX + 500)
    ]
    assert sum(line is not None for line in written) == HOSTS_MAX + 1
    assert refusals.take_due(REPEAT_SECONDS) == [(OTHERS, "it has no key", 499)]


def test_one_host_takes_no_place_of_another_with_ever_new_reasons() -> None:
    refusals = RepeatedRefusals()
    for number in range(2 * HOSTS_MAX):
        refusals.note("10.0.0.7:1", "malformed", f"a command named {number}", 0.0)
    assert refusals.note("10.0.0.8:1", "malformed", "something", 0.0) == ("10.0.0.8:1", 0)
    assert refusals.take_due(REPEAT_SECONDS) == [
        ("10.0.0.7", f"a command named {2 * HOSTS_MAX - 1}", 2 * HOSTS_MAX - 1)
    ]
