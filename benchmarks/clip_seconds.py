"""One 5 s clip through the whole pipeline: `python -m benchmarks.clip_seconds`.

A clip of each kind of the proving ground's medium level that lasts 5 s, at 12 and at 24 frames a second, on the
machine as it is. Only clips on which something was followed count: finding nothing takes no time at all. Prints medians
of repeats, and last one JSON line; the ratio is the median clip's time over 4 s, at the rate where it is larger.
"""

import json
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from backend.domain.runs import Mode
from backend.profiles import load_profile
from backend.settings import PipelineSettings
from workers.pipeline.omni import load_pipeline
from workers.shapeworld.world import video
from workers.shapeworld.world.levels import MEDIUM
from workers.shapeworld.world.make import first_scene
from workers.shapeworld.world.queries import Kind

REPEATS = 3
CLIP_S = 5.0
TARGET_S = 4.0
FRAME_RATES = (12, 24)


def main() -> None:
    pipeline = load_pipeline(load_profile("shapeworld"), PipelineSettings())
    detail: dict[str, dict[str, float]] = {str(rate): {} for rate in FRAME_RATES}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        for kind in Kind:
            example = first_scene(2000, kind, MEDIUM, lambda scene: scene.duration_s == CLIP_S)
            for rate in FRAME_RATES:
                video.write(replace(example.scene, frame_rate=rate), path)
                seconds = []
                for _ in range(REPEATS):
                    begin = time.perf_counter()
                    found = pipeline.annotate(path, example.question.text, Mode(example.question.mode))
                    seconds.append(time.perf_counter() - begin)
                median = round(statistics.median(seconds), 2)
                print(f"{kind} {rate}/s: {median} s, {len(found.tracks)} tracks {found.timings_s}")
                if found.tracks:
                    detail[str(rate)][kind.value] = median
    medians = {rate: round(statistics.median(values.values()), 2) for rate, values in detail.items() if values}
    if not medians:
        raise SystemExit("nothing was followed on any clip, so there is nothing to time")
    ratio = round(max(medians.values()) / TARGET_S, 3)
    result = {"benchmark": "clip_seconds", "ratio": ratio, "target": 1.0, "ok": ratio <= 1.0}
    print(json.dumps(result | {"detail": {"median_s": medians, "by_kind_s": detail}}))


if __name__ == "__main__":
    main()
