"""An agent in a random program. It does with tasks what real agents do, most of all with chains; which of it, and when, is drawn.

Rows of a chain run in order in one processor, which alone has the results of those before. A row whose predecessor has no result
is skipped. What is left of a chain that has begun goes back to the scheduler; a chain that has not begun stays whole.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

from harness import Agent, Harness
from program_ledger import Key, ProgramError, ProgramLedger

from scaler_protocol.capabilities import pinned_slot
from scaler_protocol.runtime.resources import GPU, ONE, Amounts, format_amounts, parse_amounts
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.call_options import CallOptions, asked_of
from scaler_protocol.wire.columns import Packed

OBJECTS_SHARE = 0.3
"""So many of the results are objects."""


@dataclass(slots=True, eq=False)
class Row:
    """An attempt of a task."""

    client: bytes
    number: int
    attempt: int
    depth: int
    inputs: list[bytes | Row]
    """Results as they came, or rows before it in its chain."""
    asked: CallOptions
    granted: Amounts
    devices: tuple[str, ...]
    slot: int | None
    begins_chain: bool
    ending: m.Status | None = None
    """How it is to end before it has."""
    abandoned: bool = False
    """Its client is gone."""

    @property
    def key(self) -> Key:
        return self.client, self.number

    @property
    def is_counted(self) -> bool:
        """Whether it has counted resources, of its host or of the cluster."""
        return bool(self.asked.resources)


class Outcome(NamedTuple):
    """How a row has ended."""

    row: Row
    status: m.Status
    payload: bytes
    object_id: bytes = b""


@dataclass(slots=True, eq=False)
class Processor:
    """Runs the rows of its pipe one after another."""

    slot: int
    pipe: deque[Row] = field(default_factory=deque)
    running: Row | None = None
    """The first one in the pipe, once it has begun."""
    ended: list[Outcome] = field(default_factory=list)
    """What it has not told its agent yet. If it dies, nobody hears of it."""
    kept: dict[Row, bytes] = field(default_factory=dict)
    """Results that following rows of a chain may need."""

    def rows(self) -> list[Row]:
        """Return the rows that its agent knows to be here."""
        return [*(outcome.row for outcome in self.ended), *self.pipe]


class ProgramAgent:
    """Draws what happens on one host. Its peer speaks the protocol."""

    def __init__(
        self, harness: Harness, ledger: ProgramLedger, random: Random, name: str, slots: int, gpus: int, capacity: int
    ) -> None:
        self.name = name
        self.ledger = ledger
        self.random = random
        self.resources = f"gpu={gpus}" if gpus else ""
        devices = tuple(map(str, range(gpus)))
        chains = random.random() < 0.85
        self.peer = Agent(harness, name, slots, capacity, (), chains, self.resources, devices, announces=True)
        self.queue: deque[list[Row]] = deque()
        """Chains, and single rows."""
        self.processors = [Processor(slot) for slot in range(slots)]
        self.results: list[Outcome] = []
        """What the scheduler has still to be told."""
        self.freeing: set[bytes] = set()
        """Clients that are gone, and had counted resources here."""
        self.leaving = False
        self.was_cut = False
        """Whether it could not be reached for a while: since then it may have been told late what was sent to it."""
        self.functions: dict[bytes, set[bytes]] = {}
        self._counted: set[bytes] = set()

    def rows(self) -> list[Row]:
        """Return all that it has and has not told the end of."""
        held = [row for unit in self.queue for row in unit]
        held += [row for processor in self.processors for row in processor.rows()]
        return held + [outcome.row for outcome in self.results]

    @property
    def is_idle(self) -> bool:
        return not self.queue and not self.results and not any(one.rows() for one in self.processors)

    # --- messages

    def listen(self) -> None:
        """Do what the scheduler says."""
        for message in self.peer.hear():
            if isinstance(message, m.Welcome):
                self._announce()
            elif isinstance(message, m.FunctionDefine):
                self.functions.setdefault(message.client, set()).update(message.ids)
            elif isinstance(message, m.TaskBatch):
                self._accept(message)
            elif isinstance(message, m.TaskCancel):
                self._cancel(message)
            elif isinstance(message, m.TaskRecall):
                self._recall(message.count)
            elif isinstance(message, m.ClientGone):
                self._drop_client(message.client)
            elif isinstance(message, m.Drain | m.Shutdown):
                self.leave()
        self._check_grants()

    def send(self, *messages: m.Message) -> None:
        """Tell the scheduler, if there is a session; what matters is announced in the next one, before anything else."""
        is_new = any(isinstance(one, m.Welcome) and not one.resumed for one in self.peer.received)
        if self.peer.connection.established and not is_new:
            self.peer.send(*messages)

    def _announce(self) -> None:
        if self.resources:
            counted = [row for row in self.in_use() if row.is_counted]
            self.send(
                m.GrantsHeld(
                    tuple(row.client for row in counted),
                    [row.number for row in counted],
                    [row.attempt for row in counted],
                    [row.depth for row in counted],
                    tuple(format_amounts(row.asked.resources) for row in counted),
                    tuple(",".join(row.devices) for row in counted),
                    [row.abandoned for row in counted],
                )
            )
        untold = [message for message in self.peer.untold if isinstance(message, m.ResultBatch)]
        self.peer.untold = []
        held: dict[bytes, list[tuple[int, int]]] = {}
        for row in self.rows():
            if not row.abandoned:
                held.setdefault(row.client, []).append((row.number, row.attempt))
        for batch in untold:
            held.setdefault(batch.client, []).extend(zip(batch.numbers, batch.attempts, strict=True))
        for client, rows in held.items():
            numbers, attempts = zip(*rows, strict=True)
            self.send(m.Inventory(client, numbers, attempts, [m.HeldState.QUEUED] * len(rows)))
            self.ledger.tell(None, f"{self.name} says that it has {list(rows)} of {client.decode()}")
        self.send(*untold)
        self.peer.connection.heartbeat(m.Heartbeat(capacity=self.peer.capacity), self.peer.harness.now)
        if self.leaving:
            self.send(m.Drain())

    def _accept(self, batch: m.TaskBatch) -> None:
        rows = self._read(batch)
        for row in rows:
            self.ledger.assigned(row.key, self.name, row.attempt, is_late=self.was_cut)
            # Of a client that was gone, and is back, there may be another one that ends here.
            held = (other for other in self.rows() if not other.abandoned)
            if any(row.key == other.key and row.attempt == other.attempt for other in held):
                raise ProgramError(f"attempt {row.attempt} comes to {self.name} twice", row.key)
        if not self.functions.get(batch.client, set()).issuperset(batch.functions):
            raise ProgramError(f"{self.name} does not know its function", rows[0].key)
        if self.leaving:
            self._give_back([rows])
            return
        if rows[0].is_counted:
            self._counted.add(batch.client)
        unit: list[Row] = []
        for row in rows:
            if row.begins_chain:
                unit = []
                self.queue.append(unit)
            unit.append(row)

    def _read(self, batch: m.TaskBatch) -> list[Row]:
        asked = asked_of(batch.options)
        granted = parse_amounts(batch.granted) if asked.resources else ()
        devices = tuple(batch.devices.split(",")) if batch.devices else ()
        slot = pinned_slot(batch.capabilities) if batch.capabilities else None
        starts = {0, *batch.chain_ends} if len(batch.chain_ends) else set(range(len(batch.numbers)))
        rows: list[Row] = []
        attempts = batch.attempts if len(batch.attempts) else [1] * len(batch.numbers)
        for place, (number, attempt) in enumerate(zip(batch.numbers, attempts, strict=True)):
            begins = place in starts
            rows.append(Row(batch.client, number, attempt, batch.depth, [], asked, granted, devices, slot, begins))
        sources = batch.input_sources if len(batch.input_sources) else [0] * len(batch.input_positions)
        for place, payload, source in zip(batch.input_positions, batch.inputs.split(), sources, strict=True):
            rows[place].inputs.append(rows[place - source] if source else payload)
        if slot is not None and not 0 <= slot < len(self.processors):
            raise ProgramError(f"{self.name} has no worker {slot}", rows[0].key)
        return rows

    def _cancel(self, message: m.TaskCancel) -> None:
        attempts = message.attempts if len(message.attempts) else [0] * len(message.numbers)
        wanted = dict(zip(message.numbers, attempts, strict=True))

        def is_meant(row: Row) -> bool:
            return row.client == message.client and wanted.get(row.number) in (0, row.attempt)

        removed: list[Row] = []
        orphaned: list[Row] = []
        kept: deque[list[Row]] = deque()
        for unit in self.queue:
            first = next((place for place, row in enumerate(unit) if is_meant(row)), None)
            if first is None:
                kept.append(unit)
                continue
            if first:
                kept.append(unit[:first])
            for row in unit[first:]:
                (removed if is_meant(row) else orphaned).append(row)
        self.queue = kept
        for row in (*removed, *orphaned):
            self.ledger.tell(row.key, f"{self.name} takes it from its queue")
        if message.waiting_only:
            self._give_back([removed, orphaned])
            return
        for row in removed:
            self._end(Outcome(row, m.Status.CANCELED, b""))
        self._give_back([orphaned])
        for processor in self.processors:
            for row in processor.pipe:
                if is_meant(row) and not row.abandoned and row.ending is None:
                    row.ending = m.Status.CANCELED

    def _recall(self, count: int) -> None:
        returned: list[list[Row]] = []
        while self.queue and len(returned) < count:
            returned.append(self.queue.pop())
        self._give_back(returned)

    def _drop_client(self, client: bytes) -> None:
        self.queue = deque(unit for unit in self.queue if unit[0].client != client)
        self.results = [outcome for outcome in self.results if outcome.row.client != client]
        for processor in self.processors:
            processor.ended = [outcome for outcome in processor.ended if outcome.row.client != client]
            for row in processor.pipe:
                if row.client == client:
                    row.abandoned, row.ending = True, m.Status.CANCELED
        if client in self._counted:
            self._counted.discard(client)
            self.freeing.add(client)
        self.functions.pop(client, None)
        self.tell_freed()

    def tell_freed(self) -> None:
        """Tell which clients that are gone use nothing here any more."""
        held = {row.client for row in self.in_use() if row.abandoned and row.is_counted}
        for client in sorted(self.freeing - held):
            if self.peer.connection.established:
                self.freeing.discard(client)
                self.send(m.GrantsFreed(client))

    def _give_back(self, units: Iterable[Sequence[Row]]) -> None:
        by_client: dict[bytes, list[Row]] = {}
        for unit in units:
            for row in unit:
                by_client.setdefault(row.client, []).append(row)
                self.ledger.tell(row.key, f"{self.name} gives it back")
        for client, rows in by_client.items():
            self.send(m.TaskReturn(client, [row.number for row in rows], [row.attempt for row in rows]))

    # --- what happens

    def hand_over(self) -> None:
        """Hand the next tasks to an idle processor, if there is one that may have them."""
        if not self.queue:
            return
        unit = self.queue[0]
        able = [one for one in self.processors if not one.rows() and unit[0].slot in (None, one.slot)]
        if not able:
            # Others overtake what waits for one worker.
            self.queue.rotate(-1)
            return
        processor = self.random.choice(able)
        processor.kept.clear()
        processor.pipe.extend(self.queue.popleft())
        while self.queue and not unit[0].is_counted and self.random.random() < 0.4:
            following = self.queue[0]
            if following[0].is_counted or following[0].slot is not None:
                break
            processor.pipe.extend(self.queue.popleft())

    def begin(self, processor: Processor, *, well: bool) -> None:
        """Call the next function, unless something is in the way."""
        row = processor.pipe[0]
        if row.ending is not None:
            self._leave_pipe(processor, Outcome(row, row.ending, b""))
            return
        if not well and self.ledger.entries[row.key].is_single and self.random.random() < 0.03:
            self._leave_pipe(processor, Outcome(row, m.Status.UNREADABLE, b"its arguments cannot be read"))
            return
        inputs = []
        for one in row.inputs:
            if isinstance(one, Row):
                if one not in processor.kept:
                    self._leave_pipe(processor, Outcome(row, m.Status.SKIPPED, b""))
                    return
                inputs.append(processor.kept[one])
            elif one[:1] != b"O":
                inputs.append(one)
            elif one[1:] in self.ledger.stored:
                inputs.append(self.ledger.values[one[1:]])
            else:
                text = b"object %b, which task %d needs, is not there" % (one[1:].hex().encode(), row.number)
                self._leave_pipe(processor, Outcome(row, m.Status.MISSING_OBJECT, text))
                return
        processor.running = row
        if not row.abandoned:
            self.ledger.begun(row.key, inputs, self.name)

    def end(self, processor: Processor, *, well: bool) -> None:
        """The running function ends. `well`: it returns, unless it is to end."""
        row = processor.running
        assert row is not None
        chance = self.random.random()
        if row.ending is not None and (well or chance < 0.7):
            self._leave_pipe(processor, Outcome(row, row.ending, b""))
        elif well or chance < 0.6:
            self._return_value(processor, row)
        elif chance < 0.8:
            failure = b"Ptask %d fails" % row.number
            retries = row.asked.retries
            status = m.Status.FAILED if retries is None or chance < 0.63 else m.Status.RETRY
            self._leave_pipe(processor, Outcome(row, status, failure))
        elif chance < 0.9 and row.asked.timeout_seconds:
            self._leave_pipe(processor, Outcome(row, m.Status.TIMED_OUT, b"the task ran for too long"))
        elif chance < 0.93:
            text = b"the result of task %d could not be stored" % row.number
            self._leave_pipe(processor, Outcome(row, m.Status.STORAGE_FAILED, text))
        else:
            self._return_value(processor, row)

    def _return_value(self, processor: Processor, row: Row) -> None:
        if row.abandoned:
            self._leave_pipe(processor, Outcome(row, m.Status.SUCCESS, b""))
            return
        value = self.ledger.value(row.key)
        processor.kept[row] = value
        if self.random.random() > OBJECTS_SHARE:
            self._leave_pipe(processor, Outcome(row, m.Status.SUCCESS, value))
            return
        object_id = self.random.randbytes(16)
        self.ledger.store(object_id, value, row.client)
        self._leave_pipe(processor, Outcome(row, m.Status.SUCCESS, b"O" + object_id, object_id))

    def _leave_pipe(self, processor: Processor, outcome: Outcome) -> None:
        processor.pipe.popleft()
        processor.running = None
        if not outcome.row.abandoned:
            processor.ended.append(outcome)

    def tell(self, processor: Processor) -> None:
        """A processor tells its agent what has ended."""
        for outcome in processor.ended:
            self._end(outcome)
        processor.ended.clear()

    def _end(self, outcome: Outcome) -> None:
        self.ledger.reported(outcome.row.key, outcome.status, outcome.payload, self.name)
        self.results.append(outcome)

    def send_results(self) -> None:
        """Tell the scheduler what has ended."""
        if not self.peer.connection.established or any(isinstance(one, m.Welcome) for one in self.peer.received):
            # In a new session it says first what it has.
            return
        results, self.results = self.results, []
        by_client: dict[bytes, list[Outcome]] = {}
        for outcome in results:
            by_client.setdefault(outcome.row.client, []).append(outcome)
        for client, rows in by_client.items():
            statuses = [outcome.status for outcome in rows]
            with_objects = [place for place, outcome in enumerate(rows) if outcome.object_id]
            self.send(
                m.ResultBatch(
                    client,
                    [outcome.row.number for outcome in rows],
                    [outcome.row.attempt for outcome in rows],
                    Packed.of([outcome.payload for outcome in rows]),
                    statuses if any(statuses) else (),
                    durations=[1000] * len(rows),
                    object_positions=with_objects,
                    objects=tuple(rows[place].object_id for place in with_objects),
                    capacity=0 if self.leaving else self.peer.capacity,
                )
            )

    def die(self, processor: Processor, *, exceeded: bool = False) -> None:
        """A processor dies: the row that it began last is held responsible."""
        rows = processor.rows()
        begun = len(processor.ended) + (processor.running is not None) - 1
        processor.pipe.clear()
        processor.ended, processor.running, processor.kept = [], None, {}
        if begun < 0:
            self._requeue(rows)
            return
        responsible, before, behind = rows[begun], rows[:begun], rows[begun + 1 :]
        self.ledger.tell(responsible.key, f"its processor at {self.name} dies")
        if not responsible.abandoned:
            status = m.Status.LIMIT_EXCEEDED if exceeded else m.Status.PROCESSOR_DIED
            text = b"it ended with its processor"
            self._end(Outcome(responsible, responsible.ending or status, b"" if responsible.ending else text))
        lost = [row for row in before if row.asked.idempotent]
        for row in before:
            if not row.asked.idempotent:
                self._end(Outcome(row, m.Status.PROCESSOR_DIED, b"its answer was lost"))
        # Links of a chain are told from the last to the first.
        self._requeue(behind)
        if before:
            self.send_results()
        self._requeue(lost)

    def take_back(self, processor: Processor) -> None:
        """A processor gives its agent what it has not begun."""
        kept = 1 if processor.running is not None else 0
        rows = list(processor.pipe)[kept:]
        processor.pipe = deque(list(processor.pipe)[:kept])
        self._requeue(rows)

    def _requeue(self, rows: Sequence[Row]) -> None:
        """Queue what was handed over and did not run; what is left of a chain that has begun goes back to the scheduler."""
        pieces: list[list[Row]] = []
        is_open = False
        for row in rows:
            if row.abandoned:
                is_open = False
            elif row.ending is not None:
                self._end(Outcome(row, row.ending, b""))
                is_open = False
            elif is_open and not row.begins_chain:
                pieces[-1].append(row)
            else:
                pieces.append([row])
                is_open = True
        returned = []
        for piece in reversed(pieces):
            if self.leaving or not piece[0].begins_chain:
                returned.append(piece)
            else:
                self.queue.appendleft(piece)
        self._give_back(returned)

    def leave(self) -> None:
        """Take no more tasks, and give back what has not begun."""
        if self.leaving:
            return
        self.leaving = True
        self.peer.capacity = 0
        units, self.queue = self.queue, deque()
        self._give_back(reversed(units))
        self.send(m.Drain())

    def step(self, *, well: bool) -> None:
        """Something happens here. `well`: nothing goes wrong."""
        busy = [one for one in self.processors if one.rows()]
        if self.results and self.random.random() < 0.5:
            self.send_results()
        elif busy and self.random.random() < 0.85:
            self._work(self.random.choice(busy), well=well)
        else:
            self.hand_over()
        self.tell_freed()

    def _work(self, processor: Processor, *, well: bool) -> None:
        chance = self.random.random()
        if not well and chance < 0.04:
            self.die(processor, exceeded=chance < 0.005)
        elif chance < 0.08:
            self.take_back(processor)
        elif processor.ended and (chance < 0.4 or not processor.pipe):
            self.tell(processor)
        elif processor.running is not None:
            self.end(processor, well=well)
        elif processor.pipe:
            self.begin(processor, well=well)

    def run_all(self) -> None:
        """Run all that it has, and tell of it."""
        while self.queue or any(one.pipe or one.ended for one in self.processors):
            for _ in range(len(self.queue)):
                self.hand_over()
            for processor in self.processors:
                while processor.pipe:
                    if processor.running is None:
                        self.begin(processor, well=True)
                    if processor.running is not None:
                        self.end(processor, well=True)
                self.tell(processor)
        self.send_results()
        self.tell_freed()

    # --- resources

    def in_use(self) -> list[Row]:
        """Return the rows that count against what this host offers, and the limits of the cluster."""
        ended = {outcome.row for outcome in self.results}
        return [row for row in self.rows() if row not in ended]

    def _check_grants(self) -> None:
        offered = Counter(dict(parse_amounts(self.resources)))
        by_device: Counter[str] = Counter()
        used: Counter[str] = Counter()
        for row in self.in_use():
            used.update(dict(row.granted))
            share = min(dict(row.granted).get(GPU, 0), ONE)
            by_device.update(dict.fromkeys(row.devices, share))
        if any(used[name] > offered[name] for name in used):
            raise ProgramError(f"{self.name} offers {dict(offered)}, and its tasks have {dict(used)}")
        if any(share > ONE for share in by_device.values()):
            raise ProgramError(f"a device of {self.name} is given to several tasks: {dict(by_device)}")
