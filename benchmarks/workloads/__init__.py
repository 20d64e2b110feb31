"""One file for each subject that is measured; `benchmarks.workload` says what a workload must offer."""
