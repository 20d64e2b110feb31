"""The whole cluster in one thread under a virtual clock, from a seed: `python -m simulation --seed N --steps M`."""
