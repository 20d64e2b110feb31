"""Makes `python -m scaler_ui.top` the command `scaler_top`."""

from __future__ import annotations

import sys

from scaler_ui.top.main import main

sys.exit(main())
