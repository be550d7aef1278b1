"""What second looks gain and cost: `python -m benchmarks.second_looks [--seeds 202000:202010] [--ledger FILE]`.

Validation clips of the proving ground, one of every kind for each seed (levels go round), each without second looks,
with both, with re-anchoring alone (two frames a run) and with feedback alone. A clip's later runs begin with what the
first one decoded, encoded and carried, as several instructions on one clip do, to the same result; that is left out of
their time, and of the first so much is added as they spared. Where nothing was in doubt with both, nothing is with one.

Prints each clip on which there was a second look, and last one JSON line: `ratio` is the time of all runs with both
over that of all without; `detail` has, of each way, on how many clips there was a second look, J without and with it,
the paired difference with its 95% interval over all clips, how many gained and lost more than 0.1, and the ratio of
times. What the ledger has is not run again.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from backend.domain.annotation import Annotation
from backend.domain.runs import Mode, Stage
from backend.profiles import load_profile
from backend.settings import FeedbackSettings, GateSettings, PipelineSettings, ReanchoringSettings
from workers.evaluation.gate import bootstrap
from workers.evaluation.metrics import region_j
from workers.pipeline.omni import OmniPipeline, load_pipeline
from workers.shapeworld.evaluation import campaign
from workers.shapeworld.evaluation.scores import Case
from workers.shapeworld.world import video
from workers.shapeworld.world.make import make_scene

_REANCHORING, _FEEDBACK = ReanchoringSettings(frames=2), FeedbackSettings(rounds=1)
WAYS = {
    "both": PipelineSettings(reanchoring=_REANCHORING, feedback=_FEEDBACK),
    "reanchoring": PipelineSettings(reanchoring=_REANCHORING),
    "feedback": PipelineSettings(feedback=_FEEDBACK),
}
_MUCH = 0.1

_pipeline: OmniPipeline | None = None


@dataclass(frozen=True, slots=True)
class Looked:
    """A clip: J and seconds, without second looks (`plain`) and by each way that had one."""

    name: str
    j: dict[str, float]
    seconds: dict[str, float]


def _load() -> None:
    global _pipeline
    _pipeline = load_pipeline(load_profile("shapeworld"), PipelineSettings(), torch_threads=1)


def _measure(case: Case) -> Looked:
    assert _pipeline is not None
    example = make_scene(case.seed, case.kind, case.preset)
    name = _name(case)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.mp4"
        truth = video.write(example.scene, path)
        target, asked = truth.seen(example.question.targets), (example.question.text, Mode(example.question.mode))

        def run(settings: PipelineSettings) -> tuple[Annotation, float, float]:
            _pipeline._settings = settings
            begin = time.perf_counter()
            found = _pipeline.annotate(path, *asked, keep=True)
            seconds = time.perf_counter() - begin
            return found, seconds, region_j([track.masks for track in found.tracks], target, truth.frame_count)

        plain, first_s, plain_j = run(PipelineSettings())
        j, seconds = {"plain": plain_j}, {"plain": first_s}
        decided_s = sum(plain.timings_s.get(stage, 0.0) for stage in (Stage.SYSTEM1, Stage.SYSTEM2))
        clip = _pipeline._last_clip._clip
        assert clip is not None
        carried = dict(clip.carried)
        for way, settings in WAYS.items():
            # What another way carried is not to be had for nothing.
            clip.carried.clear()
            clip.carried.update(carried)
            again, spent, way_j = run(settings)
            if any("asked twice" in warning or "asked again" in warning for warning in again.warnings):
                j[way], seconds[way] = way_j, first_s + spent - decided_s
            elif way == "both":
                break
        _pipeline._last_clip.close()
    return Looked(name, j, seconds)


def _name(case: Case) -> str:
    return f"{case.kind}-{case.level}-{case.seed}"


def _looked(cases: list[Case], jobs: int, ledger: Path | None) -> Iterator[Looked]:
    """Of all cases, in order; each is written down as soon as it is there."""
    lines = ledger.read_text().splitlines() if ledger and ledger.exists() else []
    known = {one.name: one for one in (Looked(**json.loads(line)) for line in lines)}
    missing = [case for case in cases if _name(case) not in known]
    with ProcessPoolExecutor(jobs, get_context("spawn"), _load) as pool:
        found = pool.map(_measure, missing)
        for case in cases:
            if (one := known.get(_name(case))) is None:
                one = next(found)
                if ledger is not None:
                    with ledger.open("a") as file:
                        file.write(json.dumps(asdict(one)) + "\n")
            yield one


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default="202000:202010", help="A:B of validation clips")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--ledger", type=Path)
    asked = parser.parse_args()
    cases = campaign.cases(campaign.seeds(asked.seeds, "validation"))
    clips = []
    for one in _looked(cases, asked.jobs, asked.ledger):
        clips.append(one)
        if len(one.j) > 1:
            told = ", ".join(f"{way} {one.j[way]:.3f} in {one.seconds[way]:.1f} s" for way in one.j)
            print(f"{len(clips)}: {one.name}: {told}", flush=True)
    detail = {"clips": len(clips), "j": round(float(np.mean([one.j["plain"] for one in clips])), 4)} | {
        way: _figures(clips, way) for way in WAYS
    }
    ratio = detail["both"]["time_ratio"]  # type: ignore[index]
    print(json.dumps({"benchmark": "second_looks", "ratio": ratio, "target": None, "ok": True, "detail": detail}))


def _figures(clips: list[Looked], way: str) -> dict[str, object]:
    limits = GateSettings()
    # A run without a second look is the plain run.
    differences = np.array([one.j.get(way, one.j["plain"]) - one.j["plain"] for one in clips])
    gain = bootstrap(differences, limits.confidence, limits.resamples, limits.seed)
    before_s = sum(one.seconds["plain"] for one in clips)
    return {
        "second_looks": sum(way in one.j for one in clips), "gain": round(gain.mean, 4),
        "gain_95": [round(gain.low, 4), round(gain.high, 4)],
        "much_better": int((differences > _MUCH).sum()), "much_worse": int((differences < -_MUCH).sum()),
        "time_ratio": round(sum(one.seconds.get(way, one.seconds["plain"]) for one in clips) / before_s, 3),
    }  # fmt: skip


if __name__ == "__main__":
    main()
