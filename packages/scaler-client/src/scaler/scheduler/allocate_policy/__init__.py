"""See `scaler.scheduler.allocate_policy.allocate_policy`."""
