"""Environments: which modules and plugins a process has, and when they are set up and torn down."""

from __future__ import annotations

import pickle
import sys
import zipfile
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import pytest

from scaler_protocol.ids import content_id
from scaler_protocol.payloads.environment_body import (
    EnvironmentParts,
    PluginPart,
    frame_environment,
    unframe_environment,
    with_serializer,
)
from scaler_protocol.payloads.environments import Environments, PluginFailedError
from scaler_protocol.payloads.framing import PICKLED, environment_owner
from scaler_protocol.payloads.values import NotRestoredError
from scaler_protocol.runtime.worker_plugins import PluginWorker, plugin_here

ONE, TWO = b"1" * 16, b"2" * 16
happened: list[str] = []


class EndedError(BaseException):
    """As what ends a task from outside."""


class Plugin:
    def __init__(self, name: str, version: int = 1) -> None:
        self.name, self.version = name, version

    def setup(self, worker: PluginWorker) -> None:
        happened.append(f"+{self.name}{self.version}")
        if self.version < 0:
            raise ValueError("no")

    def teardown(self, worker: PluginWorker) -> None:
        happened.append(f"-{self.name}{self.version}")
        if self.name == "bad":
            raise ValueError("no")
        if self.name == "ended":
            raise EndedError


@pytest.fixture
def environments() -> Iterator[Environments]:
    happened.clear()
    meta_path = list(sys.meta_path)
    made = Environments(PluginWorker("w"))
    yield made
    made.end_all()
    sys.meta_path[:] = meta_path


def no_object(object_id: bytes) -> Any:
    raise AssertionError("nothing is in storage")


def part(plugin: Plugin) -> PluginPart:
    content = pickle.dumps(plugin)
    return PluginPart(plugin.name, content_id(content), PICKLED + content)


def archive(**modules: str) -> bytes:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, text in modules.items():
            file.writestr(f"{name}.py", text)
    return PICKLED + pickle.dumps(buffer.getvalue())


def enter(
    environments: Environments, owner: bytes, serial: int, *plugins: Plugin, modules: tuple[bytes, ...] = ()
) -> None:
    body = frame_environment(EnvironmentParts(owner, serial, b"", tuple(map(part, plugins)), modules))
    environments.enter(content_id(body), body, no_object)


def test_a_body_has_all_parts_and_takes_another_serializer() -> None:
    parts = EnvironmentParts(ONE, 3, b"Ps", (part(Plugin("a")),), (b"Pm",))
    body = frame_environment(parts)
    assert environment_owner(body) == ONE
    assert unframe_environment(body) == parts
    assert unframe_environment(with_serializer(body, b"")) == parts._replace(serializer=b"")
    assert environment_owner(PICKLED + b"x") == environment_owner(b"") == b""


def test_plugins_are_those_of_the_newest_environment(environments: Environments) -> None:
    a, b = Plugin("a"), Plugin("b")
    enter(environments, ONE, 1, a)
    enter(environments, ONE, 2, a, b)
    enter(environments, ONE, 1, a)
    assert happened == ["+a1", "+b1"], "a task that was submitted before changes nothing"
    enter(environments, ONE, 3, Plugin("a", 2), b)
    assert happened[2:] == ["-a1", "+a2"]
    assert plugin_here("a").version == 2
    environments.end(ONE)
    assert happened[4:] == ["-a2", "-b1"]
    assert not environments.has_plugins


def test_it_is_described_by_names() -> None:
    described: list[str] = []
    here = Environments(PluginWorker("w"), on_change=lambda: described.append(here.description))
    enter(here, ONE, 1, Plugin("a"), Plugin("b"), modules=(archive(pricing="", curves=""),))
    enter(here, TWO, 1, Plugin("a"))
    assert described[-1] == "plugins: a, b; modules: curves, pricing"
    enter(here, ONE, 2, Plugin("b"))
    enter(here, TWO, 2, Plugin("c" * 1000))
    assert (described[-1][:15], described[-1][-1]) == ("plugins: b, ccc", "…")
    assert len(described[-1]) == 500
    here.end(TWO)
    here.end(ONE)
    assert described[-1] == ""


def test_a_set_up_that_fails_is_tried_again(environments: Environments) -> None:
    for _ in range(2):
        with pytest.raises(PluginFailedError) as caught:
            enter(environments, ONE, 1, Plugin("a"), Plugin("b", -1))
        assert caught.value.name == "b"
    assert happened == ["+a1", "+b-1", "+b-1"]
    with pytest.raises(KeyError):
        plugin_here("a")
    enter(environments, ONE, 2, Plugin("a"))
    assert plugin_here("a").version == 1


def test_a_teardown_that_fails_stops_no_other(environments: Environments) -> None:
    enter(environments, ONE, 1, Plugin("a"), Plugin("bad"))
    environments.end(ONE)
    assert happened == ["+a1", "+bad1", "-bad1", "-a1"]


