"""CURVE as bytes, without sockets: both ends, and whatever somebody between them may do."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaler_protocol.errors import (
    MalformedMessageError,
    MessageTooLargeError,
    RefusedError,
    UnknownKeyError,
    WireError,
    WrongIdentityError,
    WrongMechanismError,
    WrongServerKeyError,
    WrongSocketError,
)
from scaler_protocol.security.authority import Authority, KeyRole
from scaler_protocol.security.credentials import PeerSecurity, ServerSecurity
from scaler_protocol.security.keys import KeyPair, fingerprint, public_of
from scaler_protocol.transport.curve import COOKIE_BYTES, HELLO_BYTES, WELCOME_BYTES, CurveClient, CurveServer
from scaler_protocol.transport.curve_boxes import (
    COMMAND,
    MORE,
    OVERHEAD_BYTES,
    PLAIN_AT,
    SHORT_COMMAND_MAX,
    TOGETHER,
    Sealer,
)
from scaler_protocol.transport.curve_decoder import CurveClientDecoder, CurveDecoder, CurveServerDecoder
from scaler_protocol.transport.zmtp import LARGE_FRAME_BYTES, Decoder, SocketType, greeting
from scaler_protocol.wire.envelope import FRAMES_MAX, MESSAGE_BYTES_MAX


def keys(number: int) -> KeyPair:
    secret = bytes([number]) * 32
    return KeyPair(public_of(secret), secret)


SERVER, CLIENT, STRANGER = keys(1), keys(2), keys(3)
IDENTITY = fingerprint(CLIENT.public) + b"12345678"
CLIENT_AUTHORITY = Authority("pricing", KeyRole.CLIENT, CLIENT.public)


def entropy(seed: int) -> Callable[[int], bytes]:
    return random.Random(seed).randbytes


def ends(
    own: KeyPair = CLIENT, identity: bytes = IDENTITY, server: bytes = SERVER.public, seed: int = 0
) -> tuple[CurveClientDecoder, CurveServerDecoder]:
    client = CurveClientDecoder(SocketType.DEALER, identity, PeerSecurity(own, server), entropy(2 * seed))
    listener = CurveServerDecoder(SocketType.ROUTER, ServerSecurity(SERVER, [CLIENT_AUTHORITY]), entropy(2 * seed + 1))
    return client, listener


def spoken(decoder: CurveDecoder) -> bytes:
    """Return what a decoder wants to send, and forget it."""
    data = b"".join(decoder.replies)
    decoder.replies.clear()
    decoder.plain_replies = 0
    return data


def steps(client: CurveClientDecoder, listener: CurveServerDecoder) -> list[tuple[CurveDecoder, bytes]]:
    """Shake hands; return who received what."""
    seen: list[tuple[CurveDecoder, bytes]] = []
    while not (client.ready and listener.ready) or client.replies or listener.replies:
        for one, other in ((client, listener), (listener, client)):
            data = spoken(one)
            if data:
                seen.append((other, data))
                assert other.feed(data) == []
    return seen


def sealed(decoder: CurveDecoder, *frames: bytes, flags: int | None = None) -> bytes:
    """Return a message on the wire."""
    assert decoder.sealer is not None
    if flags is None:
        if (whole := decoder.sealer.seal_message(frames)) is not None:
            return bytes(whole)
        last = len(frames) - 1
        return b"".join(bytes(decoder.sealer.seal(MORE if at < last else 0, frame)) for at, frame in enumerate(frames))
    return b"".join(bytes(decoder.sealer.seal(flags, frame)) for frame in frames)


def take(decoder: CurveDecoder, data: bytes, sizes: list[int]) -> list[list[bytes]]:
    """Give a decoder bytes in pieces, as a socket would."""
    messages = []
    position, turn = 0, 0
    while position < len(data):
        size = sizes[turn % len(sizes)]
        turn += 1
        if decoder.large is None:
            piece = data[position : position + size]
            messages += decoder.feed(piece)
        else:
            room = decoder.room()
            piece = data[position : position + min(size, len(room))]
            room[: len(piece)] = piece
            message = decoder.filled(len(piece))
            if message is not None:
                messages.append(message)
        position += len(piece)
    return [[bytes(frame) for frame in message] for message in messages]


# --- the handshake


def test_both_ends_know_each_other_after_the_handshake() -> None:
    client, listener = ends()
    steps(client, listener)
    assert listener.authority == CLIENT_AUTHORITY
    assert listener.peer_identity == IDENTITY
    assert take(listener, sealed(client, b"a", b"", b"b" * 300), [1]) == [[b"a", b"", b"b" * 300]]
    assert take(client, sealed(listener, b"back"), [7]) == [[b"back"]]


def test_the_commands_have_the_sizes_and_places_that_the_specification_gives_them() -> None:
    client, listener = ends()
    hello, welcome, initiate, ready = (
        data[-size:] for (_, data), size in zip(steps(client, listener)[-4:], (200, 168, 0, 0), strict=False)
    )
    assert hello[:8] == b"\x05HELLO\x01\x00"
    assert hello[8:80] == bytes(72)
    assert hello[112:120] == (1).to_bytes(8, "big")
    assert (len(hello), len(welcome)) == (HELLO_BYTES, WELCOME_BYTES)
    assert welcome[:8] == b"\x07WELCOME"
    at = initiate.index(b"\x08INITIATE")
    assert initiate[at + 9 + COOKIE_BYTES :][:8] == (2).to_bytes(8, "big")
    assert ready[ready.index(b"\x05READY") + 6 :][:8] == (1).to_bytes(8, "big")


def test_the_greeting_says_who_is_the_server() -> None:
    client, listener = ends()
    assert spoken(client) == greeting(b"CURVE")
    assert spoken(listener) == b"\xff" + bytes(8) + b"\x7f\x03\x01CURVE" + bytes(15) + b"\x01" + bytes(31)


def test_who_chose_no_identity_gets_one_that_begins_with_the_fingerprint() -> None:
    client, listener = ends(identity=b"")
    steps(client, listener)
    assert listener.peer_identity[:8] == fingerprint(CLIENT.public)
    assert len(listener.peer_identity) == 16


def test_the_short_term_keys_are_new_for_each_connection() -> None:
    first, second = (steps(*ends(seed=seed)) for seed in (1, 2))
    for (_, one), (_, other) in list(zip(first, second, strict=False))[2:]:
        assert one != other


@pytest.mark.parametrize(
    ("changed", "error", "told"),
    [
        ({"own": STRANGER, "identity": b""}, UnknownKeyError, UnknownKeyError),
        ({"server": STRANGER.public}, WrongServerKeyError, WrongServerKeyError),
        ({"identity": fingerprint(STRANGER.public) + b"12345678"}, WrongIdentityError, WrongIdentityError),
        ({"identity": b"1234"}, WrongIdentityError, WrongIdentityError),
    ],
)
def test_both_ends_hear_why_one_is_refused(
    changed: dict[str, object], error: type[RefusedError], told: type[RefusedError]
) -> None:
    client, listener = ends(**changed)  # type: ignore[arg-type]
    with pytest.raises(error):
        steps(client, listener)
    assert not listener.ready
    with pytest.raises(told):
        client.feed(spoken(listener))


def test_a_server_with_other_keys_cannot_pass_for_the_expected_one() -> None:
    client, _ = ends()
    client.feed(greeting(b"CURVE", as_server=True))
    server = CurveServer(STRANGER, entropy(5))
    stranger = CurveClient(CLIENT, STRANGER.public, entropy(6))
    with pytest.raises(WrongServerKeyError):
        client.feed(b"\x04\xa8" + server.take_hello(stranger.hello()))


@pytest.mark.parametrize("with_keys", ["client", "server"])
def test_an_end_with_keys_never_speaks_without_them(with_keys: str) -> None:
    client, listener = ends()
    plain = Decoder(SocketType.ROUTER) if with_keys == "client" else Decoder(SocketType.DEALER)
    secure: Decoder = client if with_keys == "client" else listener
    with pytest.raises(WrongMechanismError, match="uses no keys"):
        secure.feed(plain.replies[0])
    with pytest.raises(WrongMechanismError, match="keys"):
        plain.feed(secure.replies[0])


def test_another_kind_of_socket_is_named() -> None:
    client = CurveClientDecoder(SocketType.ROUTER, IDENTITY, PeerSecurity(CLIENT, SERVER.public))
    _, listener = ends()
    with pytest.raises(WrongSocketError, match="ROUTER"):
        steps(client, listener)


def test_the_version_of_hello_is_checked() -> None:
    hello = bytearray(CurveClient(CLIENT, SERVER.public, entropy(0)).hello())
    hello[6] = 2
    with pytest.raises(MalformedMessageError, match="version 2"):
        CurveServer(SERVER, entropy(1)).take_hello(bytes(hello))


def test_a_key_of_low_order_is_none() -> None:
    hello = bytearray(CurveClient(CLIENT, SERVER.public, entropy(0)).hello())
    hello[80:112] = bytes(32)
    with pytest.raises(MalformedMessageError, match="key that is none"):
        CurveServer(SERVER, entropy(1)).take_hello(bytes(hello))


def test_a_vouch_for_another_short_term_key_is_worth_nothing() -> None:
    """Somebody who is a server himself passes on the vouch that a client gave him."""
    client = CurveClient(CLIENT, STRANGER.public, entropy(0))
    middle = CurveServer(STRANGER, entropy(1))
    middle.take_initiate(client.take_welcome(middle.take_hello(client.hello()), b""))
    server = CurveServer(SERVER, entropy(2))
    with pytest.raises(WrongServerKeyError):
        server.take_hello(client.hello())


# --- somebody between the ends


def test_every_changed_byte_of_every_command_of_the_handshake_ends_it() -> None:
    honest = steps(*ends())
    for turn, (_, data) in enumerate(honest):
        if turn < 2:
            continue
        for place in range(len(data)):
            client, listener = ends()
            with suppress(WireError):
                change_one(client, listener, turn, place)
            # If a length became longer, nothing comes of it, and the deadline ends the connection.
            assert not (client.ready and listener.ready), (turn, place)


def change_one(client: CurveDecoder, listener: CurveDecoder, wanted: int, place: int) -> None:
    turn = 0
    for _ in range(6):
        for one, other in ((client, listener), (listener, client)):
            data = spoken(one)
            if not data:
                continue
            if turn == wanted:
                data = data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :]
            turn += 1
            other.feed(data)


def test_every_prefix_of_the_handshake_only_waits_for_the_rest() -> None:
    for cut in range(1, 200):
        client, listener = ends()
        listener.feed(greeting(b"CURVE"))
        client.feed(spoken(listener))
        hello = spoken(client)[64:]
        listener.feed(hello[:cut])
        assert not listener.replies
        assert not listener.ready


def test_a_recorded_connection_cannot_be_played_again() -> None:
    """Same client, same server, every byte as recorded: the second server's cookie key is another."""
    client, listener = ends(seed=1)
    recorded = [data for to, data in steps(client, listener) if to is listener]
    recorded.append(sealed(client, b"transfer"))
    _, again = ends(seed=7)
    *before, initiate, _ = recorded
    for data in before:
        again.feed(data)
    with pytest.raises(MalformedMessageError, match="cookie of another connection"):
        again.feed(initiate)
    assert not again.ready


