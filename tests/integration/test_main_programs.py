"""Programs run as `__main__`, where functions and classes travel by value, against real processes and in one process."""

from __future__ import annotations

import pytest

from tests.integration.main_program import PROGRAM_SECONDS, run_program

pytestmark = pytest.mark.timeout(PROGRAM_SECONDS + 30)


@pytest.mark.parametrize("where", ["cluster", "in process"])
def test_each_call_gets_the_function_as_it_was_submitted(where: str) -> None:
    assert run_program("state.py", where) == {}


def test_the_same_with_a_custom_serializer() -> None:
    # What this serializer makes of classes and caches of `__main__` is cloudpickle's business.
    found = run_program("state.py", "cluster", "serializer")
    assert found.keys() <= {"class method", "class_attribute", "cached"}, found


@pytest.mark.parametrize("where", ["cluster", "in process"])
def test_classes_come_back_as_they_are_and_nothing_changes_them(where: str) -> None:
    assert run_program("classes.py", where) == {}


@pytest.mark.parametrize("where", ["cluster", "in process"])
def test_class_bodies_inside_functions_find_what_they_name(where: str) -> None:
    assert run_program("class_bodies.py", where) == {}


@pytest.mark.parametrize("where", ["cluster", "in process"])
def test_functions_find_in_main_by_name_what_travelled_with_them(where: str) -> None:
    assert run_program("main_module.py", where) == {}


@pytest.mark.parametrize("where", ["cluster", "in process"])
def test_buffers_of_any_kind_number_and_size(where: str) -> None:
    assert run_program("buffers.py", where) == {}
