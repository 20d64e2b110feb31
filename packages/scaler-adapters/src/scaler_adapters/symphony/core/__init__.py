"""The agent whose slots are in Symphony, as decisions: see `core.agent`."""
