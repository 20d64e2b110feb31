"""What surrounds the agent's core: sockets, child processes, timers."""
