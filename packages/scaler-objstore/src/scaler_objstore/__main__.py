"""Makes `python -m scaler_objstore` the command `scaler_object_storage_server`."""

from __future__ import annotations

import sys

from scaler_objstore.main import main

sys.exit(main())
