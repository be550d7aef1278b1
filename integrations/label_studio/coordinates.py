"""Between our coordinates and Label Studio's: frames, percent of the frame, and the rate its player counts frames by.

The only module that knows that Label Studio counts frames from 1 and measures boxes in percent.
"""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from backend.domain.annotation import Box, VideoProbe

#: Label Studio seeks to (frame - 1) / fps, rounded to 2 ms, plus 2 ms: a frame that begins this late is still shown.
PLAYER_TOLERANCE_S = 0.001
_BROADCAST_DENOMINATORS = (1, 1001)


def label_studio_frame(frame_index: int) -> int:
    """0-based decoder order → Label Studio's 1-based number."""
    return frame_index + 1


def frame_index(label_studio_frame: int) -> int:
    """Label Studio's 1-based number → 0-based decoder order."""
    return label_studio_frame - 1


def to_percent(box: Box, width: int, height: int) -> dict[str, float]:
    """Source pixels → x, y, width, height in percent of a frame of `width` × `height` pixels."""
    return {
        "x": 100.0 * box.x1 / width,
        "y": 100.0 * box.y1 / height,
        "width": 100.0 * (box.x2 - box.x1) / width,
        "height": 100.0 * (box.y2 - box.y1) / height,
    }


def from_percent(x: float, y: float, box_width: float, box_height: float, width: int, height: int) -> Box:
    """Percent of a frame of `width` × `height` pixels → source pixels."""
    return Box(x * width / 100, y * height / 100, (x + box_width) * width / 100, (y + box_height) * height / 100)


@dataclass(frozen=True, slots=True)
class FrameRate:
    """The rate to tell Label Studio. `constant`: its frame numbers are then exact for every frame of this video."""

    fps: float
    constant: bool


def frame_rate(probe: VideoProbe) -> FrameRate:
    """The constant rate that the PTS table follows, or its average where it follows none.

    Label Studio derives a frame from the player's time, as ceil(time × fps), so one rate must place every frame. Time
    stamps that were rounded to the container's time base still count as constant.
    """
    if probe.frame_count < 2:
        return FrameRate(1 / probe.duration_s if probe.duration_s > 0 else 1.0, constant=True)
    times = probe.clock.times_s()
    average = (probe.frame_count - 1) / float(times[-1])
    nominal = [float(Fraction(round(average * d), d)) for d in _BROADCAST_DENOMINATORS if round(average * d) > 0]
    steps = np.arange(probe.frame_count)
    # The nominal rates first: an average over rounded stamps is off by a little, which adds up over a long video.
    for fps in (*nominal, average):
        # Label Studio reads a rate below 1 as its inverse.
        if fps >= 1 and float(np.abs(times - steps / fps).max()) <= PLAYER_TOLERANCE_S:
            return FrameRate(fps, constant=True)
    return FrameRate(average, constant=False)
