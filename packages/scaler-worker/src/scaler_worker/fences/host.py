"""What this host offers, and the fences of an agent that come of it."""

from __future__ import annotations

import logging
import os
import resource
from dataclasses import replace

from scaler_protocol.service.errors import ConfigurationError
from scaler_protocol.service.worker_settings import WorkerSettings
from scaler_worker.fences import private_folders
from scaler_worker.fences.environment import EnvironmentFilter
from scaler_worker.fences.memory_groups import NoGroupsError, find_groups
from scaler_worker.fences.plan import Account, FenceError, Fences, Host, Wanted, descriptions, plan

logger = logging.getLogger(__name__)


def fences_for(settings: WorkerSettings) -> Fences:
    """Return the fences that these settings ask for, and log which they are. Raises ConfigurationError."""
    wanted = _wanted_by(settings)
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


def _wanted_by(settings: WorkerSettings) -> Wanted:
    return Wanted(
        user=settings.user or "",
        memory_bytes=settings.processor_memory_limit_bytes,
        open_files=settings.processor_open_files,
        cpu_seconds=settings.processor_cpu_seconds,
        core_bytes=settings.processor_core_bytes,
        umask=None if settings.umask is None else int(settings.umask, 8),
    )


def _look_around(wanted: Wanted) -> Host:
    groups, no_groups = None, ""
    if wanted.memory_bytes:
        try:
            groups = find_groups(os.getpid())
        except NoGroupsError as error:
            no_groups = str(error)
    _, open_files_max = resource.getrlimit(resource.RLIMIT_NOFILE)
    return Host(
        is_root=os.geteuid() == 0,
        account=_account(wanted.user) if wanted.user else None,
        memory_groups=groups,
        no_memory_groups=no_groups,
        open_files_max=None if open_files_max == resource.RLIM_INFINITY else open_files_max,
    )


def _account(name: str) -> Account | None:
    import pwd

    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return None
    return Account(name, entry.pw_uid, entry.pw_gid, tuple(os.getgrouplist(name, entry.pw_gid)), entry.pw_dir)
