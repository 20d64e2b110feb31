"""Why a processor ends that could go on, but should not."""

from __future__ import annotations


class RetiredError(Exception):
    """A task has left the process in a state in which no other should run: `fault` says how, as the end of a sentence."""

    def __init__(self, fault: str) -> None:
        super().__init__(fault)
        self.fault = fault
