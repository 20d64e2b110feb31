"""The bytes of an environment: what a client wants its tasks to find where they run (see `environments`)."""

from __future__ import annotations

import pickle
from typing import NamedTuple

from scaler_protocol.ids import ID_BYTES
from scaler_protocol.payloads.framing import ENVIRONMENT, environment_owner


class PluginPart(NamedTuple):
    """A worker plugin: its name, what tells its content from others', and a value payload."""

    name: str
    digest: bytes
    payload: bytes


class EnvironmentParts(NamedTuple):
    """What an environment consists of."""

    owner: bytes
    """The id of the client."""
    serial: int
    """The later environment of a client has the greater number."""
    serializer: bytes
    """The body of the client's serializer class; empty for none."""
    plugins: tuple[PluginPart, ...]
    """In the order in which they are set up."""
    modules: tuple[bytes, ...]
    """Value payloads of zip archives, as `bytes`."""


def frame_environment(parts: EnvironmentParts) -> bytes:
    """Return the function body that stands for an environment."""
    owner, serial, serializer, plugins, modules = parts
    return ENVIRONMENT + owner + pickle.dumps((serial, serializer, tuple(map(tuple, plugins)), modules), 5)


def unframe_environment(body: bytes) -> EnvironmentParts:
    """Return the parts of an environment."""
    serial, serializer, plugins, modules = pickle.loads(memoryview(body)[1 + ID_BYTES :])
    return EnvironmentParts(
        environment_owner(body), serial, serializer, tuple(PluginPart(*plugin) for plugin in plugins), tuple(modules)
    )


def with_serializer(body: bytes, serializer: bytes) -> bytes:
    """Return an environment as it is for a client with this serializer, whose body may be empty."""
    return frame_environment(unframe_environment(body)._replace(serializer=serializer))
