"""Renditions: what a player is given in place of a video it would show wrongly, frame for frame.

A player knows a time and one rate, and takes their product for the number of a frame. So frame n has to begin n / rate
seconds after the beginning of the file. A rendition is written so: it shows every source frame once, in their order, so
that its frame numbers are the source's, whatever times those had. Between seconds of the two leads `RenditionClock`.
"""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from backend.domain.frames import FrameClock

#: The labeling tool seeks to where a frame should begin, rounded to 2 ms, plus 2 ms: one that begins this much off is
#: still shown; and so many frames a second can still be told apart.
PLAYER_TOLERANCE_S = 0.001
MIN_FPS, MAX_FPS = 1, 240
#: Of the nominal rates, and of those that are written: 30000/1001.
_BROADCAST_DENOMINATOR = 1001


def average_rate(clock: FrameClock) -> Fraction:
    """Frames a second over the whole video, exactly."""
    if len(clock.pts) < 2:
        return Fraction(1) if clock.duration_s <= 0 else 1 / Fraction(clock.duration_s)
    return (len(clock.pts) - 1) / (int(clock.pts[-1] - clock.pts[0]) * clock.time_base)


def constant_rate(clock: FrameClock) -> Fraction | None:
    """The rate that places every frame where a player looks for it; None where no rate does.

    Time stamps that were rounded to the container's time base still follow their rate. Rates below 1 count as none:
    Label Studio reads one as its inverse. A single frame follows any.
    """
    average = average_rate(clock)
    if len(clock.pts) < 2:
        return average
    nominal = [Fraction(round(average * d), d) for d in (1, _BROADCAST_DENOMINATOR)]
    times_s, steps = clock.times_s(), np.arange(len(clock.pts))
    # The nominal rates first: an average over rounded stamps is off by a little, which adds up over a long video.
    for rate in (*nominal, average):
        if rate >= MIN_FPS and float(np.abs(times_s - steps / float(rate)).max()) <= PLAYER_TOLERANCE_S:
            return rate
    return None


def rendition_rate(clock: FrameClock) -> Fraction:
    """The rate to write a rendition at: the video's own where it has one, else its average to the whole number; within
    what a player can count by."""
    rate = constant_rate(clock)
    wanted = Fraction(round(average_rate(clock))) if rate is None else rate.limit_denominator(_BROADCAST_DENOMINATOR)
    return min(max(wanted, Fraction(MIN_FPS)), Fraction(MAX_FPS))


@dataclass(frozen=True, slots=True)
class RenditionClock:
    """Between the seconds of a rendition (`fps`, from its beginning) and those of its source (from the first frame of
    the video). The rendition shows `frame_count` frames from `first_frame` on; None: all that follow.

    Within a frame both run evenly; the end of one is the beginning of the next.
    """

    source: FrameClock
    fps: Fraction
    first_frame: int = 0
    frame_count: int | None = None

    @property
    def count(self) -> int:
        """Frames that the rendition shows."""
        left = len(self.source.pts) - self.first_frame
        return left if self.frame_count is None else min(left, self.frame_count)

    @property
    def duration_s(self) -> float:
        return float(self.count / self.fps)

    def shown_s(self, frame_index: int) -> float:
        """Seconds at which the rendition begins to show the frame. Raises `IndexError` for one that it doesn't show."""
        if not 0 <= frame_index - self.first_frame < self.count:
            raise IndexError(f"the rendition doesn't show frame {frame_index}")
        return float((frame_index - self.first_frame) / self.fps)

    def frame_index_at(self, shown_s: float) -> int:
        """The frame that is seen at that second of the rendition; its end means the last frame. Raises `ValueError`
        outside of it."""
        if not 0 <= shown_s <= self.duration_s:
            raise ValueError(f"{shown_s} s lies outside the rendition of {self.duration_s} s")
        last = self.first_frame + self.count - 1
        found = min(self.first_frame + int(shown_s * float(self.fps)), last)
        # The product may fall just short of a whole number.
        return found + 1 if found < last and self.shown_s(found + 1) <= shown_s else found

    def knots_s(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Seconds of the rendition, and of the source at the same places, (frames shown + 1,) each: where every frame
        begins, and where the last one ends."""
        stop = self.first_frame + self.count
        whole_s = self.source.times_s()
        ends_s = whole_s[stop] if stop < len(whole_s) else max(self.source.duration_s, float(whole_s[-1]))
        shown_s: NDArray[np.float64] = np.arange(self.count + 1) / float(self.fps)
        return shown_s, np.append(whole_s[self.first_frame : stop], ends_s)