def test_a_recorded_server_deceives_no_client() -> None:
    client, listener = ends(seed=1)
    recorded = [data for to, data in steps(client, listener) if to is client]
    again, _ = ends(seed=7)
    again.feed(recorded[0])
    with pytest.raises(WrongServerKeyError):
        again.feed(recorded[1])


def test_initiate_cannot_come_twice() -> None:
    client, listener = ends()
    seen = steps(client, listener)
    initiate = [data for to, data in seen if to is listener][-1]
    with pytest.raises(MalformedMessageError):
        listener.feed(initiate)


@pytest.mark.parametrize("command", [b"\x08INITIATE", b"\x05READY", b"\x07MESSAGE", b"\x04PING", b"\x07WELCOME"])
def test_a_command_out_of_turn_is_refused(command: bytes) -> None:
    _, listener = ends()
    body = command + bytes(300)
    with pytest.raises(MalformedMessageError, match="out of turn"):
        listener.feed(greeting(b"CURVE") + b"\x06" + len(body).to_bytes(8, "big") + body)


def test_a_long_command_before_ready_is_refused_from_its_size_alone() -> None:
    _, listener = ends()
    with pytest.raises(MessageTooLargeError):
        listener.feed(greeting(b"CURVE") + b"\x06" + (5000).to_bytes(8, "big"))


