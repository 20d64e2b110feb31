"""Who may import what: DESIGN section 12, held by reading the source. ARCHITECTURE.md gives the reasons."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.architecture.source_imports import (
    PROGRAMS,
    Import,
    Module,
    imports,
    is_within,
    modules,
    program_modules,
    resolve,
)

DISTRIBUTIONS = {
    "scaler",
    "scaler_adapters",
    "scaler_objstore",
    "scaler_protocol",
    "scaler_scheduler",
    "scaler_ui",
    "scaler_worker",
}
CORE_NAMES = {"core", "policy", "policies"}
NOT_IN_A_CORE = (
    "asyncio",
    "capnp",
    "fastapi",
    "os",
    "psutil",
    "random",
    "secrets",
    "select",
    "selectors",
    "socket",
    "subprocess",
    "threading",
    "time",
    "zmq",
)
# Modules of the protocol may name `os` or `random` for ids; sockets, threads and codecs are another matter.
NOT_BEHIND_A_CORE = tuple(set(NOT_IN_A_CORE) - {"os", "random", "secrets", "time"})
POSIX_ONLY = ("fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty", "uvloop")
SERVER_ONLY = ("fastapi", "pydantic", "pydantic_settings", "psutil", "starlette", "textual", "uvicorn")


def offences(
    applies: Callable[[Module], bool], forbidden: Callable[[Module, Import], bool], *, also_late: bool = True
) -> Iterator[str]:
    """One line for each import that a rule forbids; `also_late` includes those inside functions."""
    for module in modules():
        if not applies(module):
            continue
        for imported in imports(module):
            if (imported.at_start or also_late) and forbidden(module, imported):
                yield f"{module.path.name}:{imported.line}: {module.name} imports {imported.module}"


def is_core(module: Module) -> bool:
    return bool(CORE_NAMES & set(module.name.split(".")))


def test_there_is_something_to_check() -> None:
    assert {module.top for module in modules()} == DISTRIBUTIONS


def test_cores_and_policies_know_no_outside_world() -> None:
    assert not list(offences(is_core, lambda _, imported: is_within(imported.module, *NOT_IN_A_CORE)))


def test_a_core_reaches_no_input_or_output_through_other_modules() -> None:
    """What a core imports at start is part of it, however many modules lie between."""
    tainted = {
        module.name
        for module in modules()
        if any(is_within(imported.module, *NOT_BEHIND_A_CORE) for imported in imports(module) if imported.at_start)
    }
    by_name = {module.name: module for module in modules()}
    found = []
    for core in filter(is_core, modules()):
        seen, ahead = {core.name}, [core.name]
        while ahead:
            for imported in imports(by_name[ahead.pop()]):
                name = resolve(imported.module)
                if imported.at_start and name is not None and name not in seen:
                    seen.add(name)
                    ahead.append(name)
        found += [f"{core.name} reaches {name}" for name in sorted(seen & tainted)]
    assert not found


def test_each_distribution_imports_no_other_but_the_protocol() -> None:
    def is_foreign(module: Module, imported: Import) -> bool:
        top = imported.module.partition(".")[0]
        return top in DISTRIBUTIONS - {module.top, "scaler_protocol"}

    # SchedulerClusterCombo and its like start the others as processes; they do not import them either.
    assert not list(offences(lambda _: True, is_foreign))


ROOT_OF_THE_PROTOCOL = {"address", "address_list", "capabilities", "errors", "ids", "version"}
"""Its modules that are in none of its packages: all packages share them, and they need none."""


def test_modules_of_the_protocol_are_in_packages_that_say_what_they_are_about() -> None:
    names = [module.name.split(".") for module in modules() if not module.is_package]
    assert {name[1] for name in names if name[0] == "scaler_protocol" and len(name) == 2} == ROOT_OF_THE_PROTOCOL


def test_the_root_of_the_protocol_needs_none_of_its_packages() -> None:
    root = {f"scaler_protocol.{name}" for name in ROOT_OF_THE_PROTOCOL}

    def is_in_a_package(_: Module, imported: Import) -> bool:
        return is_within(imported.module, "scaler_protocol") and resolve(imported.module) not in root

    assert not list(offences(lambda module: module.name in root, is_in_a_package))


def test_only_tests_import_what_is_for_tests() -> None:
    assert not list(
        offences(
            lambda module: not is_within(module.name, "scaler_protocol.testing"),
            lambda _, imported: is_within(imported.module, "scaler_protocol.testing"),
        )
    )


def test_capnp_is_imported_in_one_module() -> None:
    importers = {m.name for m in modules() for imported in imports(m) if is_within(imported.module, "capnp")}
    assert len(importers) == 1
    assert all(name.startswith("scaler_protocol.") for name in importers)


def test_zmq_is_imported_where_monitors_read_only() -> None:
    """Everybody else does without it: it costs time and memory at their start."""
    allowed = {f"scaler_protocol.transport.{name}" for name in ("subscriber", "subscription_watch", "zmq_sockets")}

    def outside(module: Module) -> bool:
        return module.name not in allowed

    assert not list(offences(outside, lambda _, imported: is_within(imported.module, "zmq")))


def test_scheduler_and_object_storage_never_unpickle() -> None:
    applies = {"scaler_scheduler", "scaler_objstore"}
    pickles = ("pickle", "_pickle", "cloudpickle", "dill", "marshal", "shelve", "copyreg")
    assert not list(offences(lambda m: m.top in applies, lambda _, imported: is_within(imported.module, *pickles)))


def is_client_side(module: Module) -> bool:
    return module.top == "scaler" or (
        module.top == "scaler_protocol" and not is_within(module.name, "scaler_protocol.service")
    )


def test_the_client_starts_where_posix_modules_do_not_exist() -> None:
    found = offences(is_client_side, lambda _, imported: is_within(imported.module, *POSIX_ONLY), also_late=False)
    assert not list(found)


def test_the_client_pays_for_no_server_code() -> None:
    assert not list(offences(is_client_side, lambda _, imported: is_within(imported.module, *SERVER_ONLY)))


LOCAL_CLUSTER = ("scaler_protocol", "scaler_scheduler", "scaler_objstore", "scaler_worker")


def test_what_every_local_cluster_starts_pays_for_no_figures_library() -> None:
    assert not list(
        offences(lambda module: module.top in LOCAL_CLUSTER, lambda _, imported: is_within(imported.module, "psutil"))
    )


def test_cryptography_is_imported_where_keys_are_used_only() -> None:
    def outside(module: Module) -> bool:
        uses_keys = module.name.startswith(("scaler_protocol.security.", "scaler_protocol.transport.curve"))
        return not uses_keys

    assert not list(offences(outside, lambda _, imported: is_within(imported.module, "nacl")))


def test_pydantic_is_imported_where_settings_are_declared_only() -> None:
    """Behind them stand modules that processes without settings import: a worker's processors, the client."""
    names = (
        "audit_settings",
        "command",
        "fence_settings",
        "late_address",
        "security_settings",
        "settings",
        "web_settings",
        "worker_settings",
    )
    service = {f"scaler_protocol.service.{name}" for name in names}

    def outside(module: Module) -> bool:
        declares = module.name in service or module.name == f"{module.top}.settings"
        return module.top in LOCAL_CLUSTER and not declares

    assert not list(offences(outside, lambda _, imported: is_within(imported.module, "pydantic", "pydantic_settings")))


