"""Makes `python -m scaler_worker.processor` the process that processors are forked from."""

from __future__ import annotations

import sys

from scaler_protocol.service.process_start import starting

with starting():
    from scaler_worker.processor.template import main

sys.exit(main(sys.argv[1:]))
