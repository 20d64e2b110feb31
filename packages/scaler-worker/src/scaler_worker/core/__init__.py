"""The agent's decisions, without sockets, processes, clock or randomness."""

from scaler_worker.core.agent import AgentCore
from scaler_worker.core.options import AgentOptions
from scaler_worker.core.snapshot import AgentSnapshot

__all__ = ["AgentCore", "AgentOptions", "AgentSnapshot"]
