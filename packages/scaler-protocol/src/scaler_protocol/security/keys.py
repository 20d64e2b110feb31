"""Curve25519 key pairs as ZeroMQ's CURVE uses them: 32 bytes each, written as 40 characters of Z85.

Sources: https://rfc.zeromq.org/spec/26 (CurveZMQ) and /32 (Z85).
"""

from __future__ import annotations

import hashlib
import os
from typing import Final

from nacl.bindings import crypto_scalarmult_base

from scaler_protocol.ids import FINGERPRINT_BYTES, ID_BYTES
from scaler_protocol.security.errors import KeyTextError

KEY_BYTES: Final = 32
KEY_CHARACTERS: Final = 40

_DIGITS: Final = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
_VALUES: Final = {digit: number for number, digit in enumerate(_DIGITS)}
_DIGITS_OF_WORD: Final = 5
_BYTES_OF_WORD: Final = 4


class KeyPair:
    """A public key and the secret one it belongs to. Its text has the public key only."""

    __slots__ = ("public", "secret")

    def __init__(self, public: bytes, secret: bytes) -> None:
        self.public = public
        self.secret = secret

    def __repr__(self) -> str:
        return f"KeyPair(public={to_text(self.public)!r})"


def new_key_pair() -> KeyPair:
    """Return a new random key pair."""
    secret = os.urandom(KEY_BYTES)
    return KeyPair(public_of(secret), secret)


def public_of(secret: bytes) -> bytes:
    """Return the public key of a secret one."""
    return crypto_scalarmult_base(secret)


def fingerprint(public: bytes) -> bytes:
    """Return the first bytes of every routing identity whose owner has this key: 8 bytes of BLAKE2b."""
    return hashlib.blake2b(public, digest_size=FINGERPRINT_BYTES).digest()


def pinned_id(public: bytes) -> bytes:
    """Return a new identity that belongs to this key: its fingerprint, and random bytes, 16 in all."""
    return fingerprint(public) + os.urandom(ID_BYTES - FINGERPRINT_BYTES)


def to_text(key: bytes) -> str:
    """Return a key as 40 characters of Z85."""
    words = (int.from_bytes(key[at : at + _BYTES_OF_WORD], "big") for at in range(0, len(key), _BYTES_OF_WORD))
    return "".join(_DIGITS[word // 85**place % 85] for word in words for place in range(_DIGITS_OF_WORD - 1, -1, -1))


def from_text(text: str) -> bytes:
    """Return the key that 40 characters of Z85 are. Raises KeyTextError, whose message does not show the text."""
    if len(text) != KEY_CHARACTERS:
        raise KeyTextError(f"a key has {KEY_CHARACTERS} characters, this text has {len(text)}")
    key = bytearray()
    for at in range(0, KEY_CHARACTERS, _DIGITS_OF_WORD):
        word = 0
        for digit in text[at : at + _DIGITS_OF_WORD]:
            if (number := _VALUES.get(digit)) is None:
                raise KeyTextError("a key has a character that is not one of Z85's")
            word = word * 85 + number
        if word >> (8 * _BYTES_OF_WORD):
            raise KeyTextError("five of a key's characters stand for more than 32 bits")
        key += word.to_bytes(_BYTES_OF_WORD, "big")
    return bytes(key)
