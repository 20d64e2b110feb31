"""What monitors read: the streams of the monitor socket, and the timeline of tasks."""
