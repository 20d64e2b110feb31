"""What a monitor knows of a cluster: bounded, without sockets, clock or screen. Both faces and the metrics read it."""

from scaler_ui.model.cluster import ClusterModel, Limits

__all__ = ["ClusterModel", "Limits"]
