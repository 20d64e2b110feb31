"""Workloads measured from outside, this engine and its peers in turn; see README.md beside this file."""
