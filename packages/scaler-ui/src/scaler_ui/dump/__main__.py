"""Makes `python -m scaler_ui.dump` the command `scaler_dump`."""

from __future__ import annotations

import sys

from scaler_ui.dump.main import main

sys.exit(main())
