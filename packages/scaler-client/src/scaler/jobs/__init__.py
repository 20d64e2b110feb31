"""The command `scaler_jobs`: lists, shows, cancels and forgets jobs, which are tasks that outlive their client."""
