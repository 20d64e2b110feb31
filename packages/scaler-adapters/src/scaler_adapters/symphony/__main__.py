"""Makes `python -m scaler_adapters.symphony` the command `scaler_worker_adapter_symphony`."""

from __future__ import annotations

import sys

from scaler_adapters.symphony.main import main

sys.exit(main())
