"""Makes `python -m scaler_adapters.slurm` the command `scaler_worker_adapter_slurm`."""

from __future__ import annotations

import sys

from scaler_adapters.slurm.main import main

sys.exit(main())
