"""Makes `python -m scaler_adapters.native` the command `scaler_worker_adapter_native`."""

from __future__ import annotations

import sys

from scaler_adapters.native.main import main

sys.exit(main())
