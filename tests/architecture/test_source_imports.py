"""The reader of imports itself: a rule that sees nothing holds nothing."""

from __future__ import annotations

from pathlib import Path

from tests.architecture.source_imports import Import, Module, imports, is_within

SOURCE = """
import os
from collections import abc, deque
from . import sibling
from ..above import thing
try:
    import tomllib
except ImportError:
    import tomli
if TYPE_CHECKING:
    import socket
class Holder:
    import json
    def method(self):
        with open() as f:
            import zmq
"""


def test_every_form_of_import_is_seen(tmp_path: Path) -> None:
    file = tmp_path / "module.py"
    file.write_text(SOURCE)
    found = imports(Module("top.package.module", file, "dist"))
    assert {imported.module for imported in found if imported.at_start} == {
        "os",
        "collections.abc",
        "collections.deque",
        "top.package.sibling",
        "top.above.thing",
        "tomllib",
        "tomli",
        "json",
    }
    assert {imported.module for imported in found if not imported.at_start} == {"socket", "zmq"}
    assert Import("os", True, 2) in found


def test_relative_names_in_an_init_file_start_at_the_package(tmp_path: Path) -> None:
    file = tmp_path / "__init__.py"
    file.write_text("from .module import name")
    assert imports(Module("top.package", file, "dist")) == (Import("top.package.module.name", True, 1),)


def test_a_name_lies_within_its_package_only() -> None:
    assert is_within("os.path", "os")
    assert not is_within("osmium", "os")
