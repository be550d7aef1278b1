"""Five instructions on one video, over the time of one: `python -m benchmarks.several [--side-px 1080]`.

A clip of the proving ground's medium level, 5 s at 24 frames a second, 1440 × 1080; each of the four things in it is
asked for, and the fastest. Alone: each with nothing kept from another. Together: one after the other as a worker does
it, with what they share kept. The models are loaded before; results must be the same. Prints each repeat by the clock
and in CPU time, and last one JSON line; the ratio is the median by the clock, of five together over the mean of five
alone.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from backend.domain.annotation import Annotation, VideoProbe
from backend.domain.runs import Mode
from backend.profiles import load_profile
from backend.settings import PipelineSettings
from integrations.media.probe import probe_video
from workers.pipeline.engines.thinker import Thinker
from workers.pipeline.omni import OmniPipeline, load_pipeline
from workers.shapeworld.world import video
from workers.shapeworld.world.levels import MEDIUM
from workers.shapeworld.world.make import first_scene
from workers.shapeworld.world.queries import Kind
from workers.shapeworld.world.scene import Scene

REPEATS = 3
INSTRUCTIONS, TARGET = 5, 2.5


def _fits(scene: Scene) -> bool:
    names = {(thing.color, thing.shape) for thing in scene.things}
    return scene.duration_s == 5.0 and scene.size_px(1080) == (1440, 1080) and len(names) == INSTRUCTIONS - 1


def _timed(work: Callable[[], list[Annotation]]) -> tuple[float, float, list[Annotation]]:
    begin, begin_cpu = time.perf_counter(), time.process_time()
    found = work()
    return time.perf_counter() - begin, time.process_time() - begin_cpu, found


def _forget(pipeline: OmniPipeline) -> None:
    for engine in (pipeline.system1._engine, pipeline.system2._engine):
        assert isinstance(engine, Thinker)
        engine.towers.clear()


def _alone(pipeline: OmniPipeline, path: Path, probe: VideoProbe, texts: list[str]) -> list[Annotation]:
    found = []
    for text in texts:
        _forget(pipeline)
        found.append(pipeline.annotate(path, text, Mode.VOS, probe=probe))
    return found


def _together(pipeline: OmniPipeline, path: Path, probe: VideoProbe, texts: list[str]) -> list[Annotation]:
    _forget(pipeline)
    *first, last = texts
    found = [pipeline.annotate(path, text, Mode.VOS, probe=probe, keep=True) for text in first]
    return [*found, pipeline.annotate(path, last, Mode.VOS, probe=probe)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side-px", type=int, default=1080, help="the clip's shorter side")
    side_px = parser.parse_args().side_px
    pipeline = load_pipeline(load_profile("shapeworld"), PipelineSettings())
    example = first_scene(2000, Kind.FASTEST, MEDIUM, _fits)
    scene = replace(example.scene, frame_rate=24)
    texts = [f"the {thing.color} {thing.shape}" for thing in scene.things] + [example.question.text]
    ratios, cpu_ratios, one_s, five_s = [], [], [], []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        video.write(scene, path, side_px)
        # A video is probed once, when it comes in, and not by its runs.
        probe = probe_video(path)
        for repeat in range(REPEATS):
            alone, alone_cpu, separate = _timed(lambda: _alone(pipeline, path, probe, texts))
            together, together_cpu, shared = _timed(lambda: _together(pipeline, path, probe, texts))
            if [(a.raw_output, a.keyframes, a.tracks) for a in separate] != [
                (a.raw_output, a.keyframes, a.tracks) for a in shared
            ]:
                raise SystemExit("together they were answered otherwise than alone")
            if repeat == 0:
                for text, found in zip(texts, separate, strict=True):
                    print(f"{text}: {found.status}, {len(found.tracks)} tracks, {found.timings_s}")
            ratios.append(together / alone * INSTRUCTIONS)
            cpu_ratios.append(together_cpu / alone_cpu * INSTRUCTIONS)
            one_s.append(alone / INSTRUCTIONS)
            five_s.append(together)
            print(
                f"one {one_s[-1]:.2f} s, five {together:.2f} s: {ratios[-1]:.2f}, by CPU {cpu_ratios[-1]:.2f}",
                flush=True,
            )
    ratio = round(statistics.median(ratios), 2)
    detail = {
        "size_px": scene.size_px(side_px), "one_s": round(statistics.median(one_s), 2),
        "five_s": round(statistics.median(five_s), 2), "cpu_ratio": round(statistics.median(cpu_ratios), 2),
    }  # fmt: skip
    result = {"benchmark": "several", "ratio": ratio, "target": TARGET, "ok": ratio <= TARGET, "detail": detail}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
