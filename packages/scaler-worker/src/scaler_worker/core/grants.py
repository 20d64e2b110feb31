"""What running tasks have of the host's counted resources: amounts, and GPUs of their own.

The scheduler decides which task has what, and sends a task only when that is free. The agent checks it again: what is in use
follows from what processors hold, those that are ending included. So a task waits here while one that has been answered
already is still being ended.

A processor that has used GPUs keeps them for as long as it lives: a process cannot give back its context on a device. Tasks that
have the same ones run there, or in a processor that has not used any; an idle one with others is replaced.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from scaler_protocol.runtime.resources import ONE, Amounts, CountedAmounts
from scaler_protocol.wire.messages import ProcessorState as State
from scaler_worker.core.pinned import Granted, granted_of
from scaler_worker.core.processors import Processor


class InUse:
    """What the host's processors use at one moment."""

    def __init__(self, offered: Amounts, devices: Sequence[str], processors: Iterable[Processor]) -> None:
        self.amounts = CountedAmounts(offered)
        self.devices = dict.fromkeys(devices, 0)
        """By device: thousandths of it that are in use."""
        for processor in processors:
            for granted in grants_of(processor):
                self.take(granted)

    def take(self, granted: Granted) -> None:
        """A task that has this runs."""
        self.amounts.take(granted.amounts)
        for device in granted.devices:
            self.devices[device] = self.devices.get(device, 0) + granted.share

    def fits(self, granted: Granted) -> bool:
        """Whether all of this is free."""
        return self.amounts.fits(granted.amounts) and all(
            self.devices.get(device, 0) + granted.share <= ONE for device in granted.devices
        )


def grants_of(processor: Processor) -> Iterator[Granted]:
    """Iterate over what the tasks of a processor have that it holds."""
    for tasks in processor.pipe:
        granted = granted_of(tasks.batch)
        if granted is not None:
            yield granted


def choose(idle: Sequence[Processor], devices: tuple[str, ...]) -> Processor | None:
    """Return which idle processor a task with these GPUs gets; None: all of them have others."""
    if not devices:
        # Those with devices are left for tasks that need some.
        return min(idle, key=lambda processor: (len(processor.devices), processor.idle_since), default=None)
    able = [processor for processor in idle if not processor.devices or processor.devices == devices]
    return max(able, key=lambda processor: (len(processor.devices), processor.idle_since), default=None)


def check(offered: Amounts, devices: Sequence[str], processors: Iterable[Processor]) -> str:
    """Return what is wrong with what is in use, for checks; empty if nothing is."""
    processors = list(processors)
    in_use = InUse(offered, devices, processors)
    for name, free in in_use.amounts.free:
        if free < 0:
            return f"{-free} thousandths of {name} are in use beyond what the host offers"
    for device, used in in_use.devices.items():
        if used > ONE:
            return f"device {device} is used by too many tasks"
    for processor in processors:
        if processor.state is State.RUNNING and len(grants := list(grants_of(processor))) > 1:
            return f"processor {processor.number} has {len(grants)} tasks with counted resources"
    return ""
