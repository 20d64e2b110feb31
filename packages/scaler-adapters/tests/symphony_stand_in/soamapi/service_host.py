"""Runs the `ServiceContainer` of one file: tasks come in on stdin, outputs go out on what was stdout."""

from __future__ import annotations

import os
import runpy
import struct
import sys
from typing import Any

import soamapi


class TaskContext:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self.output: bytes | None = None

    def populate_task_input(self, message: soamapi.Message) -> None:
        message.on_deserialize(soamapi.InputStream(self._data))

    def set_task_output(self, message: soamapi.Message) -> None:
        stream = soamapi.OutputStream()
        message.on_serialize(stream)
        self.output = stream.data


def main(path: str) -> None:
    answers = os.fdopen(os.dup(1), "wb")
    # What tasks print must not get between the answers.
    os.dup2(2, 1)
    service: Any = runpy.run_path(path)["ServiceContainer"]()
    service.on_create_service(None)
    service.on_session_enter(None)
    tasks = sys.stdin.buffer
    while header := tasks.read(4):
        context = TaskContext(tasks.read(struct.unpack("<I", header)[0]))
        try:
            service.on_invoke(context)
            failed, output = 0, context.output or b""
        except Exception as error:
            failed, output = 1, f"{type(error).__name__}: {error}".encode()
        answers.write(struct.pack("<BI", failed, len(output)) + output)
        answers.flush()
    service.on_session_leave()
    service.on_destroy_service()


if __name__ == "__main__":
    main(sys.argv[1])
