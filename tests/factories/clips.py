"""Small real video files, good and bad, made with PyAV."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np


def write_clip(
    path: Path,
    frames: int = 20,
    *,
    width: int = 64,
    height: int = 48,
    rate: int = 10,
    pts_ms: Sequence[int] | None = None,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    rotation_deg: int = 0,
    sound_s: float = 0,
    noise: bool = False,
) -> Path:
    """Frames differ in brightness. `pts_ms` overrides the even times; `rotation_deg` is counterclockwise."""
    random = np.random.default_rng(0)
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream: Any = container.add_stream(codec, rate=rate)
        stream.width, stream.height = width, height
        stream.pix_fmt = "yuv420p" if width % 2 == height % 2 == 0 else "yuv444p"
        stream.options = options or {}
        stream.codec_context.time_base = Fraction(1, 1000 if pts_ms else rate)
        if rotation_deg:
            stream.set_display_rotation(rotation_deg)
        audio: Any = container.add_stream("aac", rate=16000, layout="mono") if sound_s else None
        for index in range(frames):
            picture = np.full((height, width, 3), index * 7 % 255, np.uint8)
            if noise:
                picture = random.integers(0, 255, (height, width, 3), np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = pts_ms[index] if pts_ms else index
            frame.time_base = stream.codec_context.time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if audio is not None:
            _write_sound(container, audio, sound_s)
    return path


def write_sound_only(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        _write_sound(container, container.add_stream("aac", rate=16000, layout="mono"), 1.0)
    return path


def _write_sound(container: Any, stream: Any, seconds: float) -> None:
    samples = np.zeros((1, int(16000 * seconds)), np.float32)
    frame = av.AudioFrame.from_ndarray(samples, format="flt", layout="mono")
    frame.sample_rate, frame.pts = 16000, 0
    container.mux(stream.encode(frame))
    container.mux(stream.encode())


def cut(path: Path, share: float, to: Path) -> Path:
    """The first part of a file."""
    data = path.read_bytes()
    to.write_bytes(data[: int(len(data) * share)])
    return to
