"""What second looks gain and cost: `python -m benchmarks.second_looks [--seeds 202000:202006]`.

Validation clips of the proving ground, one of every kind for each seed (levels go round), each run without second
looks, with both, with re-anchoring alone (two frames a run) and with feedback alone. Where nothing was in doubt with
both, nothing is with one, and that isn't run. Prints each clip on which there was a second look, and last one JSON
line: `ratio` is the time of all runs with both over that of all without; `detail` has, of each way, on how many clips
there was a second look, J without and with it, the paired difference with its 95% interval over all clips, and the
ratio of times.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from backend.domain.annotation import Annotation, Mask
from backend.domain.runs import Mode
from backend.profiles import load_profile
from backend.settings import FeedbackSettings, GateSettings, PipelineSettings, ReanchoringSettings
from workers.evaluation.gate import bootstrap
from workers.evaluation.metrics import region_j
from workers.pipeline.omni import OmniPipeline, load_pipeline
from workers.shapeworld.evaluation import campaign
from workers.shapeworld.world import video
from workers.shapeworld.world.make import make_scene

_REANCHORING, _FEEDBACK = ReanchoringSettings(frames=2), FeedbackSettings(rounds=1)
WAYS = {
    "both": PipelineSettings(reanchoring=_REANCHORING, feedback=_FEEDBACK),
    "reanchoring": PipelineSettings(reanchoring=_REANCHORING),
    "feedback": PipelineSettings(feedback=_FEEDBACK),
}


@dataclass(slots=True)
class Way:
    """J with it, seconds with it, and on which clips it did something."""

    j: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    looked: int = 0


def _clips(seeds: range, folder: Path) -> Iterator[tuple[str, Path, str, Mode, dict[int, Mask], int]]:
    for case in campaign.cases(seeds):
        example = make_scene(case.seed, case.kind, case.preset)
        path = folder / "clip.mp4"
        truth = video.write(example.scene, path)
        target = truth.seen(example.question.targets)
        name = f"{case.kind}-{case.level}-{case.seed}"
        yield name, path, example.question.text, Mode(example.question.mode), target, truth.frame_count


def _run(
    pipeline: OmniPipeline, settings: PipelineSettings, path: Path, text: str, mode: Mode
) -> tuple[Annotation, float]:
    pipeline._settings = settings
    begin = time.perf_counter()
    return pipeline.annotate(path, text, mode), time.perf_counter() - begin


def _second_look(found: Annotation) -> bool:
    return any("asked twice" in warning or "asked again" in warning for warning in found.warnings)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default="202000:202006", help="A:B of validation clips")
    seeds = campaign.seeds(parser.parse_args().seeds, "validation")
    pipeline = load_pipeline(load_profile("shapeworld"), PipelineSettings())
    plain, ways = Way(), {name: Way() for name in WAYS}
    with tempfile.TemporaryDirectory() as folder:
        for name, path, text, mode, target, frame_count in _clips(seeds, Path(folder)):
            found, seconds = _run(pipeline, PipelineSettings(), path, text, mode)
            j = region_j([track.masks for track in found.tracks], target, frame_count)
            plain.j.append(j)
            plain.seconds.append(seconds)
            told = list[str]()
            in_doubt = True
            for way, settings in WAYS.items():
                again, spent = _run(pipeline, settings, path, text, mode) if in_doubt else (found, seconds)
                second = _second_look(again)
                in_doubt = in_doubt and (second or way != "both")
                one = ways[way]
                one.looked += second
                # A run without a second look is the same run: what its time differs by is chance.
                one.seconds.append(spent if second else seconds)
                one.j.append(region_j([t.masks for t in again.tracks], target, frame_count) if second else j)
                if second:
                    told.append(f"{way} {one.j[-1]:.3f} in {spent:.1f} s")
            if told:
                print(f"{name}: {j:.3f} in {seconds:.1f} s; {'; '.join(told)}", flush=True)
    detail = {"clips": len(plain.j), "j": round(float(np.mean(plain.j)), 4)} | {
        name: _figures(plain, way) for name, way in ways.items()
    }
    ratio = round(sum(ways["both"].seconds) / sum(plain.seconds), 3)
    print(json.dumps({"benchmark": "second_looks", "ratio": ratio, "target": None, "ok": True, "detail": detail}))


def _figures(plain: Way, way: Way) -> dict[str, object]:
    limits = GateSettings()
    gain = bootstrap(np.array(way.j) - np.array(plain.j), limits.confidence, limits.resamples, limits.seed)
    return {
        "second_looks": way.looked, "j": round(float(np.mean(way.j)), 4), "gain": round(gain.mean, 4),
        "gain_95": [round(gain.low, 4), round(gain.high, 4)],
        "time_ratio": round(sum(way.seconds) / sum(plain.seconds), 3),
    }  # fmt: skip


if __name__ == "__main__":
    main()
