"""Schedulers and workers on this machine, as child processes. Their distributions are started, never imported."""
