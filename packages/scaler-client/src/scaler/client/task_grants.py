"""What a task has of the counted resources of its host, as the task itself sees it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

_NOTHING: Mapping[str, tuple[str, ...]] = MappingProxyType({})


class WithGrants:
    """What `current_task()` has of this."""

    __slots__ = ()

    @property
    def resources(self) -> Mapping[str, float]:
        """The amounts that the task asked for, by name: memory in bytes. Empty where it asked for none, and outside tasks."""
        from scaler_protocol.runtime.resources import ONE
        from scaler_protocol.runtime.task_context import current_task_context
        from scaler_protocol.wire.call_options import asked_of

        context = current_task_context()
        options = context.options if context is not None else b""
        return MappingProxyType(
            {
                name: amount / ONE if amount % ONE else amount // ONE
                for name, amount in (asked_of(options).resources if options else ())
            }
        )

    @property
    def devices(self) -> Mapping[str, tuple[str, ...]]:
        """The devices that the task has been granted, by the name of the resource: `{"gpu": ("0", "1")}`.

        By number or UUID, as `--gpu-devices` has them. Empty where it asked for none, and outside tasks.
        """
        from scaler_protocol.runtime.resources import GPU
        from scaler_protocol.runtime.task_context import current_task_context

        context = current_task_context()
        devices = context.devices if context is not None else ()
        return MappingProxyType({GPU: devices}) if devices else _NOTHING
