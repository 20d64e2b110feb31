"""What every processor of an agent is told when it starts."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Literal

from scaler_worker.fences.plan import Fences
from scaler_worker.processor.object_folders import ObjectFolders


@dataclass(frozen=True, slots=True)
class ProcessorOptions:
    """Passed to the template as JSON, in the first packet."""

    scheduler_address: str
    host_folders: tuple[str, ...]
    """Of the agent on this host; removed at its end, the first one first."""
    object_folders: ObjectFolders
    """Where objects of this host are mapped from, and large results are left for the agent."""
    preload: str = ""
    garbage_collect_interval_seconds: float = 30.0
    trim_memory_threshold_bytes: int = 1024**3
    logging_level: str = "INFO"
    """Least severe level that reaches the worker's own log."""
    logging_format: Literal["text", "json"] = "text"
    worker_names: tuple[str, ...] = ()
    """By slot."""
    task_path: tuple[str, ...] = ()
    """`sys.path` for what tasks import."""
    task_modules: tuple[str, ...] = ()
    """What tasks will most likely import: a processor does so while it waits for its first one."""
    path_source: str = ""
    """The local socket that tells what the client's `sys.path` has become since; empty where nobody does."""
    identity_prefix: str = ""
    """How the ids of clients inside tasks begin: with keys, the fingerprint of the worker's key, in hexadecimal."""
    security_dir: str = ""
    """Where the worker's key is; empty without keys, and where processors may not read it."""
    storage_gate: str = ""
    """The address at which the agent carries large values for clients inside tasks, where these may not read the key."""
    fences: Fences = field(default_factory=Fences)
    enforce_memory: bool = False
    """Whether tasks that ask for memory are measured."""
    kept_output_bytes: int = 0
    """Of what tasks print, kept for each processor; 0: nothing is."""
    hides_arguments: bool = False
    """Whether the arguments of tasks that fail are not kept beside it."""

    @classmethod
    def from_text(cls, text: bytes) -> ProcessorOptions:
        """Return what was passed to the template."""
        document = json.loads(text)
        made = {
            "fences": Fences.from_document(document["fences"]),
            "object_folders": ObjectFolders(*document["object_folders"]),
        }
        return cls(**{**document, **made})
