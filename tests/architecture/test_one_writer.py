"""Each attribute of the scheduler's records is assigned by one module: who looks for what changes it looks there only.

The test reads the syntax trees. `task.state = …` is an assignment, and so is whatever changes the collection in an attribute:
`agent.tasks[…] = …`, `client.graphs.append(…)`, also by another name that the attribute was given before. The test knows a record
by its annotation, else by its name. What has neither counts as every record that has such an attribute.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from tests.architecture.source_imports import PACKAGES

CORE = PACKAGES / "scaler-scheduler" / "src" / "scaler_scheduler" / "core"

WRITERS = {
    "agent_reports": "AgentRecord.capacity AgentRecord.heartbeat ClientRecord.failed_item_count",
    "agents": "AgentRecord.counted AgentRecord.draining AgentRecord.load_key AgentRecord.pool_index",
    "client_requests": "Task.carried Task.objects",
    "credits": "ClientRecord.credit_granted ClientRecord.credit_moved_at ClientRecord.credit_wanted",
    "graph_rows": "ClientRecord.arriving ClientRecord.graphs",
    "graphs": "Graph._attempts Graph._missing Graph._needed_again Graph._readers Graph._mean_microseconds "
    "Graph.attempts_before Graph.failing Graph.followed Graph.given Graph.holders Graph._looked_for_roots Graph.losses "
    "Graph.makers Graph.results Graph.returned Graph.runs_once Graph.states Graph.unfinished Graph.waiting Graph.wanted "
    "Graph.stopped Graph.with_inputs Graph._taken_over",
    "ignored_capabilities": "ClientRecord.ignored_capabilities_reported",
    "lifecycle": "AgentRecord.followers AgentRecord.tasks Chain.length ClientRecord.assigned_count "
    "ClientRecord.failed_count ClientRecord.finished_count ClientRecord.overdue ClientRecord.refused ClientRecord.retried "
    "ClientRecord.reasons ClientRecord.retried_before ClientRecord.tasks "
    "ClientRecord.withdrawn "
    "Task.agent Task.attempt Task.canceled Task.chain Task.failures Task.graph Task.state",
    "linked_rows": "ClientRecord.links ClientRecord.recent",
    "placement": "AgentRecord.newcomers AgentRecord.pinned",
    "outbox": "AgentRecord.overflowed ClientRecord.overflowed",
    "records": "AgentRecord.functions AgentRecord.hello AgentRecord.session ClientRecord._options ClientRecord.has_asks "
    "ClientRecord.has_notes ClientRecord.lowest_priority ClientRecord.hello ClientRecord.session",
    "sessions": "AgentRecord.last_seen AgentRecord.lost_at ClientRecord.last_seen",
    "unservable": "ClientRecord.unservable_reported",
}
"""By module: what it assigns. All other attributes of records stay as their constructor made them."""

RECORDS = ("AgentRecord", "Chain", "ClientRecord", "Graph", "Task", "TaskOptions")
PEERS = frozenset({"AgentRecord", "ClientRecord"})
NAMED = {
    "agent": frozenset({"AgentRecord"}),
    "chain": frozenset({"Chain"}),
    "client": frozenset({"ClientRecord"}),
    "graph": frozenset({"Graph"}),
    "options": frozenset({"TaskOptions"}),
    "record": PEERS,
    "task": frozenset({"Task"}),
}
"""What is called like this is such a record."""

NO_RECORDS = {
    "absent",
    "adapter",
    "call",
    "group",
    "line",
    "marks",
    "monitor",
    "queue",
    "start",
    "tally",
    "turns",
    "view",
}
"""What is called like this is something else."""

MUTATORS = {
    *("add", "append", "appendleft", "clear", "discard", "extend", "insert", "pop", "popitem", "popleft", "remove"),
    *("rotate", "setdefault", "subtract", "update"),
}


class Writes(ast.NodeVisitor):
    """Collects (record, attribute) pairs that one module assigns."""

    def __init__(self, attributes: dict[str, set[str]]) -> None:
        self.found: set[tuple[str, str]] = set()
        self._attributes = attributes
        self._class = ""
        self._method = ""
        self._annotated: dict[str, frozenset[str]] = {}
        self._aliases: dict[str, ast.Attribute] = {}

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._class, before = node.name, self._class
        self.generic_visit(node)
        self._class = before

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        before = self._method, self._annotated, self._aliases
        self._method = node.name
        self._annotated = {
            argument.arg: _records_in(argument.annotation)
            for argument in (*node.args.args, *node.args.kwonlyargs)
            if argument.annotation is not None
        }
        self._aliases = dict(_aliases(ast.walk(node)))
        self.generic_visit(node)
        self._method, self._annotated, self._aliases = before

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if isinstance(node.ctx, ast.Store | ast.Del):
            self._note(node)
        elif node.attr in MUTATORS:
            self._note(node.value)
        self.generic_visit(node)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        if isinstance(node.ctx, ast.Store | ast.Del):
            self._note(node.value)
        self.generic_visit(node)

    def _note(self, written: ast.expr) -> None:
        if isinstance(written, ast.Name):
            alias = self._aliases.get(written.id)
            if alias is None:
                return
            written = alias
        if not isinstance(written, ast.Attribute):
            return
        for record in self._records_of(written.value):
            if written.attr in self._attributes.get(record, ()):
                self.found.add((record, written.attr))

    def _records_of(self, expression: ast.expr) -> Iterable[str]:
        if isinstance(expression, ast.Name):
            if expression.id == "self":
                own = PEERS if self._class == "_SessionRecord" else {self._class}
                return () if self._method == "__init__" else own & set(RECORDS)
            name, known = expression.id, self._annotated.get(expression.id)
            if known is not None:
                return known
        elif isinstance(expression, ast.Attribute):
            # Parts of the core hold its tables under names of their own, which begin with an underscore.
            name = expression.attr
            if name.startswith("_"):
                return ()
        else:
            name = ""
        return () if name in NO_RECORDS else NAMED.get(name, RECORDS)


def _records_in(annotation: ast.expr) -> frozenset[str]:
    names = {node.id for node in ast.walk(annotation) if isinstance(node, ast.Name)}
    return PEERS if "PeerRecord" in names else frozenset(names & set(RECORDS))


def _aliases(nodes: Iterable[ast.AST]) -> Iterator[tuple[str, ast.Attribute]]:
    """Names that are given to attributes."""
    for node in nodes:
        if isinstance(node, ast.Assign):
            for target in node.targets:
                pairs = [(target, node.value)]
                if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                    pairs = list(zip(target.elts, node.value.elts, strict=True))
                for name, value in pairs:
                    if isinstance(name, ast.Name) and isinstance(value, ast.Attribute):
                        yield name.id, value


@cache
def attributes_of_records() -> dict[str, set[str]]:
    """What the constructors of the records assign."""
    found: dict[str, set[str]] = {}
    for module in ("records", "graphs"):
        for node in ast.walk(ast.parse((CORE / f"{module}.py").read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                found[node.name] = {
                    inner.attr
                    for method in node.body
                    if isinstance(method, ast.FunctionDef) and method.name == "__init__"
                    for inner in ast.walk(method)
                    if isinstance(inner, ast.Attribute) and isinstance(inner.ctx, ast.Store)
                }
    for record in PEERS:
        found[record] |= found["_SessionRecord"]
    return {record: found[record] for record in RECORDS}


def writes_in(source: str) -> set[tuple[str, str]]:
    writes = Writes(attributes_of_records())
    writes.visit(ast.parse(source))
    return writes.found


def in_module(path: Path) -> set[str]:
    return {f"{record}.{attribute}" for record, attribute in writes_in(path.read_text(encoding="utf-8"))}


def test_each_attribute_of_a_record_is_assigned_by_one_module() -> None:
    found = {path.stem: in_module(path) for path in sorted(CORE.glob("*.py"))}
    assert {module: written for module, written in found.items() if written} == {
        module: set(line.split()) for module, line in WRITERS.items()
    }
    listed = [attribute for line in WRITERS.values() for attribute in line.split()]
    assert len(listed) == len(set(listed))


def test_there_is_something_to_check() -> None:
    attributes = attributes_of_records()
    assert {"state", "agent", "attempt"} <= attributes["Task"]
    assert {"tasks", "session", "capacity"} <= attributes["AgentRecord"]
    assert {"tasks", "session", "graphs"} <= attributes["ClientRecord"]
    assert {"states", "returned"} <= attributes["Graph"]


def test_every_form_of_writing_is_seen() -> None:
    assert writes_in("def f(x: Task): x.state = 1") == {("Task", "state")}
    assert writes_in("def f(): task.attempt += 1") == {("Task", "attempt")}
    assert writes_in("def f(task): a, task.chain = task.chain, None") == {("Task", "chain")}
    assert writes_in("def f(peers): peers[0].overflowed = True") == {(peer, "overflowed") for peer in PEERS}
    assert writes_in("def f(task): task.options.client.finished_count += 1") == {("ClientRecord", "finished_count")}
    assert writes_in("def f(task): task.agent.tasks.pop(task)") == {("AgentRecord", "tasks")}
    assert writes_in("def f(task):\n held = task.agent.tasks\n held[task] = None") == {("AgentRecord", "tasks")}
    assert writes_in("def f(client):\n get, pop = client.tasks.get, client.tasks.pop") == {("ClientRecord", "tasks")}
    assert writes_in("def f(graph): del graph.results[1]") == {("Graph", "results")}
    assert writes_in("def f(graph): print(graph.results[1], graph.states)") == set()
    assert writes_in("class Other:\n def f(self): self.tasks = {}") == set()
