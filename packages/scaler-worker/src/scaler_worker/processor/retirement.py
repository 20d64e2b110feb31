"""Why a processor ends that could go on, but should not."""

from __future__ import annotations


class RetiredError(Exception):
    """No other task should run in this process, because of what tasks have left there: `fault` ends a sentence that says so."""

    def __init__(self, fault: str) -> None:
        super().__init__(fault)
        self.fault = fault
