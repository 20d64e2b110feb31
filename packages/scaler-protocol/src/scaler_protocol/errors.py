"""Errors of messages, sessions and sockets.

WireError
├── MalformedMessageError   bytes that are no message of this protocol; the sender's connection is closed
│   ├── WrongSocketError    the other end is a ZeroMQ socket of another kind
│   └── RefusedError        one end does not let the other in; the same keys and settings will not help later
│       ├── WrongMechanismError one end uses keys and the other does not
│       ├── WrongServerKeyError the server has another key than the connecting end expects
│       ├── UnknownKeyError     the server does not let in this key, or no longer
│       └── WrongIdentityError  the identity belongs to another key
├── MessageTooLargeError    a frame or message over the limits of `wire.envelope`
│   └── UnfinishedMessagesError  messages that have arrived in part fill the memory meant for them
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


class RefusedError(MalformedMessageError):
    """One end does not let the other in. Trying again does not help as long as keys and settings stay as they are.

    `told`: what the refused end is told, in at most 255 bytes of ASCII.
    """

    told = b"refused"


class WrongMechanismError(RefusedError):
    """One end uses keys and the other does not: their ZMTP mechanisms differ."""

    def __init__(self, found: str, wanted: str, *, listening: bool = False) -> None:
        """`listening`: this end is the server."""
        if (found, wanted) == ("CURVE", "NULL") and listening:
            text = "the peer uses keys, and this server uses none"
        elif (found, wanted) == ("NULL", "CURVE") and listening:
            text = "the peer uses no keys, and this server lets in only peers with keys"
        elif (found, wanted) == ("CURVE", "NULL"):
            text = (
                "what answers there lets in only peers with keys, and this end uses none: "
                "give --security-dir DIR, or security=DIR in Python"
            )
        elif (found, wanted) == ("NULL", "CURVE"):
            text = (
                "what answers there uses no keys, and this end requires them: "
                "give the other end --security-dir DIR too, or this one none"
            )
        else:
            text = f"the other end wants the mechanism {found!r}, this one {wanted!r}"
        super().__init__(text)
        self.found = found


_OTHER_SERVER = "the server has another key than the one expected: its keys were made anew, or another server answers"


class WrongServerKeyError(RefusedError):
    """The server has another key than the connecting end expects."""

    told = b"wrong server key"

    def __init__(self, text: str = _OTHER_SERVER) -> None:
        super().__init__(text)


_NOT_ALLOWED = "the server does not let in this key: it was not added to the server's allowed keys, or revoked"


class UnknownKeyError(RefusedError):
    """The server does not let in this key, or no longer."""

    told = b"400"
    """ZeroMQ's status for a peer that could not be authenticated (https://rfc.zeromq.org/spec/27)."""

    def __init__(self, text: str = _NOT_ALLOWED) -> None:
        super().__init__(text)


class WrongIdentityError(RefusedError):
    """The identity that a peer has announced belongs to another key."""

    told = b"wrong identity"

    def __init__(self) -> None:
        super().__init__("the routing identity belongs to another key: it must begin with the fingerprint of its own")


class MessageTooLargeError(WireError):
    """The message is over a limit. No part of it was kept."""


class UnfinishedMessagesError(MessageTooLargeError):
    """The messages that a listener's peers have sent in part fill the memory meant for them."""


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
