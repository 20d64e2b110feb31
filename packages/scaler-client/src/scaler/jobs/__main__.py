"""Makes `python -m scaler.jobs` the same as the command `scaler_jobs`."""

from __future__ import annotations

import sys

from scaler.jobs.command import main

sys.exit(main())
