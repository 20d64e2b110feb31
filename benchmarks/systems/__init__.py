"""One file for each system that is measured; `benchmarks.system` says what it must offer."""
