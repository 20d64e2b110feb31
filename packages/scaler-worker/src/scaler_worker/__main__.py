"""Makes `python -m scaler_worker` the command `scaler_cluster`."""

from __future__ import annotations

import sys

from scaler_worker.main import main

sys.exit(main())
