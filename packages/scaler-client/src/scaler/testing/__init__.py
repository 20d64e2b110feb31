"""For tests of programs that use Scaler: a cluster inside the test's own process."""

from scaler.testing.in_process_cluster import InProcessCluster

__all__ = ["InProcessCluster"]
