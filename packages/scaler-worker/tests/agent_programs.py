"""Random programs for an agent's core: a seed decides what the scheduler sends, what processors do, and when.

`Program` plays the scheduler and the clock, `ModelProcessor` a child process with a pipe in each direction. `Record` keeps what
the agent was sent, and judges what it says and does: see `tests/test_random_programs.py` for the promises.

    python packages/scaler-worker/tests/agent_programs.py --seed 1 --seeds 1000
"""

from __future__ import annotations

import gc
import sys
from array import array
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from math import inf
from random import Random
from types import FunctionType

from scaler_protocol.capabilities import pin_to
from scaler_protocol.ids import content_id
from scaler_protocol.runtime.resources import GPU, ONE, parse_amounts
from scaler_protocol.testing.seeded_programs import run_seeds
from scaler_protocol.testing.session_peer import SessionPeer
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.batch_rows import Reported
from scaler_protocol.wire.call_options import CallOptions
from scaler_protocol.wire.columns import Packed
from scaler_protocol.wire.envelope import UNSEQUENCED
from scaler_protocol.wire.messages import Status
from scaler_worker.core import AgentCore, AgentOptions, effects, events
from scaler_worker.core.endings import CANCEL_GRACE_SECONDS
from scaler_worker.core.functions import KnownFunctions
from scaler_worker.core.reporting import HOLD_SECONDS

CLIENTS = (b"c" * 16, b"d" * 16, b"e" * 16)
INSIDE = b"inside"
"""How the ids of clients inside tasks begin."""

BODY = b"Pbody"
FUNCTION = content_id(BODY)
AGENT = b"a" * 16
OFFERED = "cores=4,gpu=2,mem=1GiB"
DEVICES = ("x", "y")
ASKS = (("gpu=1", 1), ("gpu=2", 2), ("gpu=0.5", 1), ("cores=1", 0), ("cores=2", 0), ("mem=256MiB", 0))
"""Counted resources that a task may ask for, and how many devices go with them."""

STEPS = (60, 150, 300)
TICKS_MAX = 20
"""So often may a deadline be due that a tick at this moment has not moved on."""

ROUNDING_SECONDS = 0.001
"""By so much a time may be missed that was added up in another order."""

CALM_ROUNDS_MAX = 3000
"""After so many rounds without faults everything must have ended."""

STORY_LINES_MAX = 150


class Broken(AssertionError):
    """The core broke a promise."""


def require(holds: bool, text: str) -> None:
    """Raise Broken with this text unless a promise holds."""
    if not holds:
        raise Broken(text)


# --- what the agent was sent


@dataclass(slots=True, frozen=True)
class Grant:
    """What a task has of the host's counted resources."""

    amounts: str
    devices: tuple[str, ...]


@dataclass(slots=True, eq=False)
class Sent:
    """One attempt of a task that the agent was sent, and what may become of it."""

    client: bytes
    number: int
    attempt: int
    options: CallOptions
    depth: int = 0
    slot: int | None = None
    """The only worker that may run it."""
    grant: Grant | None = None
    previous: Sent | None = None
    """The task before it in its chain, whose result it needs."""
    end: str = ""
    """How it ended for the scheduler: the name of a status, "returned", "gone" with its client, or "unclaimed"."""
    barred: str = ""
    """Why no processor may be handed it any more; empty while one may."""
    begun: int = 0
    lost: bool = False
    """It has begun, and its processor has ended before the agent had the answer."""
    excused: set[Status] = field(default_factory=set)
    """Statuses with which the agent may end it by itself."""
    answer: tuple[Status, bytes] | None = None
    """What a processor has said of it last."""
    object_id: bytes = b""
    ending_since: float = inf
    """Since when it is to end, because its client does not want it any more."""
    read_at: float = inf
    """When the agent has read its answer, unless that is to be stored first."""

    def __str__(self) -> str:
        return f"task {self.client[:1].decode()}{self.number} attempt {self.attempt}"

    @property
    def is_once(self) -> bool:
        """Whether it may not run twice."""
        return not self.options.idempotent


Key = tuple[bytes, int]


