"""The agent's decisions, without sockets, processes, clock or randomness."""

from scaler_worker.core.agent import AgentCore, AgentOptions
from scaler_worker.core.invariants import InvariantError, check_invariants

__all__ = ["AgentCore", "AgentOptions", "InvariantError", "check_invariants"]
