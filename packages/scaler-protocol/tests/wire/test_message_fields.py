"""Every message, and every field of one, says in its source what it means."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from scaler_protocol.wire import messages


def undocumented(source: str) -> Iterator[str]:
    """The classes without a docstring, and their fields without a line below them."""
    for node in ast.parse(source).body:
        if not isinstance(node, ast.ClassDef):
            continue
        if not ast.get_docstring(node):
            yield node.name
        for statement, following in zip(node.body, [*node.body[1:], None], strict=True):
            if isinstance(statement, ast.Assign | ast.AnnAssign) and not is_text(following):
                target = statement.targets[0] if isinstance(statement, ast.Assign) else statement.target
                yield f"{node.name}.{ast.unparse(target)}"


def is_text(statement: ast.stmt | None) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def test_every_message_and_field_is_described() -> None:
    assert messages.__file__ is not None
    assert list(undocumented(Path(messages.__file__).read_text(encoding="utf-8"))) == []


def test_a_field_without_a_description_is_seen() -> None:
    source = 'class A:\n    """A."""\n    x: int\n    """X."""\n    y = 1\n\n\nclass B:\n    z: int = 0\n'
    assert list(undocumented(source)) == ["A.y", "B", "B.z"]
