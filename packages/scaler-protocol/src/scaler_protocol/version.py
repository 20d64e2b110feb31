"""The one version of all Scaler distributions, and the version of the wire protocol."""

import sys

SOFTWARE_VERSION = "0.1.0"
PROTOCOL_VERSION = 7
PYTHON_VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
