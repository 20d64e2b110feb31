"""Which ready tasks wait for counted resources, for monitors: they may wait although workers are free, or longer than others."""

from __future__ import annotations

from collections import Counter
from itertools import chain, islice

from scaler_protocol.capabilities import is_bound
from scaler_protocol.runtime.resources import format_amounts
from scaler_protocol.wire import messages as m
from scaler_scheduler.core.agents import AgentPool
from scaler_scheduler.core.ready import SignatureQueue
from scaler_scheduler.core.records import AgentRecord
from scaler_scheduler.policy.resources import Lines, ResourceRules

LINES_LOOKED = 1_000
"""At so many lines of waiting tasks a snapshot looks. It takes a microsecond each."""

HOSTS_LOOKED = 2_000
"""And at so many hosts, for lines of which it is not known yet whether any host has what they need."""

WAITS_MAX = 100


def resource_waits(
    lines: Lines[SignatureQueue], agents: AgentPool, resources: ResourceRules[AgentRecord]
) -> tuple[m.ResourceWait, ...]:
    """Return what waiting tasks ask for that is not free. Tasks that ask for nothing cost nothing here."""
    found: Counter[tuple[str, bool]] = Counter()
    left = HOSTS_LOOKED
    for line in islice(lines, LINES_LOOKED):
        count, groups = line.open_count, agents.groups_for(line.signature)
        # Others wait for the limit of their group, for one worker or host, or for capabilities, whatever is in use.
        if not count or not groups or left <= 0 or is_bound(line.signature):
            continue
        is_offered = not lines.is_aside(line)
        if is_offered:
            # Then no host had enough when the line was looked at last.
            is_known = line.wait.seen >= 0
            hosts = [] if is_known else list(islice(chain.from_iterable(group.agents for group in groups), left))
            left -= len(hosts)
            if not is_known and not resources.lacks_amounts(line, hosts):
                continue
        found[format_amounts(line.amounts), is_offered] += count
    return tuple(m.ResourceWait(text, count, offered) for (text, offered), count in found.most_common(WAITS_MAX))
