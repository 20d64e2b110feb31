"""A large cluster on one machine: a real scheduler, and hosts and clients that are played over real sockets."""
