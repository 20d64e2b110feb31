"""CURVE, ZeroMQ's security mechanism: the handshake of both ends as state machines without a socket.

Source: https://rfc.zeromq.org/spec/26 (CurveZMQ), as libzmq speaks it. Bodies of commands go in and out; `curve_boxes` seals
and opens what follows the handshake. Random bytes come from a function, so that tests can fix every byte.

The client sends HELLO and proves nothing. The server answers WELCOME with its short-term key, and keeps nothing of it but the
key of a cookie that only it can open. The client returns the cookie in INITIATE, with its long-term key and a vouch, which
proves that it has the secret key. The server answers READY, or ERROR. HELLO is longer than WELCOME, so nobody can make the
server send more than they sent.

A recorded handshake opens nothing, because the cookie's key and the short-term keys are new for each connection.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from nacl.bindings import (
    crypto_box_beforenm,
    crypto_box_easy_afternm,
    crypto_box_open_easy_afternm,
    crypto_secretbox,
    crypto_secretbox_open,
)
from nacl.exceptions import CryptoError

from scaler_protocol.errors import MalformedMessageError, WrongServerKeyError
from scaler_protocol.security.keys import KEY_BYTES, KeyPair, public_of
from scaler_protocol.transport.curve_boxes import CLIENT_MESSAGE, SERVER_MESSAGE, Opener, Sealer

Entropy = Callable[[int], bytes]
"""Returns so many random bytes, as `os.urandom`."""

HELLO_BYTES, WELCOME_BYTES = 200, 168
COOKIE_BYTES = 96

_VERSION = b"\x01\x00"
_HELLO, _WELCOME, _INITIATE, _READY = b"\x05HELLO", b"\x07WELCOME", b"\x08INITIATE", b"\x05READY"
_PADDING = bytes(72)
_SIGNATURE = bytes(64)
_MAC_BYTES = 16
_LONG_NONCE_BYTES = 16
_SHORT_NONCE = struct.Struct(">Q")
_VOUCH_BYTES = _LONG_NONCE_BYTES + 2 * KEY_BYTES + _MAC_BYTES
_INITIATE_HEAD_BYTES = len(_INITIATE) + COOKIE_BYTES + _SHORT_NONCE.size
_INITIATE_BYTES_MIN = _INITIATE_HEAD_BYTES + _MAC_BYTES + KEY_BYTES + _VOUCH_BYTES
_READY_BYTES_MIN = len(_READY) + _SHORT_NONCE.size + _MAC_BYTES


class CurveClient:
    """The connecting end. Call `hello`, `take_welcome`, `take_ready`, in this order; then use `sealer` and `opener`."""

    def __init__(self, own: KeyPair, server: bytes, entropy: Entropy) -> None:
        """`server` is the public key of the server that this end expects."""
        self._own = own
        self._server = server
        self._entropy = entropy
        self._short = _short_term_keys(entropy)
        self._expected = b""
        self._session = b""
        self.sealer: Sealer | None = None
        self.opener: Opener | None = None

    def hello(self) -> bytes:
        """Return the first command."""
        self._expected = _WELCOME
        number = _SHORT_NONCE.pack(1)
        key = _shared_key(self._server, self._short.secret)
        box = crypto_box_easy_afternm(_SIGNATURE, b"CurveZMQHELLO---" + number, key)
        return _HELLO + _VERSION + _PADDING + self._short.public + number + box

    def take_welcome(self, body: bytes, metadata: bytes) -> bytes:
        """Check the server's answer to HELLO; return INITIATE, with this end's metadata.

        Raises WrongServerKeyError if the server has another key than expected.
        """
        self._expect(_WELCOME, body, WELCOME_BYTES, WELCOME_BYTES)
        nonce_at = len(_WELCOME)
        box_at = nonce_at + _LONG_NONCE_BYTES
        key = _shared_key(self._server, self._short.secret)
        try:
            plain = _open(body[box_at:], b"WELCOME-" + body[nonce_at:box_at], key, "WELCOME")
        except MalformedMessageError:
            raise WrongServerKeyError from None
        server_short, cookie = plain[:KEY_BYTES], plain[KEY_BYTES:]
        self._session = _shared_key(server_short, self._short.secret)
        vouch_nonce = self._entropy(_LONG_NONCE_BYTES)
        vouch = crypto_box_easy_afternm(
            self._short.public + self._server,
            b"VOUCH---" + vouch_nonce,
            _shared_key(server_short, self._own.secret),
        )
        number = _SHORT_NONCE.pack(2)
        box = crypto_box_easy_afternm(
            self._own.public + vouch_nonce + vouch + metadata, b"CurveZMQINITIATE" + number, self._session
        )
        self._expected = _READY
        return _INITIATE + cookie + number + box

    def take_ready(self, body: bytes) -> bytes:
        """Return the server's metadata. Messages may follow."""
        self._expect(_READY, body, _READY_BYTES_MIN, None)
        box_at = len(_READY) + _SHORT_NONCE.size
        number = body[len(_READY) : box_at]
        metadata = _open(body[box_at:], b"CurveZMQREADY---" + number, self._session, "READY")
        self._expected = b""
        self.sealer = Sealer(self._session, CLIENT_MESSAGE, 2)
        self.opener = Opener(self._session, SERVER_MESSAGE, _SHORT_NONCE.unpack(number)[0])
        return metadata

    def _expect(self, command: bytes, body: bytes, least: int, most: int | None) -> None:
        _check_command(command if self._expected == command else b"", body, least, most)


