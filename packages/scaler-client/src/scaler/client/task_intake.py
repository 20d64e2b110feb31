"""The way of a task from the thread that submits it into the core."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from functools import partial

from scaler import errors
from scaler.client.completion import AnswerReceiver, fail
from scaler.client.core_owner import CoreOwner
from scaler.client.future import ScalerFuture
from scaler.client.sent_ahead import SentAheads
from scaler.client.sleepers import Sleepers
from scaler.client.stored_results import LeftAnswer
from scaler.client.waiting import WAIT_SECONDS, Waiting
from scaler.core.client_core import Submission
from scaler.core.task_history import Before
from scaler.core.task_sender import BATCH_TASKS_MIN
from scaler.core.tasks import Task, TaskGroup
from scaler.serialization.pickled import Pickled
from scaler_protocol.payloads.unpickled import LatePayload
from scaler_protocol.runtime.values import new_tuple
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.batch_rows import Carried

TURN_SECONDS = 0.01
"""How long a thread that submits without pause waits for the owner's thread to send what it has submitted."""

TURN_TASKS = BATCH_TASKS_MIN
"""So many submitted tasks may wait for the owner's thread. Then the thread that submits them waits for it."""


class TaskIntake:
    """Takes tasks from threads of the application, one step each, and gives them to the core in the owner's thread."""

    def __init__(
        self,
        owner: CoreOwner,
        waiting: Waiting,
        *,
        aheads: SentAheads | None,
        take_over: Callable[[Sequence[bytes]], tuple[bytes, ...]],
    ) -> None:
        """`aheads` lets threads hold tasks back and send them themselves; None where only the owner sends.

        `take_over` ends the uses of objects that whoever submits holds, and returns the ids of the objects.
        """
        self._owner = owner
        self.waits_for_permission = True
        """Whether threads wait that submit more than the scheduler permits; else these tasks wait in the client."""
        self._core = owner.core
        self._steps = owner.steps
        self._admission = owner.core.admission
        self._take_number = owner.core.take_number
        self._take_over = take_over
        self._waiting = waiting
        self._aheads = aheads
        """Tasks that have left before their steps were taken, or are about to."""
        self._without_credit: deque[Submission] = deque()
        """Submitted by several threads for one permission: those it was not enough for."""
        self._credit = Sleepers()
        """Threads that wait for permission to submit."""

    # --- from any thread

    def group(
        self,
        *,
        kind: int = m.TaskKind.CALL,
        depth: int = 0,
        capabilities: m.Capabilities = (),
        serializer: Pickled | None = None,
        flags: int = 0,
        options: bytes = b"",
    ) -> TaskGroup:
        """Return the core's group of tasks with these properties."""
        self._owner.check_process()
        if serializer is not None:
            self.define(serializer)
        return self._core.group(
            kind=kind,
            depth=depth,
            capabilities=capabilities,
            serializer=serializer.function_id if serializer is not None else b"",
            flags=flags,
            options=options,
        )

    def define(self, function: Pickled) -> None:
        """Make a function known before a graph that names it."""
        self._core.define_function(function.function_id, function.body, function.name)

    def submit(
        self,
        group: TaskGroup,
        function: Pickled,
        payload: LatePayload,
        objects: tuple[bytes, ...],
        token: ScalerFuture | AnswerReceiver,
        carried: Carried = (),
    ) -> int:
        """Submit one task and return its number. `objects` have a use counted each, which the task takes over.

        Waits for the scheduler's permission where it limits waiting tasks. Raises the core's `unusable`, or
        TooManyTasksError.
        """
        if self._owner.forked:
            self._owner.check_process()
        if not self._admission.accepts_freely:
            self._wait_for_admission()
        steps = self._steps
        queue = steps.queue
        token.number = number = self._take_number()
        submission = (
            number,
            function,
            new_tuple(Task, (group, function.function_id, payload, objects, token, carried)),
        )
        # From here on it is submitted.
        queue.append(submission)
        aheads = self._aheads
        if aheads is None or objects or not aheads.hold():
            many = len(queue) >= TURN_TASKS
            if many or not steps.looks_soon:
                steps.wake()
            if many and not steps.is_owner:
                # Let the owner have its turn, or workers would wait until this thread does something else.
                steps.wait_for_turn(TURN_SECONDS)
        return number

    def may_submit_now(self) -> bool:
        """Whether the scheduler permits one more task without waiting; where not, ask for it."""
        if self._has_credit():
            return True
        self._steps.do(partial(self._ask_credit, 1))
        return False

    def submit_graph(
        self,
        submit: m.GraphSubmit,
        tokens: Sequence[object],
        *,
        keeps: bool = False,
        waits: bool = False,
        before: Before | None = None,
    ) -> int:
        """Submit a graph and return its first number; `tokens` has one element per wanted row. Raises as `submit`.

        `keeps`: answers that are objects are not fetched, see `Graph.keeps`. `waits`: for permission, as `submit`. `before`: see
        `ClientCore.submit_graph`.
        """
        self._owner.check_process()
        self._admission.require_usable()
        if waits and not self._admission.accepts_freely:
            self._wait_for_admission()
        first = submit.first_number = self._core.take_numbers(len(submit.payloads))
        for row, token in zip(submit.wanted, tokens, strict=True):
            if isinstance(token, ScalerFuture):
                token.number = first + row
        self._steps.do(partial(self._take_graph, submit, tokens, keeps, before))
        return first

    def cancel(self, numbers: Sequence[int]) -> None:
        """Stop tasks that are not answered; nobody is told their end."""
        self._steps.do(partial(self.take_cancel, numbers))

    def waiting_detached(self) -> int:
        """Return how many tasks of jobs have not left. To be asked of the owner's thread."""
        held = sum(bool(task.source.flags & m.TaskFlag.DETACHED) for _, _, task in self._without_credit)  # type: ignore[union-attr]
        return held + self._core.waiting_detached()

    def unanswered_tokens(self) -> list[object]:
        """Return the tokens of all tasks that are not answered."""
        return self._owner.ask(self._list_unanswered)

    def _has_credit(self) -> bool:
        waiting = len(self._steps.queue) + len(self._without_credit)
        return self._admission.allows(waiting + 1)

    def _wait_for_admission(self) -> None:
        """Wait until one task may be submitted. Raises the core's `unusable`, or TooManyTasksError."""
        if not self.waits_for_permission:
            self._admission.require_usable()
            return
        timeout = self._owner.timeout_seconds
        deadline = time.monotonic() + timeout
        while True:
            self._admission.require_usable()
            if self._has_credit():
                return
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise errors.TooManyTasksError(
                    f"the scheduler's limit of waiting tasks was reached, and no room came free for {timeout:g} s"
                )
            self._steps.do(partial(self._ask_credit, 1))
            self._waiting.wait(self._credit, self._credit_arrived, min(remaining, WAIT_SECONDS))

    def _credit_arrived(self) -> bool:
        return self._has_credit() or self._admission.unusable is not None

    # --- the owner's

    def take_submissions(self) -> None:
        """Take the submissions at the head of the queue, of which there is at least one."""
        core, queue = self._core, self._steps.queue
        aheads = self._aheads
        if aheads is not None and aheads.entries:
            # Now that the submission is taken out, no attempt begins any more; one that has begun ends soon.
            submission = queue.popleft()
            left = aheads.take(submission)
            if left is not None:
                # They left together, so they stand together.
                for _ in left.submissions[1:]:
                    queue.popleft()
                for (number, _, task), message in zip(left.submissions, left.messages, strict=True):
                    core.submit_ahead(number, task, message)
            else:
                self._take_submission(submission)
            return
        if not self._admission.accepts_freely:
            self._take_submission(queue.popleft())
            return
        taken: list[Submission] = []
        while queue and type(queue[0]) is tuple:
            submission = queue.popleft()
            taken.append(self._with_objects(submission) if submission[2].objects else submission)
        core.submit_all(taken)

    def _take_submission(self, submission: Submission) -> None:
        """Take one submission that has not left, if the core takes any and the scheduler permits it."""
        core, admission = self._core, self._admission
        if admission.unusable is not None:
            # The session ended while it was on its way here: it ends as all the others have.
            self._owner.perform_later(partial(fail, submission[2].token, _copy_of(admission.unusable)))
        elif not admission.allows(1):
            self._without_credit.append(submission)
            self._ask_credit(0)
        else:
            core.submit_all((self._with_objects(submission),))

    def _with_objects(self, submission: Submission) -> Submission:
        number, function, task = submission
        return number, function, task._replace(objects=self._take_over(task.objects))

    def _take_graph(self, submit: m.GraphSubmit, tokens: Sequence[object], keeps: bool, before: Before | None) -> None:
        core = self._core
        if core.unusable is not None:
            for token in tokens:
                self._owner.perform_later(partial(fail, token, _copy_of(core.unusable)))
            return
        submit.objects = self._take_over(submit.objects)
        core.submit_graph(submit, tokens, keeps=keeps, before=before)
        core.flush()

    def take_cancel(self, numbers: Collection[int]) -> None:
        """Stop tasks that are not answered."""
        self._without_credit = deque(x for x in self._without_credit if x[0] not in numbers)
        self._core.cancel(numbers)

    def take_withdrawal(self, numbers: Collection[int]) -> set[int]:
        """Cancel those of these tasks that no worker has begun; return those that wait for permission here."""
        here = {number for number, _, _ in self._without_credit}.intersection(numbers)
        self.take_cancel(here)
        self._core.withdraw([number for number in numbers if number not in here])
        return here

    def on_credit(self) -> None:
        """Credit may have arrived, or the session has ended: have those look who wait for either. Without the lock."""
        if self._without_credit:
            self._steps.do(self._use_credit)
        self._credit.wake()

    def _ask_credit(self, count: int) -> None:
        """Ask for permission for all that wait for it, and at least so many."""
        self._core.ask_credit(max(count, len(self._credit) + len(self._without_credit)))
        self._core.flush()

    def _use_credit(self) -> None:
        waiting, admission = self._without_credit, self._admission
        while waiting and (admission.unusable is not None or admission.allows(1)):
            self._take_submission(waiting.popleft())
        if waiting:
            self._ask_credit(0)

    def _list_unanswered(self) -> list[object]:
        tokens = [one.future if isinstance(one, LeftAnswer) else one for one in self._core.unanswered_tokens()]
        return [*tokens, *(task.token for _, _, task in self._without_credit)]


def _copy_of(error: errors.ScalerError) -> errors.ScalerError:
    """Return the same error for somebody else to raise: each has a traceback of its own."""
    return type(error)(*error.args)
