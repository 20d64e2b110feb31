"""Writes when each task ran on which worker to a file that Perfetto opens."""
