"""What functions and the arguments of their calls become before they are sent."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from scaler.serialization.future_arguments import FutureInputs
from scaler.serialization.signatures import Check
from scaler_protocol.payloads.unpickled import LatePayload


class Packed(NamedTuple):
    """A payload and the objects it names, each with one use counted."""

    payload: LatePayload
    objects: tuple[bytes, ...] = ()
    stored_bytes: int = 0
    """Of map chunks: about how many bytes of items are in those objects."""
    inputs: FutureInputs | None = None
    """The futures among the arguments of a call; None where there are none."""


class Pack(Protocol):
    """Packs the arguments of calls."""

    def __call__(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], hidden: int = 0, /) -> Packed:
        """Return the argument payload of `function(*args, **kwargs)`; the function is for error messages only.

        So many first arguments are `hidden`: the caller has not written them in the call, and they do not count there.
        """


class Pickled(NamedTuple):
    """A function as it is sent: content address, body, objects in storage the body names, and a name for people."""

    function_id: bytes
    body: bytes
    objects: tuple[bytes, ...]
    name: str
    pack: Pack
    """Packs the arguments of its calls."""
    check: Check | None = None
    """Raises TypeError for arguments that the function does not take; None where that is not known."""
