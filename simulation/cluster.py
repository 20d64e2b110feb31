"""One simulated run: a cluster, what its applications want, what befalls it, and what must be true in the end."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from random import Random
from types import FunctionType, ModuleType
from typing import Any

from scaler.core import tasks as client_tasks
from scaler.core.effects import Cause
from scaler_objstore.core.events import Incoming
from scaler_protocol.wire import graph_portions, task_lists
from scaler_protocol.wire import messages as m
from scaler_scheduler.core import graph_rows
from scaler_scheduler.core.events import ObjectsLost
from scaler_scheduler.core.records import ClientRecord, Task
from scaler_scheduler.group_shares import parse_shares
from simulation.agent import AgentProcess
from simulation.client import ClientProcess
from simulation.clock import Clock
from simulation.disk import Disk
from simulation.ledger import Ledger, SimulationError
from simulation.network import Network
from simulation.process import Process
from simulation.programs import Action, Death, Library, Program
from simulation.services import STORE_RETENTION_S, SchedulerProcess, StorageProcess
from simulation.storage_watch import StorageWatch
from simulation.template import Template

SCHEDULER_ADDRESS = "tcp://scheduler:2345"
STORAGE_ADDRESS = "tcp://scheduler:2346"
STANDBY_ADDRESS = "tcp://standby:2345"
RARE = "rare"
"""A capability that no agent has until the end of the run."""

ATTEMPTS_MAX = 3
PEER_TIMEOUT_S = 10.0
OBJECT_RETENTION_S = 5.0

DELETED_S = 10.0
"""So soon objects are deleted that nobody needs, once nothing goes wrong any more."""

SENT_AGAIN_S = 20.0
"""So soon clients have sent again what a server has lost that was killed."""

SETTLE_S = 150.0
"""After all is healed, some future ends within any period of this length, until all have: that is more than a client's
timeout, or the longest task with all its attempts."""

HOMES_SHARE = 0.4
"""Of clusters, those in which worker hosts have stores."""

AT_HOME_SHARE = 0.75
"""Of worker hosts in such a cluster, those that have one."""

REACHABLE_SHARE = 0.8
"""Of these, those whose stores other hosts reach."""

HOMES_CHANGES = {"agents": 3, "home_memory_bytes": 3_000}
"""Where stores on hosts are added to a run: they need several hosts, and spill over early."""

GROUPS = parse_shares(["pricing=3", "research=1:max_running=1", "default=0.5:max_running=2"])
"""Where applications are in groups."""

SETTLE_STEPS_MAX = 400_000

OBJECTS_HELD_MAX = 2_000
"""Python objects reachable from a core when no client is left: what it remembers of the past is bounded."""

OPTIONS_HELD_MAX = 20
"""As many more for each client inside tasks that stays: what its last tasks asked for."""

ENDED_GRAPH_HELD_MAX = 12
"""As many more for each ended graph that monitors are still told of."""


def objects_held_by(core: object) -> Counter[type]:
    """Count what a core keeps alive by its type, code and types aside."""
    seen = {id(core)}
    found: Counter[type] = Counter()
    waiting = [core]
    while waiting:
        one = waiting.pop()
        found[type(one)] += 1
        for referent in gc.get_referents(one):
            if id(referent) not in seen and not isinstance(referent, type | ModuleType | FunctionType):
                seen.add(id(referent))
                waiting.append(referent)
    return found


@dataclass(slots=True, frozen=True)
class Plan:
    """What one run is made of; drawn from the seed."""

    through_codec: bool
    agents: int
    slots_max: int
    clients: int
    queue_limit: int
    kills: bool
    cuts: bool
    scheduler_dies: bool
    storage_dies: bool
    results_lost: bool
    """Whether results of rows are lost, as with worker hosts that have stores."""
    stalls: bool
    nested: bool
    allocate_policy: str
    task_timeout_seconds: float
    tasks_waiting_max: int
    shutdown: bool
    memory_limit_bytes: int
    """Of object storage."""
    spills: bool
    """Whether it has a disk below its memory."""
    disk_limit_bytes: int | None
    disk_faults: bool
    portion_rows: int
    """In how many rows at a time graphs are sent, and worked on."""
    homes: bool
    """Whether worker hosts have stores of their own."""
    homes_die: bool
    home_memory_bytes: int
    options: bool = False
    """Whether tasks of applications ask for something. No seed draws it, nor the others with a default: see `additions`."""
    groups: bool = False
    """Whether applications are in groups that share the cluster."""
    standby: bool = False
    """Whether there are two schedulers, and partitions between anybody and one of them."""

    @property
    def is_faultless(self) -> bool:
        """Whether nothing goes wrong, and nobody ends before its tasks."""
        faults = (
            self.kills,
            self.cuts,
            self.scheduler_dies,
            self.storage_dies,
            self.results_lost,
            self.stalls,
            self.standby,
        )
        return not any(
            (*faults, self.disk_faults, self.homes_die, self.spills, self.shutdown, self.task_timeout_seconds)
        )

    resources: bool = False
    """Whether hosts offer counted resources, and tasks of applications ask for some."""

    @classmethod
    def draw(cls, random: Random) -> Plan:
        faults = random.random() < 0.85
        spills = random.random() < 0.4
        plan = cls(
            through_codec=random.random() < 0.3,
            agents=random.randint(1, 4),
            slots_max=random.randint(1, 3),
            clients=random.randint(1, 3),
            queue_limit=random.choice((1, 2, 1000)),
            kills=faults and random.random() < 0.7,
            cuts=faults and random.random() < 0.7,
            scheduler_dies=faults and random.random() < 0.4,
            storage_dies=faults and random.random() < (0.5 if spills else 0.2),
            results_lost=faults and random.random() < 0.4,
            stalls=faults and random.random() < 0.4,
            nested=random.random() < 0.6,
            allocate_policy="capability" if random.random() < 0.5 else "even",
            task_timeout_seconds=random.choice((0.0, 0.0, 2.0)),
            tasks_waiting_max=random.choice((-1, -1, -1, 5)),
            shutdown=random.random() < 0.3,
            memory_limit_bytes=random.choice((4_000, 12_000, 40_000)) if spills else 100_000_000,
            spills=spills,
            disk_limit_bytes=random.choice((None, None, 60_000, 250_000)) if spills else None,
            disk_faults=spills and faults and random.random() < 0.6,
            portion_rows=random.choice((1, 2, 3, graph_portions.PORTION_ROWS)),
            homes=False,
            homes_die=False,
            home_memory_bytes=0,
        )
        if random.random() >= HOMES_SHARE:
            return plan
        return replace(
            plan,
            agents=max(2, plan.agents),
            homes=True,
            homes_die=faults and random.random() < 0.6,
            home_memory_bytes=random.choice((500, 3_000, 100_000, 100_000)),
        )


def additions() -> list[str]:
    """Return what no seed draws, and tests and the command line add to a run: the names of the plan's fields."""
    return [field.name for field in fields(Plan) if field.default is False]


