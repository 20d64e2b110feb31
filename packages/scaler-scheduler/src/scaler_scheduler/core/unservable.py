"""Tasks that no worker can run: their clients are told why, once, and the tasks fail after a set time."""

from __future__ import annotations

from scaler_protocol.capabilities import is_bound, named_host, named_worker, offered, pinned_agent
from scaler_protocol.runtime.resources import format_amounts
from scaler_protocol.wire import messages as m
from scaler_scheduler.core.answers import Answers
from scaler_scheduler.core.placement import can_serve
from scaler_scheduler.core.ready import SignatureQueue
from scaler_scheduler.core.records import ClientRecord, LineKey
from scaler_scheduler.core.scaling import Scaling
from scaler_scheduler.core.state import SchedulerState

NAMED_TASKS_MAX = 1000
"""Largest number of tasks that one notice names."""

TOLD_MAX = 100
"""A client is told of so many different reasons. Then it hears that there are more, and once it has no tasks, of all anew."""

UNSERVABLE = "unservable"
"""No worker can run the tasks, and no adapter can start one that could."""

WORKERS_COMING = "workers_coming"
"""Workers that can run the tasks are being started."""

WORKERS_DELAYED = "workers_delayed"
"""An adapter could start such workers and does not, for lack of capacity or because something fails."""