class Record:
    """What the agent was sent, what it has said of it, and what it still owes."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self.open: dict[Key, Sent] = {}
        """What must still end."""
        self.known: dict[tuple[bytes, int, int], Sent] = {}
        """All attempts ever, by client, number and attempt."""
        self.again: list[Sent] = []
        """What the scheduler may send once more, under another attempt."""
        self.left: dict[bytes, list[Grant]] = {}
        """Grants of tasks whose clients are gone, until the agent says that they are free."""
        self.freeing: set[bytes] = set()
        """Clients of which it may say so: once for each time they have gone."""
        self.claimed: dict[Key, int] | None = None
        """Attempts in the inventory of a session that begins."""
        self.grants_held: m.GrantsHeld | None = None
        self.ends: Counter[str] = Counter()
        self.introduced: set[bytes] = set()
        """Clients inside tasks of which the scheduler has heard."""
        self.ended_inside: set[bytes] = set()
        """Those of them that have ended, which the agent has to say once."""

    def send(self, sent: Sent) -> None:
        """The scheduler sends this to the agent."""
        self.known[sent.client, sent.number, sent.attempt] = sent
        self.open[sent.client, sent.number] = sent

    def grants(self) -> Iterator[Grant]:
        """Iterate over what the scheduler takes to be in use."""
        yield from (sent.grant for sent in self.open.values() if sent.grant is not None)
        for grants in self.left.values():
            yield from grants

    # --- what the agent says

    def on_message(self, message: m.Message, at_processors: Iterable[Sent]) -> None:
        """Judge a message of the agent. `at_processors` are the tasks that processors hold."""
        if isinstance(message, m.ResultBatch):
            self._on_results(message)
        elif isinstance(message, m.TaskReturn):
            for number, attempt in zip(message.numbers, message.attempts, strict=True):
                self._on_returned(message.client, number, attempt)
        elif isinstance(message, m.GrantsFreed):
            self._tell(f"grants of {message.client[:1].decode()} are free")
            require(message.client in self.freeing, "grants are freed of a client that is not gone, or a second time")
            for sent in at_processors:
                uses = sent.client == message.client and sent.end == "gone" and sent.grant is not None
                require(not uses, f"grants of a client are freed, and {sent} is still at a processor")
            self.freeing.discard(message.client)
            self.left.pop(message.client, None)
        elif isinstance(message, m.Relay):
            self.introduced.add(message.client)
        elif isinstance(message, m.ClientGone):
            # What the last scheduler had not acknowledged is said again.
            is_right = message.client in self.ended_inside or self.claimed is not None
            require(is_right, f"client {message.client!r} is said to be gone, and is not, or a second time")
            self.ended_inside.discard(message.client)
        elif isinstance(message, m.Inventory):
            require(self.claimed is not None, "an inventory comes, and no session begins")
            assert self.claimed is not None
            for number, attempt in zip(message.numbers, message.attempts, strict=True):
                key = (message.client, number)
                require(key not in self.claimed, f"the inventory names task {number} twice")
                self.claimed[key] = attempt
        elif isinstance(message, m.GrantsHeld):
            require(self.claimed == {}, "what has grants is said at another time than first in a new session")
            self.grants_held = message

    def _on_results(self, batch: m.ResultBatch) -> None:
        statuses = batch.statuses if len(batch.statuses) else [0] * len(batch.numbers)
        objects = dict(zip(batch.object_positions, batch.objects, strict=True))
        rows = zip(batch.numbers, batch.attempts, statuses, batch.payloads.split(), strict=True)
        for row, (number, attempt, status_number, payload) in enumerate(rows):
            status = Status(status_number)
            sent = self._end(batch.client, number, attempt, status.name)
            if sent is None:
                continue
            is_its_own = sent.answer == (status, bytes(payload))
            require(
                is_its_own or status in sent.excused,
                f"{sent} ends as {status.name} with {bytes(payload)!r}; its processor said {sent.answer}",
            )
            if is_its_own:
                require(objects.get(row, b"") == sent.object_id, f"{sent} is told with another object than its own")
            may_run_again = status in (Status.RETRY, Status.PROCESSOR_DIED, Status.SKIPPED)
            if may_run_again and not (sent.is_once and status is Status.PROCESSOR_DIED):
                self.again.append(sent)

    def _on_returned(self, client: bytes, number: int, attempt: int) -> None:
        sent = self._end(client, number, attempt, "returned")
        if sent is None:
            return
        require(not sent.begun or sent.lost, f"{sent} is returned, and has begun")
        require(not sent.begun or not sent.is_once, f"{sent} is returned; it has begun, and may not run twice")
        if not sent.barred:
            self.again.append(sent)

    def _end(self, client: bytes, number: int, attempt: int, how: str) -> Sent | None:
        """Note an end; return its task, or None where a new session only repeats it."""
        sent = self.known.get((client, number, attempt))
        self._tell(f"the agent says: {sent or number} {how}")
        require(sent is not None, f"the agent ends attempt {attempt} of task {number}, which it was not sent")
        assert sent is not None
        if self.claimed is not None:
            is_named = self.claimed.get((client, number)) == attempt
            require(is_named, f"{sent} ends as {how} in a new session, and the inventory has not named it")
        if self.claimed is not None and sent.end:
            # The last scheduler had not acknowledged it.
            require(sent.end in (how, "gone"), f"{sent} ended as {sent.end}, and is repeated as {how}")
            return None
        require(not sent.end, f"{sent} ended as {sent.end}, and now again as {how}")
        sent.end = how
        sent.barred = sent.barred or ("" if how == "returned" else "it has ended")
        del self.open[client, number]
        self.ends[how] += 1
        return sent

    # --- what happens to the agent

    def client_inside_ended(self, client: bytes) -> None:
        """A client inside a task has ended."""
        if client in self.introduced:
            self.introduced.discard(client)
            self.ended_inside.add(client)

    def cancel(self, sent: Sent, now: float, *, waiting_only: bool, at_processor: bool) -> None:
        """The agent is told to end a task."""
        if not waiting_only:
            sent.excused.add(Status.CANCELED)
            sent.barred = "it was cancelled"
            sent.ending_since = min(sent.ending_since, now)
        elif not at_processor:
            sent.barred = "it was withdrawn while it waited"

    def client_gone(self, client: bytes, now: float) -> None:
        """The agent is told that a client is gone: it says nothing more of its tasks."""
        for sent in [sent for sent in self.open.values() if sent.client == client]:
            del self.open[client, sent.number]
            sent.end = "gone"
            sent.barred = "its client is gone"
            sent.ending_since = min(sent.ending_since, now)
            if sent.grant is not None:
                self.left.setdefault(client, []).append(sent.grant)
        self.again = [sent for sent in self.again if sent.client != client]
        self.freeing.add(client)

    def judge_claims(self, at_processors: Sequence[Sent], *, may_have_returned: bool) -> None:
        """A new session has begun: compare what the agent says it holds with what it was sent."""
        claimed, held = self.claimed, self.grants_held
        assert claimed is not None
        for (client, number), attempt in claimed.items():
            require((client, number, attempt) in self.known, f"the inventory names attempt {attempt} of task {number}")
        for key, sent in list(self.open.items()):
            if key in claimed:
                require(claimed[key] == sent.attempt, f"the inventory names attempt {claimed[key]} for {sent}")
                continue
            # What it gave back while there was no scheduler, it has no more.
            require(may_have_returned and sent.previous is not None, f"the inventory does not name {sent}")
            require(not sent.begun or not sent.is_once or sent.lost, f"{sent} has begun, and is not in the inventory")
            sent.end, sent.barred = "unclaimed", "it was not claimed"
            del self.open[key]
        require(held is not None, "the agent does not say which grants it holds")
        assert held is not None
        named: dict[Sent, bool] = {}
        self.left.clear()
        for client, number, attempt, amounts, devices, left in zip(
            held.clients, held.numbers, held.attempts, held.amounts, held.devices, held.left, strict=True
        ):
            sent = self.known[client, number, attempt]
            require(sent not in named, f"the grant of {sent} is named twice")
            named[sent] = bool(left)
            require(sent.grant is not None, f"{sent} has no grant")
            assert sent.grant is not None
            require(parse_amounts(amounts) == parse_amounts(sent.grant.amounts), f"{sent} is said to use {amounts}")
            require(devices == ",".join(sent.grant.devices), f"{sent} is said to have the devices {devices}")
            require(bool(left) == (sent.end == "gone"), f"{sent} ended as {sent.end!r}, and is said to be left: {left}")
            if left:
                self.left.setdefault(client, []).append(sent.grant)
            else:
                require(not sent.end, f"the grant of {sent} is held, and it has ended as {sent.end}")
        for sent in at_processors:
            if sent.grant is not None:
                require(sent in named, f"{sent} is at a processor, and its grant is not named")
        self.grants_held = self.claimed = None


# --- processors


@dataclass(slots=True, eq=False)
class Row:
    """A task in the pipe of a processor."""

    index: int
    sent: Sent
    ending: tuple[Status, bytes] | None = None
    """It is to be answered with this."""
    stubborn: bool = False
    """It goes on whatever it is told, while there are faults."""


@dataclass(slots=True)
class Answer:
    """What a processor says of a task."""

    status: Status
    payload: bytes
    microseconds: int
    object_id: bytes = b""


@dataclass(slots=True, eq=False)
class ModelProcessor:
    """A child process. It obeys the rules of the real one: indexes, generations, answers in order."""

    number: int
    random: Random
    flush_share: float
    state: str = "starting"
    """Then "up", "stopping" when it was asked to end, "killed"."""
    inbox: deque[effects.Effect] = field(default_factory=deque)
    outbox: deque[events.Event] = field(default_factory=deque)
    pipe: deque[Row] = field(default_factory=deque)
    handed: dict[int, Sent] = field(default_factory=dict)
    """All it has ever read, by index."""
    holds: dict[int, Sent] = field(default_factory=dict)
    """What it has for all the agent knows, by index."""
    running: Row | None = None
    generation: int = 0
    begun_index: int | None = None
    next_index: int = 0
    """The index behind the last task that it has read or dropped."""
    unsent: list[tuple[Row, Answer]] = field(default_factory=list)
    """Answers that wait for more."""
    unanswered: deque[Row] = field(default_factory=deque)
    """What it has begun, and of which the agent has no answer yet."""
    kept: set[int] = field(default_factory=set)
    """Successes whose results are there for the next one of their chain."""
    devices: tuple[str, ...] = ()
    blocked: bool = False
    unfinished: bool = False
    clients: list[bytes] = field(default_factory=list)
    """Those that its tasks have made, for all the agent knows."""
    front_since: float = inf
    """Since when, for all the agent knows, its first task is the first."""

    def flush(self) -> None:
        """Send the answers that wait, in one piece."""
        if not self.unsent:
            return
        rows = [row for row, _ in self.unsent]
        answers = [answer for _, answer in self.unsent]
        objects = [(at, answer.object_id) for at, answer in enumerate(answers) if answer.object_id]
        statuses = [answer.status for answer in answers] if any(answer.status for answer in answers) else ()
        self.outbox.append(
            events.ProcessorResults(
                self.number,
                rows[0].index,
                len(rows),
                [len(answer.payload) for answer in answers],
                b"".join(answer.payload for answer in answers),
                Reported(statuses=statuses, durations=[answer.microseconds for answer in answers]),
                [at for at, _ in objects],
                tuple(object_id for _, object_id in objects),
                [1000] * len(objects),
            )
        )
        self.unsent.clear()

    def read(self) -> None:
        """Take the next thing that the agent has sent."""
        effect = self.inbox.popleft()
        if isinstance(effect, effects.SendTasks):
            self._read_tasks(effect)
        elif isinstance(effect, effects.TakeBack):
            self.flush()
            self.outbox.append(events.ProcessorGaveBack(self.number, *self._drop_rest()))
        elif isinstance(effect, effects.CancelTask):
            ending = (Status(effect.status), effect.text.encode())
            for row in (*self.pipe, *((self.running,) if self.running is not None else ())):
                if row.index == effect.index:
                    row.ending = row.ending or ending
        elif isinstance(effect, effects.StopProcessor):
            require(self.running is None and not self.pipe, f"processor {self.number} is stopped, and has tasks")
            self.state = "stopping"

    def _read_tasks(self, effect: effects.SendTasks) -> None:
        if effect.generation != self.generation:
            require(effect.generation < self.generation, "tasks are sent with a generation that is not known")
            return
        if effect.devices:
            require(self.devices in ((), effect.devices), f"processor {self.number} is to use the GPUs of others")
            self.devices = effect.devices
        for index in range(effect.first_index, effect.first_index + len(effect.tasks)):
            sent = self.holds[index]
            self.pipe.append(Row(index, sent))
            self.handed[index] = sent
            self.next_index = index + 1

    def _drop_rest(self) -> tuple[int, int]:
        self.generation += 1
        if self.pipe:
            self.next_index = self.pipe[0].index
        self.pipe.clear()
        return self.generation, self.next_index

    def begin(self) -> Row | None:
        """Begin the next task; return None where it is answered without being run."""
        row = self.pipe.popleft()
        self.begun_index = row.index
        self.unanswered.append(row)
        if row.ending is not None:
            self.answer(row, Answer(*row.ending, 0))
            return None
        previous = row.sent.previous
        if previous is not None:
            require(
                self.handed.get(row.index - 1) is previous,
                f"{row.sent} comes to processor {self.number} without the one before it in its chain",
            )
            if row.index - 1 not in self.kept:
                self.answer(row, Answer(Status.SKIPPED, b"", 0))
                return None
        self.running = row
        return row

    def answer(self, row: Row, answer: Answer) -> None:
        """Say what became of a task."""
        row.sent.answer, row.sent.object_id = (answer.status, answer.payload), answer.object_id
        if row is self.running:
            self.running = None
            if self.blocked:
                self.unblock(False)
            if self.unfinished and self.random.random() < 0.8:
                self.set_unfinished(False)
        if answer.status is Status.SUCCESS:
            self.kept.add(row.index)
        self.unsent.append((row, answer))
        if not self.pipe or self.random.random() < self.flush_share:
            self.flush()

    def block(self) -> None:
        """The running task waits for tasks of its own."""
        self.flush()
        self.blocked = True
        self.outbox.append(events.ProcessorBlocked(self.number, *self._drop_rest()))

    def unblock(self, unfinished: bool) -> None:
        """The running task goes on."""
        self.blocked, self.unfinished = False, unfinished
        self.outbox.append(events.ProcessorUnblocked(self.number, unfinished))

    def set_unfinished(self, unfinished: bool) -> None:
        """Clients inside have unanswered tasks, or none any more."""
        self.unfinished = unfinished
        self.outbox.append(events.ProcessorUnfinished(self.number, unfinished))

    def is_quiet(self) -> bool:
        """Whether it has nothing to do or to say."""
        is_busy = self.inbox or self.outbox or self.pipe or self.unsent or self.running or self.clients
        return not is_busy and self.state == "up"


# --- programs


class Program:
    """One run: an agent, and everything around it. `run` raises Broken, or whatever the core raises."""

    def __init__(self, seed: int) -> None:
        self.random = random = Random(seed)
        self.story: list[str] = []
        self.steps = 0
        self.now = 100.0
        self.record = Record(self.tell)
        slots = random.choice([1, 2, 3])
        self.slots = slots
        self.timeout_seconds = random.choice([0.0, 0.0, 5.0])
        self.durations = random.choice([(1, 100), (10, 1000, 50_000), (10, 50_000, 2_000_000)])
        """How long tasks say that they took, in microseconds."""
        self.death_share = random.choice([0.005, 0.02, 0.06])
        self.flush_share = random.choice([0.1, 0.5, 0.9])
        """How often a processor sends an answer at once, and does not wait for more."""
        options = AgentOptions(
            "agent",
            AGENT,
            tuple(f"w{slot}" for slot in range(slots)),
            resources=OFFERED,
            devices=DEVICES,
            enforces_memory=random.random() < 0.5,
            task_timeout_seconds=self.timeout_seconds,
        )
        self.core = AgentCore(options)
        self.peer = SessionPeer()
        self.processors: dict[int, ModelProcessor] = {}
        self.puts: list[effects.PutObject] = []
        self.measures: list[effects.MeasureMemory] = []
        self.defined: set[bytes] = set()
        self.numbers = 0
        self.linked = False
        self.leaving = False
        self.hurried = False
        """It has so little time to leave that tasks end with it."""
        self.stopped = False
        self.failed_starts = 0
        self.step(events.Start())
        self.begin_session()

    def tell(self, text: str) -> None:
        """Note something for the story."""
        self.story.append(f"{self.now:10.3f} {self.steps:5d}  {text}")

    def run(self, steps: int) -> None:
        """Do `steps` random things, then let everything end in peace."""
        for self.steps in range(steps):
            if self.stopped:
                break
            self.do_something()
        self.come_to_rest()

    # --- the agent

    def step(self, event: events.Event) -> None:
        """Let the agent take an event, and pass on all that follows."""
        if self.stopped:
            return
        self.core.handle(event, self.now)
        for effect in self.core.take_effects():
            self._perform(effect)
        self.core.check_invariants()

    def _perform(self, effect: effects.Effect) -> None:
        require(not self.stopped, "the agent wants something done after it has stopped")
        if isinstance(effect, effects.Send):
            message = self.peer.receive(effect.envelope, effect.message, self.now)
            if message is not None:
                self.record.on_message(message, self.at_processors())
        elif isinstance(effect, effects.StartProcessor):
            self.processors[effect.processor] = ModelProcessor(effect.processor, self.random, self.flush_share)
        elif isinstance(effect, effects.Stop):
            self.tell(f"the agent stops: {effect.reason}")
            self.stopped = True
            if self.leaving and not self.hurried and not effect.status:
                require(not self.record.open, f"the agent has left, and still had {_some(self.record.open.values())}")
            else:
                require(self.hurried or self.failed_starts > 1, f"the agent stops: {effect.reason}")
        elif isinstance(effect, effects.PutObject):
            self.puts.append(effect)
        elif isinstance(effect, effects.MeasureMemory):
            self.measures.append(effect)
        elif isinstance(effect, effects.SendTasks):
            self._hand(effect)
        elif isinstance(effect, effects.KillProcessor):
            self.tell(f"processor {effect.processor} is killed")
            if effect.processor in self.processors:
                self.processors[effect.processor].state = "killed"
        elif isinstance(effect, effects.TakeBack | effects.CancelTask | effects.StopProcessor):
            self.tell(f"{type(effect).__name__} to processor {effect.processor}")
            if effect.processor in self.processors:
                self.processors[effect.processor].inbox.append(effect)

    def _hand(self, effect: effects.SendTasks) -> None:
        processor, tasks = self.processors[effect.processor], effect.tasks
        if not processor.holds:
            processor.front_since = self.now
        for index, number, attempt in zip(
            range(effect.first_index, effect.first_index + len(tasks)), tasks.numbers, tasks.attempts, strict=True
        ):
            sent = self.record.known[tasks.client, number, attempt]
            self.tell(f"{sent} to processor {effect.processor} as {index}")
            require(not sent.barred, f"{sent} is handed to a processor although {sent.barred}")
            require(not sent.end, f"{sent} is handed to a processor, and has ended as {sent.end}")
            processor.holds[index] = sent
        processor.inbox.append(effect)

    def at_processors(self) -> list[Sent]:
        """Return the tasks that processors have, for all the agent knows."""
        return [sent for processor in self.processors.values() for sent in processor.holds.values()]

    # --- the scheduler

    def say(self, message: m.Message) -> None:
        """The scheduler sends a message of the session."""
        self.step(events.Incoming(*self.peer.say(message)))

    def begin_session(self) -> None:
        """A scheduler that knows nothing of this agent lets it in."""
        self.peer.incarnation = self.random.randbytes(16)
        self.tell("a session begins")
        welcome = self.peer.welcome(resumed=False, object_storage_address="tcp://127.0.0.1:1")
        self.record.claimed = {}
        self.linked = True
        self.step(events.Incoming(*welcome))
        if not self.stopped:
            self.record.judge_claims(self.at_processors(), may_have_returned=True)
        self.defined.clear()

    def end_session(self) -> None:
        """The scheduler has ended, and another one does not know the agent."""
        self.tell("the session is lost")
        self.linked = False
        self.step(events.Incoming(UNSEQUENCED, m.UnknownPeer()))

    def submit(self) -> None:
        """Send tasks: new ones, or one that is to run again."""
        random = self.random
        if self.record.again and random.random() < 0.4:
            before = self.record.again.pop(random.randrange(len(self.record.again)))
            grant = None
            if before.grant is not None:
                grant = self.granted(before.grant.amounts, len(before.grant.devices))
                if grant is None:
                    return
            self.send(
                [
                    Sent(
                        before.client,
                        before.number,
                        before.attempt + 1,
                        before.options,
                        before.depth,
                        before.slot,
                        grant,
                    )
                ]
            )
            return
        options = CallOptions(
            timeout_seconds=random.choice([0.5, 1.0, 3.0]) if random.random() < 0.2 else 0.0,
            priority=random.choice([-1, 1, 5]) if random.random() < 0.1 else 0,
            idempotent=random.random() > 0.25,
        )
        kind = random.choice(["single", "counted", "counted", "pinned", "many", "many", "chains", "chains"])
        grant, slot, count = None, None, 1
        if kind == "counted":
            amounts, devices = random.choice(ASKS)
            grant = self.granted(amounts, devices)
            if grant is None:
                return
            options = options._replace(resources=parse_amounts(amounts))
        elif kind in ("many", "chains"):
            count = random.choice([2, 3, 5, 20])
        if kind == "pinned" or (kind == "counted" and random.random() < 0.2):
            # One in twenty is for a worker that is not there.
            slot = random.randrange(self.slots + (random.random() < 0.05))
        client, depth = random.choice(CLIENTS), random.choice([0, 0, 0, 1, 2])
        rows: list[Sent] = []
        for _ in range(count):
            self.numbers += 1
            rows.append(Sent(client, self.numbers, 1, options, depth, slot, grant))
        ends: list[int] = []
        if kind == "chains":
            while not ends or ends[-1] < count:
                first = ends[-1] if ends else 0
                ends.append(min(count, first + random.choice([1, 2, 3, 6])))
                for row in range(first + 1, ends[-1]):
                    rows[row].previous = rows[row - 1]
        self.send(rows, ends)

    def granted(self, amounts: str, devices: int) -> Grant | None:
        """Return a grant of these amounts, with so many devices; None where that is not free."""
        asked = dict(parse_amounts(amounts))
        free, shares = self._free(self.record.grants())
        able = [device for device in DEVICES if shares[device] >= _share(amounts)]
        if any(free[name] < amount for name, amount in asked.items()) or len(able) < devices:
            return None
        return Grant(amounts, tuple(sorted(self.random.sample(able, devices))))

    @staticmethod
    def _free(grants: Iterable[Grant]) -> tuple[dict[str, int], dict[str, int]]:
        free, shares = dict(parse_amounts(OFFERED)), dict.fromkeys(DEVICES, ONE)
        for grant in grants:
            for name, amount in parse_amounts(grant.amounts):
                free[name] -= amount
            for device in grant.devices:
                shares[device] -= _share(grant.amounts)
        return free, shares

    def send(self, rows: Sequence[Sent], chain_ends: Sequence[int] = ()) -> None:
        """Send these as one batch."""
        first = rows[0]
        if first.client not in self.defined:
            self.defined.add(first.client)
            self.say(m.FunctionDefine(first.client, (FUNCTION,), Packed.of([BODY])))
        for sent in rows:
            self.tell(f"sends {sent}" + (f" behind {sent.previous.number}" if sent.previous else ""))
            self.record.send(sent)
            if sent.slot is not None and sent.slot >= self.slots:
                sent.excused.add(Status.NOT_RUN)
        linked = [row for row, sent in enumerate(rows) if sent.previous is not None]
        self.say(
            m.TaskBatch(
                first.client,
                array("Q", [sent.number for sent in rows]),
                (FUNCTION,),
                Packed.of([b"P%d" % sent.number for sent in rows]),
                attempts=array("H", [sent.attempt for sent in rows]),
                depth=first.depth,
                capabilities=() if first.slot is None else pin_to(AGENT, first.slot),
                options=b"" if first.options == CallOptions() else first.options.for_agents,
                granted=first.grant.amounts if first.grant is not None else "",
                devices=",".join(first.grant.devices) if first.grant is not None else "",
                input_positions=linked,
                inputs=Packed.of([b""] * len(linked)),
                input_sources=[1] * len(linked),
                chain_ends=list(chain_ends),
            )
        )

    def cancel(self) -> None:
        """Cancel some tasks of a client, or withdraw those that wait."""
        if not self.record.open:
            return
        chosen = self.random.choice(list(self.record.open.values()))
        waiting_only = self.random.random() < 0.3
        some = [
            sent
            for sent in self.record.open.values()
            if sent is chosen or (sent.client == chosen.client and self.random.random() < 0.2)
        ]
        held = set(self.at_processors())
        for sent in some:
            self.tell(f"{'withdraws' if waiting_only else 'cancels'} {sent}")
            self.record.cancel(sent, self.now, waiting_only=waiting_only, at_processor=sent in held)
        numbers, attempts = [sent.number for sent in some], [sent.attempt for sent in some]
        self.say(m.TaskCancel(chosen.client, numbers, attempts, waiting_only))

    def client_gone(self, client: bytes) -> None:
        """A client has ended."""
        self.tell(f"client {client[:1].decode()} is gone")
        self.record.client_gone(client, self.now)
        self.defined.discard(client)
        self.say(m.ClientGone(client))

    def leave(self) -> None:
        """The agent is asked to leave."""
        self.leaving = True
        if self.random.random() < 0.5:
            self.tell("the agent is drained")
            self.say(m.Drain())
        else:
            self.tell("the agent is to stop within a second")
            self.hurried = True
            self.step(events.StopRequested("a test", 1.0))

    # --- time

    def wait(self, seconds: float) -> None:
        """Let time pass, with a tick at every deadline."""
        until, ticks = self.now + seconds, 0
        while not self.stopped and (deadline := self.core.next_deadline()) <= until:
            ticks = ticks + 1 if deadline <= self.now else 0
            require(ticks < TICKS_MAX, f"the core spins: its next deadline stays {deadline}")
            self.now = max(self.now, deadline)
            if self.linked:
                self.step(events.Incoming(*self.peer.say_plain(m.Heartbeat())))
            self.step(events.Tick())
        self.now = until
        if self.stopped:
            return
        for processor in self.processors.values():
            if processor.holds and processor.state == "up":
                self._check_time_limits(processor)
        if self.linked:
            for sent in self.record.open.values():
                late = self.now - sent.read_at - HOLD_SECONDS
                require(late < ROUNDING_SECONDS, f"the answer to {sent} is not told, {late} s after it may be held")

    def _check_time_limits(self, processor: ModelProcessor) -> None:
        """What should end does so, or its processor is killed."""
        sent = next(iter(processor.holds.values()))
        latest = max(processor.front_since, sent.ending_since)
        for limit in (sent.options.timeout_seconds, self.timeout_seconds):
            if limit:
                latest = min(latest, processor.front_since + limit)
        latest += CANCEL_GRACE_SECONDS + ROUNDING_SECONDS
        require(self.now <= latest, f"{sent} should have ended at {latest:.3f} s")

    # --- processors

    def processor_acts(self, processor: ModelProcessor, *, calm: bool = False) -> None:
        """Let a processor do one thing that it can do now."""
        can: list[Callable[[ModelProcessor], None]] = []
        chance = self.random.random()
        if processor.state == "starting":
            can = [self._starts]
            if chance < 0.05 and not calm:
                can = [self._dies]
        elif processor.state == "killed":
            can = [self._dies]
        else:
            if processor.inbox:
                can += [lambda one: one.read()] * 3
            if processor.outbox:
                can += [self._says] * 3
            elif processor.unsent:
                can += [lambda one: one.flush()]
            elif processor.state == "stopping":
                can += [self._exits]
            if processor.state == "up" and processor.running is None and processor.pipe:
                can += [self._begins] * 2
            elif processor.state == "up" and processor.running is not None:
                if calm or not processor.running.stubborn:
                    can += [self._answers] * 2
                if not calm:
                    can += [self._blocks, self._is_unfinished, self._has_client]
            elif calm and processor.clients and processor.state == "up":
                can += [self._closes_client]
            elif processor.unfinished and (calm or chance < 0.3):
                can += [lambda one: one.set_unfinished(False)]
            if not calm and chance < self.death_share:
                can = [self._dies]
            elif not calm and chance < self.death_share + 0.02 and processor.running is None and not processor.unsent:
                can = [self._retires]
        if can:
            self.random.choice(can)(processor)

    def _starts(self, processor: ModelProcessor) -> None:
        processor.state = "up"
        self.failed_starts = 0
        self.step(events.ProcessorReady(processor.number, 1000 + processor.number))

    def _says(self, processor: ModelProcessor) -> None:
        """The agent reads the next thing that a processor has written."""
        event = processor.outbox.popleft()
        if isinstance(event, events.ProcessorResults):
            for _ in range(event.count):
                sent = processor.holds.pop(processor.unanswered.popleft().index)
                sent.read_at = inf if sent.object_id else self.now
            processor.front_since = self.now
        elif isinstance(event, events.ProcessorGaveBack | events.ProcessorBlocked):
            for index in [index for index in processor.holds if index >= event.next_index]:
                del processor.holds[index]
        elif isinstance(event, events.RelayOpened):
            processor.clients.append(event.client)
        elif isinstance(event, events.RelayClosed) and event.client in processor.clients:
            processor.clients.remove(event.client)
            self.record.client_inside_ended(event.client)
        self.step(event)

    def _begins(self, processor: ModelProcessor) -> None:
        row = processor.begin()
        if row is None:
            return
        sent = row.sent
        self.tell(f"{sent} begins at processor {processor.number}")
        require(not sent.begun or not sent.is_once, f"{sent} begins a second time, and may not run twice")
        require(not sent.begun or sent.lost, f"{sent} begins a second time, and its answer was not lost")
        require(sent.end in ("", "gone"), f"{sent} begins, and has ended as {sent.end}")
        row.stubborn = self.random.random() < 0.1
        sent.begun += 1
        sent.lost = False
        running = [one.running.sent.grant for one in self.processors.values() if one.running is not None]
        free, shares = self._free(grant for grant in running if grant is not None)
        require(min(free.values()) >= 0, f"with {sent} more runs than the host offers: {free}")
        require(min(shares.values()) >= 0, f"with {sent} a device is used twice: {shares}")

    def _answers(self, processor: ModelProcessor) -> None:
        row, random = processor.running, self.random
        assert row is not None
        name = b"%d.%d.%d" % (row.sent.number, row.sent.attempt, row.sent.begun)
        chance = random.random()
        microseconds = random.choice(self.durations)
        if row.ending is not None and chance < 0.6:
            answer = Answer(*row.ending, microseconds)
        elif chance < 0.8:
            answer = Answer(Status.SUCCESS, b"value " + name, microseconds)
        elif chance < 0.85:
            answer = Answer(Status.FAILED, b"failed " + name, microseconds)
        elif chance < 0.9:
            answer = Answer(Status.RETRY, b"again " + name, microseconds)
        else:
            answer = Answer(Status.SUCCESS, b"object " + name, microseconds, random.randbytes(16))
        self.tell(f"{row.sent} is answered: {answer.status.name}")
        processor.answer(row, answer)

    def _blocks(self, processor: ModelProcessor) -> None:
        if processor.blocked:
            processor.unblock(self.random.random() < 0.3)
        else:
            self.tell(f"processor {processor.number} blocks")
            processor.block()

    def _is_unfinished(self, processor: ModelProcessor) -> None:
        if not processor.blocked:
            processor.set_unfinished(not processor.unfinished)

    def _has_client(self, processor: ModelProcessor) -> None:
        """The running task makes a client, or has one say something or end."""
        chance = self.random.random()
        if not processor.clients or chance < 0.2:
            self.numbers += 1
            processor.outbox.append(events.RelayOpened(processor.number, INSIDE + b"%010d" % self.numbers))
        elif chance < 0.8:
            client = self.random.choice(processor.clients)
            processor.outbox.append(events.RelayFrames(processor.number, client, [b"envelope", b"message"]))
        else:
            self._closes_client(processor)

    def _closes_client(self, processor: ModelProcessor) -> None:
        processor.outbox.append(events.RelayClosed(processor.number, self.random.choice(processor.clients)))

    def _dies(self, processor: ModelProcessor) -> None:
        if processor.state == "starting":
            self.failed_starts += 1
        self._ends(processor, exceeded=processor.running is not None and self.random.random() < 0.2)

    def _retires(self, processor: ModelProcessor) -> None:
        while processor.outbox:
            self._says(processor)
        self._ends(processor, retired=True)

    def _exits(self, processor: ModelProcessor) -> None:
        self._ends(processor)

    def _ends(self, processor: ModelProcessor, *, retired: bool = False, exceeded: bool = False) -> None:
        """A processor ends; of what it has written last, the agent may have got only a part."""
        for _ in range(self.random.randint(0, len(processor.outbox))):
            self._says(processor)
        if self.stopped or processor.number not in self.processors:
            return
        self.tell(f"processor {processor.number} ends, has begun {processor.begun_index}, exceeded {exceeded}")
        del self.processors[processor.number]
        for client in processor.clients:
            self.record.client_inside_ended(client)
        for row in processor.unanswered:
            row.sent.lost = bool(row.sent.begun)
            row.sent.excused.add(Status.PROCESSOR_DIED)
            if row.index == processor.begun_index and exceeded:
                row.sent.excused.add(Status.LIMIT_EXCEEDED)
        for sent in list(processor.holds.values())[:1]:
            # The third processor that dies when this is next is its business.
            sent.excused.add(Status.PROCESSOR_DIED)
        self.step(
            events.ProcessorExited(
                processor.number, processor.begun_index, "it ended", retired=retired, exceeded=exceeded
            )
        )

    # --- objects and memory

    def store(self, *, calm: bool = False) -> None:
        """Answer an upload."""
        if not self.puts:
            return
        put = self.puts.pop(self.random.randrange(len(self.puts)))
        error = "it is full" if not calm and self.random.random() < 0.3 else ""
        lost = not calm and self.random.random() < 0.3
        for sent in self.record.open.values():
            if sent.object_id == put.id and error:
                sent.excused.add(Status.PROCESSOR_DIED if lost else Status.STORAGE_FAILED)
        self.step(events.ObjectStored(put.request, error, lost))

    def measure(self, *, calm: bool = False) -> None:
        """Answer a question for the memory of tasks."""
        if not self.measures:
            return
        used: dict[int, tuple[int, int]] = {}
        for number, index in self.measures.pop(0).tasks:
            taken = 0 if calm else self.random.choice([0, 10**6, 2 * 10**9])
            used[number] = index, taken
            processor = self.processors.get(number)
            if processor is not None and index in processor.holds and taken > 10**9:
                processor.holds[index].excused.add(Status.LIMIT_EXCEEDED)
        self.step(events.MemoryMeasured(used))

    # --- what happens

    def do_something(self) -> None:
        """Do one random thing."""
        random, chance = self.random, self.random.random()
        for processor in self.processors.values():
            if processor.holds:
                self._excuse_time_limits(processor)
        if chance < 0.75:
            for _ in range(random.choice([1, 3, 10])):
                if self.processors and not self.stopped:
                    self.processor_acts(random.choice(list(self.processors.values())))
        elif chance < 0.8:
            self.wait(random.choice([0.001, 0.01, 0.06, 0.3, 1.1, 2.5]))
        elif chance < 0.83:
            self.store()
            self.measure()
        elif not self.linked:
            if chance < 0.9:
                self.begin_session()
        elif chance < 0.94:
            self.submit()
        elif chance < 0.97:
            self.cancel()
        elif chance < 0.977:
            self.client_gone(random.choice(CLIENTS))
        elif chance < 0.985:
            self.end_session()
        elif chance < 0.99:
            self.say(m.TaskRecall(random.choice([1, 3, 50])))
        elif chance < 0.991 and not self.leaving:
            self.leave()

    def _excuse_time_limits(self, processor: ModelProcessor) -> None:
        for sent in processor.holds.values():
            if sent.options.timeout_seconds or self.timeout_seconds:
                sent.excused.add(Status.TIMED_OUT)

    def come_to_rest(self) -> None:
        """Let everything end without further faults, and look at what is left."""
        if not self.linked and not self.stopped:
            self.begin_session()
        if self.random.random() < 0.7:
            self._calm_down()
        # Else all clients go at once, in the middle of their work.
        for client in CLIENTS:
            if not self.stopped:
                self.client_gone(client)
        self._calm_down()
        if self.stopped:
            return
        # What was said last is acknowledged with the next heartbeats.
        self.wait(5.0)
        kept = kept_of_clients(self.core)
        require(not kept, f"all clients are gone, and the agent keeps something of {', '.join(kept)}")

    def _calm_down(self) -> None:
        for _ in range(CALM_ROUNDS_MAX):
            if self.stopped:
                return
            for processor in list(self.processors.values()):
                if not self.stopped and processor.number in self.processors:
                    self._excuse_time_limits(processor)
                    self.processor_acts(processor, calm=True)
            while self.puts:
                self.store(calm=True)
            while self.measures:
                self.measure(calm=True)
            self.wait(0.05)
            owed = self.record.open or self.record.left or self.record.ended_inside
            if not owed and all(map(ModelProcessor.is_quiet, self.processors.values())):
                return
        require(not self.record.ended_inside, f"the agent does not say that {self.record.ended_inside} have ended")
        require(not self.record.left, f"grants of clients that are gone are never freed: {self.record.left}")
        raise Broken(f"it does not end: {_some(self.record.open.values())} are open")


def _some(tasks: Iterable[Sent]) -> str:
    return ", ".join(str(sent) for sent in list(tasks)[:5])


def _share(amounts: str) -> int:
    return min(dict(parse_amounts(amounts)).get(GPU, 0), ONE)


def kept_of_clients(core: AgentCore) -> list[str]:
    """Return what is reachable from a core of clients that are gone: their ids, and that of their function.

    Three things have bounds instead: clients that have left, tasks whose processors died, functions that processors know.
    """
    bounded = (core._state.functions._left, core._lifecycle._unstarted_deaths)
    seen: set[int] = set(map(id, bounded))
    waiting: list[object] = [core]
    found: set[str] = set()
    while waiting:
        one = waiting.pop()
        if id(one) in seen or isinstance(one, type | FunctionType | KnownFunctions):
            continue
        seen.add(id(one))
        if isinstance(one, bytes) and (one in (*CLIENTS, FUNCTION) or one.startswith(INSIDE)):
            found.add("the function" if one == FUNCTION else f"client {one.decode()}")
        waiting += gc.get_referents(one)
    return sorted(found)


# --- runs


def run(seed: int, steps: int | None = None) -> Program:
    """Run the program of a seed and return it. Raises Broken with seed and story."""
    program = Program(seed)
    try:
        program.run(program.random.choice(STEPS) if steps is None else steps)
    except Exception as error:
        story = "\n".join(program.story[-STORY_LINES_MAX:])
        text = f"seed {seed}: {type(error).__name__}: {error}"
        raise Broken(f"{text}\n{story}\n{text}") from error
    return program


if __name__ == "__main__":
    sys.exit(run_seeds(lambda seed, steps: run(seed, steps).record.ends, Broken, __doc__))
