"""Workers as plain processes on this machine."""
