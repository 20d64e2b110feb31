"""What every Scaler service does the same way: settings, logging, signals, readiness, child processes.

Its requirements are installed with the extra `scaler-protocol[service]`, because clients do not need them. Import the modules.
This package itself imports nothing, because `service.child` must also work without pydantic.
"""
