"""Workloads measured from outside, this engine and its peers in turn. `python -m benchmarks --help`, README.md beside this file."""
