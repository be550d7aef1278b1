"""What a run takes besides its models: `python -m benchmarks.overhead`.

Clips of the proving ground's medium level, 5 s long at 24 frames a second, whole through the pipeline, with the time of
every bare call of a model taken: both Thinkers' `generate`, and of SAM2 the image encoder, the step of its tracker and
its memory encoder. One thread does all of that in turn, so that no call of a model hides another; what else there is
(decoding, sizing, prompts, parsing, run lengths, linking, checkpoints) counts in full. The ratio is the median over
clips and repeats, of the run's time by the clock over the sum of the calls. Prints each clip, also in CPU time, and
last one JSON line; the detail has the models' shares, and the ratio of the run as it is shipped, with all threads that
there are cores for.
"""

import json
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from backend.domain.runs import Mode
from backend.profiles import load_profile
from backend.settings import PipelineSettings
from integrations.media.probe import probe_video
from workers.pipeline.encoding import FrameEncoder
from workers.pipeline.engines.thinker import Thinker
from workers.pipeline.frame_store import FrameStore
from workers.pipeline.omni import OmniPipeline, load_pipeline
from workers.shapeworld.world import video
from workers.shapeworld.world.levels import MEDIUM
from workers.shapeworld.world.make import first_scene
from workers.shapeworld.world.queries import Kind

KINDS = (Kind.ATTRIBUTE, Kind.FASTEST, Kind.SOUND)
REPEATS = 3
TARGET = 1.10


class Calls:
    """Seconds spent in calls of models, by the clock and in CPU time of their thread."""

    def __init__(self, pipeline: OmniPipeline) -> None:
        self.clock_s, self.cpu_s = Counter[str](), Counter[str]()
        for name, engine in (("system 1", pipeline.system1._engine), ("system 2", pipeline.system2._engine)):
            assert isinstance(engine, Thinker)
            self._take(name, engine.model, "generate")
        sam2 = pipeline.segmenter.model
        self._take("segmenter: encode", sam2, "forward_image")
        self._take("segmenter: track", sam2, "_track_step")
        self._take("segmenter: remember", sam2, "_encode_memory_in_output")

    def _take(self, name: str, of: Any, method: str) -> None:
        call: Callable[..., Any] = getattr(of, method)

        def timed(*args: Any, **options: Any) -> Any:
            begin, begin_cpu = time.perf_counter(), time.thread_time()
            try:
                return call(*args, **options)
            finally:
                self.clock_s[name] += time.perf_counter() - begin
                self.cpu_s[name] += time.thread_time() - begin_cpu

        setattr(of, method, timed)

    def clear(self) -> None:
        self.clock_s.clear()
        self.cpu_s.clear()


class _AtOnce(Executor):
    """Does what it is given in the thread that gives it, which nobody waits for."""

    def submit(self, call: Callable[..., Any], /, *args: Any, **options: Any) -> Future[Any]:
        call(*args, **options)
        return Future()


@contextmanager
def _one_lane(pipeline: OmniPipeline) -> Iterator[None]:
    """Nothing is tracked or encoded beside something else that a model does."""
    segmenter, new_encoder = pipeline.segmenter, pipeline.segmenter._new_encoder

    def encodes_at_once(frames: FrameStore) -> FrameEncoder:
        encoder = new_encoder(frames)
        encoder._lanes = _AtOnce()  # type: ignore[assignment]
        return encoder

    segmenter._lanes = lambda: 1  # type: ignore[method-assign]
    segmenter._new_encoder = encodes_at_once  # type: ignore[method-assign]
    yield
    del segmenter._lanes, segmenter._new_encoder


def _run(pipeline: OmniPipeline, calls: Calls, path: Path, text: str, mode: Mode) -> tuple[float, float]:
    """Seconds of a run by the clock and in CPU time; nothing of an earlier run is at hand."""
    calls.clear()
    for engine in (pipeline.system1._engine, pipeline.system2._engine):
        assert isinstance(engine, Thinker)
        engine.towers.clear()
    # A video is probed once, when it comes in, and not by its runs.
    probe = probe_video(path)
    begin, begin_cpu = time.perf_counter(), time.process_time()
    found = pipeline.annotate(path, text, mode, probe=probe)
    spent = time.perf_counter() - begin, time.process_time() - begin_cpu
    assert found.tracks, "nothing was followed, so there is nothing to time"
    return spent


def main() -> None:
    pipeline = load_pipeline(load_profile("shapeworld"), PipelineSettings())
    calls = Calls(pipeline)
    ratios, cpu_ratios, shipped = list[float](), list[float](), list[float]()
    shares = Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        for kind in KINDS:
            example = first_scene(2000, kind, MEDIUM, lambda scene: scene.duration_s == 5.0)
            video.write(replace(example.scene, frame_rate=24), path)
            asked = path, example.question.text, Mode(example.question.mode)
            for _ in range(REPEATS):
                with _one_lane(pipeline):
                    run_s, run_cpu_s = _run(pipeline, calls, *asked)
                bare_s, bare_cpu_s = calls.clock_s.total(), calls.cpu_s.total()
                ratios.append(run_s / bare_s)
                cpu_ratios.append(run_cpu_s / bare_cpu_s)
                shares.update({name: seconds / run_s for name, seconds in calls.clock_s.items()})
                all_lanes_s, _ = _run(pipeline, calls, *asked)
                shipped.append(all_lanes_s / bare_s)
                print(
                    f"{kind}: {run_s:.2f} s over {bare_s:.2f}: {ratios[-1]:.3f}, CPU {cpu_ratios[-1]:.3f}; "
                    f"as shipped {shipped[-1]:.3f}", flush=True,
                )  # fmt: skip
    ratio = round(statistics.median(ratios), 3)
    detail = {
        "cpu_ratio": round(statistics.median(cpu_ratios), 3), "as_shipped": round(statistics.median(shipped), 3),
        "shares": {name: round(share / len(ratios), 3) for name, share in shares.items()},
    }  # fmt: skip
    print(
        json.dumps({"benchmark": "overhead", "ratio": ratio, "target": TARGET, "ok": ratio <= TARGET, "detail": detail})
    )


if __name__ == "__main__":
    main()
