"""Makes `python -m scaler_scheduler` the command `scaler_scheduler`."""

from __future__ import annotations

import sys

from scaler_scheduler.main import main

sys.exit(main())
