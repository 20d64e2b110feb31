"""Every limit of the store, by name."""

from __future__ import annotations

from dataclasses import dataclass

from scaler_protocol.wire.envelope import FRAMES_MAX, OBJECT_BYTES_MAX


@dataclass(slots=True, frozen=True)
class Limits:
    """Bounds of one store. The defaults suit any machine; memory is bounded by the storage itself."""

    object_bytes_max: int = OBJECT_BYTES_MAX
    """Largest object in bytes, all its buffers together."""

    object_buffers_max: int = FRAMES_MAX - 2
    """Most buffers of one object. A message has two further frames."""

    peers_max: int = 10_000
    """Most peers. The one that has been silent longest is forgotten first; it says hello again when it returns."""

    peer_waiters_max: int = 10_000
    """Most gets of one peer that wait for their object. Further ones are answered at once."""

    waiters_max: int = 200_000
    """Most gets of all peers together that wait for their object."""

    wait_seconds_max: float = 60.0
    """Longest wait for an object. A peer that wants to wait longer asks again."""

    name_characters_max: int = 4096
    """Longer names of peers are cut: only people read them."""

    ended_owners_max: int = 10_000
    ended_owner_seconds: float = 60.0
    """How long objects are refused for a client that has ended. Agents repeat their requests for this long."""

    waiting_puts_max: int = 1000
    waiting_puts_part: int = 4
    """Puts that wait for room hold at most this part (a quarter) of the memory limit, beside it. One may wait in any case."""

    put_wait_seconds: float = 10.0
    """How long a put waits for room. Then it is refused, and whoever sent it tries again."""

    refused_puts_max: int = 10_000
    refused_put_seconds: float = 15.0
    """How long gets go on waiting for an object that was refused for lack of room: longer than until its sender tries again."""

    gone_objects_max: int = 100_000
    """Most objects of earlier servers that are known not to come. Of others, that is found out by waiting."""

    frees_max: int = 16
    """Most deleted objects that are freed in one turn: each may take some system calls."""

    arriving_pause_seconds: float = 5.0
    """How long after the last bytes of a client's message an object that is missing is still said to be on its way."""

    load_seconds_max: float = 60.0
    """How long a get waits for an object that is read from the tier below. Whoever wants to wait longer asks again."""

    name_of_object_characters_max: int = 200
    """Longer names of objects are cut: only people read them."""

    listed_objects: int = 100
    """How many objects a status lists, the largest ones."""

    looked_at_objects: int = 10_000
    """How many objects are looked at for that, the oldest ones."""

    home_away_seconds: float = 5.0
    """How long gets wait for objects in the store of a worker host whose agent has no connection: as long as a scheduler keeps
    the tasks of an agent whose connection has ended. An agent that lives is back within two seconds."""

    homes_return_seconds: float = 10.0
    """How long after the start of a server agents may take to say what the stores of their hosts have of an earlier one's."""

    upload_seconds_max: float = 60.0
    """How long a get waits for an object that an agent puts here. Whoever wants to wait longer asks again."""

    pieces_object_bytes_min: int = 8 * 1024 * 1024
    """Objects from this size on are sent in pieces to agents that can pass them on meanwhile."""

    growing_max: int = 1000
    """Most objects that are not whole yet."""

    chain_seconds_max: float = 600.0
    """How long a host that fetches an object may be a source of it, unless it says how that has ended."""

    retention_seconds: float = 600.0
    """How long the objects of a client are kept of which nobody says that it lives."""
