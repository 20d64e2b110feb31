"""The client itself: connections, threads and futures around the cores of `scaler.core`."""
