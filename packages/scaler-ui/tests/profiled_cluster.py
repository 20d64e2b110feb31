"""A scheduler that answers requests for profiles, for tests of who asks."""

from __future__ import annotations

import threading

from synthetic_cluster import SyntheticScheduler

from scaler_protocol.address import Address
from scaler_protocol.monitoring.topics import ProfileWanted, profile_topic, profile_wanted
from scaler_protocol.service.child import ChildService
from scaler_protocol.wire.codec import encode
from scaler_protocol.wire.messages import MonitorProfile


def profile_of(wanted: ProfileWanted, *, done: bool = True, answered: int = 2) -> MonitorProfile:
    return MonitorProfile(
        *wanted,
        elapsed_seconds=float(wanted.seconds),
        done=done,
        agents=2,
        answered=answered,
        processors=4,
        samples=1000,
        cost_microseconds=20_000,
        parents=[0, 1, 2, 1, 4, 0],
        names=[0, 1, 2, 3, 2, 4],
        files=[2, 5, 5, 5, 5, 2],
        lines=[0, 3, 9, 7, 8, 0],
        microseconds=[0, 0, 3_000_000, 0, 1_000_000, 500_000],
        texts=("price", "slow", "", "quick", "other", "model.py"),
    )


class Answering:
    """A scheduler that answers requests for profiles, in a thread, with unfinished ones first."""

    def __init__(self, *, answered: int = 2) -> None:
        self.scheduler = SyntheticScheduler()
        self.address = Address.parse(self.scheduler.address)
        self.seen: list[ProfileWanted] = []
        self._answered = answered
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._answer)
        self._thread.start()

    def _answer(self) -> None:
        while not self._ended.wait(0.05):
            for topic in self.scheduler.topics():
                wanted = profile_wanted(topic)
                if wanted is not None:
                    done = wanted in self.seen
                    self.seen.append(wanted)
                    message = profile_of(wanted, done=done, answered=self._answered)
                    self.scheduler.publish_raw(profile_topic(wanted), *map(bytes, encode(message)))

    def close(self) -> None:
        self._ended.set()
        self._thread.join()
        self.scheduler.__exit__()


class ProfiledPages:
    """`scaler_ui` beside such a scheduler."""

    def __init__(self, *, answered: int = 2) -> None:
        self._answering = Answering(answered=answered)
        self._child = ChildService.start("scaler_ui.web", [str(self._answering.address), "--port=0", "--timeout=600"])
        self.base = str(self._child.wait_ready(30)["webui"]).replace("tcp", "http")

    def close(self) -> None:
        self._child.terminate(10)
        self._answering.close()
