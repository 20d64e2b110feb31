"""The cluster in a terminal, like top."""
