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
    """`before`: the profile's. Raises `BadInput` where there is nothing wrong, or nothing right, on either."""
    try:
        track = _calibrated(
            _tracks(fitted), _tracks(measured), right_iou, attrgetter("seen"),
            _says(before.track, _tracks(measured)) if before else None,
        )  # fmt: skip
        box = _calibrated(
            _boxes(fitted), _boxes(measured), _BOX_IOU, attrgetter("named"),
            _says(before.box, _boxes(measured)) if before else None,
        )  # fmt: skip
        of_track = track.calibration
        frame = _calibrated(
            _frames(fitted, of_track), _frames(measured, of_track), right_iou, attrgetter("seen"),
            _says(before.frame, _frames(measured, before.track)) if before else None,
        )  # fmt: skip
    except ValueError as error:
        raise BadInput(f"{error}; take more clips") from error
    return Found(track, box, frame)


def _says(calibration: Calibration, known: Known) -> list[float]:
    return [calibration.probability(evidence) for evidence, _ in known]


def _calibrated(
    known: Known, others: Known, right_iou: float, own: Callable[[Evidence], float], before: list[float] | None
) -> Calibrated:
    right, others_right = ([iou >= right_iou for _, iou in some] for some in (known, others))
    calibration = fit([evidence for evidence, _ in known], right, right_iou)
    said = reliability(_says(calibration, others), others_right)
    earlier = reliability(before, others_right) if before else None
    theirs = reliability([own(evidence) for evidence, _ in others], others_right)
    counts = [(len(some), sum(some)) for some in (right, others_right)]
    return Calibrated(calibration, counts[0], counts[1], said, earlier, theirs)


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
