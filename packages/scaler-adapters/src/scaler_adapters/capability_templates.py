"""Capabilities that only some machines have, each with the template for starting such machines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from scaler_adapters.adapter import MalformedRequestError


def parse_templates(words: Iterable[str]) -> dict[str, str]:
    """Return the templates of words like `name=template`, by name. Raises ValueError."""
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
    """Return the wanted capabilities that not every worker has, each with its template. Raises MalformedRequestError.

    `flag` is the flag that sets the templates; the error names it.
    """
    extra = [name for name in wanted if name not in offered]
    unknown = [name for name in extra if name not in templates]
    if unknown:
        raise MalformedRequestError(f"this adapter does not offer {', '.join(unknown)}: see {flag}")
    return {name: templates[name] for name in extra}
