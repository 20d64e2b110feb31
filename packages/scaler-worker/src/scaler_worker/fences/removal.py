"""Removes a folder that tasks could write to, whatever they left in it.

Tasks can nest folders deeper than a path may be long, or a stack may grow; so neither paths nor recursion are used: folders
inside folders are moved to the top, until all are empty. They can take rights away, and put links in the place of folders; so
no link is followed.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

REMOVE_SECONDS_MAX = 60.0
"""When removing a folder is given up: processes of tasks that go on may make new ones all the time."""

DEADLINE_ENTRIES = 256
"""After how many files and folders to look whether the time is over."""

FOLDERS_MAX = 10_000
"""How many names of folders are kept at once."""

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_folder(path: str | Path, seconds: float = REMOVE_SECONDS_MAX) -> str:
    """Remove a folder with all that is in it. Return why it could not be removed; empty if it is gone."""
    try:
        top = _open(str(path), None)
    except FileNotFoundError:
        return ""
    except OSError as error:
        return str(error.strerror)
    try:
        trouble = _empty(top, time.monotonic() + seconds)
    finally:
        os.close(top)
    try:
        os.rmdir(path)
    except FileNotFoundError:
        return ""
    except OSError as error:
        return trouble or str(error.strerror)
    return ""


def _empty(top: int, deadline: float) -> str:
    """Remove all that is in the folder `top`; return what went wrong."""
    prefix, moved = os.urandom(8).hex(), 0
    stuck: dict[str, str] = {}
    try:
        while folders := _files_removed(top, stuck, deadline):
            for name in folders:
                try:
                    folder = _open(name, top)
                    try:
                        while inside := _files_removed(folder, stuck, deadline):
                            for inner in inside:
                                moved += 1
                                _move(inner, folder, f"{prefix}-{moved}", top)
                    finally:
                        os.close(folder)
                    os.rmdir(name, dir_fd=top)
                except FileNotFoundError:
                    continue
                except OSError as error:
                    stuck[name] = str(error.strerror)
    except TimeoutError:
        return "something makes new files in it all the time, or there are too many"
    return next(iter(stuck.values()), "")


def _files_removed(folder: int, stuck: dict[str, str], deadline: float) -> list[str]:
    """Remove all files of a folder; return its folders, but not those in `stuck`, and only some if there are very many.

    Raises TimeoutError after the deadline.
    """
    folders: list[str] = []
    with os.scandir(folder) as entries:
        for count, entry in enumerate(entries):
            if count % DEADLINE_ENTRIES == 0 and time.monotonic() >= deadline:
                raise TimeoutError
            if entry.is_dir(follow_symlinks=False):
                if entry.name not in stuck:
                    folders.append(entry.name)
                if len(folders) >= FOLDERS_MAX:
                    break
                continue
            try:
                os.unlink(entry.name, dir_fd=folder)
            except FileNotFoundError:
                continue
            except OSError as error:
                stuck[entry.name] = str(error.strerror)
    return folders


def _open(name: str, parent: int | None) -> int:
    """Open a folder, with the rights to change it if it belongs to this user."""
    with contextlib.suppress(PermissionError):
        found = os.open(name, _FOLDER, dir_fd=parent)
        if not os.geteuid() or os.fstat(found).st_mode & 0o300 == 0o300:
            return found
        os.close(found)
    _take_rights(name, parent)
    return os.open(name, _FOLDER, dir_fd=parent)


def _move(name: str, folder: int, new_name: str, top: int) -> None:
    try:
        os.rename(name, new_name, src_dir_fd=folder, dst_dir_fd=top)
    except PermissionError:
        # What is moved to another folder changes itself too: its "..".
        _take_rights(name, folder)
        os.rename(name, new_name, src_dir_fd=folder, dst_dir_fd=top)


def _take_rights(name: str, parent: int | None) -> None:
    # Through a descriptor: between two looks at a name, a link may have taken its place.
    found = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        os.chmod(f"/proc/self/fd/{found}", 0o700)
    finally:
        os.close(found)
