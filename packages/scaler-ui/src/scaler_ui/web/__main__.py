"""Makes `python -m scaler_ui.web` the command `scaler_ui`."""

from __future__ import annotations

import sys

from scaler_ui.web.main import main

sys.exit(main())
