"""The streams of the monitor socket: the envelope of each, which is the topic that monitors subscribe to.

See "Monitor streams" in the schema. A topic is an encoded envelope; a subscriber gets the messages that begin with it.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from scaler_protocol.errors import MalformedMessageError
from scaler_protocol.ids import ID_BYTES
from scaler_protocol.wire.envelope import Envelope, decode_envelope, encode_envelope

_FIGURES, _EVENTS, _DUMP, _OUTPUT, _PROFILE, _GRAPH, _OBJECTS = range(7)
_OF_TASK, _OF_AGENT = range(2)

_ENVELOPE_BYTES = len(encode_envelope(Envelope(0, 0, 0, 0)))

OBJECT_WORDS_BYTES_MAX = 800
"""Longest text that objects are searched for."""

OBJECTS_OFFSET_MAX = 10_000_000

_HALVES = struct.Struct("<QQ")
"""A client's id."""

FIGURES = encode_envelope(Envelope(0, 0, 0, _FIGURES))
"""Snapshots, failures and log lines."""

EVENTS = encode_envelope(Envelope(0, 0, 0, _EVENTS))
"""The events of single tasks."""


def dump_topic(task_number: int = 0) -> bytes:
    """Return the topic of the scheduler's tables, with the whole record of the tasks of this number (0: of none)."""
    return encode_envelope(Envelope(task_number, 0, 0, _DUMP))


def dumped_task(topic: bytes) -> int | None:
    """Return the task number of a dump's topic; None for any other topic."""
    try:
        envelope = decode_envelope(topic)
    except MalformedMessageError:
        return None
    return envelope.sequence if envelope == (envelope.sequence, 0, 0, _DUMP) else None


ANY_CLIENT = bytes(ID_BYTES)
"""Stands for whichever client has submitted the task."""


class OutputTopic(NamedTuple):
    """What somebody wants to read: the output of a task, or the log of an agent."""

    number: int
    """The task's number; 0: the log of an agent."""
    subject: bytes
    """The client that submitted the task (`ANY_CLIENT`: any), or the agent."""


def task_output_topic(number: int, client: bytes = ANY_CLIENT) -> bytes:
    """Return the topic of what tasks of this number have written; `client`: only the task that this client submitted."""
    return encode_envelope(Envelope(number, _OF_TASK, 0, _OUTPUT)) + client


def agent_log_topic(agent: bytes) -> bytes:
    """Return the topic of an agent's own log."""
    return encode_envelope(Envelope(0, _OF_AGENT, 0, _OUTPUT)) + agent


def topic_of(output: OutputTopic) -> bytes:
    """Return the topic itself."""
    return task_output_topic(*output) if output.number else agent_log_topic(output.subject)


def output_topic(topic: bytes) -> OutputTopic | None:
    """Return what an output's topic names; None for any other topic."""
    try:
        envelope = decode_envelope(topic[:-ID_BYTES])
    except MalformedMessageError:
        return None
    number, kind, flags, stream = envelope
    if (flags, stream) != (0, _OUTPUT) or kind != (_OF_TASK if number else _OF_AGENT):
        return None
    return OutputTopic(number, topic[-ID_BYTES:])


class ProfileWanted(NamedTuple):
    """A profile that a monitor asks for: what workers run from now on."""

    token: int
    """A number that the monitor chooses, so that its profile is its own."""
    rate: int
    """Samples a second."""
    seconds: int


def profile_topic(wanted: ProfileWanted) -> bytes:
    """Return the topic of a profile. It is taken while somebody subscribes to it, for its seconds at most."""
    return encode_envelope(Envelope(wanted.token, wanted.rate, wanted.seconds, _PROFILE))


def profile_wanted(topic: bytes) -> ProfileWanted | None:
    """Return what the topic of a profile asks for; None for any other topic."""
    try:
        envelope = decode_envelope(topic)
    except MalformedMessageError:
        return None
    if envelope.epoch != _PROFILE:
        return None
    return ProfileWanted(envelope.sequence, envelope.acknowledged, envelope.flags)


def graph_topic(client: bytes, first_number: int) -> bytes:
    """Return the topic of one graph's rows: of the client with this id, and its task number `first_number`."""
    first_half, second_half = _HALVES.unpack(client)
    return encode_envelope(Envelope(first_number, first_half, second_half, _GRAPH))


def drawn_graph(topic: bytes) -> tuple[bytes, int] | None:
    """Return client and first task number of a graph's topic; None for any other topic."""
    try:
        envelope = decode_envelope(topic)
    except MalformedMessageError:
        return None
    if envelope.epoch != _GRAPH:
        return None
    return _HALVES.pack(envelope.acknowledged, envelope.flags), envelope.sequence


class ObjectsTopic(NamedTuple):
    """Objects that somebody wants to see: as in `ObjectListRequest`."""

    offset: int = 0
    order: int = 0
    descending: bool = False
    owner: bytes = b""
    """Of this client only; empty: of any."""
    words: str = ""


def objects_topic(wanted: ObjectsTopic) -> bytes:
    """Return the topic of a page of the list of objects."""
    envelope = encode_envelope(Envelope(wanted.offset, wanted.order, int(wanted.descending), _OBJECTS))
    return envelope + (wanted.owner or ANY_CLIENT) + wanted.words.encode()[:OBJECT_WORDS_BYTES_MAX]


def listed_objects(topic: bytes) -> ObjectsTopic | None:
    """Return what the topic of a page of objects asks for; None for any other topic."""
    head, owner = topic[:_ENVELOPE_BYTES], topic[_ENVELOPE_BYTES : _ENVELOPE_BYTES + ID_BYTES]
    words = topic[_ENVELOPE_BYTES + ID_BYTES :]
    try:
        offset, order, descending, stream = decode_envelope(head)
        text = words.decode()
    except (MalformedMessageError, UnicodeDecodeError):
        return None
    if stream != _OBJECTS or len(owner) != ID_BYTES or len(words) > OBJECT_WORDS_BYTES_MAX:
        return None
    if offset > OBJECTS_OFFSET_MAX or order > 0xFF or descending > 1:
        return None
    return ObjectsTopic(offset, order, bool(descending), b"" if owner == ANY_CLIENT else owner, text)
