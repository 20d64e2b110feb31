"""Where a host's objects lie: in a folder in memory, and in a spare one on disk what finds no room there.

`/dev/shm` has 64 MiB in many containers, is shared with other programs, and may become full, read-only or be unmounted while
tasks run. Whatever cannot be written to the first folder is written to the spare one, from which it is mapped likewise. The first
one is asked first each time, so the spare one is used for only as long as it must be.

Files are written, and mapped only when they are complete. Writing to a mapping of a full file system would kill the process.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from collections.abc import Callable, Sequence
from os import close
from typing import NamedTuple, TypeVar

from scaler_protocol.objects.segments import Place
from scaler_worker.processor import object_files
from scaler_worker.processor.object_files import Buffer

logger = logging.getLogger(__name__)

_NOTED_NAME = "noted"

Found = TypeVar("Found")
Written = TypeVar("Written")


class ObjectFolders(NamedTuple):
    """The folders of one host. See `object_files` for what the methods do in each of them."""

    first: str
    spare: str = ""
    """Empty if there is none, because the first one is on disk already."""

    def write(self, object_id: bytes, buffers: Sequence[Buffer], owner: tuple[int, int] | None = None) -> int:
        """Write an object; return the bytes of its buffers. Raises OSError if there is no room in either folder."""
        try:
            return object_files.write_object(self.first, object_id, buffers, owner)
        except OSError as error:
            return self._write_spare(
                error, lambda folder: object_files.write_object(folder, object_id, buffers, owner), owner
            )

    def write_place(self, object_id: bytes, place: Place) -> None:
        """Say where an object lies, instead of what was said before. Raises OSError."""
        try:
            object_files.write_place(self.first, object_id, place)
        except OSError as error:
            # What it says there is out of date, and would be found first.
            object_files.drop_object(self.first, object_id)
            self._write_spare(error, lambda folder: object_files.write_place(folder, object_id, place))

    def write_token(self, token: bytes | None) -> None:
        """Tell processors what segments must bear; None: the server takes none from here. Raises OSError."""
        try:
            object_files.write_token(self.first, token)
        except OSError as error:
            self._write_spare(error, lambda folder: object_files.write_token(folder, token))
        else:
            if self.spare:
                object_files.write_token(self.spare, None)

    def read(self, object_id: bytes) -> list[memoryview] | Place | None:
        """Return an object's buffers as writable views of a private mapping, or where it lies; None if nothing is here."""
        found: list[memoryview] | Place | None = object_files.map_object(self.first, object_id)
        if found is None:
            found = object_files.read_place(self.first, object_id)
        if found is None and self.spare:
            found = ObjectFolders(self.spare).read(object_id)
        return found

    def map(self, object_id: bytes) -> list[memoryview] | None:
        """Return an object's buffers as writable views of a private mapping, or None if there is no file of it."""
        return self._find(lambda folder: object_files.map_object(folder, object_id))

    def read_place(self, object_id: bytes) -> Place | None:
        """Return where an object lies, or None if a folder has the object itself, or neither has anything."""
        return self._find(lambda folder: object_files.read_place(folder, object_id))

    def read_token(self) -> bytes | None:
        """Return what `write_token` said last."""
        return self._find(object_files.read_token)

    def size_of(self, object_id: bytes) -> int | None:
        """Return how many bytes the file of an object has, or None if there is none. Raises OSError."""
        return self._find(lambda folder: object_files.size_of_object(folder, object_id))

    def read_copy(self, object_id: bytes, bytes_max: int, owner: int) -> list[memoryview] | None:
        """Return a copy of another user's object, or None if there is no file of it. Raises OSError, ValueError."""
        return self._find(lambda folder: object_files.read_object(folder, object_id, bytes_max, owner))

    def drop(self, object_id: bytes) -> None:
        """Remove an object, if it is there."""
        object_files.drop_object(self.first, object_id)
        if self.spare:
            object_files.drop_object(self.spare, object_id)

    def _find(self, look: Callable[[str], Found | None]) -> Found | None:
        found = look(self.first)
        return look(self.spare) if found is None and self.spare else found

    def _write_spare(
        self, error: OSError, write: Callable[[str], Written], owner: tuple[int, int] | None = None
    ) -> Written:
        """Write to the spare folder, because the first one has raised `error`."""
        if not self.spare:
            raise error
        written = write(self.spare)
        self._note(error, owner)
        return written

    def _note(self, error: OSError, owner: tuple[int, int] | None) -> None:
        """Log it once for the whole host: by the process that makes this file."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            descriptor = os.open(f"{self.spare}/{_NOTED_NAME}", flags, 0o600)
        except OSError:
            return
        with contextlib.suppress(OSError):
            if owner is not None:
                os.fchown(descriptor, *owner)
        close(descriptor)
        text = "is full" if error.errno == errno.ENOSPC else f"cannot be written to ({error.strerror})"
        logger.warning(
            "%s %s: large values of tasks go to files in %s until there is room again, which is slower. In a container, "
            "--shm-size gives it more.",
            os.path.dirname(self.first.removesuffix("/objects")),
            text,
            self.spare,
        )
