"""A stand-in for IBM's `soamapi`, for tests only: the calls that Scaler makes, over service processes of its own.

It is not IBM's code and knows nothing beyond what Scaler uses: sessions, tasks that succeed and fail, callbacks on foreign
threads, services that die, answers that take their time, connections that are lost. An application is a folder named in the
environment variable `SOAM_STAND_IN_APPLICATIONS` with a `service.py` in it. While the folder holds a file `down`, nobody can
connect to it; when a file `lose` appears, connections to it are lost. Beside it, `instances` may hold a number of processes.
"""

from __future__ import annotations

import array
import itertools
import os
import queue
import struct
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

_initialized = False


class SoamException(Exception):
    """What Symphony raises and hands to callbacks."""


def initialize() -> None:
    global _initialized
    _initialized = True


class DefaultSecurityCallback:
    def __init__(self, user: str, password: str) -> None:
        self.user, self.password = user, password


class SessionFlags:
    PARTIAL_ASYNC = 4


class OutputStream:
    def __init__(self) -> None:
        self.data = b""

    def write_byte_array(self, values: array.array[int], start: int, count: int) -> None:
        if values.typecode != "b":
            raise SoamException("a byte array has the type code b")
        self.data += values[start : start + count].tobytes()


class InputStream:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def read_byte_array(self, typecode: str) -> array.array[int]:
        return array.array(typecode, self._data)


class Message:
    """Base of what is sent."""

    def on_serialize(self, stream: OutputStream) -> None:
        raise NotImplementedError

    def on_deserialize(self, stream: InputStream) -> None:
        raise NotImplementedError


class ServiceContainer:
    """Base of services; `service_host` calls what is overridden."""


class SessionCallback:
    def on_response(self, task_output_handle: Any) -> None:
        raise NotImplementedError

    def on_exception(self, exception: Any) -> None:
        raise NotImplementedError


class SessionCreationAttributes:
    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    def set_session_type(self, session_type: str) -> None:
        if session_type != "RecoverableAllHistoricalData":
            raise SoamException(f"session type {session_type} is not defined for this application")
        self.values["type"] = session_type

    def set_session_name(self, name: str) -> None:
        self.values["name"] = name

    def set_session_flags(self, flags: int) -> None:
        self.values["flags"] = flags

    def set_session_callback(self, callback: SessionCallback) -> None:
        self.values["callback"] = callback


class TaskSubmissionAttributes:
    def __init__(self) -> None:
        self.message: Message | None = None

    def set_task_input(self, message: Message) -> None:
        self.message = message


class TaskInputHandle:
    def __init__(self, task_id: str) -> None:
        self._task_id = task_id

    def get_id(self) -> str:
        return self._task_id


class TaskOutputHandle:
    def __init__(self, task_id: str, output: bytes | None, exception: SoamException | None) -> None:
        self._task_id, self._output, self._exception = task_id, output, exception

    def get_id(self) -> str:
        return self._task_id

    def is_successful(self) -> bool:
        return self._exception is None

    def get_exception(self) -> SoamException | None:
        return self._exception

    def populate_task_output(self, message: Message) -> None:
        assert self._output is not None
        message.on_deserialize(InputStream(self._output))


def connect(application: str, security_callback: DefaultSecurityCallback) -> Connection:
    if not _initialized:
        raise SoamException("soamapi.initialize() was not called")
    folder = Path(os.environ["SOAM_STAND_IN_APPLICATIONS"]) / application
    if not (folder / "service.py").exists():
        raise SoamException(f"application {application} does not exist")
    if (folder / "down").exists():
        raise SoamException("the session director is not reachable")
    return Connection(folder)


class Connection:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._sessions: list[Session] = []

    def create_session(self, attributes: SessionCreationAttributes) -> Session:
        missing = {"type", "name", "flags", "callback"} - attributes.values.keys()
        if missing:
            raise SoamException(f"session attributes are missing: {missing}")
        session = Session(self._folder, attributes.values["callback"])
        self._sessions.append(session)
        return session

    def close(self) -> None:
        for session in self._sessions:
            session.close()


class Session:
    def __init__(self, folder: Path, callback: SessionCallback) -> None:
        self._folder = folder
        self._callback = callback
        self._numbers = itertools.count(1)
        self._tasks: queue.Queue[tuple[str, bytes] | None] = queue.Queue()
        self._closed = False
        self._instances: set[subprocess.Popen[bytes]] = set()
        count_file = folder / "instances"
        self._count = int(count_file.read_text()) if count_file.exists() else 2
        for _ in range(self._count):
            threading.Thread(target=self._serve, daemon=True).start()
        threading.Thread(target=self._watch, daemon=True).start()

    def send_task_input(self, attributes: TaskSubmissionAttributes) -> TaskInputHandle:
        if self._closed:
            raise SoamException("the session is closed")
        assert attributes.message is not None
        stream = OutputStream()
        attributes.message.on_serialize(stream)
        task_id = str(next(self._numbers))
        self._tasks.put((task_id, stream.data))
        return TaskInputHandle(task_id)

    def close(self) -> None:
        self._closed = True
        for _ in range(self._count):
            self._tasks.put(None)
        for instance in list(self._instances):
            instance.kill()

    def _watch(self) -> None:
        """Lose the connection when the test says so."""
        lose = self._folder / "lose"
        pause = threading.Event()
        while not self._closed:
            if lose.exists():
                lose.unlink()
                self.close()
                self._callback.on_exception(SoamException("the connection to the session director is lost"))
                return
            pause.wait(0.05)

    def _serve(self) -> None:
        """One service instance: a process that is given one task at a time, and replaced when it dies."""
        instance = None
        while (task := self._tasks.get()) is not None and not self._closed:
            if instance is None or instance.poll() is not None:
                instance = subprocess.Popen(
                    [sys.executable, "-m", "soamapi.service_host", str(self._folder / "service.py")],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                )
                self._instances.add(instance)
            task_id, data = task
            handle = self._run(instance, task_id, data)
            if not self._closed:
                self._callback.on_response(handle)
        if instance is not None:
            instance.kill()
            instance.wait()

    @staticmethod
    def _run(instance: subprocess.Popen[bytes], task_id: str, data: bytes) -> TaskOutputHandle:
        assert instance.stdin is not None
        assert instance.stdout is not None
        try:
            instance.stdin.write(struct.pack("<I", len(data)) + data)
            instance.stdin.flush()
            failed, length = struct.unpack("<BI", instance.stdout.read(5))
            output = instance.stdout.read(length)
        except (OSError, struct.error):
            status = instance.wait()
            return TaskOutputHandle(task_id, None, SoamException(f"the service instance exited with status {status}"))
        if failed:
            return TaskOutputHandle(task_id, None, SoamException(output.decode()))
        return TaskOutputHandle(task_id, output, None)