def test_modules_are_named_after_what_they_are() -> None:
    vague = {"utils", "util", "common", "helpers", "helper", "mixins", "mixin", "misc"}
    # The names that libraries written for the older tool import are kept; they hold imports only.
    kept = ("scaler.utility", "scaler.client.serializer.mixins")
    assert not [m.name for m in modules() if vague & set(m.name.split(".")) and not is_within(m.name, *kept)]


def circle_in(among: tuple[Module, ...]) -> list[str]:
    """Some of these modules that import each other in a circle, wherever the imports stand; none where there is no circle."""
    graph: dict[str, set[str]] = {}
    for module in among:
        targets = {resolve(imported.module, among) for imported in imports(module)}
        # A package's own __init__ runs before its modules; naming a parent package is no circle by itself.
        graph[module.name] = {
            name
            for name in targets
            if name is not None and name != module.name and not module.name.startswith(name + ".")
        }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


@pytest.mark.parametrize("name", [*sorted(DISTRIBUTIONS), *PROGRAMS])
def test_no_modules_import_each_other_in_a_circle(name: str) -> None:
    """Not at start, not late in a function, and not for types alone: such modules cannot be understood one after another."""
    among = program_modules(name) if name in PROGRAMS else tuple(m for m in modules() if m.top == name)
    assert among
    circle = circle_in(among)
    assert not circle, " -> ".join(circle)


@pytest.mark.parametrize(
    "back",
    [
        "import top.first",
        "if TYPE_CHECKING:\n    from top.first import something",
        "def late():\n    from top import first",
    ],
    ids=["at start", "for types", "late"],
)
def test_a_circle_is_seen_wherever_its_imports_stand(tmp_path: Path, back: str) -> None:
    (tmp_path / "first.py").write_text("from top.second import name")
    (tmp_path / "second.py").write_text(back)
    among = tuple(Module(f"top.{name}", tmp_path / f"{name}.py", "top") for name in ("first", "second"))
    assert set(circle_in(among)) == {"top.first", "top.second"}
    (tmp_path / "third.py").write_text("import top.second")
    assert circle_in((among[1], Module("top.third", tmp_path / "third.py", "top"))) == []
