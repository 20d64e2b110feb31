"""Client cores in the simulation: inside an application of their own, and inside tasks."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any, NamedTuple

from scaler.core import ClientCore, effects, events
from scaler.core.tasks import Task
from scaler_protocol.ids import content_id
from scaler_protocol.objects.storage import Done, Missing, Refused, TimedOut
from scaler_protocol.runtime.resources import parse_amounts
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.batch_rows import carried_columns
from scaler_protocol.wire.call_options import NO_OPTIONS, CallOptions, encode_record, join_records
from scaler_protocol.wire.columns import Packed
from scaler_protocol.wire.envelope import Envelope
from simulation.clock import Clock
from simulation.columns import carried_of, reported_unchanged
from simulation.ledger import Entry, Ledger, SimulationError
from simulation.locality_watch import SAID_BYTES
from simulation.network import Network
from simulation.object_storage import ObjectStorage
from simulation.options import draw_options
from simulation.process import Process
from simulation.programs import Program, in_order
from simulation.references import References

AT_HAND_SHARE = 0.8
"""Of objects, those that their client can send again."""

FUNCTIONS: tuple[tuple[bytes, bytes], ...] = tuple(
    (content_id(body), body) for body in (b"P function %d" % number for number in range(1, 6))
)
"""The functions tasks are said to call: (id, body). What a task does is in its payload."""


AMOUNTS = ("gpu=0.5", "gpu=1", "gpu=2", "mem=1KiB", "mem=4KiB,gpu=1", "licence=1", "licence=2,cores=0.25", "cores=1")
"""What tasks may need. The cluster has two licences."""


class SimulatedFunction(NamedTuple):
    """As the core sees a function."""

    function_id: bytes
    body: bytes
    name: str = "simulated"


SendMessage = Callable[[Envelope, m.Message], None]


class ClientDriver:
    """One client core and what its futures see. The owner gives it turns."""

    def __init__(
        self, core: ClientCore, ledger: Ledger, clock: Clock, send: SendMessage, storage: ObjectStorage, random: Random
    ) -> None:
        self.core = core
        self.ledger = ledger
        self.clock = clock
        self.send = send
        self.move: Callable[[str], None] = lambda address: None
        """Connects to another scheduler; nothing to do for clients inside tasks."""
        self.storage = storage
        self.random = random
        self.entries: dict[int, Entry] = {}
        self.options_random: Random | None = None
        """Where what calls ask for comes from; None: they ask for nothing."""
        self.resources_random: Random | None = None
        """Where the counted resources come from that their tasks need; None: they need none."""
        self.unusable: effects.Unusable | None = None
        self.closed = False
        self.references = References(core, random)
        self.at_hand: dict[bytes, bytes] = {}
        """Objects whose values the application still has, or the client copies of them."""
        self.stored: dict[bytes, None] = {}
        """What storage has said that it has, and tasks still need."""
        self.cancel_confirmed = 0
        self.unservable_notices = 0
        self.recent: deque[Entry] = deque(maxlen=30)
        """Tasks whose results may be arguments of the next one, answered ones among them."""
        self.on_ended: Callable[[Entry], None] = lambda _: None
        for function_id, body in FUNCTIONS:
            core.define_function(function_id, body, "simulated")

    # --- what the application does

    def submit(
        self, program: Program, *, depth: int = 0, capabilities: tuple[str, ...] = (), contents: Sequence[bytes] = ()
    ) -> Entry | None:
        """Submit one task; None while the client takes none. Each of `contents` becomes an object it reads."""
        if self.core.unusable is not None or self.closed:
            return None
        arguments = [self.references.argument(content, self._store) for content in contents]
        objects = [object_id for object_id, _ in arguments]
        contents = [content for _, content in arguments]
        entry = Entry(
            self.core.client_id,
            program.number,
            self.ledger.library.expected(program.number, contents=contents),
            capabilities=capabilities,
            uses_objects=bool(objects) or program.large_result,
            may_exit=self.ledger.library.may_exit(program.number),
            depth=depth,
            needs=None if contents else [],
        )
        options = self._options()
        kind = self.random.choice((m.TaskKind.CALL, m.TaskKind.MAP_CHUNK))
        group = self.core.group(
            # A chunk of a map never fails as a whole: its last failures are its answer.
            kind=kind if options.retries is None else m.TaskKind.CALL,
            depth=depth,
            capabilities=tuple((name, -1) for name in sorted(capabilities)),
            options=encode_record(options),
        )
        function = SimulatedFunction(*self.random.choice(FUNCTIONS))
        way = self.random.random()
        if way < 0.3:
            entry.number = self.core.submit(
                group, function.function_id, program.payload, tuple(objects), entry, carried_of(program.number)
            )
            self.ledger.options.note(entry.key, options)
            self._submitted(entry)
            return entry
        # As a client in a task does it: a task that nothing goes before may leave before the core knows of it.
        carried = carried_of(program.number)
        task = Task(group, function.function_id, program.payload, tuple(objects), entry, carried)
        entry.number = self.core.take_number()
        self.ledger.options.note(entry.key, options)
        self._submitted(entry)
        found = self.core.message_ahead(entry.number, task) if way < 0.6 and self.core.idle and not objects else None
        if found is not None:
            self.ledger.tell_message("client sends ahead", found[1])
            self.send(*found)
            self.core.submit_ahead(entry.number, task, found[1])
        else:
            self.core.submit_all(((entry.number, function, task),))
        return entry

    def submit_graph(
        self,
        programs: Sequence[Program],
        dependencies: Sequence[Sequence[int]],
        wanted: Sequence[int],
        *,
        depth: int = 0,
        contents: Mapping[int, Sequence[bytes]] | None = None,
    ) -> list[Entry]:
        """Submit a graph whose row i runs `programs[i]` on the results of the rows `dependencies[i]`.

        Each of `contents[i]` becomes an object that row i reads. Returns an entry for each of `wanted`; nothing while the
        client takes no tasks.
        """
        if self.core.unusable is not None or self.closed:
            return []
        library = self.ledger.library
        positions: list[int] = []
        objects: list[bytes] = []
        read: dict[int, list[bytes]] = {}
        for row, of_row in (contents or {}).items():
            for content in of_row:
                object_id, content = self.references.argument(content, self._store)
                positions.append(row)
                objects.append(object_id)
                read.setdefault(row, []).append(content)
        rows: dict[int, Entry] = {}
        for row in in_order(dependencies):
            program, needs = programs[row], [rows[one] for one in dependencies[row]]
            values = [one.expected for one in needs]
            failed = None in values
            known = [value for value in values if value is not None]
            is_read = bool(read.get(row)) or any(one.needs is None for one in needs)
            rows[row] = Entry(
                self.core.client_id,
                program.number,
                None if failed else library.expected(program.number, known, read.get(row, ())),
                uses_objects=program.large_result or bool(read.get(row)) or any(one.uses_objects for one in needs),
                may_exit=library.may_exit(program.number) or any(one.may_exit for one in needs),
                depth=depth,
                needs=None if is_read else needs,
            )
        entries = [rows[row] for row in wanted]
        options = self._options()
        submit = m.GraphSubmit(
            client=self.core.client_id,
            first_number=0,
            functions=(FUNCTIONS[0][0],),
            payloads=Packed.of([program.payload for program in programs]),
            dependency_counts=[len(needed) for needed in dependencies],
            dependencies=[row for needed in dependencies for row in needed],
            wanted=list(wanted),
            depth=depth,
            object_positions=positions,
            objects=tuple(objects),
            options=join_records((encode_record(options),)),
            **carried_columns([carried_of(program.number) for program in programs]),
        )
        self.ledger.kinds["graphs"] += 1
        self.ledger.kinds["objects in graphs"] += len(objects)
        first = self.core.submit_graph(submit, entries)
        for row in range(len(programs)):
            self.ledger.options.note((self.core.client_id, first + row), options)
        for row, entry in zip(wanted, entries, strict=True):
            entry.number = first + row
            entry.siblings = entries
            self._submitted(entry)
        return entries

    def submit_linked(
        self, program: Program, needs: Sequence[Entry], capabilities: tuple[str, ...] = (), *, depth: int = 0
    ) -> Entry | None:
        """Submit a task with the results of these others of this client as its arguments, answered or not."""
        if self.core.unusable is not None or self.closed:
            return None
        library = self.ledger.library
        values = [one.expected for one in needs]
        entry = Entry(
            self.core.client_id,
            program.number,
            None if None in values else library.expected(program.number, [v for v in values if v is not None]),
            capabilities=capabilities,
            uses_objects=program.large_result or any(one.uses_objects for one in needs),
            may_exit=library.may_exit(program.number) or any(one.may_exit for one in needs),
            depth=depth,
            needs=list(needs),
        )
        entry.siblings = [entry, *needs, *(sibling for one in needs for sibling in one.siblings)]
        self.ledger.kinds["futures as arguments"] += len(needs)
        earlier = [one.number for one in needs]
        self._submit_rows(entry, [entry], earlier)
        return entry

    def _submit_rows(self, entry: Entry, rows: Sequence[Entry], earlier: Sequence[int]) -> None:
        """Submit these tasks as rows, each after those it needs; the last one is `entry`, the one that is wanted."""
        options = self._options()
        place = {id(row): position for position, row in enumerate(rows)}
        needed = [
            [place[id(one)] for one in row.needs or ()] if not earlier else list(range(1, 1 + len(earlier)))
            for row in rows
        ]
        submit = m.GraphSubmit(
            client=self.core.client_id,
            first_number=0,
            functions=(FUNCTIONS[0][0],),
            payloads=Packed.of([self.ledger.library[row.program].payload for row in rows]),
            dependency_counts=[len(one) for one in needed],
            dependencies=[row for one in needed for row in one],
            wanted=[len(rows) - 1],
            capabilities=tuple((name, -1) for name in sorted(entry.capabilities)),
            earlier=list(earlier),
            depth=entry.depth,
            options=join_records((encode_record(options),)),
            **carried_columns([carried_of(row.program) for row in rows]),
        )
        first = self.core.submit_graph(submit, [entry])
        for row in range(len(rows)):
            self.ledger.options.note((self.core.client_id, first + row), options)
        entry.number = first + len(rows) - 1
        self._submitted(entry)

    def _submit_anew(self, entry: Entry) -> None:
        """Submit a task with all that it needs: where a real client has values, programs are run again."""
        self.ledger.asked_for_values(entry)
        if self.core.unusable is not None or self.closed:
            self.ledger.forgotten(entry)
            self.on_ended(entry)
            return
        rows: dict[int, Entry] = {}
        stack = [(entry, False)]
        while stack:
            one, is_ready = stack.pop()
            if is_ready:
                rows.setdefault(id(one), one)
            elif id(one) not in rows:
                stack.append((one, True))
                stack.extend((needed, False) for needed in one.needs or ())
        self._submit_rows(entry, list(rows.values()), ())

    def cancel(self, entries: Sequence[Entry]) -> None:
        by_number = {entry.number: entry for entry in entries if not entry.end}
        for number in self.core.cancel(list(by_number)):
            self.entries.pop(number, None)
            self.ledger.canceled(by_number[number])
            self.on_ended(by_number[number])

    def withdraw(self, entries: Sequence[Entry]) -> None:
        """Cancel those that no worker has begun."""
        for entry in entries:
            entry.withdrawn = True
        self.core.withdraw([entry.number for entry in entries])

    def close(self, cause: effects.Cause = effects.Cause.CLOSED) -> None:
        self.core.close(cause, "the application is done")
        self.closed = True

    # --- turns

    def handle(self, event: events.Event) -> None:
        self.core.handle(event, self.clock.now)

    def perform(self) -> None:
        """Flush, check the core, perform its effects."""
        self.core.flush_or_hold(self.clock.now)
        self.core.flush()
        self.core.check_invariants()
        for effect in self.core.take_effects():
            self._perform(effect)
        if len(self.entries) != self.core.unanswered_count:
            raise SimulationError(
                f"the client core counts {self.core.unanswered_count} unanswered tasks, its futures {len(self.entries)}"
            )

    def _perform(self, effect: effects.Effect) -> None:
        if isinstance(effect, effects.Send):
            self.ledger.tell_message("client sends", effect.message)
            self.send(effect.envelope, effect.message)
        elif isinstance(effect, effects.MoveLink):
            self.move(effect.address)
        elif isinstance(effect, effects.Completed):
            statuses = effect.reported.statuses or [m.Status.SUCCESS] * len(effect.numbers)
            for row, (number, token, payload, status) in enumerate(
                zip(effect.numbers, effect.tokens, effect.payloads, statuses, strict=True)
            ):
                value = payload if isinstance(payload, bytes) else b"".join(bytes(part) for part in payload[1:])
                entry = self._entry(number, token)
                if status == m.Status.SKIPPED:
                    self._submit_anew(entry)
                    continue
                if status == m.Status.SUCCESS and not reported_unchanged(effect.reported, row, number):
                    raise SimulationError(f"{entry} was answered with figures of another task, or none", entry.key)
                self.ledger.completed(entry, m.Status(status), value)
                self.on_ended(entry)
        elif isinstance(effect, effects.Abandoned):
            for number, token in zip(effect.numbers, effect.tokens, strict=True):
                entry = self._entry(number, token)
                self.ledger.abandoned(entry, effect.cause, effect.text)
                self.on_ended(entry)
        elif isinstance(effect, effects.FetchObject):
            self._fetch(effect)
        elif isinstance(effect, effects.DeleteObjects):
            for object_id in effect.object_ids:
                self.at_hand.pop(object_id, None)
                self.stored.pop(object_id, None)
            self.storage.delete(effect.object_ids, self.core.client_id)
        elif isinstance(effect, effects.CancelConfirmed):
            self.cancel_confirmed += len(effect.numbers)
        elif isinstance(effect, effects.Unusable):
            self.unusable = effect
        elif isinstance(effect, effects.Connected):
            self.unusable = None
        elif isinstance(effect, effects.ShowNotice) and effect.kind == "unservable":
            self.unservable_notices += 1

    # --- internal

    def _options(self) -> CallOptions:
        options = NO_OPTIONS if self.options_random is None else draw_options(self.options_random)
        random = self.resources_random
        if random is not None and random.random() < 0.5:
            options = options._replace(resources=parse_amounts(random.choice(AMOUNTS)))
        return options

    def _submitted(self, entry: Entry) -> None:
        self.entries[entry.number] = entry
        if entry.needs is not None:
            self.recent.append(entry)
        self.ledger.submitted(entry)

    def _entry(self, number: int, token: object) -> Entry:
        assert isinstance(token, Entry)
        if self.entries.pop(number, None) is not token:
            raise SimulationError(f"{token} was answered, but is not unanswered", token.key)
        return token

    def _store(self, content: bytes) -> bytes:
        object_id = self.random.randbytes(16)
        self.core.hold_object(object_id, len(content) * SAID_BYTES)
        if self.random.random() < AT_HAND_SHARE:
            self.at_hand[object_id] = content
        self._put(object_id, content)
        return object_id

    def send_again(self) -> None:
        """Storage is another process than before, which may have lost everything: give it what is still at hand."""
        for object_id, content in self.at_hand.items():
            if self.core.holds_object(object_id):
                self.ledger.kinds["objects sent again"] += 1
                self._put(object_id, content)
        gone = [one for one in (*self.stored, *self.core.stored_results) if one not in self.at_hand]
        if gone:
            self.ledger.kinds["objects said to be gone"] += len(gone)
            self.storage.tell(m.ObjectsGone(tuple(gone)))

    def _put(self, object_id: bytes, content: bytes) -> None:
        def answered(completion: Done | Missing | Refused | TimedOut) -> None:
            if not isinstance(completion, Done):
                self.handle(events.ObjectRefused(object_id, f"object {object_id.hex()} is not stored: {completion}"))
            elif self.core.holds_object(object_id):
                self.stored[object_id] = None

        self.storage.put(object_id, self.core.client_id, content, answered)

    def _fetch(self, effect: effects.FetchObject) -> None:
        named = f"object {effect.object_id.hex()}"

        def answered(completion: Done | Missing | Refused | TimedOut) -> None:
            if isinstance(completion, Done):
                self.handle(events.ObjectFetched(effect.number, completion.buffers))
            elif isinstance(completion, Missing):
                self.handle(events.ObjectFetchFailed(effect.number, m.Status.MISSING_OBJECT, f"{named} is missing"))
            else:
                self.handle(events.ObjectFetchFailed(effect.number, m.Status.STORAGE_FAILED, f"{named}: {completion}"))

        self.storage.get(effect.object_id, 10.0, answered)


class ClientProcess(Process):
    """An application with one client. Its mailbox takes messages and things to do (callables)."""

    def __init__(
        self,
        name: str,
        network: Network,
        scheduler_addresses: tuple[str, ...],
        storage_address: str,
        ledger: Ledger,
        random: Random,
        *,
        timeout_seconds: float,
        group: str = "",
    ) -> None:
        super().__init__(name, network.clock, random)
        client_id = random.randbytes(16)
        hello = m.Hello(
            m.Role.CLIENT, name, client_id, hostname="application", timeout_seconds=timeout_seconds, group=group
        )
        self.ledger = ledger
        self.storage = ObjectStorage(network, storage_address, hello, client_id + b"/storage", self.clock)
        self.storage.on_activity = lambda: self.post(lambda: None)
        core = ClientCore(client_id, hello, timeout_seconds=timeout_seconds, addresses=scheduler_addresses)
        self.link = network.connect(client_id, scheduler_addresses[0], self)
        self.driver = ClientDriver(core, ledger, self.clock, self.link.send, self.storage, random)
        self.driver.move = self.link.move
        self.storage.on_welcome = self.driver.send_again
        core.start(self.clock.now)
        self.post(lambda: None)

    def deliver(self, peer: bytes, envelope: Envelope, message: m.Message) -> None:
        self.post(events.Incoming(envelope, message))

    def take_turn(self, mail: list[Any]) -> None:
        self.storage.work()
        for event in mail:
            if callable(event):
                event()
            else:
                self.driver.handle(event)
        if self.clock.now >= self.driver.core.next_deadline():
            self.driver.handle(events.Tick())
        self.driver.perform()
        self.storage.flush()

    def next_deadline(self) -> float:
        return min(self.driver.core.next_deadline(), self.storage.next_deadline())

    def leave(self) -> None:
        """Disconnect as an application does; the process ends once its last words are out."""

        def last_turn() -> None:
            self.driver.close()
            self.driver.perform()
            self.storage.flush()
            self.end(gracefully=True)

        self.post(last_turn)

    def end(self, *, gracefully: bool = False) -> None:
        self._deliver_rest = gracefully or self.random.random() < 0.5
        super().end()

    def after_end(self) -> None:
        self.link.close(deliver_rest=self._deliver_rest)
        self.storage.link.close(deliver_rest=self._deliver_rest)
        for entry in list(self.driver.entries.values()):
            self.ledger.forgotten(entry)
        self.driver.entries.clear()
