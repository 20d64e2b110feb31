"""Makes `python -m scaler_ui.trace` the command `scaler_trace`."""

from __future__ import annotations

import sys

from scaler_ui.trace.main import main

sys.exit(main())
