"""`--preload "package.module:function(arguments)"`: run once in every processor before its first task."""

from __future__ import annotations

import ast
import importlib
from typing import Any


class PreloadError(Exception):
    """The preload is not of the form expected, or failed. The message says which and why."""


def run_preload(text: str) -> None:
    """Import the module and call the function. Arguments are literals; without parentheses it is called without any."""
    module_name, function_name, args, kwargs = parse_preload(text)
    try:
        function: Any = importlib.import_module(module_name)
        for part in function_name.split("."):
            function = getattr(function, part)
        function(*args, **kwargs)
    except (Exception, SystemExit) as error:
        raise PreloadError(f"--preload {text}: {type(error).__name__}: {error}") from error


def parse_preload(text: str) -> tuple[str, str, list[Any], dict[str, Any]]:
    """Return (module, function, args, kwargs). Raises PreloadError."""
    module_name, separator, call_text = text.partition(":")
    problem = PreloadError(f"--preload {text}: expected package.module:function(arguments)")
    if not separator or not all(part.isidentifier() for part in module_name.strip().split(".")):
        raise problem
    try:
        call = ast.parse(call_text.strip(), mode="eval").body
    except SyntaxError:
        raise problem from None
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    if isinstance(call, ast.Call):
        try:
            args = [ast.literal_eval(argument) for argument in call.args]
            for keyword in call.keywords:
                if keyword.arg is None:
                    raise problem
                kwargs[keyword.arg] = ast.literal_eval(keyword.value)
        except ValueError:
            raise PreloadError(f"--preload {text}: arguments must be literals, as in f(1, 'a', flag=True)") from None
        call = call.func
    names = ast.unparse(call)
    if not all(part.isidentifier() for part in names.split(".")):
        raise problem
    return module_name.strip(), names, args, kwargs
