"""What every process of a cluster uses while it runs: ids, plain value classes, log lines, the context of a task."""
