"""Policies: pure functions over figures. They propose; the core owns who runs what."""
