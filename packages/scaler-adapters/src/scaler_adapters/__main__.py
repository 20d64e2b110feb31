"""Makes `python -m scaler_adapters NAME ADDRESS` run the worker adapter that is installed under this name."""

from __future__ import annotations

import sys

from scaler_adapters.main import main

sys.exit(main())