def choices() -> list[str]:
    """Return all that may be added to a run, with what no seed draws in front: the names of the plan's fields."""
    drawn = [field.name for field in fields(Plan) if field.type == "bool" and field.default is not False]
    # A disk goes with limits.
    return [*additions(), *(name for name in drawn if name not in ("spills", "disk_faults"))]


def changes_for(names: Iterable[str]) -> dict[str, Any]:
    """Return the changes to a plan that add what has these names, of `choices`."""
    changes: dict[str, Any] = dict.fromkeys(names, True)
    if "homes" in changes:
        changes |= HOMES_CHANGES
    return changes


@contextmanager
def in_portions(rows: int) -> Iterator[None]:
    """Graphs and lists are small here: have them come in several messages, and begin in several turns, nevertheless."""
    limits = (
        (graph_portions, "PORTION_ROWS"),
        (task_lists, "PORTION_ROWS"),
        (task_lists, "RESULT_ROWS"),
        (client_tasks, "AGAIN_TASKS_MAX"),
        (graph_rows, "WORK_PER_TURN"),
        (graph_rows, "ROOT_ROWS"),
        (graph_rows, "FAILING_PER_TURN"),
        (graph_rows, "FAILING_STEP"),
    )
    before = [getattr(module, name) for module, name in limits]
    if rows < graph_portions.PORTION_ROWS:
        for module, name in limits:
            setattr(module, name, rows)
    try:
        yield
    finally:
        for (module, name), value in zip(limits, before, strict=True):
            setattr(module, name, value)


