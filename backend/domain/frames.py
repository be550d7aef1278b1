"""Frames and time: the one module that converts between a frame's index, the model's seconds and the video's seconds.

Two clocks, never mixed. `Sampling` is the model's: it is shown n sampled frames as n / nominal_fps seconds, whatever
the source's length [released code], and a second it writes leads through the sampling table to a source frame.
`FrameClock` is the video's: the time stamp of every frame, so that a variable frame rate is exact. They meet in the
frame index alone (decoder order, from 0). The table's bytes are `backend.domain.pts`, Label Studio's numbers (from 1)
`integrations.label_studio.coordinates`; neither computes a time of its own.
"""

from bisect import bisect_right
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

#: Times are stored to the microsecond. One that was rounded down still leads to the frame it was read from.
_ROUNDED_S = 6e-7


@dataclass(frozen=True, slots=True)
class FrameClock:
    """When the frames of a video are shown, in seconds from the beginning of the first one.

    `pts`: (frame_count,) int64, strictly ascending, in units of `time_base` seconds, from any origin. Frame i is shown
    from `time_s(i)` until `time_s(i + 1)`, the last one until `duration_s`.
    """

    pts: NDArray[np.int64]
    time_base: Fraction
    duration_s: float

    def time_s(self, frame_index: int) -> float:
        """Seconds at which the frame begins. Raises `IndexError` outside the video."""
        if not 0 <= frame_index < len(self.pts):
            raise IndexError(f"the video has no frame {frame_index}: it has {len(self.pts)}")
        ticks = int(self.pts[frame_index]) - int(self.pts[0])
        return ticks * self.time_base.numerator / self.time_base.denominator

    def times_s(self) -> NDArray[np.float64]:
        """(frame_count,) float64: `time_s` of every frame."""
        ticks: NDArray[np.float64] = (self.pts - self.pts[0]).astype(np.float64)
        return ticks * self.time_base.numerator / self.time_base.denominator

    def frame_index_at(self, time_s: float) -> int:
        """The frame that is shown at that second; the end of the video is inclusive and means the last frame.

        Less than a microsecond before a frame begins is that frame's. Raises `ValueError` outside the video.
        """
        if not 0 <= time_s <= self.duration_s:
            raise ValueError(f"{time_s} s lies outside the video of {self.duration_s} s")
        found = bisect_right(range(len(self.pts)), time_s, key=self.time_s) - 1
        following = found + 1
        if following == len(self.pts) or self.time_s(found) == time_s:
            return found
        return following if self.time_s(following) - time_s <= _ROUNDED_S else found


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

    def nominal_s_of(self, frame_index: int) -> float:
        """The nominal second at which the sampled frame nearest to that source frame is shown."""
        nearest = min(range(len(self.frame_indices)), key=lambda n: abs(self.frame_indices[n] - frame_index))
        return nearest / self.nominal_fps


def sample_uniformly(frame_count: int, max_frames: int, nominal_fps: float, *, between: bool = False) -> Sampling:
    """At most `max_frames` source frames, uniformly spaced, first and last included (`linspace(0, N - 1, n)`,
    appendix B). `between` [ours]: frames in the middles of n equal parts of the clip, for a second look."""
    if frame_count < 1:
        raise ValueError("a clip has at least one frame")
    count = min(frame_count, max_frames)
    places = (np.arange(count) + 0.5) * frame_count / count - 0.5 if between else np.linspace(0, frame_count - 1, count)
    indices = places.round().astype(int)
    return Sampling(tuple(int(i) for i in indices), nominal_fps)
