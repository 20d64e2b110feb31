"""The scheduler's tables in a file, to look into a problem."""
