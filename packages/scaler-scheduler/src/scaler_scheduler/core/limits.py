"""How much a peer may say about itself and its tasks. What is larger is refused, or cut where only people read it."""

from __future__ import annotations

from scaler_protocol.ids import ID_BYTES
from scaler_protocol.runtime.resources import GPU, ONE, ResourcesError, format_amount, parse_amounts
from scaler_protocol.wire import messages as m

NAME_CHARACTERS_MAX = 4096
"""Longest name of a peer, host, worker or capability."""

FUNCTION_NAME_CHARACTERS_MAX = 1000
"""Longer names of functions are cut: only people read them."""

FUNCTIONS_MAX = 100_000
"""Most functions of a client. A program that makes a function for each task begins its session anew when it gets there."""

FUNCTION_BYTES_MAX = 256 << 20
"""Most bytes of the functions of a client. Large functions are objects, and their bodies only name these."""

REASON_CHARACTERS_MAX = 1000
"""Longer reasons that peers give are cut."""

CAPABILITIES_MAX = 1000
"""Most capabilities of an agent, or of a batch of tasks."""

INSIDE_AGENT_MAX = 2000
"""Most clients inside the tasks of an agent."""

BATCH_TASKS_MAX = 100_000
"""Most tasks of a batch. Clients send 2,048; more would keep everybody else waiting."""

CLIENT_TASKS_MAX = 10_000_000
"""Most unfinished tasks of a client. Clients keep 50,000 here, rows of graphs apart."""

CLIENT_GRAPHS_MAX = 100_000
CLIENT_GRAPH_BYTES_MAX = 4 << 30
"""Most unfinished graphs of a client, and what they take in all."""

OPTIONS_MAX = 10_000
"""Most combinations of options of one client's tasks that are kept for its further tasks."""


def excess_of(hello: m.Hello) -> str | None:
    """Return what a peer says too much of; None if nothing."""
    longest = max(map(len, (hello.name, hello.hostname, hello.software_version, *hello.worker_names)))
    if longest > NAME_CHARACTERS_MAX:
        return f"a name has {longest} characters, at most {NAME_CHARACTERS_MAX} are accepted"
    if len(hello.parent) not in (0, ID_BYTES):
        return f"the id of the client that submitted its task is not {ID_BYTES} bytes"
    if hello.term >= m.TERM_MAX:
        return f"a term of {hello.term}, at most {m.TERM_MAX - 1} is accepted"
    if len(hello.worker_names) > m.NO_SLOT:
        return f"an agent has {len(hello.worker_names)} workers, at most {m.NO_SLOT} are accepted"
    try:
        amounts = dict(parse_amounts(hello.resources))
    except ResourcesError as error:
        return str(error)
    if amounts.get(GPU, 0) != len(set(hello.devices)) * ONE or len(hello.devices) != len(set(hello.devices)):
        return f"it offers {format_amount(GPU, amounts.get(GPU, 0))} GPUs, and names {len(set(hello.devices))} devices"
    return excess_of_capabilities(hello.capabilities)


def excess_of_capabilities(capabilities: m.Capabilities) -> str | None:
    """Return how capabilities are too many or too long; None if they are not."""
    if len(capabilities) > CAPABILITIES_MAX:
        return f"there are {len(capabilities)} capabilities, at most {CAPABILITIES_MAX} are accepted"
    longest = max((len(name) for name, _ in capabilities), default=0)
    if longest > NAME_CHARACTERS_MAX:
        return f"a capability has {longest} characters, at most {NAME_CHARACTERS_MAX} are accepted"
    return None
