"""Decoding 720p H.264 to RGB, whole and sampled, against PyAV's plain loop: `python -m benchmarks.decode`.

A clip of 24 s is written with x264's defaults (groups of up to 250 pictures, B-frames), textured and moving. Whole:
every frame as RGB. Sampled: 24 frames, uniformly spaced, as System 1 is shown; the plain loop has to decode all frames
and converts these. The frames must be the same to the bit. The two are run in turn; prints medians of repeats, and last
one JSON line; the ratio is the smaller one.
"""

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from backend.domain.annotation import VideoProbe
from integrations.media.decode import iter_frames, read_frames
from integrations.media.probe import probe_video

WIDTH, HEIGHT, RATE, FRAMES = 1280, 720, 25, 600
SAMPLED = 24
REPEATS = 7
TARGET = 1.5
Frames = Iterator[tuple[int, NDArray[Any]]]


def _write(path: Path) -> None:
    """A camera that pans over texture with grain, while a sharp thing crosses the picture."""
    random = np.random.default_rng(0)
    wide = gaussian_filter(random.normal(0, 1, (HEIGHT, WIDTH + 2 * FRAMES, 3)), (3, 3, 0))
    world = np.clip(128 + 400 * wide, 0, 255).astype(np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        # PyAV asks x264 for several slices a picture, which a decoder takes in parallel; x264 itself makes one.
        stream.codec_context.thread_type = "FRAME"
        for index in range(FRAMES):
            image = world[:, 2 * index : 2 * index + WIDTH].astype(np.int16)
            image += random.integers(-4, 5, (HEIGHT, WIDTH, 1), np.int16)
            image[300:400, 2 * index : 2 * index + 80] = (220, 40, 40)
            picture = np.clip(image, 0, 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def _plain(path: Path, wanted: Sequence[int]) -> Frames:
    chosen = set(wanted)
    with av.open(str(path)) as container:
        for frame_index, frame in enumerate(container.decode(video=0)):
            if frame_index in chosen:
                yield frame_index, frame.to_ndarray(format="rgb24")


def _ours(path: Path, probe: VideoProbe, wanted: Sequence[int]) -> Frames:
    return iter_frames(path, probe) if len(wanted) == probe.frame_count else read_frames(path, probe, wanted)


def _seconds(frames: Callable[[], Frames]) -> float:
    begin = time.perf_counter()
    for _ in frames():
        pass
    return time.perf_counter() - begin


def main() -> None:
    detail = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        _write(path)
        probe = probe_video(path)
        sampled = np.linspace(0, FRAMES - 1, SAMPLED).round().astype(int).tolist()
        for name, wanted in (("whole", range(FRAMES)), ("sampled", sampled)):
            for (i, theirs), (j, ours) in zip(_plain(path, wanted), _ours(path, probe, wanted), strict=True):
                if i != j or not np.array_equal(theirs, ours):
                    raise SystemExit(f"frame {i} differs")
            plain_s, ours_s = [], []
            for _ in range(REPEATS):
                plain_s.append(_seconds(lambda wanted=wanted: _plain(path, wanted)))  # type: ignore[misc]
                ours_s.append(_seconds(lambda wanted=wanted: _ours(path, probe, wanted)))  # type: ignore[misc]
            theirs_s, mine_s = statistics.median(plain_s), statistics.median(ours_s)
            detail[name] = {
                "plain_s": round(theirs_s, 3),
                "ours_s": round(mine_s, 3),
                "ratio": round(theirs_s / mine_s, 2),
            }
            print(f"{name}: {detail[name]}")
    ratio = min(figures["ratio"] for figures in detail.values())
    detail["frames"] = {"all": FRAMES, "sampled": SAMPLED}
    print(
        json.dumps({"benchmark": "decode", "ratio": ratio, "target": TARGET, "ok": ratio >= TARGET, "detail": detail})
    )


if __name__ == "__main__":
    main()
