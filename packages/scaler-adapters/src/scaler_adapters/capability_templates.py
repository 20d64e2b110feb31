"""Capabilities that only some machines bring: each with the template that such machines are made from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from scaler_adapters.adapter import MalformedRequestError


def parse_templates(words: Iterable[str]) -> dict[str, str]:
    """Read words of the form `name=template`. Raises ValueError."""
    found = {}
    for word in words:
        name, separator, template = word.partition("=")
        if not name or not separator or not template:
            raise ValueError(f"{word!r} is not of the form name=template")
        found[name] = template
    return found


def needed_templates(
    wanted: Mapping[str, int], offered: Mapping[str, int], templates: Mapping[str, str], flag: str
) -> dict[str, str]:
    """Return what is wanted beside what every worker offers, each with its template. Raises MalformedRequestError.

    `flag` is where users say the templates.
    """
    extra = [name for name in wanted if name not in offered]
    unknown = [name for name in extra if name not in templates]
    if unknown:
        raise MalformedRequestError(f"this adapter brings no {', '.join(unknown)}: see {flag}")
    return {name: templates[name] for name in extra}
