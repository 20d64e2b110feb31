"""Makes `python -m scaler` the check of an installation and of a cluster, see `scaler.doctor`."""

from __future__ import annotations

import sys

from scaler.doctor.command import main

sys.exit(main())
