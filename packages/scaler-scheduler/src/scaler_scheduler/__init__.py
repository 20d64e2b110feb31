"""Decides which worker runs which task, and remembers until it is answered."""