class CurveServer:
    """The listening end. Call `take_hello`, `take_initiate`, `ready`, in this order; then use `sealer` and `opener`."""

    def __init__(self, own: KeyPair, entropy: Entropy) -> None:
        self._own = own
        self._entropy = entropy
        self._cookie_key = b""
        self._expected = _HELLO
        self._session = b""
        self._client_number = 0
        self.client = b""
        """The client's public key, after `take_initiate`; only then it is proven."""
        self.sealer: Sealer | None = None
        self.opener: Opener | None = None

    def take_hello(self, body: bytes) -> bytes:
        """Check HELLO; return WELCOME. Raises WrongServerKeyError if the client expects another key."""
        self._expect(_HELLO, body, HELLO_BYTES, HELLO_BYTES)
        version_at = len(_HELLO)
        client_at = version_at + len(_VERSION) + len(_PADDING)
        number_at = client_at + KEY_BYTES
        box_at = number_at + _SHORT_NONCE.size
        if body[version_at:client_at] != _VERSION + _PADDING:
            major, minor = body[version_at : version_at + len(_VERSION)]
            raise MalformedMessageError(
                f"a CURVE HELLO of version {major}.{minor}, or not padded with zeros; 1.0 is needed"
            )
        client_short = body[client_at:number_at]
        key = _shared_key(client_short, self._own.secret)
        try:
            signature = _open(body[box_at:], b"CurveZMQHELLO---" + body[number_at:box_at], key, "HELLO")
        except MalformedMessageError:
            raise WrongServerKeyError("the peer expects a server with another key") from None
        if signature != _SIGNATURE:
            raise MalformedMessageError("a CURVE HELLO whose box does not contain zeros")
        short = _short_term_keys(self._entropy)
        self._cookie_key = self._entropy(KEY_BYTES)
        cookie_nonce = self._entropy(_LONG_NONCE_BYTES)
        cookie = cookie_nonce + crypto_secretbox(
            client_short + short.secret, b"COOKIE--" + cookie_nonce, self._cookie_key
        )
        nonce = self._entropy(_LONG_NONCE_BYTES)
        self._expected = _INITIATE
        return _WELCOME + nonce + crypto_box_easy_afternm(short.public + cookie, b"WELCOME-" + nonce, key)

    def take_initiate(self, body: bytes) -> bytes:
        """Check INITIATE, with the proof that the client has its secret key; return the client's metadata."""
        self._expect(_INITIATE, body, _INITIATE_BYTES_MIN, None)
        cookie_at = len(_INITIATE)
        number_at = cookie_at + COOKIE_BYTES
        box_at = number_at + _SHORT_NONCE.size
        cookie_key, self._cookie_key = self._cookie_key, b""
        client_short, short_secret = _open_cookie(body[cookie_at:number_at], cookie_key)
        number = body[number_at:box_at]
        session = _shared_key(client_short, short_secret)
        plain = _open(body[box_at:], b"CurveZMQINITIATE" + number, session, "INITIATE")
        client, plain = plain[:KEY_BYTES], plain[KEY_BYTES:]
        vouch_nonce, vouch, metadata = (
            plain[:_LONG_NONCE_BYTES],
            plain[_LONG_NONCE_BYTES:_VOUCH_BYTES],
            plain[_VOUCH_BYTES:],
        )
        vouched = _open(vouch, b"VOUCH---" + vouch_nonce, _shared_key(client, short_secret), "vouch")
        if vouched != client_short + self._own.public:
            raise MalformedMessageError("a CURVE vouch for other keys")
        self._session = session
        self._client_number = _SHORT_NONCE.unpack(number)[0]
        self.client = client
        self._expected = _READY
        return metadata

    def ready(self, metadata: bytes) -> bytes:
        """Return READY, which lets the client in. Messages may follow."""
        assert self._expected == _READY
        self._expected = b""
        number = _SHORT_NONCE.pack(1)
        self.sealer = Sealer(self._session, SERVER_MESSAGE, 1)
        self.opener = Opener(self._session, CLIENT_MESSAGE, self._client_number)
        return _READY + number + crypto_box_easy_afternm(metadata, b"CurveZMQREADY---" + number, self._session)

    def _expect(self, command: bytes, body: bytes, least: int, most: int | None) -> None:
        _check_command(command if self._expected == command else b"", body, least, most)


def _check_command(expected: bytes, body: bytes, least: int, most: int | None) -> None:
    """Raise unless a command is the expected one and has a permitted size. Nothing expected: b''."""
    if not expected or not body.startswith(expected):
        raise MalformedMessageError(f"the CURVE command {body[1:9]!r} out of turn")
    if len(body) < least or (most is not None and len(body) > most):
        raise MalformedMessageError(f"a CURVE {expected[1:].decode()} of {len(body)} bytes")


def _short_term_keys(entropy: Entropy) -> KeyPair:
    secret = entropy(KEY_BYTES)
    return KeyPair(public_of(secret), secret)


def _shared_key(public: bytes, secret: bytes) -> bytes:
    try:
        return crypto_box_beforenm(public, secret)
    except CryptoError:
        # Keys of low order give a shared key that everybody knows.
        raise MalformedMessageError("a CURVE key that is none") from None


def _open(box: bytes, nonce: bytes, key: bytes, name: str) -> bytes:
    try:
        return crypto_box_open_easy_afternm(box, nonce, key)
    except CryptoError:
        raise MalformedMessageError(f"a CURVE {name} that was forged or damaged") from None


def _open_cookie(cookie: bytes, key: bytes) -> tuple[bytes, bytes]:
    """Return the client's public and the server's secret short-term key."""
    try:
        plain = crypto_secretbox_open(cookie[_LONG_NONCE_BYTES:], b"COOKIE--" + cookie[:_LONG_NONCE_BYTES], key)
    except CryptoError:
        raise MalformedMessageError("a CURVE cookie of another connection") from None
    return plain[:KEY_BYTES], plain[KEY_BYTES:]
