"""A profile's calibration, found on clips of the proving ground and measured on others."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from operator import attrgetter
from typing import Any

from backend.domain.confidence import Calibration, Confidence, Evidence
from backend.domain.errors import BadInput
from workers.evaluation.calibration import Reliability, fit, reliability
from workers.shapeworld.evaluation.scores import ClipScore

#: What is known of things of one kind: what speaks for each, and its IoU with the truth.
Known = list[tuple[Evidence, float]]
#: System 2 is measured by the same.
_BOX_IOU = 0.5


@dataclass(frozen=True, slots=True)
class Calibrated:
    """Of tracks, boxes or masks. On clips that it was not fitted by: `calibrated`, the calibration; `before`, the one
    that the profile has, which may be as good; `own`, the model's own word, which is the score without any.
    `fitted_on`, `measured_on`: (how many, right ones)."""

    calibration: Calibration
    fitted_on: tuple[int, int]
    measured_on: tuple[int, int]
    calibrated: Reliability
    before: Reliability | None
    own: Reliability


@dataclass(frozen=True, slots=True)
class Found:
    track: Calibrated
    box: Calibrated
    frame: Calibrated

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def parts(self) -> dict[str, Calibrated]:
        return {"track": self.track, "box": self.box, "frame": self.frame}

    def told(self) -> str:
        """The tables for the profile, and how far each can be relied on."""
        tables = [_table(name, one.calibration) for name, one in self.parts.items()]
        return "\n".join([*tables, *(_said(name, one) for name, one in self.parts.items())])


def _table(name: str, known: Calibration) -> str:
    weights = "\n".join(f"{evidence} = {weight}" for evidence, weight in known.weights.items())
    head = f"[confidence.{name}]\nbias = {known.bias}\nright_iou = {known.right_iou}"
    return f"{head}\n\n[confidence.{name}.weights]\n{weights}\n"


def _said(name: str, found: Calibrated) -> str:
    (many, right), (others, others_right) = found.fitted_on, found.measured_on
    lines = [f"{name}: fitted on {many}, of which {right} are right; measured on {others}, of which {others_right} are"]
    said_by = {"calibrated": found.calibrated, "the profile's tables": found.before, "the model's own": found.own}
    for who, one in said_by.items():
        if one is None:
            continue
        error = f"calibration error {one.expected_calibration_error:.3f}, Brier score {one.brier:.3f}"
        lines.append(f"  {who}: right before wrong {one.auc:.3f}, {error}")
        lines += [f"    said {said:.3f}  were {was:.3f}  ({count})" for said, was, count in one.bins]
    return "\n".join(lines)


def calibrated(
    fitted: Sequence[ClipScore], measured: Sequence[ClipScore], right_iou: float, before: Confidence | None = None
) -> Found:
    """`before`: the profile's; a table of it that calls another IoU right isn't measured. Raises `BadInput` where there
    is nothing wrong, or nothing right, on either."""
    tracks, boxes = _tracks(measured), _boxes(measured)
    earlier = dict[str, Reliability]()
    try:
        if before is not None:
            earlier = _measured(before, tracks, boxes, _frames(measured, before.track), right_iou)
        track = _calibrated(_tracks(fitted), tracks, right_iou, attrgetter("seen"), earlier.get("track"))
        box = _calibrated(_boxes(fitted), boxes, _BOX_IOU, attrgetter("named"), earlier.get("box"))
        frames, others = _frames(fitted, track.calibration), _frames(measured, track.calibration)
        frame = _calibrated(frames, others, right_iou, attrgetter("seen"), earlier.get("frame"))
    except ValueError as error:
        raise BadInput(f"{error}; take more clips") from error
    return Found(track, box, frame)


def _measured(
    before: Confidence, tracks: Known, boxes: Known, frames: Known, right_iou: float
) -> dict[str, Reliability]:  # fmt: skip
    """How far each table that there is can be relied on, by the name of what it is of."""
    of = {
        "track": (before.track, tracks, right_iou),
        "box": (before.box, boxes, _BOX_IOU),
        "frame": (before.frame, frames, right_iou),
    }
    return {name: _relied(*one) for name, one in of.items() if one[0].right_iou == one[2]}


def _relied(calibration: Calibration, known: Known, right_iou: float) -> Reliability:
    said = [calibration.probability(evidence) for evidence, _ in known]
    return reliability(said, [iou >= right_iou for _, iou in known])


def _calibrated(
    known: Known, others: Known, right_iou: float, own: Callable[[Evidence], float], before: Reliability | None
) -> Calibrated:
    right, others_right = ([iou >= right_iou for _, iou in some] for some in (known, others))
    calibration = fit([evidence for evidence, _ in known], right, right_iou)
    theirs = reliability([own(evidence) for evidence, _ in others], others_right)
    counts = [(len(some), sum(some)) for some in (right, others_right)]
    return Calibrated(calibration, counts[0], counts[1], _relied(calibration, others, right_iou), before, theirs)


def _tracks(scores: Sequence[ClipScore]) -> Known:
    return [(track.evidence, track.j) for score in scores for track in score.tracks]


def _boxes(scores: Sequence[ClipScore]) -> Known:
    return [(evidence, iou) for score in scores for evidence, iou in score.boxes]


def _frames(scores: Sequence[ClipScore], of_track: Calibration) -> Known:
    """With the tracks' probabilities as that calibration has them: when the clips were run there was another, or
    none."""
    return [
        (replace(evidence, track=of_track.probability(track.evidence)), iou)
        for score in scores for track in score.tracks for evidence, iou in track.frames
    ]  # fmt: skip
