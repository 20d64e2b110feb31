"""Colours of the pages: words on coloured grounds can be read (WCAG 2.2 AA), in both themes."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

AA = 4.5
"""The least contrast of a text of ordinary size."""
AA_OF_PICTURES = 3.0
"""That of what is no text."""


def luminance(colour: str) -> float:
    shares = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (share / 12.92 if share <= 0.03928 else ((share + 0.055) / 1.055) ** 2.4 for share in shares)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [0, 1, 2], ids=["light", "dark", "dark by itself"])
@pytest.mark.parametrize("name", ["accent", "good", "bad", "warn"])
def test_words_on_coloured_grounds_can_be_read(theme: int, name: str) -> None:
    style = (files("scaler_ui.web") / "static" / "style.css").read_text()
    (text, ground) = (re.findall(rf"--{one}: (#[0-9a-f]{{6}})", style)[theme] for one in (name, f"{name}-soft"))
    assert contrast(text, ground) >= AA


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_colours_of_bars_differ_from_their_grounds_and_names_on_them_can_be_read(theme: int) -> None:
    static = files("scaler_ui.web") / "static"
    style, script = (static / "style.css").read_text(), (static / "format.js").read_text()
    (palette,) = re.findall(r"PALETTE = \[([^]]*)\]", script)
    bars = re.findall(r"#[0-9a-f]{6}", palette)
    assert len(bars) == 12
    (ink,) = re.findall(r'const INK = "(#[0-9a-f]{6})"', (static / "stream.js").read_text())
    for ground in ("surface", "raised"):
        colour = re.findall(rf"--{ground}: (#[0-9a-f]{{6}})", style)[theme]
        assert min(contrast(bar, colour) for bar in bars) >= AA_OF_PICTURES
    assert min(contrast(bar, ink) for bar in bars) >= AA
    bad, surface = (re.findall(rf"--{name}: (#[0-9a-f]{{6}})", style)[theme] for name in ("failed", "surface"))
    assert contrast(bad, surface) >= AA
