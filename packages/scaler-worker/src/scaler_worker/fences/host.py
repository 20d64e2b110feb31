"""What this host offers, and the fences of an agent that come of it."""

from __future__ import annotations

import logging
import os
import resource
from dataclasses import replace

from scaler_protocol.service.errors import ConfigurationError
from scaler_protocol.service.worker_settings import WorkerSettings
from scaler_worker.fences import private_folders
from scaler_worker.fences.control_groups import MEMORY, PROCESSES, NoGroupsError, find_groups
from scaler_worker.fences.environment import EnvironmentFilter
from scaler_worker.fences.plan import Account, ControlGroups, FenceError, Fences, Host, Wanted, descriptions, plan

logger = logging.getLogger(__name__)


def fences_for(settings: WorkerSettings, workers: int) -> Fences:
    """Return the fences that these settings ask for, and log which they are. Raises ConfigurationError."""
    wanted = _wanted_by(settings, workers)
    host = _look_around(wanted)
    try:
        fences = plan(wanted, host)
    except FenceError as error:
        raise ConfigurationError(str(error)) from None
    if settings.private_temporary_folder:
        try:
            place = private_folders.make_place()
            private_folders.let_through(place)
        except OSError as error:
            raise ConfigurationError(f"--private-temporary-folder: {error}") from None
        fences = replace(fences, temporary_place=place)
    for line in descriptions(fences, host):
        logger.info("%s", line)
    return fences


def environment_filter(settings: WorkerSettings) -> EnvironmentFilter:
    """Return which variables tasks are to see."""
    return EnvironmentFilter(settings.environment_allow, settings.environment_deny)


def _wanted_by(settings: WorkerSettings, workers: int) -> Wanted:
    return Wanted(
        user=settings.user or "",
        memory_bytes=settings.processor_memory_limit_bytes,
        open_files=settings.processor_open_files,
        processes=settings.processor_processes,
        workers=workers,
        cpu_seconds=settings.processor_cpu_seconds,
        core_bytes=settings.processor_core_bytes,
        umask=None if settings.umask is None else int(settings.umask, 8),
    )


def _look_around(wanted: Wanted) -> Host:
    memory_groups, no_memory_groups = _groups_for(MEMORY) if wanted.memory_bytes else (None, "")
    process_groups, no_process_groups = _groups_for(PROCESSES) if wanted.processes else (None, "")
    _, open_files_max = resource.getrlimit(resource.RLIMIT_NOFILE)
    return Host(
        is_root=os.geteuid() == 0,
        account=_account(wanted.user) if wanted.user else None,
        memory_groups=memory_groups,
        no_memory_groups=no_memory_groups,
        process_groups=process_groups,
        no_process_groups=no_process_groups,
        open_files_max=None if open_files_max == resource.RLIM_INFINITY else open_files_max,
    )


def _groups_for(controller: str) -> tuple[ControlGroups | None, str]:
    """Return the groups that can be made, or why there are none."""
    try:
        return find_groups(os.getpid(), controller), ""
    except NoGroupsError as error:
        return None, str(error)


def _account(name: str) -> Account | None:
    import pwd

    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return None
    return Account(name, entry.pw_uid, entry.pw_gid, tuple(os.getgrouplist(name, entry.pw_gid)), entry.pw_dir)
