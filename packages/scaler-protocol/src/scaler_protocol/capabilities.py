"""The capabilities of a worker or a task as people write them: `linux,cpu=4`.

A capability is a name with an integer value; -1 stands for "present, no value". Values are carried and shown, and not
yet counted.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

NO_VALUE = -1

VALUE_MIN, VALUE_MAX = -(2**63), 2**63 - 1
"""What a message can carry."""


_PIN = "@agent:"
"""How the capability begins that stands for one agent. No worker offers it: only the agent it names may have the task."""


def pin_to(agent: bytes, slot: int) -> tuple[tuple[str, int], ...]:
    """Return the capabilities of a task that only one worker may run: the one in this slot of this agent incarnation."""
    return ((_PIN + agent.hex(), slot),)


def pinned_agent(names: Collection[str]) -> bytes | None:
    """Return the agent that tasks which ask for these capabilities are for; None where any that offers them will do."""
    for name in names:
        if name.startswith(_PIN):
            try:
                return bytes.fromhex(name[len(_PIN) :])
            except ValueError:
                # No agent is called so.
                return b""
    return None


def pinned_slot(capabilities: Iterable[tuple[str, int]]) -> int | None:
    """Return the slot that tasks which ask for these capabilities are for; None where any will do."""
    return next((value for name, value in capabilities if name.startswith(_PIN)), None)


_WORKER, _HOST, _PREFERRED_HOST = "@worker:", "@host:", "@preferred-host:"
"""How capabilities begin that stand for a worker and a host by their names. The scheduler makes them of options of calls."""


def affinity_to(worker: str = "", host: str = "", *, preferred_host: str = "") -> tuple[tuple[str, int], ...]:
    """Return the capabilities of a task that only this worker and this host may run, or that prefers a host."""
    named = ((_WORKER, worker), (_HOST, host), (_PREFERRED_HOST, preferred_host))
    return tuple((prefix + name, NO_VALUE) for prefix, name in named if name)


def offered(names: Iterable[str]) -> frozenset[str]:
    """Return those of the names a task asks for that workers offer: without workers and hosts."""
    return frozenset(name for name in names if not name.startswith("@"))


def named_worker(names: Iterable[str]) -> str:
    """Return the name of the only worker that may run the task; empty: any."""
    return _named(_WORKER, names)


def named_host(names: Iterable[str]) -> str:
    """Return the name of the only host that may run the task; empty: any."""
    return _named(_HOST, names)


def preferred_host(names: Iterable[str]) -> str:
    """Return the name of the host that the task prefers; empty: none."""
    return _named(_PREFERRED_HOST, names)


def _named(prefix: str, names: Iterable[str]) -> str:
    return next((name[len(prefix) :] for name in names if name.startswith(prefix)), "")


def is_affine(capabilities: Iterable[tuple[str, int]]) -> bool:
    """Whether these capabilities of a task name a worker or a host."""
    return any(name.startswith((_WORKER, _HOST, _PREFERRED_HOST)) for name, _ in capabilities)


def is_bound(names: Iterable[str]) -> bool:
    """Whether only certain workers may run the task, whatever others offer."""
    return any(name.startswith((_PIN, _WORKER, _HOST)) for name in names)


class CapabilitiesError(ValueError):
    """A text that is not a list of capabilities. The message names the part at fault."""


def parse_capabilities(text: str) -> dict[str, int]:
    """Reads `name,name=value,…` into names and values, `NO_VALUE` where none is given. Blanks do not matter."""
    capabilities: dict[str, int] = {}
    for part in text.split(","):
        name, separator, value_text = (piece.strip() for piece in part.partition("="))
        if not name:
            if separator or len(text.split(",")) > 1:
                raise CapabilitiesError(f"capabilities {text!r}: a name is missing in {part!r}")
            continue
        if name in capabilities:
            raise CapabilitiesError(f"capabilities {text!r}: {name!r} is given twice")
        try:
            capabilities[name] = int(value_text) if separator else NO_VALUE
        except ValueError:
            raise CapabilitiesError(
                f"capabilities {text!r}: the value of {name!r} is not an integer: {value_text!r}"
            ) from None
        if not VALUE_MIN <= capabilities[name] <= VALUE_MAX:
            raise CapabilitiesError(f"capabilities {text!r}: the value of {name!r} has more than 64 bits")
    return capabilities


def format_capabilities(capabilities: Mapping[str, int]) -> str:
    """The text from which `parse_capabilities` reads the same names and values."""
    return ",".join(name if value == NO_VALUE else f"{name}={value}" for name, value in capabilities.items())
