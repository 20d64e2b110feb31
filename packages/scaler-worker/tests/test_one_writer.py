"""Each fact of the agent's core has one writer: read from the syntax of its modules."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import scaler_worker.core
from scaler_worker.core.processors import Processor

CORE = Path(scaler_worker.core.__file__).parent

WRITERS = {
    # Of a fetch.
    "addresses": {"homes"},
    "is_whole": {"homes"},
    "lengths": {"homes"},
    "owner": {"homes"},
    "trouble": {"homes"},
    # Of a processor.
    "state": {"processors"},
    "slot": {"processors"},
    "pid": {"processors"},
    "idle_since": {"processors"},
    "generation": {"returns"},
    "given_back_index": {"returns"},
    "taking_back": {"returns"},
    "unfinished_since": {"lending"},
    "lent_unasked": {"lending"},
    "lent_index": {"lending"},
    "devices": {"dispatch"},
    "fault": {"lifecycle"},
    "failures_index": {"reporting"},
    "clients": {"nesting"},
    # One adds, `Processor` itself forgets those that are over.
    "endings": {"endings"},
    # Of a slice of tasks.
    "index": {"processors"},
    "begins": {"queue"},
    "each": {"queue"},
    "ends": {"queue"},
    "abandoned": {"endings"},
    "asked": {"agent"},
    # Of what a client has in a line of the queue.
    "in_line": {"queue"},
    # Of a received batch, where the sender may leave it out.
    "attempts": {"agent"},
    # Of nesting: why the scheduler lets nobody in.
    "refusal": {"agent"},
    # Of transfers.
    "available": {"agent"},
    "processors": {"transfers"},
}
"""Attributes that are assigned from outside the object they belong to, and the modules that do."""

MUTATORS = {"add", "append", "appendleft", "clear", "discard", "extend", "pop", "popleft", "remove", "update"}
COLLECTIONS = {"clients", "endings", "pipe"}
assert {field.name for field in fields(Processor)} >= COLLECTIONS


def attribute_of_another(node: ast.expr) -> str | None:
    """Return the attribute that is changed, where it is not one of `self`."""
    if isinstance(node, ast.Subscript):
        node = node.value
    if isinstance(node, ast.Attribute) and not (isinstance(node.value, ast.Name) and node.value.id == "self"):
        return node.attr
    return None


def changed(tree: ast.Module) -> Iterator[str]:
    """Yield the attributes of other objects that a module changes."""
    for node in ast.walk(tree):
        targets: list[ast.expr] = []
        if isinstance(node, ast.Assign):
            for target in node.targets:
                targets += target.elts if isinstance(target, ast.Tuple) else [target]
        elif isinstance(node, ast.AugAssign | ast.AnnAssign):
            targets = [node.target]
        elif isinstance(node, ast.Delete):
            targets = node.targets
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in MUTATORS:
            name = attribute_of_another(node.func.value)
            if name in COLLECTIONS:
                yield name
        for target in targets:
            name = attribute_of_another(target)
            if name is not None:
                yield name


def test_each_fact_has_the_writer_it_is_said_to_have() -> None:
    writers: dict[str, set[str]] = {}
    for path in CORE.glob("*.py"):
        for name in changed(ast.parse(path.read_text())):
            writers.setdefault(name, set()).add(path.stem)
    assert writers == WRITERS
