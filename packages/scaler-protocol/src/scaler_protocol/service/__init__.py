"""What every Scaler service does the same way: settings, logging, signals, readiness, child processes.

Behind the extra `scaler-protocol[service]`, so that clients do not pay for it. Import the modules; this package itself
imports nothing, because every process of a cluster starts through here, also those that have no settings.
"""
