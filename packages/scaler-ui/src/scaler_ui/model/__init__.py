"""The view model: what a monitor knows of a cluster. It is bounded, and has no socket, clock or screen. Terminal, pages and
metrics read it."""

from scaler_ui.model.cluster import ClusterModel, Limits

__all__ = ["ClusterModel", "Limits"]
