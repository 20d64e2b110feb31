"""What tasks ran where and when, in a file that Perfetto opens."""