def test_each_client_has_its_own(environments: Environments) -> None:
    enter(environments, ONE, 1, Plugin("a"), modules=(archive(tried="VALUE = 1"),))
    enter(environments, TWO, 1, Plugin("a", 2), modules=(archive(tried="VALUE = 2"),))
    second = __import__("tried")
    assert (plugin_here("a").version, second.VALUE) == (2, 2)
    enter(environments, ONE, 1, Plugin("a"), modules=(archive(tried="VALUE = 1"),))
    assert (plugin_here("a").version, __import__("tried").VALUE) == (1, 1)
    environments.leave()
    with pytest.raises(ImportError):
        __import__("tried")
    enter(environments, TWO, 1, Plugin("a", 2), modules=(archive(tried="VALUE = 2"),))
    assert __import__("tried") is second, "with the state it had"
    environments.end(ONE)
    assert happened == ["+a1", "+a2", "-a1"]


def test_what_has_imported_an_uploaded_module_goes_with_it(environments: Environments, tmp_path: Any) -> None:
    (tmp_path / "depends_on_tried.py").write_text("from tried import Kind\n")
    (tmp_path / "depends_on_nothing.py").write_text("VALUE = 0\n")
    sys.path.append(str(tmp_path))
    try:
        enter(environments, ONE, 1, modules=(archive(tried="class Kind:\n    value = 1"),))
        first, other = __import__("depends_on_tried"), __import__("depends_on_nothing")
        enter(environments, ONE, 2, modules=(archive(tried="class Kind:\n    value = 2"),))
        assert __import__("depends_on_tried").Kind.value == 2
        assert first.Kind.value == 1
        assert __import__("depends_on_nothing") is other
        environments.leave()
        assert "depends_on_tried" not in sys.modules
    finally:
        sys.path.remove(str(tmp_path))
        sys.modules.pop("depends_on_nothing", None)


def test_packages_later_archives_and_what_is_installed(environments: Environments) -> None:
    import colorsys

    # A name that this process has imported already, and that is back afterwards.
    early = archive(
        colorsys="VALUE = 'mine'", **{"pack/__init__": "", "pack/inner": "VALUE = 1", "spread/part": "VALUE = 2"}
    )
    enter(environments, ONE, 1, modules=(early, archive(**{"pack/__init__": "VALUE = 'late'"})))
    assert __import__("colorsys").VALUE == "mine"
    assert __import__("pack").VALUE == "late"
    with pytest.raises(ImportError):
        __import__("pack.inner")
    assert __import__("spread.part").part.VALUE == 2
    environments.leave()
    assert __import__("colorsys") is colorsys


def test_a_submodule_of_a_package_that_stays_goes_with_its_view(environments: Environments, tmp_path: Any) -> None:
    (tmp_path / "stays").mkdir()
    (tmp_path / "stays" / "__init__.py").write_text("")
    (tmp_path / "stays" / "part.py").write_text("import tried\n\nVALUE = tried.VALUE\n")
    (tmp_path / "tried.py").write_text("VALUE = 'installed'\n")
    sys.path.append(str(tmp_path))

    def value() -> Any:
        return __import__("stays", fromlist=["part"]).part.VALUE

    try:
        package = __import__("stays")
        uploaded = (archive(tried="VALUE = 'uploaded'"),)
        enter(environments, ONE, 1, modules=uploaded)
        assert value() == "uploaded"
        first = package.part
        environments.leave()
        assert not hasattr(package, "part")
        assert value() == "installed"
        second = package.part
        enter(environments, ONE, 1, modules=uploaded)
        assert value() == "uploaded"
        assert package.part is sys.modules["stays.part"] is first, "with the state it had"
        environments.leave()
        assert package.part is sys.modules["stays.part"] is second
    finally:
        sys.path.remove(str(tmp_path))
        for name in ("stays", "stays.part", "tried"):
            sys.modules.pop(name, None)


def test_the_program_of_an_archive_is_no_module(environments: Environments) -> None:
    main = sys.modules["__main__"]
    enter(environments, ONE, 1, modules=(archive(tried="VALUE = 1", __main__="VALUE = 2"),))
    assert sys.modules["__main__"] is main
    assert __import__("tried").VALUE == 1


def test_what_ends_a_task_ends_the_teardown_before_it(environments: Environments) -> None:
    enter(environments, ONE, 1, Plugin("ended"))
    with pytest.raises(EndedError):
        enter(environments, ONE, 2, Plugin("b"))
    assert happened == ["+ended1", "-ended1"], "the task that is to end sets nothing up"
    enter(environments, ONE, 2, Plugin("b"), Plugin("ended"))
    assert happened[2:] == ["+b1", "+ended1"]
    environments.end(ONE)
    assert happened[4:] == ["-ended1", "-b1"], "no task is there that could end"


def test_nothing_is_kept_of_clients_that_have_left(environments: Environments) -> None:
    enter(environments, ONE, 1, modules=(archive(tried="VALUE = 1"),))
    for number in range(20):
        owner = bytes((number,)) * 16
        enter(environments, owner, 1, modules=(archive(tried=f"VALUE = 'of {number}'"),))
        environments.end(owner)
    assert len(environments._archives) == len(environments._loaded) == 1


def test_of_one_client_few_environments_are_kept(environments: Environments) -> None:
    for number in range(100):
        enter(environments, ONE, number, Plugin("a", number))
    assert len(environments._loaded) < 10
    enter(environments, ONE, 1, Plugin("a", 1))
    assert plugin_here("a").version == 99, "the plugins are those of the newest all the same"


def test_a_damaged_archive(environments: Environments) -> None:
    with pytest.raises(NotRestoredError):
        enter(environments, ONE, 1, modules=(PICKLED + pickle.dumps(b"PK"),))
    assert not environments.current
