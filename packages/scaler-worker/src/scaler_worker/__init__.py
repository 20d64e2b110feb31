"""Runs task code in child processes and reports honestly."""
