"""`Cluster`, where programs written for earlier versions look for it."""

from scaler.local.cluster import Cluster

__all__ = ["Cluster"]