@pytest.mark.parametrize("tampered", ["replayed", "reordered", "left out", "reflected", "cut"])
def test_messages_arrive_once_and_in_order_or_the_connection_ends(tampered: str) -> None:
    client, listener = ends()
    steps(client, listener)
    one, two, three = (sealed(client, frame) for frame in (b"1", b"2", b"3"))
    assert take(listener, one, [100]) == [[b"1"]]
    reflected = sealed(listener, b"2")
    wrong = {
        "replayed": one,
        "reordered": three + two,
        "left out": three,
        "reflected": reflected,
        "cut": b"\x02" + (33).to_bytes(8, "big") + two[2:35],
    }
    with pytest.raises(MalformedMessageError):
        listener.feed(wrong[tampered])


@given(st.integers(0, 400), st.integers(1, 255))
def test_a_changed_byte_of_a_message_never_gets_through(place: int, change: int) -> None:
    client, listener = ends()
    steps(client, listener)
    data = sealed(client, b"a" * 40, b"b" * 300)
    place %= len(data)
    changed = data[:place] + bytes([data[place] ^ change]) + data[place + 1 :]
    try:
        messages = take(listener, changed, [1000])
    except WireError:
        return
    # The length became larger, or the outer flag of commands changed, which says nothing.
    assert messages == [] or (messages == [[b"a" * 40, b"b" * 300]] and data[place] ^ change in (2, 4, 6))


