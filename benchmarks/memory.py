"""Peak memory of the segmenter at 500 and at 10,000 frames, and at 4K: `python -m benchmarks.memory`.

A small thing wanders over a small picture; its box on the middle frame is carried to both ends of the video, decoded
as it goes, and its masks are read back from where they went. The model is the proving ground's segmenter at 64 px, so
that what grows with the video would show beside it. Each length runs in a fresh process, whose peak is that of its
resident set (VmHWM); Meta's `SAM2VideoPredictor` does the same at 500 frames, for comparison. Then the same in 4K
(3840 × 2160, masks as large), 40 frames and ten times as many: a stack of these 400 masks would be 3.3 GB. Prints
megabytes, and last one JSON line; the ratio is the peak at 10,000 frames over that at 500, the median of three; that of
the two in 4K must be within the target, too.
"""

import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

SHORT, LONG = 500, 10_000
SHORT_4K, LONG_4K = 40, 400
SIDE_PX = 64
SMALL, LARGE = (160, 128), (3840, 2160)
REPEATS = 3
TARGET = 1.05


def _corners(frame_index: int, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """(x1, y1, x2, y2) of the thing, a third as high as the picture."""
    (width, height), side = size, size[1] // 3
    x = int((width - side) / 2 * (1 + np.sin(frame_index / 40)))
    y = int((height - side) / 2 * (1 + np.cos(frame_index / 57)))
    return x, y, x + side, y + side


def _write(path: Path, frames: int, size: tuple[int, int]) -> None:
    width, height = size
    background = np.full((height, width, 3), (40, 44, 60), np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast", "g": "50"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for frame_index in range(frames):
            picture: NDArray[np.uint8] = background.copy()
            x1, y1, x2, y2 = _corners(frame_index, size)
            picture[y1:y2, x1:x2] = (230, 60, 50)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def _peak_mb() -> float:
    [kilobytes] = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return float(kilobytes) / 1024


def _loaded() -> Any:
    import torch

    from backend.profiles import load_profile
    from workers.pipeline.segmenter import Segmenter

    torch.set_num_threads(1)
    profile = load_profile("shapeworld").segmenter
    smaller = {"overrides": (*profile.overrides, f"++model.image_size={SIDE_PX}")}
    return Segmenter(profile.model_copy(update=smaller), "cpu")


def _prompt(frames: int, size: tuple[int, int]) -> Any:
    from backend.domain.annotation import Box
    from workers.pipeline.segmenter import BoxPrompt

    return BoxPrompt(frames // 2, Box(*_corners(frames // 2, size)))


def _carry_ours(segmenter: Any, path: Path, frames: int) -> int:
    from integrations.media.probe import probe_video
    from workers.pipeline.carrying import Carrying
    from workers.pipeline.clip import Clip

    probe = probe_video(path)
    size = (probe.width, probe.height)
    # Room for a tenth of the short video: the long one isn't held on disk either.
    with Clip.open(path, probe, SIDE_PX, None, SHORT // 10 * SIDE_PX**2 * 3) as clip:
        [track] = Carrying(segmenter, clip.small, size, 0.5).add([_prompt(frames, size)])
        return sum(mask.area > 0 for mask in track.masks.values())


def _carry_theirs(segmenter: Any, path: Path, frames: int) -> int:
    import sam2.sam2_video_predictor as meta
    import torch
    from PIL import Image

    from integrations.media.decode import iter_frames
    from integrations.media.probe import probe_video
    from workers.pipeline.segmenter import PIXEL_MEAN, PIXEL_STD

    mean, std = (np.array(values, np.float32) for values in (PIXEL_MEAN, PIXEL_STD))
    images = torch.empty(frames, 3, SIDE_PX, SIDE_PX)
    for frame_index, image in iter_frames(path, probe_video(path)):
        small = np.asarray(Image.fromarray(image).resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC), np.float32)
        images[frame_index] = torch.from_numpy((small / 255 - mean) / std).permute(2, 0, 1)
    # Their own loader wants a package that isn't here; this is what it returns.
    vars(meta)["load_video_frames"] = lambda **_: (images, SMALL[1], SMALL[0])
    vars(meta)["tqdm"] = lambda iterable, **_: iterable
    state, prompt = segmenter.model.init_state("clip"), _prompt(frames, SMALL)
    box, seen = prompt.box_xyxy_px, set()
    corners = np.array([box.x1, box.y1, box.x2, box.y2], np.float32)
    segmenter.model.add_new_points_or_box(state, prompt.frame_index, obj_id=0, box=corners)
    for reverse in (False, True):
        for index, _, logits in segmenter.model.propagate_in_video(state, prompt.frame_index, reverse=reverse):
            if bool((logits > 0).any()):
                seen.add(index)
    return len(seen)


def _measure(who: str, path: Path, frames: int) -> dict[str, float]:
    """In a process of its own."""
    command = [sys.executable, "-m", "benchmarks.memory", who, str(path), str(frames)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    print(f"{who}, {frames} frames: {found}", flush=True)
    return found


def _one(who: str, path: Path, frames: int) -> None:
    segmenter, begin = _loaded(), time.perf_counter()
    loaded_mb = _peak_mb()
    seen = {"ours": _carry_ours, "meta": _carry_theirs}[who](segmenter, path, frames)
    figures = {"peak_mb": _peak_mb(), "loaded_mb": loaded_mb, "seconds": time.perf_counter() - begin}
    print(json.dumps({name: round(value, 1) for name, value in figures.items()} | {"frames_with_a_mask": seen}))


def _ratio(detail: dict[str, dict[str, float]], long: str, short: str) -> float:
    return round(detail[long]["peak_mb"] / detail[short]["peak_mb"], 3)


def main() -> None:
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        paths = {frames: Path(folder) / f"{frames}.mp4" for frames in (SHORT, LONG, SHORT_4K, LONG_4K)}
        for frames, path in paths.items():
            _write(path, frames, SMALL if frames in (SHORT, LONG) else LARGE)
        detail = {f"meta_{SHORT}": _measure("meta", paths[SHORT], SHORT)}
        for _ in range(REPEATS):
            detail |= {f"ours_{frames}": _measure("ours", paths[frames], frames) for frames in (SHORT, LONG)}
            ratios.append(_ratio(detail, f"ours_{LONG}", f"ours_{SHORT}"))
        detail |= {f"ours_4k_{frames}": _measure("ours", paths[frames], frames) for frames in (SHORT_4K, LONG_4K)}
    ratio, ratio_4k = statistics.median(ratios), _ratio(detail, f"ours_4k_{LONG_4K}", f"ours_4k_{SHORT_4K}")
    result = {
        "benchmark": "memory", "ratio": ratio, "target": TARGET, "ok": max(ratio, ratio_4k) <= TARGET,
        "detail": {"ratios": ratios, "ratio_4k": ratio_4k, **detail},
    }  # fmt: skip
    print(json.dumps(result))


if __name__ == "__main__":
    if len(sys.argv) == 4:
        _one(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
    else:
        main()
