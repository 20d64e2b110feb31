"""Capabilities that only some machines bring: each with the template that such machines are made from."""

from __future__ import annotations

from collections.abc import Mapping

from scaler_adapters.adapter import MalformedRequestError


def parse_templates(text: str) -> dict[str, str]:
    """Read `name=template name=template`. Raises ValueError."""
    found = {}
    for word in text.split():
        name, separator, template = word.partition("=")
        if not name or not separator or not template:
            raise ValueError(f"{word!r} is not of the form name=template")
        found[name] = template
    return found


def choose_template(
    wanted: Mapping[str, int], offered: Mapping[str, int], templates: Mapping[str, str], plain: str, flag: str
) -> str:
    """Return the template that brings all that is wanted beside what every worker offers. Raises MalformedRequestError.

    `plain` is the one for no more than that; `flag` is where users say the others.
    """
    extra = [name for name in wanted if name not in offered]
    unknown = [name for name in extra if name not in templates]
    if unknown:
        raise MalformedRequestError(f"this adapter brings no {', '.join(unknown)}: see {flag}")
    chosen = {templates[name] for name in extra} or {plain}
    if len(chosen) > 1:
        raise MalformedRequestError(f"no single template brings all of {', '.join(extra)}: see {flag}")
    return chosen.pop()
