"""Where programs written for earlier versions look for settings of the scheduler. The scheduler itself is `scaler_scheduler`."""
