"""Frames and time: which source frames are sampled, and how the model's nominal seconds lead back to them.

The model is shown n sampled frames as n / nominal_fps seconds, whatever the source's length [released code]. A
second it writes is led back through the sampling table to a source frame, never through wall-clock time.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Sampling:
    """`frame_indices[i]` is the source frame shown as sampled frame i; ascending, distinct."""

    frame_indices: tuple[int, ...]
    nominal_fps: float

    @property
    def nominal_duration_s(self) -> float:
        return len(self.frame_indices) / self.nominal_fps

    def frame_index_at(self, nominal_s: float) -> int:
        """The source frame at a nominal second; the end of the clip is inclusive and means the last frame."""
        if not 0 <= nominal_s <= self.nominal_duration_s:
            raise ValueError(f"{nominal_s} s lies outside the clip of {self.nominal_duration_s} nominal seconds")
        # The tolerance takes the product of two decimal fractions that falls just short of a whole number as that
        # number.
        position = int(nominal_s * self.nominal_fps + 1e-6)
        return self.frame_indices[min(position, len(self.frame_indices) - 1)]


def sample_uniformly(frame_count: int, max_frames: int, nominal_fps: float) -> Sampling:
    """At most `max_frames` source frames, uniformly spaced, first and last included (`linspace(0, N - 1, n)`,
    appendix B)."""
    if frame_count < 1:
        raise ValueError("a clip has at least one frame")
    count = min(frame_count, max_frames)
    indices = np.linspace(0, frame_count - 1, count).round().astype(int)
    return Sampling(tuple(int(i) for i in indices), nominal_fps)
