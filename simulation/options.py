"""What simulated tasks ask for beside their programs, and whether they get it.

Tasks with retries fail a few times before they do what their program says: how often follows from their number, so that whoever
runs them and whoever judges them agree.
"""

from __future__ import annotations

from collections import Counter
from random import Random

from scaler_protocol.wire import messages as m
from scaler_protocol.wire.call_options import NO_OPTIONS, CallOptions, Prefer, Retries

Key = tuple[bytes, int]

ERROR_NAMES = ("simulation.Error", "builtins.ValueError", "builtins.Exception")
"""What tasks raise: the names of the class and its bases."""

LATE_S = 2.5
"""So long after its deadline a task has ended where nothing goes wrong: a task that ignores its end is killed a second later."""


def draw_options(random: Random) -> CallOptions:
    """Return what a call asks for; one of three asks for nothing."""
    if random.random() < 0.33:
        return NO_OPTIONS
    idempotent = random.random() < 0.7
    retries = None
    if idempotent and random.random() < 0.5:
        name = random.choice((*ERROR_NAMES[1:], "builtins.KeyError", "scaler.errors.TaskTimeoutError"))
        retries = Retries(random.randint(1, 3), (name,), random.choice((0.0, 0.0, 0.2)), 2.0, 0.5)
    timeout = random.choice((0.0, 0.0, 0.3, 1.5))
    options = CallOptions(
        label=random.choice(("", "", "curves")),
        retries=retries,
        # Both kinds of failure would count as one, and how often a task runs out of time is not known.
        timeout_seconds=0.0 if retries is not None and retries.covers(ERROR_NAMES) else timeout,
        deadline_seconds=random.choice((0.0, 0.0, 0.0, 0.7, 4.0)),
        priority=random.choice((0, 0, -1, 1, 5)),
        idempotent=idempotent,
    )
    return _with_affinity(random, options)


def _with_affinity(random: Random, options: CallOptions) -> CallOptions:
    """Some ask for a worker or a host by its name. Those that may have to wait for it for good have a deadline."""
    host = f"agent {random.randint(1, 4)}"
    way = random.random()
    if way < 0.1:
        return options._replace(host=Prefer(host))
    if way < 0.2:
        return options._replace(host=host, deadline_seconds=4.0)
    if way < 0.3:
        return options._replace(worker=f"{host}-{random.randint(0, 1)}", deadline_seconds=4.0)
    return options


class OptionsWatch:
    """All tasks of one run that ask for something."""

    def __init__(self) -> None:
        self.asked: dict[Key, CallOptions] = {}
        self.failures: Counter[Key] = Counter()
        """How often a task has raised an error after which it runs again, if it may."""
        self._failed_at: dict[Key, float] = {}
        """When it last did."""
        self.waits_are_exact = False
        """Whether nothing goes wrong in this run but that results are lost, so that no attempt begins before its time."""
        self.has_time_limit = False
        """Whether workers have a time limit of their own."""
        self.is_strict = False
        """Whether nothing goes wrong in this run, so that all counts and times are exact."""
        self.counts_are_exact = False
        """Whether the scheduler may be killed in this run, and nothing else goes wrong: counts are exact then, too."""

    def note(self, key: Key, options: CallOptions) -> None:
        """A task was submitted with these options."""
        if options != NO_OPTIONS:
            self.asked[key] = options

    def runs_once(self, key: Key) -> bool:
        """Whether a task may not run a second time, whatever happens."""
        return not self.asked.get(key, NO_OPTIONS).idempotent

    def is_elsewhere(self, key: Key, where: str) -> bool:
        """Whether a task that is for one worker or one host runs at another host."""
        options = self.asked.get(key, NO_OPTIONS)
        wanted = options.worker.rpartition("-")[0] or options.host
        return isinstance(wanted, str) and wanted != "" and not where.startswith(f"{wanted}/")

    def may_run_again(self, key: Key) -> bool:
        """Whether a task may run again although nothing went wrong."""
        options = self.asked.get(key, NO_OPTIONS)
        return options.retries is not None and (
            self.failures[key] > 0 or options.timeout_seconds > 0 or self.has_time_limit
        )

    def is_early(self, key: Key, now: float) -> bool:
        """Whether a task begins once more before it has waited as long as it asks for after an error."""
        retries = self.asked.get(key, NO_OPTIONS).retries
        if not self.waits_are_exact or retries is None or key not in self._failed_at:
            return False
        return now < self._failed_at[key] + retries.wait_before(self.failures[key]) - 1e-6

    def raises(self, key: Key, options: CallOptions, now: float, *, always: bool) -> bool:
        """Whether a task raises this time, though it is to run again then. `always`: its program raises each time."""
        retries = options.retries
        if retries is None or not retries.covers(ERROR_NAMES):
            return False
        if not always and self.failures[key] >= key[1] % (retries.times + 1):
            return False
        self.failures[key] += 1
        self._failed_at[key] = now
        return True

    def problem(self, key: Key, status: m.Status, text: str, seconds: float, *, always: bool) -> str:
        """Return what is wrong with the end of a task, so many seconds after it was submitted."""
        options = self.asked.get(key, NO_OPTIONS)
        deadline, retries = options.deadline_seconds, options.retries
        # Another one's may be over of which it needs the result.
        is_own = text.startswith((f"task {key[1]} ", f"task {key[1]}:")) and "(deadline_seconds)" in text
        if status is m.Status.TIMED_OUT and is_own and seconds < deadline - 1e-6:
            return f"its deadline is over after {deadline} s, and it ended after {seconds} s: {text}"
        if not (self.is_strict or self.counts_are_exact):
            return ""
        if deadline and self.is_strict and seconds > deadline + LATE_S:
            return f"it ended {seconds} s after it was submitted, and its deadline is {deadline} s"
        if retries is None or not retries.covers(ERROR_NAMES):
            return ""
        wanted = self.failures[key]
        if status is m.Status.SUCCESS:
            wanted = key[1] % (retries.times + 1)
        elif status is m.Status.FAILED and always and wanted:
            # One that has not run needs the result of a task that failed.
            wanted = retries.times + 1
        return "" if self.failures[key] == wanted else f"it failed {self.failures[key]} times, not {wanted}: {text}"
