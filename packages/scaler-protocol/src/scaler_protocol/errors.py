"""Errors of messages, sessions and sockets.

WireError
├── MalformedMessageError   bytes that are no message of this protocol; the sender's connection is closed
│   └── WrongSocketError    the other end is a ZeroMQ socket of another kind
├── MessageTooLargeError    a frame or message over the limits of `wire.envelope`
├── UnencodableMessageError a message with a value that its field on the wire cannot hold
├── SessionError            the session rules were broken or the session cannot go on
└── TransportError          a socket cannot listen or connect where it was told to
"""


class WireError(Exception):
    """Base of everything this package raises about traffic."""


class MalformedMessageError(WireError):
    """The bytes are not a message of this protocol version."""


class WrongSocketError(MalformedMessageError):
    """The other end is a ZeroMQ socket of another kind (`found`), so it serves something else."""

    def __init__(self, found: str, wanted: str) -> None:
        purpose = ", which is what publishes to monitors" if found in ("PUB", "XPUB") else ""
        super().__init__(f"what answers there is a ZeroMQ socket of type {found}{purpose}, not a {wanted}")
        self.found = found


class MessageTooLargeError(WireError):
    """The message is over a limit. No part of it was kept."""


class UnencodableMessageError(WireError):
    """A message cannot be encoded. The text names the field and the reason. No part of it was sent."""


class SessionError(WireError):
    """The session cannot go on, because its bounds were exceeded or its rules broken."""


class TransportError(WireError):
    """A socket cannot listen on, or connect to, an address. The message names the address and the reason.

    `is_final`: trying again does not help unless the address or the machine changes.
    """

    def __init__(self, text: str, *, is_final: bool = False) -> None:
        super().__init__(text)
        self.is_final = is_final
