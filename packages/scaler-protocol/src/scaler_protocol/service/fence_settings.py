"""The settings of what keeps the code of tasks from harming others, which workers have, and worker adapters pass on."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, AliasChoices, Field

from scaler_protocol.service.settings import BytesSetting, Protective, ServiceSettings, TextListSetting

_UMASK_MAX = 0o077


def _check_umask(text: str | None) -> str | None:
    digits = text is not None and 0 < len(text) <= 4 and all(digit in "01234567" for digit in text)
    if text is not None and not (digits and int(text, 8) <= _UMASK_MAX):
        # A processor must be able to read what it writes.
        raise ValueError(f"expected an octal number up to 077, as in 027, not {text!r}")
    return text


class FenceSettings(ServiceSettings):
    """What is allowed to the code of tasks. Left out, nothing but core dumps is forbidden."""

    user: Annotated[str | None, Protective()] = Field(
        default=None, description="user as whom workers' processes run the code of tasks; only root can have that"
    )
    processor_memory_limit_bytes: Annotated[BytesSetting, Protective()] = Field(
        default=0,
        ge=0,
        validation_alias=AliasChoices("processor_memory_limit_bytes", "processor_memory_limit"),
        description="memory that a worker's process may take; a task that takes more ends with it; 0: no limit",
    )
    enforce_memory: Annotated[bool, Protective()] = Field(
        default=False,
        description="end a task that takes more memory than it asked for, as in resources={'mem': '8GiB'}; those that ask for "
        "none are not measured",
    )
    processor_open_files: Annotated[int, Protective()] = Field(
        default=0, ge=0, description="files that a worker's process may have open; 0: as many as scaler_cluster may"
    )
    processor_processes: Annotated[int, Protective()] = Field(
        default=0,
        ge=0,
        description="processes and threads that a worker's process may have, itself included; without cgroups, all processes of "
        "--user together may have as many for each worker; 0: no limit",
    )
    processor_cpu_seconds: Annotated[int, Protective()] = Field(
        default=0,
        ge=0,
        description="seconds of CPU time that a task's process may use, with all its threads; each process that the task "
        "starts is counted from 0, and may use at least as many; 0: no limit",
    )
    processor_core_bytes: Annotated[BytesSetting, Protective()] = Field(
        default=0, ge=0, description="largest core dump of a worker's process; 0: no core dumps"
    )
    umask: Annotated[str | None, AfterValidator(_check_umask), Protective()] = Field(
        default=None,
        description="permissions that files of tasks do not get, as in 027 (default: that of scaler_cluster)",
    )
    private_temporary_folder: Annotated[bool, Protective()] = Field(
        default=False, description="give each worker's process a temporary folder of its own (TMPDIR), removed with it"
    )
    environment_allow: Annotated[TextListSetting, Protective()] = Field(
        default=(),
        description="environment variables that tasks see besides the usual ones, as in APP_*,CUDA_* (default: all)",
    )
    environment_deny: Annotated[TextListSetting, Protective()] = Field(
        default=(), description="environment variables that tasks do not see, as in AWS_*,*_TOKEN"
    )

    def fences_asked_for(self) -> list[str]:
        """Return the flags of all fences that are not what they are by default."""
        names = FenceSettings.model_fields.keys() - ServiceSettings.model_fields.keys()
        asked = [
            name for name in sorted(names) if getattr(self, name) != FenceSettings.model_fields[name].get_default()
        ]
        return ["--" + name.replace("_", "-") for name in asked]
