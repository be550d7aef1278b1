"""Scoring one clip: the pipeline as users run it, then SAM2 and System 2 each alone with true input."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backend.domain.annotation import Mask
from backend.domain.runs import Mode
from integrations.media.decode import iter_frames
from integrations.media.probe import probe_video
from workers.evaluation.alike import answer
from workers.evaluation.form import well_formed
from workers.evaluation.metrics import similarity
from workers.pipeline.frame_store import FrameStore
from workers.pipeline.omni import OmniPipeline
from workers.pipeline.segmenter import BoxPrompt
from workers.pipeline.system2 import Grounding
from workers.shapeworld.evaluation.scores import Case, ClipScore, Part
from workers.shapeworld.evaluation.spoken import known_of
from workers.shapeworld.world import video
from workers.shapeworld.world.make import Example, make_scene
from workers.shapeworld.world.queries import Kind
from workers.shapeworld.world.truth import Truth

#: A chosen frame shows the target if it shows at least this share of the target's largest area.
_SHOWS = 0.2
_HIT_IOU = 0.5


def score(
    pipeline: OmniPipeline, case: Case, folder: Path, parts: Collection[Part] = tuple(Part),
    known: ClipScore | None = None,
) -> ClipScore:  # fmt: skip
    """Render the case's clip into `folder`, run those parts on it, and score what came out. `known`: of a model that
    carries as this one; what both lead to the same boxes gets its J and F, without tracks and boxes."""
    example = make_scene(case.seed, case.kind, case.preset)
    path = folder / "clip.mp4"
    truth = video.write(example.scene, path)
    target = truth.seen(example.question.targets)
    found: dict[str, Any] = {}
    if Part.PIPELINE in parts:
        found |= _whole(pipeline, path, example, truth, target, known)
    elif Part.SYSTEM1 in parts:
        found |= _looked(pipeline, path, example, target)
    if target and {Part.SYSTEM2, Part.SEGMENTER} & set(parts):
        found |= _alone(pipeline, path, example, truth, target, parts)
    return ClipScore(case, example.scene.duration_s, **found)


def _whole(
    pipeline: OmniPipeline, path: Path, example: Example, truth: Truth, target: dict[int, Mask],
    known: ClipScore | None,
) -> dict[str, Any]:  # fmt: skip
    text, mode = example.question.text, Mode(example.question.mode)
    answered = answer(pipeline, path, text, mode, known=known.prompted if known else None)
    assert answered.decision is not None
    chosen, looked = answered.decision.chosen, answered.decision.looked
    spoken = _Answer(
        chosen.raw_output, answered.decision.warnings, {k.moment.description for k in looked},
        chosen.answer.says_none and not looked, [k.frame_index for k in looked],
    )  # fmt: skip
    found: dict[str, Any] = {"seconds": answered.seconds, "prompted": answered.prompted}
    if answered.annotation is None:
        assert known is not None
        found |= {"pipeline_j": known.pipeline_j, "pipeline_f": known.pipeline_f}
    else:
        whole = similarity([track.masks for track in answered.annotation.tracks], target, truth.frame_count)
        found |= {"pipeline_j": whole.j, "pipeline_f": whole.f}
        found |= known_of(answered.annotation, example, truth)
    return spoken.scores(example, target) | found


def _looked(pipeline: OmniPipeline, path: Path, example: Example, target: dict[int, Mask]) -> dict[str, Any]:
    chosen, frame_indices = pipeline.choose(path, example.question.text, Mode(example.question.mode))
    answer, said = chosen.answer, {moment.description for moment in chosen.answer.moments}
    return _Answer(chosen.raw_output, answer.warnings, said, answer.says_none, frame_indices).scores(example, target)


@dataclass(frozen=True, slots=True)
class _Answer:
    """System 1's answer: raw, with what was dropped of it, what it says there is (or that nothing is), and where."""

    raw_output: str
    warnings: Sequence[str]
    descriptions: set[str]
    says_none: bool
    frame_indices: Sequence[int]

    def scores(self, example: Example, target: dict[int, Mask]) -> dict[str, Any]:
        absent = example.question.kind is Kind.ABSENT
        largest = max((mask.area for mask in target.values()), default=0)
        visible = [i in target and target[i].area >= _SHOWS * largest for i in self.frame_indices]
        return {
            "well_formed": well_formed(self.raw_output, self.warnings, bool(self.descriptions) or self.says_none),
            "described": self.says_none if absent else self.descriptions == {example.question.description},
            "keyframes_visible": tuple(visible) if target else (),
        }


def _alone(
    pipeline: OmniPipeline, path: Path, example: Example, truth: Truth, target: dict[int, Mask],
    parts: Collection[Part],
) -> dict[str, Any]:  # fmt: skip
    """System 2 on the frame that shows the targets best; SAM2 from a true box of each target where it is seen best."""
    targets = example.question.targets
    best = max(target, key=lambda frame_index: target[frame_index].area)
    probe = probe_video(path)
    found: dict[str, Any] = {}
    with FrameStore(probe.frame_count, pipeline.segmenter.size_px) as store:
        image = None
        for frame_index, frame in iter_frames(path, probe):
            store.write(frame_index, frame)
            image = frame if frame_index == best else image
        assert image is not None
        if Part.SYSTEM2 in parts:
            [grounding] = pipeline.system2.ground([image], [example.question.description])
            found["box_hit"] = _hit(grounding, truth, targets, best)
            found["things_seen"] = sum(truth.box(thing, best) is not None for thing in range(len(truth.masks)))
        if Part.SEGMENTER in parts:
            prompts = [_true_prompt(truth, thing) for thing in targets]
            followed = pipeline.segmenter.propagate(store, prompts, (probe.width, probe.height))
            carried = similarity([p.masks for p in followed], target, truth.frame_count)
            found |= {"segmenter_j": carried.j, "segmenter_f": carried.f}
    return found


def _true_prompt(truth: Truth, thing: int) -> BoxPrompt:
    frame_index = max(range(truth.frame_count), key=lambda t: truth.masks[thing][t].area)
    return BoxPrompt(frame_index, truth.masks[thing][frame_index].box_xyxy_px)


def _hit(grounding: Grounding, truth: Truth, targets: tuple[int, ...], frame_index: int) -> bool:
    """Whether there is one box for each target that is seen on the frame, and no other."""
    true = [box for thing in targets if (box := truth.box(thing, frame_index)) is not None]
    found = [box.box_xyxy_px for box in grounding.boxes]
    return len(found) == len(true) and all(any(one.iou(other) > _HIT_IOU for one in found) for other in true)
