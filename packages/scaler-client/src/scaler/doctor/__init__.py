"""Checks an installation and a cluster for people: `python -m scaler [ADDRESS]`."""