@given(st.binary(max_size=400))
def test_noise_after_the_greeting_raises_nothing_else(noise: bytes) -> None:
    for decoder in ends():
        try:
            decoder.feed(greeting(b"CURVE") + noise)
        except WireError:
            continue
        assert not decoder.ready


def test_noise_inside_the_box_raises_nothing_else() -> None:
    for flags in range(256):
        client, listener = ends()
        steps(client, listener)
        data = sealed(client, b"\x04PING\x00\x00context", flags=flags)
        if flags in (0, MORE, COMMAND):
            take(listener, data, [1000])
        elif flags == TOGETHER:
            with pytest.raises(MalformedMessageError, match="sealed together"):
                listener.feed(data)
        else:
            with pytest.raises(MalformedMessageError, match="flags"):
                listener.feed(data)


@pytest.mark.parametrize("body", [b"", b"\0" * 7, b"\0\0\0\1" + b"\0" * 4, b"\xff" * 8 + b"abc"])
def test_frames_together_that_are_longer_than_their_message_are_refused(body: bytes) -> None:
    client, listener = ends()
    steps(client, listener)
    with pytest.raises(MalformedMessageError, match="sealed together"):
        listener.feed(sealed(client, body, flags=TOGETHER))


def test_frames_together_inside_a_message_are_refused() -> None:
    client, listener = ends()
    steps(client, listener)
    data = sealed(client, b"first", flags=MORE) + sealed(client, bytes(8), flags=TOGETHER)
    with pytest.raises(MalformedMessageError, match="flags 0x04"):
        listener.feed(data)


