"""What every Scaler service does the same way: settings, logging, signals, readiness, child processes.

Behind the extra `scaler-protocol[service]`, so that clients do not pay for it. Import the modules; this package itself
imports nothing, because `service.child` must stay usable where pydantic is not installed.
"""
