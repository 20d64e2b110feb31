"""The child processes that run task code, and how the agent talks to them.

Imports nothing of ZeroMQ or Cap'n Proto: a processor pays for those only when a task makes a client.
"""
