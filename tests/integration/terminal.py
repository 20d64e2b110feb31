"""A real terminal for tests: a program in tmux, whose keys are pressed and whose screen is read; and a picture of it in xterm."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from scaler_protocol.testing.waiting import wait_until

WIDTH, HEIGHT = 150, 32
WAIT_SECONDS = 30.0

CONFIGURATION = """
set -g default-terminal "tmux-256color"
set -ga terminal-overrides ",*:Tc"
set -g status off
set -g escape-time 0
"""

PICTURE_TOOLS = ("Xvfb", "xterm", "import")


class Terminal:
    """One program in a terminal of its own. Made by `terminal`."""

    def __init__(self, folder: Path, command: Sequence[str], size: tuple[int, int] = (WIDTH, HEIGHT)) -> None:
        """`size`: columns and lines."""
        self._folder = folder
        self._size = size
        configuration = folder / "tmux.conf"
        configuration.write_text(CONFIGURATION)
        self._tmux = ["tmux", "-S", str(folder / "tmux"), "-f", str(configuration)]
        columns, lines = map(str, size)
        environment = {**os.environ, "COLORTERM": "truecolor", "LC_ALL": "C.UTF-8"}
        # A size that somebody has set (pytest, in each process of a parallel run) would count for more than the terminal's.
        for name in ("TMUX", "COLUMNS", "LINES"):
            environment.pop(name, None)
        self._run("new-session", "-d", "-x", columns, "-y", lines, *command, env=environment)

    def press(self, *keys: str) -> None:
        """Press keys, by tmux' names for them."""
        self._run("send-keys", *keys)

    def screen(self) -> str:
        """Return the text on the screen."""
        return self._run("capture-pane", "-p")

    def wait_for(self, text: str, *, gone: bool = False, seconds: float = WAIT_SECONDS) -> None:
        """Wait until the screen shows a text, or does not show it any more."""
        wait_until(
            lambda: (text in self.screen()) != gone,
            seconds,
            what=lambda: f"{text!r} did not {'leave' if gone else 'appear on'} the screen:\n{self.screen()}",
            pause_seconds=0.05,
        )

    def picture(self, file: Path) -> None:
        """Take a picture of it in an xterm. Call only where `can_take_pictures`."""
        with _display() as display:
            environment = {**os.environ, "DISPLAY": display}
            look = ["-fa", "DejaVu Sans Mono", "-fs", "10", "-bg", "#121212", "-fg", "#e0e0e0", "-b", "6", "+sb"]
            columns, lines = self._size
            xterm = subprocess.Popen(
                ["xterm", *look, "-geometry", f"{columns}x{lines}", "-e", *self._tmux, "attach"],
                env=environment,
                stderr=subprocess.DEVNULL,
            )
            try:
                wait_until(
                    lambda: self._run("list-clients"), WAIT_SECONDS, what="xterm did not attach", pause_seconds=0.05
                )
                _take_once_it_stands(file, environment)
            finally:
                xterm.kill()
                xterm.wait()

    def close(self) -> None:
        """End the program and its terminal."""
        with contextlib.suppress(subprocess.CalledProcessError):
            self._run("kill-server")

    def _run(self, *arguments: str, env: dict[str, str] | None = None) -> str:
        done = subprocess.run(
            [*self._tmux, *arguments], capture_output=True, text=True, timeout=30, check=True, env=env
        )
        return done.stdout


def can_take_pictures() -> bool:
    """Whether this machine has what `picture` needs."""
    return all(map(shutil.which, PICTURE_TOOLS))


@contextlib.contextmanager
def terminal(folder: Path, *command: str, size: tuple[int, int] = (WIDTH, HEIGHT)) -> Iterator[Terminal]:
    """Run a command in a terminal of `size` columns and lines; skips the test where there is no tmux."""
    if shutil.which("tmux") is None:
        pytest.skip("tmux is not installed: no terminal to look at")
    opened = Terminal(folder, command, size)
    try:
        yield opened
    finally:
        opened.close()


@contextlib.contextmanager
def _display() -> Iterator[str]:
    """A screen without a monitor, under a free number."""
    reading, writing = os.pipe()
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(writing), "-screen", "0", "1236x560x24", "-nolisten", "tcp"],
        pass_fds=[writing],
        stderr=subprocess.DEVNULL,
    )
    os.close(writing)
    try:
        number = os.read(reading, 20).decode().strip()
        assert number, "Xvfb did not start"
        yield f":{number}"
    finally:
        os.close(reading)
        server.terminate()
        server.wait(10)


def _take_once_it_stands(file: Path, environment: dict[str, str]) -> None:
    """Take pictures until two in a row show something and are alike in size: the window is drawn then."""
    deadline = time.monotonic() + WAIT_SECONDS
    before = 0
    while True:
        subprocess.run(
            ["import", "-silent", "-window", "root", "-trim", "+repage", str(file)],
            env=environment,
            check=True,
            timeout=30,
        )
        size = file.stat().st_size
        if size > 10_000 and abs(size - before) < size // 10:
            return
        before = size
        assert time.monotonic() < deadline, "the terminal's picture stays empty"
        time.sleep(0.2)  # sleeps: between two looks of a loop with a deadline
