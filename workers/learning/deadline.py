"""Trainings that are given a time: when it is over, and a learning rate that has come down by then."""

import math
import time

from workers.learning.libraries import broadcast_object_list

#: So far time may be ahead of the steps before the rate follows it. A training that keeps pace has the rates of one
#: without a limit, to the bit, also after it was broken off.
_SLACK = 0.05


class Deadline:
    """`seconds_max` from now. All processes go by the first one's clock, or they would part."""

    def __init__(self, seconds_max: float) -> None:
        self._begin, self._seconds_max = time.monotonic(), seconds_max

    def share(self) -> float:
        """What is over of the time, 1 at its end. All processes must ask together."""
        told = [(time.monotonic() - self._begin) / self._seconds_max]
        broadcast_object_list(told)
        return told[0]


class Annealing:
    """The share of the learning rate by step: up in a line for the warmup, then down along a cosine to 0 at the last
    step, or at the deadline if that comes first.

    `progress`, how far down it is (0..1), is all that a scheduler saves of it: what goes on later has a new deadline,
    and never a higher rate than it had.
    """

    __slots__ = ("__dict__", "_deadline", "_steps", "_warmup")

    def __init__(self, steps: int, warmup_steps: int, deadline: Deadline) -> None:
        self._steps, self._warmup, self._deadline = steps, warmup_steps, deadline
        self.progress = 0.0

    def __call__(self, step: int) -> float:
        by_time = (self._deadline.share() - _SLACK) * self._steps
        if step < self._warmup:
            return step / self._warmup
        done = (max(step, by_time) - self._warmup) / max(1, self._steps - self._warmup)
        self.progress = max(self.progress, done)
        return max(0.0, 0.5 * (1 + math.cos(math.pi * min(1.0, self.progress))))
