"""What the tasks of a client share: how their calls are packed, the environment that they find, and their groups.

A function's id depends on the environment its tasks find, so packer and groups belong together: who submits takes both from one
of these objects, while another thread may be putting a new one in its place.
"""

from __future__ import annotations

from scaler.client.engine import Engine
from scaler.core.tasks import TaskGroup
from scaler.serialization.serializer import AnySerializer
from scaler_protocol.runtime.task_context import current_task_context
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.call_options import NO_OPTIONS, CallOptions, encode_record

GROUPS_MAX = 1_000
"""Most combinations of what calls ask for that are remembered."""


class Surroundings:
    """See the module. Nothing of it changes later, but that groups are added."""

    __slots__ = ("_engine", "_flags", "_groups", "environment", "held", "packer", "plain_group")

    def __init__(
        self,
        engine: Engine,
        serializer: AnySerializer | None,
        flags: int,
        environment: bytes = b"",
        held: tuple[bytes, ...] = (),
    ) -> None:
        """`environment`: its body, empty for none. `held`: uses of the objects that it names."""
        self._engine = engine
        self._flags = flags
        self._groups: dict[tuple[int, int, m.Capabilities, int, CallOptions], TaskGroup] = {}
        self.environment = environment
        self.held = held
        self.packer = engine.packer(serializer, environment)
        self.plain_group = self.group(m.TaskKind.CALL, ())
        """That of tasks of an application which ask for nothing."""

    def group(
        self, kind: int, capabilities: m.Capabilities, flags: int | None = None, options: CallOptions = NO_OPTIONS
    ) -> TaskGroup:
        """Return the group of such tasks, submitted here and now."""
        if options.detached:
            raise ValueError(
                "detached: a job takes single calls, by submit or submit_verbose, and maps by its own map, as job.map(fn, items)"
            )
        context = current_task_context()
        if context is not None:
            self._engine.note_parent()
        flags = self._flags if flags is None else flags
        key = (kind, 0 if context is None else context.depth + 1, capabilities, flags, options)
        group = self._groups.get(key)
        if group is None:
            if len(self._groups) >= GROUPS_MAX:
                # Calls may have options of their own, without end.
                self._groups.clear()
            group = self._groups[key] = self._engine.tasks.group(
                kind=kind,
                depth=key[1],
                capabilities=capabilities,
                serializer=self.packer.serializer_function,
                flags=flags,
                options=encode_record(options),
            )
        return group
