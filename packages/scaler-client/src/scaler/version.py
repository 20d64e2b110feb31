"""The version of this package, which all packages of Scaler carry."""

from scaler_protocol.version import SOFTWARE_VERSION as __version__

__all__ = ["__version__"]
