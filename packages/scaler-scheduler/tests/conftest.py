"""Lets the tests import their harness by name, and properties take as long as a busy machine makes them."""

import sys
from pathlib import Path

import hypothesis

# How long an example takes, or is made, says more about the machine than about the code; pytest-timeout ends what hangs.
hypothesis.settings.register_profile("scaler", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("scaler")

sys.path.insert(0, str(Path(__file__).parent))
