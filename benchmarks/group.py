"""Masks for a GRPO group in one pass, against a pass for each rollout: `python -m benchmarks.group`.

Groups of eight rollouts as training draws them: System 1 of the proving ground writes eight completions about a clip of
the medium level at temperature 1, System 2 boxes what each asks for on up to four keyframes, and the segmenter carries
every box over the whole resampled clip. What rollouts share is one object in one pass, detections of the same box on
the same frame, and the encodings of the frames; its masks must be the same. Also, once, with every box moved by a pixel
or two, so that no two are the same. Prints each group by the clock and in CPU time, and last one JSON line; the ratio
is the median by the clock over all groups and repeats, of the eight passes over the one.
"""

import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from backend.domain.annotation import Box
from backend.domain.frames import sample_uniformly
from backend.domain.runs import Mode
from backend.profiles import ModelProfile, load_profile
from integrations.media.decode import read_frames
from integrations.media.probe import probe_video
from workers.learning.sampling import choosers
from workers.pipeline.engines.thinker import Thinker
from workers.pipeline.frame_store import FrameStore
from workers.pipeline.group import Detection, object_ids, propagate_group
from workers.pipeline.parsing import parse_system1
from workers.pipeline.segmenter import Propagation, Segmenter
from workers.pipeline.system1 import Asker
from workers.pipeline.system2 import System2
from workers.shapeworld.world import video
from workers.shapeworld.world.levels import MEDIUM
from workers.shapeworld.world.make import first_scene
from workers.shapeworld.world.queries import Kind

KINDS = (Kind.ATTRIBUTE, Kind.FASTEST, Kind.RELATION)
ROLLOUTS, KEYFRAMES, REPEATS = 8, 4, 3
TARGET = 5.0
Frames = NDArray[np.uint8]


class Group:
    """The models, and what a clip and a question become with them."""

    def __init__(self, profile: ModelProfile) -> None:
        self._profile = profile
        self._system1 = Thinker(profile.system1.weights, "float32", "cpu")
        two = profile.system2
        assert two.weights is not None
        self._system2 = System2(Thinker(two.weights, "float32", "cpu"), two)
        self.segmenter = Segmenter(profile.segmenter, "cpu")

    @torch.inference_mode()
    def _written(self, frames: Frames, question: str) -> list[str]:
        one = self._profile.system1
        seconds = len(frames) / one.nominal_fps
        prompt = Asker(one).prompt(frames, seconds, None, 16_000, question, Mode.VOS, keyframes=KEYFRAMES, seed=0)
        batch = self._system1._encode([prompt] * ROLLOUTS, one.min_pixels, one.max_pixels, one.nominal_fps)
        drawn = choosers(0, [0], ROLLOUTS, torch.device("cpu"), temperature=1.0, top_p=0.95)
        written: Any = self._system1.model.generate(
            **batch, max_new_tokens=one.max_new_tokens, do_sample=False, logits_processor=drawn
        )
        tokens = written[:, batch["input_ids"].shape[1] :]
        return list(self._system1.processor.tokenizer.batch_decode(tokens, skip_special_tokens=True))

    def detections(self, frames: Frames, question: str) -> list[Detection]:
        sampling = sample_uniformly(len(frames), len(frames), self._profile.system1.nominal_fps)
        found = []
        for rollout_index, text in enumerate(self._written(frames, question)):
            moments = parse_system1(text, sampling.nominal_duration_s, KEYFRAMES).moments
            at = [sampling.frame_index_at(moment.start_s) for moment in moments]
            grounded = self._system2.ground([frames[i] for i in at], [moment.description for moment in moments])
            boxes = [(i, box.box_xyxy_px) for i, one in zip(at, grounded, strict=True) for box in one.boxes]
            found += [Detection(rollout_index, i, number, box) for number, (i, box) in enumerate(boxes)]
        return found


def _clip(kind: Kind, count: int) -> tuple[Frames, str]:
    """A clip resampled to so many frames, (n, H, W, 3), and what is asked of it."""
    example = first_scene(2000, kind, MEDIUM, lambda scene: len(scene.things) >= 3)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        video.write(example.scene, path)
        probe = probe_video(path)
        wanted = sample_uniformly(probe.frame_count, count, 1.0).frame_indices
        return np.stack([image for _, image in read_frames(path, probe, wanted)]), example.question.text


def _moved(detections: list[Detection]) -> list[Detection]:
    chance = random.Random(0)

    def moved(box: Box) -> Box:
        return Box(*(edge + chance.uniform(-2, 2) for edge in (box.x1, box.y1, box.x2, box.y2)))

    return [replace(one, box_xyxy_px=moved(one.box_xyxy_px)) for one in detections]


def _timed(work: Callable[[], dict[Detection, Propagation]]) -> tuple[float, float, dict[Detection, Propagation]]:
    begin, begin_cpu = time.perf_counter(), time.process_time()
    found = work()
    return time.perf_counter() - begin, time.process_time() - begin_cpu, found


def _compare(
    segmenter: Segmenter, store: FrameStore, detections: list[Detection], size: tuple[int, int]
) -> tuple[float, float, bool]:
    """How many times as long the passes for each rollout take, by the clock and in CPU time; whether all masks are the
    same."""

    def each() -> dict[Detection, Propagation]:
        found: dict[Detection, Propagation] = {}
        for rollout in range(ROLLOUTS):
            own = [one for one in detections if one.rollout_index == rollout]
            found |= propagate_group(segmenter, store, own, size) if own else {}
        return found

    one_s, one_cpu_s, together = _timed(lambda: propagate_group(segmenter, store, detections, size))
    each_s, each_cpu_s, alone = _timed(each)
    same = all(dict(together[one].masks) == dict(alone[one].masks) for one in detections)
    return each_s / one_s, each_cpu_s / one_cpu_s, same


def main() -> None:
    torch.set_num_threads(1)
    profile = load_profile("shapeworld")
    group = Group(profile)
    ratios: dict[str, list[float]] = {"as drawn": [], "all boxes differ": []}
    cpu_ratios: dict[str, list[float]] = {name: [] for name in ratios}
    same = True
    for kind in KINDS:
        frames, question = _clip(kind, profile.system1.max_frames)
        drawn = group.detections(frames, question)
        with FrameStore(len(frames), group.segmenter.size_px) as store:
            for position, image in enumerate(frames):
                store.write(position, image)
            for name, detections in (("as drawn", drawn), ("all boxes differ", _moved(drawn))):
                objects = len(set(object_ids(detections).values()))
                for _ in range(REPEATS if detections is drawn else 1):
                    size = (frames.shape[2], frames.shape[1])
                    ratio, cpu_ratio, alike = _compare(group.segmenter, store, detections, size)
                    ratios[name].append(ratio)
                    cpu_ratios[name].append(cpu_ratio)
                    same = same and (alike or detections is not drawn)
                    counts = f"{len(detections)} detections, {objects} objects"
                    print(f"{kind}, {name}: {counts}: {ratio:.2f}, CPU {cpu_ratio:.2f}, same {alike}", flush=True)
    detail = {
        name: {"ratio": round(statistics.median(found), 2), "cpu_ratio": round(statistics.median(cpu_ratios[name]), 2)}
        for name, found in ratios.items()
    }
    ratio, ok = detail["as drawn"]["ratio"], same and detail["as drawn"]["ratio"] >= TARGET
    print(json.dumps({"benchmark": "group", "ratio": ratio, "target": TARGET, "ok": ok, "detail": detail}))


if __name__ == "__main__":
    main()
