"""Shows what the cluster is doing."""
