"""The jobs that there are: what is submitted to them, what becomes of it, and what clients ask about them.

The tasks of a job belong to a record that stands for it among the clients (`session`), so the rest of the scheduler treats them
as any client's. What its clients submit comes here first (`take_batch`). A task is new, or it is the same as one that the job
has: then it only waits for that one. Same means: the same function and the same arguments; of several such, the first ones first.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from scaler_protocol.errors import SessionError
from scaler_protocol.ids import FINGERPRINT_BYTES, short
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.call_options import CallOptions, encode_record, job_name, join_records, read_records
from scaler_protocol.wire.columns import EMPTY, Packed
from scaler_protocol.wire.task_lists import portions_of
from scaler_scheduler.core import effects, events
from scaler_scheduler.core.jobs import journal
from scaler_scheduler.core.jobs.following import Answer, Following
from scaler_scheduler.core.jobs.job import SERIES_MAX, Job, Row, RowState, content_of, description
from scaler_scheduler.core.jobs.listing import statuses
from scaler_scheduler.core.jobs.restoring import restored
from scaler_scheduler.core.jobs.saving import Saving
from scaler_scheduler.core.jobs.session import Arrived, client_of_job
from scaler_scheduler.core.records import ClientRecord
from scaler_scheduler.core.sessions import Handler
from scaler_scheduler.core.state import SchedulerState

SUBMIT_ROWS_MAX = 1000
"""Tasks of a restored job that are queued by one message."""

LOOK_SECONDS = 5.0
"""How often is looked which jobs are forgotten, and which clients do not come back."""

NO_CONTENT = b"\0" * 16
"""The id of no object: naming it to object storage says that its owner lives."""

ELSEWHERE_TEXT = (
    "jobs cannot be used now: the scheduler that was first before has not let go of them, or they cannot be read where they "
    "are kept, as the scheduler's log says. Try again later"
)


class Jobs:
    """See the module."""

    def __init__(self, state: SchedulerState, now: float) -> None:
        self._config = state.config
        self._state = state
        self._clients = state.clients
        self._functions = state.functions
        self._outbox = state.outbox
        self._by_name: dict[str, Job] = {}
        self._by_id: dict[bytes, Job] = {}
        self.arrived: Arrived = deque()
        """What jobs were sent, and have not taken in. Empty for nearly every turn, which is all that others look at."""
        self._following = Following(state.clients, state.outbox)
        self.due = self._following.due
        """Answers that have not left, by client. Only to be looked at, too."""
        self.saving = Saving(state.clients, state.outbox, is_on=state.config.journals_wait)
        self._followed: dict[bytes, set[bytes]] = {}
        """By client: the jobs of which it waits for tasks, or has."""
        self._absent_since: dict[bytes, float] = {}
        self._unchecked: set[bytes] = set()
        """Restored jobs with results in object storage, of which it is not known yet whether they are there."""
        self._made = 0
        self._look_at = now + LOOK_SECONDS
        self._soon: list[Job] = []
        """Jobs that may have to be forgotten before all are looked at next."""
        self._submit: Callable[[ClientRecord, m.TaskBatch, float], None]
        self._cancel: Handler[ClientRecord]
        self._remove: Callable[[ClientRecord, float], None]
        self.handlers: dict[type[Any], Handler[ClientRecord]] = {m.JobRequest: self._on_request}

    def begin(
        self,
        submit: Callable[[ClientRecord, m.TaskBatch, float], None],
        cancel: Handler[ClientRecord],
        remove: Callable[[ClientRecord, float], None],
    ) -> None:
        """To be called first. `submit`, `cancel` and `remove` do what they say, for the client that stands for a job."""
        self._submit, self._cancel, self._remove = submit, cancel, remove

    # --- for the core

    @property
    def is_due(self) -> bool:
        """Whether `turn` has something to do."""
        return bool(self.arrived) or self._following.can_send

    @property
    def count(self) -> int:
        """How many jobs there are."""
        return len(self._by_name)

    def statuses(self) -> tuple[m.JobStatus, ...]:
        """Return what monitors are told."""
        return statuses(self._by_name.values())

    def turn(self, now: float) -> None:
        """Take in what has become of tasks, and answer clients."""
        arrived = self.arrived
        while arrived:
            job_id, message = arrived.popleft()
            job = self._by_id.get(job_id)
            if job is None:
                continue
            if isinstance(message, m.ResultBatch):
                self._on_results(job, message, now)
            elif isinstance(message, m.TaskProgress):
                self._following.tell_progress(job, message)
            elif isinstance(message, m.Notice):
                job.notice = message
                self._following.tell_notice(job, message)
        if self.due:
            self._following.send()

    def look(self, now: float) -> None:
        """Forget jobs whose time is over, and what was for clients that are gone. To be called now and then."""
        self.saving.look(now)
        is_due = now >= self._look_at and bool(self._by_name)
        if is_due:
            self._look_at = now + LOOK_SECONDS
            until = self._unix(self._look_at)
            self._soon = [job for job in self._by_name.values() if self._may_end_by(job, until)]
        if self._soon:
            self._forget_expired(now)
        if not is_due:
            return
        known = {client_id for job in self._by_name.values() for client_id in (*job.numbers, *job.seen)}
        absent = {client_id for client_id in known if client_id not in self._clients}
        self._absent_since = {client_id: self._absent_since.get(client_id, now) for client_id in absent}
        patience = self._config.client_timeout_seconds + self._config.recovery_grace_seconds
        gone = [client_id for client_id, since in self._absent_since.items() if now >= since + patience]
        for job in self._by_name.values() if gone else ():
            job.forget_absent(self._clients, gone)

    def _may_end_by(self, job: Job, until: float) -> bool:
        expires_at = job.expires_at()
        return job.keep_seconds <= LOOK_SECONDS if expires_at is None else expires_at <= until

    def _forget_expired(self, now: float) -> None:
        unix = self._unix(now)
        for job in self._soon:
            expires_at = job.expires_at()
            if expires_at is not None and unix >= expires_at and self._by_id.get(job.id) is job:
                self._outbox.log("info", f"job {job.name} is forgotten: it was kept for {job.keep_seconds:g} s")
                self._forget(job, now)
        self._soon = [job for job in self._soon if self._by_id.get(job.id) is job]

    # --- what clients submit

    def take_batch(self, client: ClientRecord, batch: m.TaskBatch, now: float) -> None:
        """Take tasks of jobs in, or questions for their results."""
        if self._config.jobs_are_elsewhere:
            # What is announced again is so once more to the core that has the jobs.
            for number in () if batch.flags & m.TaskFlag.REANNOUNCED else batch.numbers:
                self._refuse(client, number, ELSEWHERE_TEXT)
            return
        try:
            records, places = read_records(batch.options)
        except ValueError as error:
            raise SessionError(f"{client.name}: {error}") from None
        numbers, payloads = list(batch.numbers), batch.payloads.split()
        if len(payloads) != len(numbers) or (places and len(places) != len(numbers)):
            raise SessionError(f"options of {len(places)} tasks in a batch of {len(numbers)}")
        rows_of: dict[int, list[int]] = {}
        for row, place in enumerate(places or [0] * len(numbers)):
            rows_of.setdefault(place, []).append(row)
        by_name: dict[str, list[tuple[int, CallOptions]]] = {}
        for place, rows in rows_of.items():
            by_name.setdefault(records[place].name, []).extend((row, records[place]) for row in rows)
        for name, of_job in by_name.items():
            of_job.sort(key=lambda pair: pair[0])
            try:
                if batch.kind == m.TaskKind.JOB_RESULT:
                    job = self._find(name, client)
                    for row, _ in of_job:
                        self._follow(job, client, numbers[row], int.from_bytes(payloads[row][:8], "little"))
                else:
                    self._take_tasks(self._find_or_open(name, client, now), client, batch, of_job, payloads, now)
            except _RefusedError as error:
                for row, _ in of_job:
                    self._refuse(client, numbers[row], str(error))

    def _take_tasks(
        self,
        job: Job,
        client: ClientRecord,
        batch: m.TaskBatch,
        rows: Sequence[tuple[int, CallOptions]],
        payloads: Sequence[bytes],
        now: float,
    ) -> None:
        if batch.kind != m.TaskKind.CALL or batch.objects or batch.serializer:
            raise _RefusedError("a job takes single calls, without objects and serializers of their client")
        for function in batch.functions:
            if not self._functions.knows(client.id, function):
                raise SessionError(f"{client.name} uses function {short(function)} before defining it")
        new: list[tuple[int, Row]] = []
        again: list[tuple[int, Row]] = []
        numbers_again: list[int] = []
        # An earlier scheduler may have given these to workers already, and may have answered them.
        reannounced = batch.flags & m.TaskFlag.REANNOUNCED
        numbers = job.numbers.setdefault(client.id, {})
        seen = job.seen.setdefault(client.id, Counter())
        first_new = len(job.rows)
        total = self._total_bytes()
        for at, options in rows:
            number, payload = batch.numbers[at], payloads[at]
            function = batch.functions[batch.function_indexes[at] if len(batch.function_indexes) else 0]
            position = numbers.get(number)
            is_known = position is not None
            if position is None:
                content = content_of(function, payload)
                same = job.by_content.get(content, ())
                times = seen[content]
                seen[content] += 1
                position = same[times] if times < len(same) else None
            record = encode_record(options._replace(detached=False, name=""))
            if position is None:
                try:
                    self._require_room(job, total + len(payload))
                    self._define(job, client, function)
                except _RefusedError as error:
                    job.refusals.setdefault(client.id, str(error))
                    self._refuse(client, number, str(error))
                    continue
                submitter = job.submitter(client.id)
                row = Row(function, payload, record, batch.capabilities, submitter, number, job.series)
                position = job.add(row, client.id)
                total += row.size_bytes
                new.append((position, row))
            else:
                row = job.rows[position]
                numbers[number] = position
                if row.state not in (RowState.OPEN, RowState.DONE) and not (is_known and reannounced):
                    if self.saving.refusal:
                        self._refuse(client, number, self.saving.refusal)
                        continue
                    self._define(job, client, function)
                    series = again[0][1].series if again else job.next_series()
                    job.begin_again(row, payload, record, batch.capabilities, series)
                    again.append((position, row))
                    numbers_again.append(number)
            self._follow(job, client, number, position)
        unix = job.changed_at = self._unix(now)
        self.saving.note_submitted(client)
        if new:
            assert len(job.rows) == first_new + len(new)
            self._write(job, journal.tasks(client.id, first_new, [row for _, row in new], unix))
        if again:
            positions, rows_again = [at for at, _ in again], [row for _, row in again]
            self._write(job, journal.again(client.id, positions, numbers_again, rows_again, unix))
        self._queue(job, [*new, *again], now, flags=reannounced)

    def _queue(self, job: Job, rows: Sequence[tuple[int, Row]], now: float, flags: int = 0) -> None:
        """Have these tasks run."""
        by_capabilities: dict[m.Capabilities, list[tuple[int, Row]]] = {}
        for pair in rows:
            by_capabilities.setdefault(pair[1].capabilities, []).append(pair)
        for capabilities, alike in by_capabilities.items():
            for start in range(0, len(alike), SUBMIT_ROWS_MAX):
                some = alike[start : start + SUBMIT_ROWS_MAX]
                table = {f: place for place, f in enumerate(dict.fromkeys(row.function for _, row in some))}
                batch = m.TaskBatch(
                    job.id,
                    [job.task_number(position) for position, _ in some],
                    tuple(table),
                    Packed.of([row.payload for _, row in some]),
                    function_indexes=[table[row.function] for _, row in some] if len(table) > 1 else EMPTY,
                    flags=flags,
                    capabilities=capabilities,
                    options=join_records([row.options for _, row in some]),
                )
                self._submit(job.client, batch, now)

    def _total_bytes(self) -> int:
        return sum(job.size_bytes for job in self._by_name.values())

    def _require_room(self, job: Job, total_bytes: int) -> None:
        """Raise where a job may not have another task, with which all jobs would take so many bytes."""
        config = self._config
        if self.saving.refusal:
            raise _RefusedError(self.saving.refusal)
        if job.is_closed:
            raise _RefusedError(
                f"job {job.name!r} has other tasks than this one: it takes only the same ones again. Forget it, or choose "
                "another name"
            )
        if len(job.rows) >= config.job_tasks_max:
            raise _RefusedError(
                f"job {job.name!r} has {len(job.rows)} tasks, as many as one job may have (--job-tasks-max)"
            )
        if total_bytes > config.jobs_bytes_max:
            raise _RefusedError(
                f"with this task all jobs together would take {total_bytes} bytes, more than {config.jobs_bytes_max} "
                "(--jobs-bytes-max)"
            )

    def _define(self, job: Job, client: ClientRecord, function: bytes) -> None:
        """Keep a function for a job."""
        if function in job.functions:
            return
        body, name = self._functions.body(function), self._functions.name(function)
        self._functions.define(job.id, m.FunctionDefine(job.id, (function,), Packed.of([body]), (name,)))
        job.functions[function] = (name, body)
        job.size_bytes += len(body)
        self._write(job, journal.function(function, name, body))

    def _follow(self, job: Job, client: ClientRecord, number: int, position: int) -> None:
        if position >= len(job.rows):
            raise _RefusedError(f"job {job.name!r} has {len(job.rows)} tasks, and none at position {position}")
        if job.rows[position].state is RowState.OPEN:
            job.followers.setdefault(position, []).append((client.id, number))
            self._followed.setdefault(client.id, set()).add(job.id)
        else:
            self._following.answer_with_row(job, position, client.id, number)

    def _refuse(self, client: ClientRecord, number: int, text: str) -> None:
        self._following.answer(client.id, partial(Answer, number, m.Status.NOT_RUN, text.encode()))

    def unfollow(self, client: ClientRecord, numbers: Iterable[int]) -> None:
        """A client does not wait any more for these: its futures are cancelled, the tasks of jobs are not."""
        wanted = set(numbers)
        for job in self._by_name.values():
            for position, waiting in list(job.followers.items()):
                stay = [one for one in waiting if one[0] != client.id or one[1] not in wanted]
                for _, number in set(waiting).difference(stay) if len(stay) < len(waiting) else ():
                    self._following.answer(client.id, partial(Answer, number, m.Status.CANCELED, b""))
                if stay:
                    job.followers[position] = stay
                else:
                    del job.followers[position]

    def forget_client(self, client_id: bytes) -> None:
        """A client's session has ended: nobody waits for these. Should it come back, it announces anew what it waits for."""
        self.due.pop(client_id, None)
        for job_id in self._followed.pop(client_id, ()):
            job = self._by_id.get(job_id)
            if job is None:
                continue
            for position, waiting in list(job.followers.items()):
                stay = [one for one in waiting if one[0] != client_id]
                if stay:
                    job.followers[position] = stay
                else:
                    del job.followers[position]

    # --- what becomes of tasks

    def _on_results(self, job: Job, batch: m.ResultBatch, now: float) -> None:
        payloads = batch.payloads.split()
        objects: dict[int, tuple[bytes, ...]] = {}
        for at, object_id in zip(batch.object_positions, batch.objects, strict=True):
            objects[at] = (*objects.get(at, ()), object_id)
        total = self._total_bytes()
        ended = []
        for at, number in enumerate(batch.numbers):
            position = job.position_of(number)
            if position is None or job.rows[position].state is not RowState.OPEN:
                continue
            row, status, result = job.rows[position], m.Status.SUCCESS, payloads[at]
            if len(batch.statuses):
                status = m.Status(batch.statuses[at])
                if status is m.Status.RETRY:
                    # No end: it says that the task has failed and is tried again.
                    continue
            total += len(result)
            if total > self._config.jobs_bytes_max:
                total -= len(result)
                status = m.Status.STORAGE_FAILED
                result = (
                    f"the result of task {position} of job {job.name!r} was not kept: all jobs together would take more than "
                    f"{self._config.jobs_bytes_max} bytes (--jobs-bytes-max)"
                ).encode()
            if status is m.Status.SUCCESS:
                state = RowState.DONE
            else:
                state = RowState.CANCELED if status is m.Status.CANCELED else RowState.FAILED
            job.end(row, state, status, result, objects.get(at, ()))
            ended.append(position)
        self._note_ended(job, ended, now)

    def _note_ended(self, job: Job, ended: Sequence[int], now: float) -> None:
        if not ended:
            return
        job.changed_at = self._unix(now)
        self._write(job, journal.ended(ended, [job.rows[position] for position in ended], job.changed_at))
        for position in ended:
            self._following.tell(job, position)

    def on_objects_lost(self, event: events.ObjectsLost, now: float) -> None:
        """No store has these objects any more: the tasks whose results they are have none."""
        lost = set(event.ids)
        for job in self._by_name.values():
            self._lose(job, [at for at, row in enumerate(job.rows) if not lost.isdisjoint(row.objects)], now)

    def on_store_report(self, event: events.StoreReported, now: float) -> None:
        """Object storage says how many objects each owner has: jobs that were restored look whether theirs are there."""
        if not self._unchecked:
            return
        status = event.status
        there = dict(zip(status.owners, status.owner_objects, strict=False))
        for job_id in self._unchecked:
            job = self._by_id.get(job_id)
            if job is not None:
                rows = [at for at, row in enumerate(job.rows) if row.objects and row.state is RowState.DONE]
                if there.get(job_id, 0) < sum(len(job.rows[at].objects) for at in rows):
                    self._lose(job, rows, now)
        self._unchecked.clear()

    def on_store_replaced(self) -> None:
        """Another object storage server answers than before, which may not have the results that the one before had."""
        self._unchecked.update(job.id for job in self._by_name.values() if any(row.objects for row in job.rows))
        self._ask_store()

    def _ask_store(self) -> None:
        for job_id in self._unchecked:
            # Else it would take the job for a client of which nobody has said for long that it lives.
            self._outbox.to_store(m.ObjectDelete(0, job_id, (NO_CONTENT,)))
        if self._unchecked:
            self._outbox.add(effects.AskStore())

    def _lose(self, job: Job, rows: Sequence[int], now: float) -> None:
        lost = [at for at in rows if job.rows[at].state is RowState.DONE]
        if lost:
            self._outbox.log("warning", f"job {job.name}: {len(lost)} large results are lost with object storage")
            for at in lost:
                job.end(job.rows[at], RowState.LOST, m.Status.MISSING_OBJECT, b"", ())
            self._note_ended(job, lost, now)

    # --- requests

    def _on_request(self, client: ClientRecord, request: m.JobRequest, now: float) -> None:
        try:
            told = self._act(client, request, now)
            reply = m.JobReply(request.request, json=json.dumps(told, separators=(",", ":")))
        except _RefusedError as error:
            reply = m.JobReply(request.request, str(error), error.kind)
        self.saving.answer(client, request.action, reply, now)

    def _act(self, client: ClientRecord, request: m.JobRequest, now: float) -> list[dict[str, object]]:
        action, name = request.action, request.name
        if self._config.jobs_are_elsewhere:
            raise _RefusedError(ELSEWHERE_TEXT)
        if action == "list":
            return [description(job) for job in self._by_name.values() if self._may(client, job)]
        if action == "open":
            job = self._find_or_open(name, client, now, request.keep_seconds)
            job.seen.pop(client.id, None)
            job.refusals.pop(client.id, None)
            return [{**description(job), "persistent": self._config.keeps_jobs}]
        job = self._find(name, client)
        if action == "close":
            refusal = job.refusals.pop(client.id, None)
            if refusal is not None:
                raise _RefusedError(refusal)
            if not job.is_closed:
                job.is_closed = True
                self._write(job, journal.pack(journal.Kind.CLOSED, {"tasks": len(job.rows)}))
            self._outbox.add(effects.SyncJournal(job.id))
        elif action == "cancel":
            positions = job.open_rows()
            numbers = [job.task_number(position) for position in positions]
            if positions:
                # Workers take a moment to stop tasks. A scheduler that is started meanwhile must not run them again.
                self._write(job, journal.pack(journal.Kind.CANCELED, {"rows": positions}))
                self._outbox.add(effects.SyncJournal(job.id))
            for portion in portions_of(m.TaskCancel(job.id, numbers)) if numbers else ():
                self._cancel(job.client, portion, now)
        elif action == "forget":
            self._forget(job, now)
        elif action != "status":
            raise _RefusedError(f"this scheduler cannot {action!r} a job")
        return [description(job, with_order=action == "status")]

    def _find(self, name: str, client: ClientRecord) -> Job:
        job = self._by_name.get(name)
        if job is None:
            raise _RefusedError(f"there is no job {name!r}", "unknown")
        if not self._may(client, job):
            raise _RefusedError(f"job {name!r} belongs to another key, that of {job.owner_name}", "other_owner")
        return job

    def _find_or_open(self, name: str, client: ClientRecord, now: float, keep_seconds: float = 0.0) -> Job:
        if name in self._by_name:
            job = self._find(name, client)
            if keep_seconds > 0.0 and keep_seconds != job.keep_seconds:
                job.keep_seconds = keep_seconds
                if keep_seconds <= LOOK_SECONDS and job not in self._soon:
                    self._soon.append(job)
                self._write(job, journal.pack(journal.Kind.KEPT, {"keep": keep_seconds}))
            return job
        try:
            job_name(name)
        except (TypeError, ValueError) as error:
            raise _RefusedError(str(error)) from None
        if self.saving.refusal:
            raise _RefusedError(self.saving.refusal)
        if len(self._by_name) >= self._config.jobs_max:
            raise _RefusedError(f"there are {len(self._by_name)} jobs, as many as there may be (--jobs-max)")
        self._made += 1
        unix = self._unix(now)
        made_of = b"%s|%s|%r|%d" % (name.encode("utf-8", "replace"), client.id, unix, self._made)
        job_id = hashlib.blake2b(made_of, digest_size=16).digest()
        owner = b"" if self._state.operators is None else client.id[:FINGERPRINT_BYTES]
        groups = self._state.groups
        group = client.hello.group if groups is None else groups.of[client.id].name
        job = Job(job_id, name, owner, client.name, unix, client_of_job(job_id, name, group, self.arrived, now))
        job.keep_seconds = keep_seconds if keep_seconds > 0.0 else self._config.job_keep_seconds
        self._file(job)
        if job.keep_seconds <= LOOK_SECONDS:
            self._soon.append(job)
        self._write(job, journal.opened(job))
        return job

    def _may(self, client: ClientRecord, job: Job) -> bool:
        """Whether a client may use a job: with keys, those with the key that it was made with, and operators."""
        operators = self._state.operators
        if operators is None or (job.owner and client.id.startswith(job.owner)):
            return True
        return any(client.id.startswith(prefix) for prefix in operators)

    def _file(self, job: Job) -> None:
        self._by_name[job.name] = self._by_id[job.id] = job
        self._clients[job.id] = job.client
        if self._state.groups is not None:
            self._state.groups.admit(job.client, self._clients)

    def _forget(self, job: Job, now: float) -> None:
        for position, waiting in job.followers.items():
            text = f"job {job.name!r} was forgotten before task {position} had ended".encode()
            for client_id, number in waiting:
                self._following.answer(client_id, partial(Answer, number, m.Status.NOT_RUN, text))
        job.followers.clear()
        del self._by_name[job.name], self._by_id[job.id]
        self._remove(job.client, now)
        if self._config.keeps_jobs:
            self._outbox.add(effects.DropJournal(job.id))

    # --- journals

    def _write(self, job: Job, record: bytes) -> None:
        if self._config.keeps_jobs:
            self._outbox.add(effects.AppendJournal(job.id, record))

    def _unix(self, now: float) -> float:
        return now + self._config.unix_offset_seconds

    def restore(self, job_id: bytes, records: Iterable[bytes], now: float) -> list[str]:
        """Take up a job from its journal, before anybody is served. Returns what is wrong with the journal, in sentences."""
        job, problems = restored(job_id, records, self.arrived, now)
        if job is None:
            return problems
        if job.name in self._by_name:
            return [*problems, f"there is another journal of a job {job.name!r}"]
        job.series = int.from_bytes(self._config.incarnation[:3], "little") % SERIES_MAX
        self._file(job)
        for function, (name, body) in list(job.functions.items()):
            try:
                self._functions.define(job.id, m.FunctionDefine(job.id, (function,), Packed.of([body]), (name,)))
            except SessionError as error:
                del job.functions[function]
                problems.append(str(error))
            else:
                job.size_bytes += len(body)
        if any(row.objects for row in job.rows):
            self._unchecked.add(job.id)
            self._ask_store()
        runnable = [(at, job.rows[at]) for at in job.open_rows() if job.rows[at].function in job.functions]
        try:
            self._queue(job, runnable, now, flags=m.TaskFlag.REANNOUNCED)
        except SessionError as error:
            problems.append(str(error))
        stranded = [at for at in job.open_rows() if job.task_number(at) not in job.client.tasks]
        text = "the journal does not say enough to run this task after a restart: submit the job again"
        for at in stranded:
            job.end(job.rows[at], RowState.FAILED, m.Status.NOT_RUN, text.encode(), ())
        self._note_ended(job, stranded, now)
        return problems


class _RefusedError(Exception):
    """A request, or a task, is refused; the text says why, to people."""

    def __init__(self, text: str, kind: str = "refused") -> None:
        super().__init__(text)
        self.kind = kind
