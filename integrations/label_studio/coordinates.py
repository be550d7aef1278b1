"""Between our coordinates and Label Studio's: frames, percent of the frame, and the rate its player counts frames by.

The only module that knows that Label Studio counts frames from 1 and measures boxes in percent.
"""

from dataclasses import dataclass

from backend.domain.annotation import Box, VideoProbe
from backend.domain.renditions import average_rate, constant_rate
from backend.ports.publication import PublicationItem


def label_studio_frame(frame_index: int, first_frame: int = 0) -> int:
    """0-based decoder order → Label Studio's 1-based number. `first_frame`: of the window that is shown."""
    return frame_index - first_frame + 1


def frame_index(label_studio_frame: int, first_frame: int = 0) -> int:
    """Label Studio's 1-based number → 0-based decoder order. `first_frame`: of the window that is shown."""
    return first_frame + label_studio_frame - 1


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

    Label Studio derives a frame from the player's time, as ceil(time × fps), so one rate must place every frame.
    """
    rate = constant_rate(probe.clock)
    return FrameRate(float(average_rate(probe.clock) if rate is None else rate), constant=rate is not None)


def shown_rate(item: PublicationItem) -> FrameRate:
    """The rate of what is shown of the item: of its rendition, or of the video itself."""
    return frame_rate(item.probe) if item.rendition is None else FrameRate(float(item.rendition.fps), constant=True)
