"""The cluster in a browser."""
