"""Makes `python -m scaler_adapters.ecs` the command `scaler_worker_adapter_ecs`."""

from __future__ import annotations

import sys

from scaler_adapters.ecs.main import main

sys.exit(main())
