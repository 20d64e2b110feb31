"""Identities: who is who and what is what, as small immutable values.

Random ids are made by `scaler_protocol.runtime.random_ids`: a core gets them from outside.
"""

import hashlib
from typing import NewType

ID_BYTES = 16

FINGERPRINT_BYTES = 8
"""With keys, so many bytes at the start of every incarnation are the fingerprint of its owner's key."""

ClientId = NewType("ClientId", bytes)
"""Incarnation of a client: 16 random bytes, new for every `Client` connection."""

AgentId = NewType("AgentId", bytes)
"""Incarnation of a worker agent: 16 random bytes, new for every agent process."""

SchedulerId = NewType("SchedulerId", bytes)
"""Incarnation of a scheduler process."""

FunctionId = NewType("FunctionId", bytes)
"""Content address of a pickled function: 16 bytes."""

ObjectId = NewType("ObjectId", bytes)
"""Name of an immutable object in object storage: 16 bytes."""

TaskNumber = NewType("TaskNumber", int)
"""A task within its client: unsigned 64-bit, each used once. (client, number) names a task everywhere."""

NO_ID = b""


def content_id(content: bytes, serializer: bytes = NO_ID) -> FunctionId:
    """Return the content address of `content`: BLAKE2b of 16 bytes, collision resistant: nothing need be compared.

    `serializer`: the id of the client's serializer, as the same bytes mean something else to another one. It is the hash's
    key, so that no content without a serializer has the same id.
    """
    return FunctionId(hashlib.blake2b(content, digest_size=ID_BYTES, key=serializer).digest())


def is_named_by_content(function_id: bytes, body: bytes, serializer: bytes) -> bool:
    """Whether a function's id is made from its content. The id of the serializer itself is made without a serializer."""
    return function_id == content_id(body, NO_ID if function_id == serializer else serializer)


def short(identity: bytes) -> str:
    """Return the first eight hexadecimal digits of an id, for logs and messages."""
    return identity[:4].hex()
