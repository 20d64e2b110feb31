"""The placement policies that users can choose from."""

from __future__ import annotations

from collections.abc import Mapping

from scaler_scheduler.policy.placement import PlacementPolicy
from scaler_scheduler.policy.spread import Capability, Even

PLACEMENT_POLICIES: Mapping[str, PlacementPolicy] = {policy.name: policy for policy in (Capability(), Even())}
"""By the name that stands after `--allocate-policy`; their order is that of the help."""
