"""Tiny video files of many kinds whose every frame shows its own number, upright, so that a wrong frame gives itself
away.

The number is in binary: six columns, bright for a one in the upper half and the other way round in the lower half. A
picture that is turned or mirrored shows other numbers, or none.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

BITS = 6
DARK, BRIGHT = 30, 220


@dataclass(frozen=True, slots=True)
class Kind:
    """How a clip is written. `pts_ms` are the times of the frames, in place of even ones at `rate`; `rotation_deg` is
    counterclockwise, as the file says it; `width` and `height` are those of the coded picture."""

    file: str
    codec: str = "libx264"
    frames: int = 20
    width: int = 64
    height: int = 48
    pix_fmt: str = "yuv420p"
    rate: Fraction = Fraction(10)
    pts_ms: Sequence[int] = ()
    options: Mapping[str, str] = field(default_factory=dict)
    container_options: Mapping[str, str] = field(default_factory=dict)
    container_format: str | None = None
    rotation_deg: int = 0
    mirrored: str = ""
    pixel_aspect: Fraction | None = None
    sound_s: float = 0


def numbered(number: int, width: int, height: int) -> NDArray[np.uint8]:
    """(height, width, 3) uint8 RGB that shows `number`, 0 to 63."""
    ones = np.array([number >> min(x * BITS // width, BITS - 1) & 1 for x in range(width)], dtype=bool)
    picture = np.empty((height, width, 3), np.uint8)
    picture[: height // 2] = np.where(ones, BRIGHT, DARK)[:, None]
    picture[height // 2 :] = np.where(ones, DARK, BRIGHT)[:, None]
    return picture


def number_of(picture: NDArray[Any]) -> int | None:
    """The number that an (H, W, 3) picture shows; None if it shows none."""
    height, width = picture.shape[:2]
    number = 0
    for bit in range(BITS):
        x = (2 * bit + 1) * width // (2 * BITS)
        upper, lower = (float(picture[y, x].mean()) for y in (height // 4, 3 * height // 4))
        if abs(upper - lower) < (BRIGHT - DARK) / 2:
            return None
        number |= (upper > lower) << bit
    return number


def write_kind(folder: Path, kind: Kind) -> Path:
    """The clip in `folder`; its frame i shows i."""
    path = folder / kind.file
    with av.open(str(path), "w", format=kind.container_format, options=dict(kind.container_options)) as container:
        stream = _add_video(container, kind)
        audio: Any = container.add_stream("aac", rate=16_000, layout="mono") if kind.sound_s else None
        turned = kind.rotation_deg % 180 != 0
        shown = (kind.height, kind.width) if turned else (kind.width, kind.height)
        for number in range(kind.frames):
            coded = np.ascontiguousarray(np.rot90(numbered(number, *shown), -kind.rotation_deg // 90))
            frame = av.VideoFrame.from_ndarray(coded, format="rgb24")
            frame.pts = kind.pts_ms[number] if kind.pts_ms else number
            frame.time_base = stream.codec_context.time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if audio is not None:
            silence = np.zeros((1, int(16_000 * kind.sound_s)), np.float32)
            sound = av.AudioFrame.from_ndarray(silence, format="flt", layout="mono")
            sound.sample_rate, sound.pts = 16_000, 0
            container.mux(audio.encode(sound))
            container.mux(audio.encode())
    return path


def _add_video(container: Any, kind: Kind) -> Any:
    stream = container.add_stream(kind.codec, rate=kind.rate)
    stream.width, stream.height, stream.pix_fmt = kind.width, kind.height, kind.pix_fmt
    stream.options = dict(kind.options)
    stream.codec_context.time_base = Fraction(1, 1000) if kind.pts_ms else 1 / kind.rate
    if kind.pixel_aspect is not None:
        stream.sample_aspect_ratio = stream.codec_context.sample_aspect_ratio = kind.pixel_aspect
    if kind.rotation_deg or kind.mirrored:
        stream.set_display_rotation(
            kind.rotation_deg, hflip=kind.mirrored == "horizontally", vflip=kind.mirrored == "vertically"
        )
    return stream