class Cluster:
    """See the module. `run` raises SimulationError, or an InvariantError of a core."""

    def __init__(self, seed: int, *, telling: bool = False, changes: Mapping[str, Any] | None = None) -> None:
        """`changes`: what is different from the plan that the seed draws, by its fields' names."""
        self.random = Random(seed)
        self.options_random: Random | None = None
        """Apart, so that what tasks ask for does not change what else happens in a run."""
        self.plan = replace(Plan.draw(self.random), **(changes or {}))
        if self.plan.options:
            self.options_random = Random(seed)
        self.resources_random = Random(seed) if self.plan.resources else None
        """Apart, so that what tasks ask for does not change what else happens in a run."""
        self.clock = Clock()
        self.library = Library()
        self.ledger = Ledger(self.clock, self.library, ATTEMPTS_MAX, telling)
        self.network = Network(self.clock, self.random, through_codec=self.plan.through_codec)
        self.ledger.options.is_strict = self.plan.is_faultless
        self.ledger.options.counts_are_exact = replace(self.plan, scheduler_dies=False).is_faultless
        self.ledger.options.waits_are_exact = replace(self.plan, results_lost=False).is_faultless
        self.ledger.options.has_time_limit = self.plan.task_timeout_seconds > 0
        self.ledger.excuses.timeouts_configured = self.plan.task_timeout_seconds > 0
        self.ledger.excuses.storage_limited = self.plan.disk_limit_bytes is not None
        self.disk = Disk(self.random) if self.plan.spills else None
        self.storage_watch = StorageWatch()
        self.homes: list[StorageProcess] = []
        self.templates: list[Template] = []
        """Graphs that applications have prepared."""
        self.clients: list[ClientProcess] = []
        self.agents: list[AgentProcess] = []
        self.names = 0
        self.waiting_to_submit: list[ClientProcess] = []
        """One element per submission that waits for the scheduler's permission."""
        self.healing = False
        self.schedulers: dict[str, SchedulerProcess] = {}
        """Those that live, by address."""
        self.scheduler_addresses = (SCHEDULER_ADDRESS, STANDBY_ADDRESS) if self.plan.standby else (SCHEDULER_ADDRESS,)
        self.storage: StorageProcess | None = None
        self.start_storage()
        for address in self.scheduler_addresses:
            self.start_scheduler(address)
        for _ in range(self.plan.agents):
            self.start_agent()
        for _ in range(self.plan.clients):
            self.start_client()
        self.ledger.tell_all(f"{self.plan}")

    # --- starting

    @property
    def scheduler(self) -> SchedulerProcess | None:
        """The scheduler that is first; of two that believe so, the one with the higher term. None: there is none."""
        first = [one for one in self.schedulers.values() if one.succession.is_first]
        return max(first, key=lambda one: one.succession.term, default=None)

    def start_scheduler(self, address: str) -> None:
        is_standby = address == STANDBY_ADDRESS
        self.schedulers[address] = SchedulerProcess(
            self.network,
            address,
            STORAGE_ADDRESS,
            self.ledger,
            self.random,
            standby_of=SCHEDULER_ADDRESS if is_standby else "",
            name="standby" if is_standby else "scheduler",
            allocate_policy=self.plan.allocate_policy,
            resources="licence=2" if self.plan.resources else "",
            max_number_of_tasks_waiting=self.plan.tasks_waiting_max,
            client_timeout_seconds=PEER_TIMEOUT_S,
            worker_timeout_seconds=PEER_TIMEOUT_S,
            object_retention_seconds=OBJECT_RETENTION_S,
            max_task_attempts=ATTEMPTS_MAX,
            shares=GROUPS if self.plan.groups else (),
        )

    def start_storage(self) -> None:
        self.storage = StorageProcess(
            self.network,
            STORAGE_ADDRESS,
            self.random,
            self.ledger,
            self.storage_watch,
            memory_limit_bytes=self.plan.memory_limit_bytes,
            disk=self.disk,
            disk_limit_bytes=self.plan.disk_limit_bytes,
        )

    def start_agent(self, capabilities: tuple[str, ...] | None = None) -> AgentProcess:
        self.names += 1
        if capabilities is None:
            capabilities = tuple(name for name in ("gpu", "linux") if self.random.random() < 0.5)
        gpus = 0
        if self.resources_random is not None:
            gpus = 2 if self.healing else self.resources_random.choice((0, 1, 2))
        has_home = self.plan.homes and self.random.random() < AT_HOME_SHARE
        agent = AgentProcess(
            f"agent {self.names}",
            self.network,
            self.scheduler_addresses,
            STORAGE_ADDRESS,
            self.ledger,
            self.library,
            self.random,
            slots=self.random.randint(1, self.plan.slots_max),
            capabilities=capabilities,
            resources=f"cores=2,gpu={gpus},mem=4KiB" if self.plan.resources else "",
            devices=tuple(map(str, range(gpus))),
            queue_limit=self.plan.queue_limit,
            task_timeout_seconds=self.plan.task_timeout_seconds,
            start_home=self.start_home if has_home else None,
            home_is_reachable=has_home and self.random.random() < REACHABLE_SHARE,
            note=lambda what: self.storage_watch.counts.update((what,)),
        )
        self.agents.append(agent)
        return agent

    def start_home(self, name: str) -> StorageProcess:
        """Start the store of a worker host."""
        home = StorageProcess(
            self.network,
            f"tcp://{name}:2347",
            self.random,
            self.ledger,
            StorageWatch(self.storage_watch),
            memory_limit_bytes=self.plan.home_memory_bytes,
            name=f"store of {name}",
        )
        self.homes.append(home)
        return home

    def start_client(self) -> ClientProcess:
        self.names += 1
        client = ClientProcess(
            f"client {self.names}",
            self.network,
            self.scheduler_addresses,
            STORAGE_ADDRESS,
            self.ledger,
            self.random,
            timeout_seconds=self.random.choice((15.0, 60.0)),
            # Not drawn, so that groups change nothing else that happens in a run.
            group=GROUPS[self.names % len(GROUPS)].name if self.plan.groups else "",
        )
        client.driver.options_random = self.options_random
        client.driver.resources_random = self.resources_random
        self.clients.append(client)
        return client

    # --- what applications want

    def program(self, depth: int = 0) -> Program:
        """A random program; a nested one brings its children along."""
        random = self.random
        duration = random.choice((0.0, 0.0001, 0.001, 0.01, 0.1, random.uniform(0.0, 3.0)))
        if self.plan.nested and depth < 3 and random.random() < 0.15:
            children = tuple(self.program(depth + 1).number for _ in range(random.choice((1, 2, 3, 6))))
            needs: tuple[tuple[int, ...], ...] = ()
            if random.random() < 0.7:
                needs = tuple(
                    tuple(random.sample(range(row), min(row, random.choice((0, 1, 1, 2)))))
                    for row in range(len(children))
                )
            return self.library.add(
                Action.NEST,
                duration,
                children=children,
                needs=needs,
                links_children=random.random() < 0.5,
                silent=random.random() < 0.5,
            )
        dice = random.random()
        if dice < 0.06:
            return self.library.add(Action.FAIL, duration)
        if dice < 0.08 and self.plan.kills:
            return self.library.add(Action.EXIT, duration, death=self.random.choice(list(Death)))
        # Results of tasks inside tasks stay small: the cache of their host would have to be read back.
        often = self.plan.spills or self.plan.results_lost
        large = depth == 0 and random.random() < (0.5 if self.plan.homes else 0.3 if often else 0.08)
        return self.library.add(Action.RETURN, duration, stubborn=random.random() < 0.3, large_result=large)

    def submit_some(self, client: ClientProcess) -> None:
        random = self.random
        count = random.choice((1, 1, 2, 5, 20, 60))
        capabilities: tuple[str, ...] = ()
        if random.random() < 0.2:
            capabilities = random.choice((("gpu",), ("linux",), ("gpu", "linux"), (RARE,)))
        uses_objects = random.random() < (0.6 if self.plan.spills or self.plan.homes else 0.1)
        contents = (random.randbytes(random.randint(1, 50)),) if uses_objects else ()
        programs = [self.program() for _ in range(count)]

        def act() -> None:
            driver = client.driver
            self.waiting_to_submit.remove(client)
            while programs:
                allowed = driver.core.admission.allows(1)
                if (not allowed or (contents and driver.storage.is_full)) and driver.core.unusable is None:
                    # The application waits for its permission, or for room in storage, as `submit` does.
                    if not allowed:
                        driver.core.ask_credit(len(programs))
                    self.waiting_to_submit.append(client)
                    self.clock.after(1.0, lambda: client.post(act))
                    return
                # Equal contents are stored once. Different ones fill the memory.
                own = (random.randbytes(random.randint(1, 400)),) if contents and self.plan.spills else ()
                driver.submit(programs.pop(), capabilities=capabilities, contents=(*contents, *own))

        self.waiting_to_submit.append(client)
        client.post(act)

    def submit_graph(self, client: ClientProcess) -> None:
        programs, dependencies, wanted = self.graph()
        # A client sends no rows that nobody needs. Those that are here test the scheduler; they may run when all wanted ones
        # are answered, and the graph's objects are gone.
        needed = needed_rows(dependencies, wanted)
        contents = {row: read for row, read in self.contents(len(programs)).items() if row in needed}
        client.post(lambda: client.driver.submit_graph(programs, dependencies, wanted, contents=contents))

    def graph(self) -> tuple[list[Program], list[list[int]], list[int]]:
        """A random graph: the programs of its rows, what each needs, and which are wanted."""
        random = self.random
        rows = random.randint(1, 25)
        programs = [self.program() for _ in range(rows)]
        dependencies = [random.sample(range(row), min(row, random.choice((0, 1, 1, 2, 3)))) for row in range(rows)]
        if random.random() < 0.4:
            # Chains, some of them with further inputs.
            for row in range(1, rows):
                if random.random() < 0.9:
                    dependencies[row] = [
                        row - 1,
                        *random.sample(range(row - 1), min(row - 1, random.choice((0, 0, 0, 1)))),
                    ]
        return programs, dependencies, sorted(random.sample(range(rows), random.randint(1, min(4, rows))))

    def contents(self, rows: int) -> dict[int, tuple[bytes, ...]]:
        """What some rows of a graph read as objects."""
        random = self.random
        if random.random() < 0.6:
            return {}
        reading = random.sample(range(rows), min(rows, random.choice((1, 2))))
        return {row: (random.randbytes(random.randint(1, 50)),) for row in sorted(reading)}

    def run_template(self, client: ClientProcess) -> None:
        """Run a prepared graph, a new one or again, with other values for some of its nodes."""
        random = self.random
        if not self.templates or random.random() < 0.3:
            self.templates.append(Template(*self.graph()))
        template = random.choice(self.templates)
        rows = len(template.programs)
        # What a run gives is a value: that of a program which needs nothing, at once.
        given = {
            row: self.library.add(Action.RETURN, 0.0, large_result=random.random() < 0.2)
            for row in sorted(random.sample(range(rows), min(rows, random.choice((0, 1, 1, 3)))))
        }
        client.post(lambda: template.run(client.driver, given, self.contents(max(1, len(given)))))

    def submit_linked(self, client: ClientProcess) -> None:
        """Tasks with results of earlier ones as arguments: of those under way, or just answered, or of each other."""
        random = self.random
        programs = [self.program() for _ in range(random.choice((1, 1, 3, 10)))]
        is_chain = random.random() < 0.5
        capabilities = ("gpu",) if random.random() < 0.1 else ()

        def act() -> None:
            driver = client.driver
            for program in programs:
                known = list(driver.recent)
                if not known:
                    return
                needs = random.sample(known, min(len(known), random.choice((1, 1, 2, 5))))
                if is_chain and known[-1] not in needs:
                    needs.append(known[-1])
                driver.submit_linked(program, needs, capabilities)

        client.post(act)

    def cancel_some(self, client: ClientProcess) -> None:
        def act() -> None:
            entries = list(client.driver.entries.values())
            if entries:
                chosen = self.random.sample(entries, self.random.randint(1, min(10, len(entries))))
                if chosen[0].number % 3:
                    client.driver.cancel(chosen)
                else:
                    client.driver.withdraw(chosen)

        client.post(act)

    def want_something(self) -> None:
        """One thing an application does."""
        living = self.living_clients
        if not living or (len(living) < self.plan.clients and self.random.random() < 0.3):
            self.start_client()
            return
        client = self.random.choice(living)
        dice = self.random.random()
        # Results that others read are what the stores of hosts are for.
        single, linked = (0.35, 0.55) if self.plan.homes else (0.6, 0.72)
        if dice < single:
            self.submit_some(client)
        elif dice < linked:
            self.submit_linked(client)
        elif dice < 0.79:
            self.submit_graph(client)
        elif dice < 0.87:
            self.run_template(client)
        elif dice < 0.97:
            self.cancel_some(client)
        elif len(living) > 1:
            client.leave()

    # --- what befalls it

    @property
    def living_clients(self) -> list[ClientProcess]:
        self.clients = [client for client in self.clients if client.alive]
        return [client for client in self.clients if not client.driver.closed]

    @property
    def living_agents(self) -> list[AgentProcess]:
        self.agents = [agent for agent in self.agents if agent.alive]
        return self.agents

    @property
    def living_homes(self) -> list[StorageProcess]:
        self.homes = [home for home in self.homes if home.alive]
        return self.homes

    def suffer_something(self) -> None:
        """One fault, of those this run has."""
        plan, random = self.plan, self.random
        faults: list[Callable[[], None]] = [self.drain_agent, self.start_agent_late]
        if plan.kills:
            faults += [self.kill_processor] * 4 + [self.kill_agent] * 2 + [self.kill_client]
        if plan.cuts:
            faults += [self.cut_link] * 4 + [self.freeze_link] * 3
        if plan.scheduler_dies:
            faults += [self.kill_scheduler] * 2
        if plan.standby:
            faults += [self.kill_scheduler] * 6 + [self.part] * 12 + [self.stall_scheduler] * 6
        if plan.storage_dies:
            faults += [self.kill_storage] * (8 if plan.spills else 1)
        if plan.results_lost:
            faults += [self.lose_results] * 4
        if plan.homes_die:
            faults += [self.kill_home] * 8
        if plan.disk_faults:
            faults += [self.fail_disk] * 3 + [self.damage_disk]
        if plan.stalls:
            faults += [self.stall_process] * 3
        random.choice(faults)()

    def start_agent_late(self) -> None:
        if len(self.living_agents) < self.plan.agents + 1:
            self.start_agent()

    def drain_agent(self) -> None:
        if len(self.living_agents) > 1:
            agent = self.random.choice(self.living_agents)
            self.ledger.tell_all(f"{agent.name} is asked to stop")
            # A drain that runs out of patience ends tasks in the middle.
            self.ledger.excuses.process_deaths += 1
            agent.drain(self.random.uniform(0.0, 20.0))

    def kill_processor(self) -> None:
        processors = [processor for agent in self.living_agents for processor in agent.processors.values()]
        if processors:
            self.ledger.excuses.process_deaths += 1
            self.random.choice(processors).die("killed by SIGKILL")

    def kill_agent(self) -> None:
        if self.living_agents:
            agent = self.random.choice(self.living_agents)
            self.ledger.excuses.process_deaths += 1
            self.ledger.tell_all(f"{agent.name} is killed")
            agent.end()
            self.clock.after(self.random.uniform(0.5, 30.0), lambda: None if self.healing else self.start_agent_late())

    def kill_client(self) -> None:
        living = self.living_clients
        if len(living) > 1:
            client = self.random.choice(living)
            self.ledger.tell_all(f"{client.name} is killed")
            client.end()

    def kill_scheduler(self) -> None:
        if not self.schedulers:
            return
        address = next(iter(self.schedulers))
        if self.plan.standby:
            address = self.random.choice(list(self.schedulers))
        scheduler = self.schedulers.pop(address)
        self.ledger.excuses.process_deaths += 1
        self.ledger.tell_all(f"the {scheduler.name} is killed")
        scheduler.end()
        self.clock.after(self.random.uniform(0.1, 12.0), self.revive_services)

    def part(self) -> None:
        """Some peers, or the schedulers from each other, or all of one side, have no way to one of the schedulers for a while."""
        address = self.random.choice(self.scheduler_addresses)
        seconds = self.random.choice((0.5, 5.0, 10.0, 20.0, 60.0))
        parted = {
            link.identity
            for link in self.network.links
            if not link.is_local and link.address in self.scheduler_addresses
        }
        share = self.random.choice((0.3, 0.7, 1.0))
        self.ledger.excuses.silences += 1
        for identity in sorted(parted):
            if self.random.random() < share:
                self.ledger.tell_all(f"{identity[:4].hex()} has no way to {address} for {seconds} s")
                self.network.part(identity, address, seconds)

    def stall_scheduler(self) -> None:
        """A scheduler is stopped and goes on later: longer than the lease, and both believe that they are first."""
        if self.schedulers:
            scheduler = self.random.choice(list(self.schedulers.values()))
            seconds = self.random.choice((1.0, 8.0, 20.0))
            self.ledger.excuses.silences += 1
            self.ledger.tell_all(f"the {scheduler.name} stalls for {seconds} s")
            scheduler.stall(seconds)

    def kill_storage(self) -> None:
        if self.disk is not None and not self.disk.records and self.random.random() < 0.9:
            # Better at a moment when the next one finds something on the disk.
            if not self.healing:
                self.clock.after(0.1, self.kill_storage)
            return
        if self.storage is not None and self.storage.alive:
            self.ledger.excuses.store_deaths += 1
            self.ledger.tell_all("the object storage server is killed")
            self.storage.end()
            self.storage = None
            self.clock.after(self.random.uniform(0.1, 12.0), self.revive_services)

    def kill_home(self) -> None:
        """The store of a worker host dies with objects: alone, so that its agent goes on without, or with the whole host."""
        holding = [agent for agent in self.living_agents if agent.stores.home is not None and agent.stores.held]
        # Preferably in the middle of an object that comes in pieces.
        holding = [agent for agent in self.living_agents if agent.stores.home and agent.stores.fetching] or holding
        if not holding:
            if not self.healing:
                self.clock.after(0.05, self.kill_home)
            return
        agent = self.random.choice(holding)
        self.ledger.excuses.homes_lost += agent.stores.held
        self.ledger.tell_all(f"the store of {agent.name} is killed, with {agent.stores.held} objects")
        self.storage_watch.counts["killed at homes"] += agent.stores.held
        self.storage_watch.counts["killed in the middle"] += len(agent.stores.fetching)
        if self.random.random() < 0.5:
            agent.stores.kill_home()
        else:
            self.ledger.excuses.process_deaths += 1
            agent.end()
            self.clock.after(self.random.uniform(0.5, 30.0), lambda: None if self.healing else self.start_agent_late())

    def lose_results(self) -> None:
        """Results that rows of graphs still need are lost, as when a worker host dies with its store. The scheduler is told.

        Agents may have read them before; tasks may find them missing before the scheduler hears of it, or afterwards.
        """
        storage, scheduler = self.storage, self.scheduler
        if storage is None or scheduler is None:
            return
        named = {
            object_id: client.id
            for client in scheduler.core._state.clients.values()
            for graph in client.graphs
            for row in graph.holders
            for object_id in graph.results[row].objects
        }
        lost = self.random.sample(sorted(named), min(len(named), self.random.choice((1, 2, 20))))
        if not lost:
            if not self.healing:
                self.clock.after(0.2, self.lose_results)
            return
        self.ledger.excuses.results_lost += len(lost)
        self.ledger.tell_all(f"{len(lost)} results are lost")
        for one in lost:
            storage.post(Incoming(scheduler.storage.link.identity, m.ObjectDelete(0, named[one], (one,))))
        event = ObjectsLost("a host", tuple(lost))
        self.clock.after(
            self.random.choice((0.0, 0.05, 3.0)),
            lambda: scheduler.post(lambda: scheduler.core.handle(event, self.clock.now)),
        )

    def fail_disk(self) -> None:
        """The disk is full, or does not answer, for a while."""
        disk = self.disk
        if disk is None or disk.refuses_all or disk.refuses_writes:
            return
        self.ledger.excuses.disk_faults += 1
        seconds = self.random.choice((0.5, 3.0, 10.0, 40.0, 90.0))
        if self.random.random() < 0.5:
            disk.refuses_writes = "No space left on device"
        else:
            disk.refuses_all = "Input/output error"
        self.ledger.tell_all(f"the disk fails for {seconds} s: {disk.refuses_writes or disk.refuses_all}")
        self.clock.after(seconds, disk.heal)

    def damage_disk(self) -> None:
        if self.disk is not None:
            self.ledger.excuses.disk_faults += 1
            self.ledger.tell_all("a record on the disk is damaged")
            self.disk.damage(self.random)

    def revive_services(self) -> None:
        if self.storage is None:
            self.ledger.tell_all("the object storage server is started")
            self.start_storage()
        for address in self.scheduler_addresses:
            if address not in self.schedulers:
                self.ledger.tell_all(f"the scheduler at {address} is started")
                self.start_scheduler(address)

    def cut_link(self) -> None:
        links = [link for link in self.network.links if not link.is_local]
        if links:
            outage = self.random.choice((0.0, 0.5, 3.0, 10.0, 40.0))
            # Even without an outage it may take the peer longer to come back than the scheduler is ready to wait.
            self.ledger.excuses.silences += 1
            link = self.random.choice(links)
            self.ledger.tell_all(f"the link of {link.identity[:4].hex()} to {link.address} is cut for {outage} s")
            link.break_connection(outage)

    def freeze_link(self) -> None:
        links = [link for link in self.network.links if not link.is_local]
        if not links:
            return
        link = self.random.choice(links)
        seconds = self.random.choice((0.5, 3.0, 10.0, 40.0))
        self.ledger.excuses.silences += 1
        self.ledger.tell_all(f"the link of {link.identity[:4].hex()} to {link.address} freezes for {seconds} s")
        link.freeze()
        breaks = self.random.random() < 0.4
        self.clock.after(seconds, link.break_connection if breaks else link.thaw)

    def stall_process(self) -> None:
        services = [service for service in (*self.schedulers.values(), self.storage) if service is not None]
        processes: list[Process] = [*self.living_agents, *self.living_clients, *self.living_homes, *services]
        process = self.random.choice(processes)
        seconds = self.random.choice((0.2, 2.0, 10.0, 30.0))
        if seconds > 1.0:
            self.ledger.excuses.silences += 1
        self.ledger.tell_all(f"{process.name} stalls for {seconds} s")
        process.stall(seconds)

    # --- the run

    def run(self, steps: int) -> None:
        """Load and faults for `steps` steps, then heal, settle, and check what is left."""
        with in_portions(self.plan.portion_rows):
            self.load(steps)
            self.heal()
            self.settle()
            if self.plan.shutdown:
                self.shut_down()
            else:
                self.everybody_leaves()

    def load(self, steps: int) -> None:
        random = self.random
        wants = self.clock.after(0.0, lambda: None)
        while self.clock.steps < steps:
            if wants.when <= self.clock.now:
                self.want_something()
                wants = self.clock.after(random.choice((0.001, 0.05, 0.5, 3.0)), lambda: None)
                if random.random() < 0.4:
                    self.suffer_something()
            if not self.clock.step():
                raise SimulationError("nothing is left to happen: every process must have a deadline")

    def heal(self) -> None:
        """No more faults. Every link works, every service runs, and somebody has every capability."""
        self.ledger.tell_all("everything heals")
        self.healing = True
        if self.disk is not None:
            self.disk.heal()
        self.revive_services()
        self.network.heal_parts()
        for link in self.network.links:
            link.heal()
        for process in (
            *self.schedulers.values(),
            self.storage,
            *self.living_homes,
            *self.living_agents,
            *self.living_clients,
        ):
            if process is not None:
                process.resume()
        self.start_agent((RARE, "gpu", "linux"))

    def settle(self) -> None:
        """Run on until every task has ended, and a while longer."""
        while open_before := self.unfinished():
            self.run_until(lambda count=open_before: self.unfinished() != count, SETTLE_S, self.silent_futures)  # type: ignore[misc]
        # Rows of graphs that nobody wants are run all the same: with one worker that takes a while.
        self.run_until(lambda: self.scheduler is not None and not self.scheduler.core.unfinished_count, SETTLE_S, None)
        # What follows from the last answers: deletions, returns, acknowledgements, forgotten peers.
        self.run_until(lambda: False, 2 * PEER_TIMEOUT_S + OBJECT_RETENTION_S + 5.0, None)
        # Whoever died, or left, while there was no scheduler, has left objects that only their leases end.
        self.run_until(lambda: not self.orphaned_objects(), 2 * STORE_RETENTION_S, None)
        self.check_nothing_is_kept()

    def unfinished(self) -> int:
        """Tasks that have not ended, and submissions that wait."""
        return len(self.ledger.open) + sum(client.alive for client in self.waiting_to_submit)

    def silent_futures(self) -> None:
        entries = list(self.ledger.open.values())
        if not entries:
            raise SimulationError(f"{self.unfinished()} submissions wait for a permission that never comes")
        raise SimulationError(
            f"none of {len(entries)} tasks has ended for {SETTLE_S:g} s in a healthy cluster, the first: {entries[0]}",
            entries[0].key,
        )

    def run_until(self, condition: Callable[[], bool], seconds: float, otherwise: Callable[[], None] | None) -> None:
        end = self.clock.now + seconds
        steps = self.clock.steps + SETTLE_STEPS_MAX
        while not condition():
            if self.clock.steps >= steps:
                raise SimulationError(f"{SETTLE_STEPS_MAX} steps within {seconds:g} s: something runs in circles")
            if self.clock.now >= end or not self.clock.step():
                if otherwise is not None:
                    otherwise()
                return

    def check_nothing_is_kept(self) -> None:
        """With all tasks answered, no core holds anything of them."""
        assert self.scheduler is not None
        snapshot = self.scheduler.core.snapshot(self.clock.now)
        clients, counts = snapshot["clients"], snapshot["counts"]
        left = [
            (bytes.fromhex(client["incarnation"]), task["number"]) for client in clients for task in client["tasks"]
        ]
        # What came of a graph that its client has given up stays until the next one.
        stuck = [one for client in clients for one in client["graphs_arriving"] if one["rows_here"] == one["rows"]]
        if stuck:
            raise SimulationError(f"the scheduler does not begin {stuck}")
        if left or counts["ready"] or counts["recovering"] or any(client["graphs"] for client in clients):
            raise SimulationError(
                f"the scheduler keeps {len(left)} answered tasks, {counts['ready']} ready ones, {counts['recovering']} "
                f"recovering ones, {sum(len(client['graphs']) for client in clients)} graphs",
                left[0] if left else None,
            )
        for agent in self.living_agents:
            busy = [processor for processor in agent.processors.values() if processor.busy]
            if busy:
                raise SimulationError(f"{busy[0].name} still runs a task that nobody waits for")
        for client in self.living_clients:
            known = client.driver.core.snapshot()
            unanswered, unconfirmed = len(known.unanswered) + len(known.fetching), len(known.unconfirmed)
            if unanswered or unconfirmed or client.storage.pending_count:
                raise SimulationError(
                    f"{client.name} keeps {unanswered} unanswered tasks, "
                    f"{unconfirmed} unconfirmed cancellations, {client.storage.pending_count} requests"
                )

    def everybody_leaves(self) -> None:
        """All clients leave: functions and objects go with them. Those that were sent by themselves go with their references."""
        self.run_until(lambda: not self.lacking_objects(), SENT_AGAIN_S, None)
        lacking = self.lacking_objects()
        if lacking:
            raise SimulationError(f"storage lacks objects that clients have: {[one[:4].hex() for one in lacking]}")
        for client in self.living_clients:
            client.post(client.driver.references.drop_all)
        self.run_until(lambda: not self.outliving_objects(), DELETED_S, None)
        outliving = self.outliving_objects()
        if outliving:
            raise SimulationError(f"objects outlive their references: {[one[:4].hex() for one in outliving]}")
        for client in self.living_clients:
            client.leave()
        self.run_until(lambda: False, 2 * PEER_TIMEOUT_S + OBJECT_RETENTION_S + 5.0, None)
        assert self.scheduler is not None
        assert self.storage is not None
        nested = {p.client_id for agent in self.living_agents for p in agent.processors.values()}
        known_clients = self.scheduler.core.snapshot(self.clock.now)["clients"]
        staying = [client["name"] for client in known_clients if bytes.fromhex(client["incarnation"]) not in nested]
        if staying:
            raise SimulationError(f"the scheduler still knows {staying}, which have left")
        if self.living_homes:
            # An agent that was away learns with its next hello what to delete.
            self.run_until(lambda: not self.orphaned_objects(), DELETED_S, None)
        orphaned = self.orphaned_objects()
        if orphaned:
            raise SimulationError(f"objects outlive their clients: {[owner[:4].hex() for owner in orphaned]}")
        if self.disk is not None and self.disk.records:
            raise SimulationError(f"{len(self.disk.records)} records stay on the disk, which nobody needs")
        cores = {self.scheduler.name: self.scheduler.core, **{agent.name: agent.core for agent in self.living_agents}}
        held_max = OBJECTS_HELD_MAX + self.plan.options * OPTIONS_HELD_MAX * len(nested)
        for name, core in cores.items():
            held = objects_held_by(core)
            if held.total() > held_max + ENDED_GRAPH_HELD_MAX * held[m.GraphStatus]:
                most = ", ".join(f"{count} {kind.__name__}" for kind, count in held.most_common(12))
                raise SimulationError(f"{name} holds {held.total()} Python objects after everybody has left: {most}")
            if held[ClientRecord] > len(known_clients) or held[Task]:
                raise SimulationError(
                    f"{name} holds {held[Task]} tasks and {held[ClientRecord]} records of clients after everybody has "
                    f"left, and knows {len(known_clients)} clients"
                )

    def lacking_objects(self) -> list[bytes]:
        """Objects that clients refer to and have at hand, and that storage has neither itself nor in the stores of hosts.

        Where clients may be given up because nothing is heard of them, their objects may be deleted meanwhile.
        """
        assert self.storage is not None
        if self.plan.cuts or self.plan.stalls or self.plan.scheduler_dies or self.plan.standby:
            return []
        state = self.storage.core._state
        stored = {one.id for one in state.catalogue.all()}
        return [
            object_id
            for client in self.living_clients
            for object_id in client.driver.at_hand
            if client.driver.core.holds_object(object_id)
            and not client.driver.core.is_refused(object_id)
            and object_id not in stored
            and state.homes.find(object_id) is None
        ]

    def outliving_objects(self) -> list[bytes]:
        """Objects in storage whose references are gone, of living clients without unanswered tasks."""
        assert self.storage is not None
        stored = {one.id for one in self.storage.core._state.catalogue.all()} - self.storage_watch.back_again
        return [one for client in self.living_clients for one in client.driver.references.dropped if one in stored]

    def orphaned_objects(self) -> list[bytes]:
        """The owners of objects, when all clients have left."""
        assert self.storage is not None
        stores = (self.storage, *self.living_homes)
        return sorted({owner for store in stores for owner in store.core.snapshot().owners})

    def shut_down(self) -> None:
        """One client shuts the cluster down: every process ends, every client learns it."""
        client = self.living_clients[0] if self.living_clients else self.start_client()

        def act() -> None:
            if client.driver.core.snapshot().established:
                client.driver.core.shut_down_cluster("a client asked for it")
            else:
                self.clock.after(1.0, lambda: client.post(act))

        client.post(act)
        self.run_until(lambda: self.scheduler is not None and not self.scheduler.alive, 60.0, self.still_running)
        self.run_until(lambda: not self.living_agents, 60.0, self.still_running)
        for living in self.living_clients:
            living.driver.close(Cause.CLOSED)
            living.end()

    def still_running(self) -> None:
        names = [agent.name for agent in self.living_agents]
        raise SimulationError(f"after a shutdown these still run: scheduler or {names}")


def needed_rows(dependencies: list[list[int]], wanted: list[int]) -> set[int]:
    """Return the wanted rows of a graph and all that these need."""
    needed = set(wanted)
    for row in range(len(dependencies) - 1, -1, -1):
        if row in needed:
            needed.update(dependencies[row])
    return needed
