"""How good the models are on clips nobody trained on: each model alone with true input, and the pipeline as a whole.

The truth is looked at only to score what came out, and, where a model is measured alone, to give it true input: SAM2 a
true box, System 2 the description of a thing that is there.
"""

import re
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from backend.domain.annotation import Annotation, Mask
from backend.domain.masks import encode_mask
from backend.domain.runs import Mode
from integrations.media.decode import iter_frames
from integrations.media.probe import probe_video
from workers.evaluation.intervals import Figure, mean, share
from workers.evaluation.metrics import similarity
from workers.pipeline.frame_store import FrameStore
from workers.pipeline.omni import OmniPipeline
from workers.pipeline.segmenter import BoxPrompt
from workers.shapeworld import clip
from workers.shapeworld.scene import Kind, Question, Scene, make

_WELL_FORMED = re.compile(r"\s*<think>.+</think>\s*<answer>.+</answer>\s*", re.S)
#: A chosen frame shows the target if it shows at least this share of the target's largest area.
_SHOWS = 0.2
_MAX_THINGS = 4


@dataclass(slots=True)
class Scores:
    """One entry a clip (or a box, or a chosen frame), by what it was measured on."""

    clips: int = 0
    segmenter_j: list[float] = field(default_factory=list)
    segmenter_f: list[float] = field(default_factory=list)
    boxes: dict[int, list[bool]] = field(default_factory=lambda: defaultdict(list))
    well_formed: list[bool] = field(default_factory=list)
    shows: list[bool] = field(default_factory=list)
    description: dict[str, list[bool]] = field(default_factory=lambda: defaultdict(list))
    jf: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    seconds: list[float] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Every figure with its 95% interval."""
        everything = [value for values in self.jf.values() for value in values]

        def by_key(measure: Callable[[Any], Figure], groups: dict[Any, Any]) -> dict[str, Any]:
            return {str(key): measure(values).to_json() for key, values in sorted(groups.items())}

        return {
            "n": self.clips,
            "segmenter": {"j": mean(self.segmenter_j).to_json(), "f": mean(self.segmenter_f).to_json()},
            "system2": {"acc50": by_key(share, self.boxes)},
            "system1": {
                "format": share(self.well_formed).to_json(),
                "keyframes_visible": share(self.shows).to_json(),
                "description": by_key(share, self.description),
            },
            "pipeline": {
                "jf": by_key(mean, self.jf) | {"all": mean(everything).to_json()},
                "seconds_per_clip": mean(self.seconds).to_json(),
            },
        }


def evaluate(
    pipeline: OmniPipeline, seeds: Iterable[int], on_clip: Callable[[Scores], None] = lambda _: None
) -> Scores:
    """Score one clip of every kind for each seed; how many things there are goes round with the seed."""
    scores = Scores()
    with tempfile.TemporaryDirectory(prefix="premask-evaluate-") as folder:
        path = Path(folder) / "clip.mp4"
        for scene, question in _cast(seeds):
            labels = clip.write(scene, path)
            truth = clip.target_masks(labels, question)
            _score_whole(pipeline, path, scene, question, truth, len(labels), scores)
            _score_parts(pipeline, path, scene, question, truth, labels, scores)
            scores.clips += 1
            on_clip(scores)
    return scores


def _cast(seeds: Iterable[int]) -> Iterator[tuple[Scene, Question]]:
    for seed in seeds:
        for kind in Kind:
            # Who moves fastest, or came last, is no question about one thing alone.
            fewest = 1 if kind in (Kind.ATTRIBUTE, Kind.SOUND) else 2
            yield make(seed, kind, fewest + seed % (_MAX_THINGS + 1 - fewest))


def _score_whole(
    pipeline: OmniPipeline, path: Path, scene: Scene, question: Question, truth: dict[int, Mask], frame_count: int,
    scores: Scores,
) -> None:  # fmt: skip
    begin = time.perf_counter()
    result = pipeline.annotate(path, question.instruction, Mode(question.mode))
    scores.seconds.append(time.perf_counter() - begin)
    scores.jf[question.kind].append(similarity([t.masks for t in result.tracks], truth, frame_count).jf)
    _score_system1(result, scene, question, truth, scores)


def _score_system1(
    result: Annotation, scene: Scene, question: Question, truth: dict[int, Mask], scores: Scores
) -> None:
    dropped = any(warning.startswith("System 1's moment") for warning in result.warnings)
    scores.well_formed.append(
        bool(_WELL_FORMED.fullmatch(result.raw_output)) and bool(result.keyframes) and not dropped
    )
    largest = max(mask.area for mask in truth.values())
    for keyframe in result.keyframes:
        mask = truth.get(keyframe.frame_index)
        scores.shows.append(mask is not None and mask.area >= _SHOWS * largest)
    right = {keyframe.description for keyframe in result.keyframes} == {describe(scene, question.target)}
    scores.description[question.kind].append(right)


def describe(scene: Scene, index: int) -> str:
    """The words that single the thing out in one image; colours differ within a scene."""
    thing = scene.things[index]
    return f"the {thing.color} {thing.shape}"


def _score_parts(
    pipeline: OmniPipeline, path: Path, scene: Scene, question: Question, truth: dict[int, Mask],
    labels: list[NDArray[Any]], scores: Scores,
) -> None:  # fmt: skip
    """System 2 on the frame that shows the target best, with the true words; SAM2 from the true box on that frame."""
    best = max(truth, key=lambda frame_index: truth[frame_index].area)
    probe = probe_video(path)
    with FrameStore(probe.frame_count, pipeline.segmenter.size_px) as store:
        image = None
        for frame_index, frame in iter_frames(path, probe):
            store.write(frame_index, frame)
            image = frame if frame_index == best else image
        assert image is not None
        [grounding] = pipeline.system2.ground([image], [describe(scene, question.target)])
        prompt = BoxPrompt(best, truth[best].box_xyxy_px)
        [followed] = pipeline.segmenter.propagate(store, [prompt], (probe.width, probe.height))
    hit = len(grounding.boxes) == 1 and grounding.boxes[0].box_xyxy_px.iou(truth[best].box_xyxy_px) > 0.5
    present = sum(bool(encode_mask(labels[best] == i + 1).area) for i in range(len(scene.things)))
    scores.boxes[present].append(hit)
    found = similarity([followed.masks], truth, len(labels))
    scores.segmenter_j.append(found.j)
    scores.segmenter_f.append(found.f)