def test_short_messages_of_three_frames_are_sealed_together_where_the_other_end_reads_that() -> None:
    client, listener = ends()
    steps(client, listener)
    message = [b"e" * 48, b"h" * 208, b"p" * 21]
    data = sealed(client, *message)
    assert len(data) == 9 + OVERHEAD_BYTES + 8 + sum(map(len, message))
    assert take(listener, data, [10]) == [message]
    assert client.sealer is not None
    client.sealer.together = False
    apart = sealed(client, *message)
    assert len(apart) == 3 * (2 + OVERHEAD_BYTES) + sum(map(len, message))
    assert take(listener, apart, [1000]) == [message]


def test_who_has_not_announced_it_gets_every_frame_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """As ZeroMQ's libraries."""
    client, listener = ends()
    monkeypatch.setattr(CurveClientDecoder, "_metadata", Decoder._metadata)
    steps(client, listener)
    assert listener.sealer is not None
    assert not listener.sealer.together
    assert client.sealer is not None
    assert client.sealer.together


@pytest.mark.parametrize("more", [-1, 0, 1])
def test_messages_about_the_largest_that_is_sealed_together_arrive(more: int) -> None:
    client, listener = ends()
    steps(client, listener)
    message = [b"e" * 48, b"h" * 100, bytes(SHORT_COMMAND_MAX - PLAIN_AT - 9 - 148 + more)]
    assert take(listener, sealed(client, *message), [5000]) == [message]


# --- messages

some_frames = st.lists(
    st.one_of(
        st.binary(max_size=600),
        st.sampled_from(
            [LARGE_FRAME_BYTES + more for more in (-OVERHEAD_BYTES - 1, -OVERHEAD_BYTES, -1, 0, 1, 70_000)]
        ).map(lambda size: bytes(size)),
    ),
    min_size=1,
    max_size=4,
)


@given(st.lists(some_frames, max_size=4), st.lists(st.integers(40, 200_000), min_size=1, max_size=4))
def test_messages_survive_however_the_bytes_are_cut(messages: list[list[bytes]], sizes: list[int]) -> None:
    client, listener = ends()
    steps(client, listener)
    assert take(listener, b"".join(sealed(client, *message) for message in messages), sizes) == messages


def test_a_ping_in_a_box_is_answered() -> None:
    client, listener = ends()
    steps(client, listener)
    listener.feed(sealed(client, b"\x04PING\x00\x0actx", flags=COMMAND))
    assert (listener.replies, listener.plain_replies) == ([b"\x04PONGctx"], 0)


def test_too_many_frames_and_too_many_bytes_are_refused() -> None:
    client, listener = ends()
    steps(client, listener)
    too_many = b"".join(sealed(client, b"", flags=MORE) for _ in range(FRAMES_MAX + 1))
    with pytest.raises(MessageTooLargeError, match="frames"):
        listener.feed(too_many)
    client, listener = ends()
    steps(client, listener)
    with pytest.raises(MessageTooLargeError, match="bytes"):
        listener.feed(b"\x02" + (MESSAGE_BYTES_MAX + OVERHEAD_BYTES + 1).to_bytes(8, "big"))


def test_a_large_frame_begins_where_an_array_may_begin() -> None:
    client, listener = ends()
    steps(client, listener)
    data = sealed(client, bytes(3 * 1024 * 1024))
    listener.feed(data[:1000])
    room = listener.room()
    room[:] = data[1000:]
    message = listener.filled(len(room))
    assert message is not None
    numpy = pytest.importorskip("numpy")
    assert numpy.frombuffer(message[0], "u1").ctypes.data % 64 == 0


def test_numbers_never_come_again() -> None:
    sealer = Sealer(bytes(32), b"CurveZMQMESSAGEC", 2**64 - 3)
    one, two = bytes(sealer.seal(0, b"")), bytes(sealer.seal_message([b""]) or b"")
    assert one[9:] != two[2:]
    with pytest.raises(MalformedMessageError, match="no numbers left"):
        sealer.seal(0, b"")
    with pytest.raises(MalformedMessageError, match="no numbers left"):
        sealer.seal_message([b""])
