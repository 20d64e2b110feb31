"""Where programs written for earlier versions look for local clusters. The code is in `scaler.local`."""