class UnservableTasks:
    """Watches the queues of `SchedulerState`, and sends `Notice` messages."""

    def __init__(self, state: SchedulerState, answers: Answers, scaling: Scaling | None) -> None:
        self._config = state.config
        self._clients = state.clients
        self._agents = state.agents
        self._resources = state.resources
        self._ready = state.ready
        self._outbox = state.outbox
        self._answers = answers
        self._scaling = scaling
        self._told_enough: set[ClientRecord] = set()

    def report(self, now: float) -> None:
        """Tell clients of tasks that no worker could run for `unservable_grace_seconds`. End those whose time is over."""
        for client in [one for one in self._told_enough if not one.tasks or self._clients.get(one.id) is not one]:
            client.unservable_reported.clear()
            self._told_enough.discard(client)
        for queue in self._ready.non_empty():
            since = queue.unservable_since
            if (
                since is None
                or now - since < self._config.unservable_grace_seconds
                or can_serve(queue, self._agents, self._resources)
            ):
                continue
            if pinned_agent(queue.signature) is not None and not self._agents.groups_for(queue.signature):
                self._end(
                    queue, m.Status.WORKER_DIED, "the worker that this task was for is not connected any more", now
                )
                continue
            kind, text = self._situation(queue, now)
            timeout = self._config.no_worker_timeout_seconds
            if timeout and now - since >= timeout and kind != WORKERS_COMING:
                self._end(queue, m.Status.NO_WORKER, f"{text}; gave up after {timeout:g} s", now)
            else:
                self._tell(queue, kind, text)

    def reason(self, line: LineKey, now: float) -> str:
        """Say what tasks of a line wait for that no worker could run until now, after "it waited"; empty: they just wait."""
        queue = self._ready.queue_of(line)
        if queue is None or queue.unservable_since is None or can_serve(queue, self._agents, self._resources):
            return ""
        return self._situation(queue, now)[1].removeprefix("tasks wait")

    def _situation(self, queue: SignatureQueue, now: float) -> tuple[str, str]:
        capabilities = offered(queue.signature)
        wanted = f"workers with the capabilities {{{', '.join(sorted(capabilities))}}}" if capabilities else "workers"
        if queue.amounts and (situation := self._situation_of_amounts(queue)):
            return UNSERVABLE, situation
        if is_bound(queue.signature):
            return UNSERVABLE, _named_text(queue.signature)
        if self._scaling is not None:
            coming = self._scaling.groups_under_way(capabilities, now)
            if coming:
                return (
                    WORKERS_COMING,
                    f"tasks wait for {wanted}, which are on their way (worker groups starting: {coming})",
                )
            if self._scaling.can_bring(capabilities):
                errors = "; ".join(self._scaling.problems())
                return WORKERS_DELAYED, f"tasks wait for {wanted}, which no worker adapter starts now" + (
                    f": {errors}" if errors else ""
                )
        text = (
            f"tasks wait for {wanted}, which no connected worker offers"
            if capabilities
            else "tasks wait: no worker is connected"
        )
        if self._scaling is not None:
            text += " and no worker adapter can bring"
            unknown = [
                problem for adapter in self._scaling.adapters if not adapter.ready for problem in adapter.problems
            ]
            text += f" (not known yet: {'; '.join(unknown)})" if unknown else ""
        return UNSERVABLE, text

    def _situation_of_amounts(self, queue: SignatureQueue) -> str:
        """Say why no connected worker's host has what tasks need; empty: there is no worker for another reason."""
        limits = self._resources.limits
        needed, of_cluster = self._resources.parted(queue.amounts)
        if not limits.could_serve(of_cluster):
            there_is = format_amounts((name, dict(limits.offered)[name]) for name, _ in of_cluster)
            return (
                f"tasks wait: each asks for {format_amounts(of_cluster)}, and the whole cluster has {there_is} "
                "(--resources of the scheduler)"
            )
        agents = [agent for group in self._agents.groups_for(queue.signature) for agent in group.agents]
        if not agents or (self._scaling is not None and self._scaling.could_come(queue.signature, queue.amounts)):
            return ""
        offers = [dict(agent.resources.amounts.offered) for agent in agents]
        most = format_amounts((name, max(offer.get(name, 0) for offer in offers)) for name, _ in needed)
        asked = format_amounts(needed) or format_amounts(queue.amounts)
        if pinned_agent(queue.signature) is not None:
            return f"tasks wait: each asks for {asked}, and the host of the worker that it is for offers {most}"
        if not any(offers):
            return f"tasks wait: each asks for {asked}, and the connected workers do not count resources"
        if any(all(offer.get(name, 0) >= amount for name, amount in needed) for offer in offers):
            return f"tasks wait: each asks for {asked}; the workers on hosts that offer it get no new tasks"
        return f"tasks wait: each asks for {asked}, which no connected host offers; the most that one offers is {most}"

    def _tell(self, queue: SignatureQueue, kind: str, text: str) -> None:
        for client_id in queue.client_ids():
            client = self._clients[client_id]
            if (queue.line, kind) in client.unservable_reported:
                continue
            if len(client.unservable_reported) >= TOLD_MAX:
                if client not in self._told_enough:
                    self._told_enough.add(client)
                    more = (
                        f"tasks wait for more than {TOLD_MAX} different reasons: scaler_dump lists all of them (queues)"
                    )
                    self._outbox.send(client, m.Notice(more, kind=kind))
                continue
            client.unservable_reported.add((queue.line, kind))
            numbers = [task.number for task in queue.tasks() if task.options.client is client][:NAMED_TASKS_MAX]
            level = 0 if kind == WORKERS_COMING else 1
            self._outbox.send(client, m.Notice(text, level=level, numbers=numbers, kind=kind))

    def _end(self, queue: SignatureQueue, status: m.Status, text: str, now: float) -> None:
        sentence = text.encode()
        for task in list(queue.tasks()):
            self._answers.withdraw(task, status, sentence, now)


def _named_text(signature: frozenset[str]) -> str:
    """Say for which worker or host tasks wait, where that is not connected."""
    worker, host = named_worker(signature), named_host(signature)
    which = [f"worker {worker}"] if worker else []
    which += [f"host {host}"] if host else []
    capabilities = sorted(offered(signature))
    offering = f" with the capabilities {{{', '.join(capabilities)}}}" if capabilities else ""
    return f"tasks wait for {' on '.join(which)}: no worker of that name{offering} is connected"
