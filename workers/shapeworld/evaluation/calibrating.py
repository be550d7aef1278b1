"""A profile's calibration, found on clips of the proving ground and measured on others."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from backend.domain.confidence import Calibration
from backend.domain.errors import BadInput
from workers.evaluation.calibration import Reliability, fit, reliability
from workers.shapeworld.evaluation.scores import ClipScore, TrackScore


@dataclass(frozen=True, slots=True)
class Calibrated:
    """`calibrated` and `own`: on clips that it was not fitted by, the calibration and SAM2's mean estimate of its
    masks, which is what a track's score is without one. `fitted_on`, `measured_on`: (tracks, right ones)."""

    calibration: Calibration
    fitted_on: tuple[int, int]
    measured_on: tuple[int, int]
    calibrated: Reliability
    own: Reliability

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def told(self) -> str:
        """The table for the profile, and how far it can be relied on."""
        known = self.calibration
        weights = "\n".join(f"{name} = {weight}" for name, weight in known.weights.items())
        head = f"[confidence]\nbias = {known.bias}\nright_iou = {known.right_iou}"
        lines = [f"{head}\n\n[confidence.weights]\n{weights}\n"]
        lines.append(f"fitted on {self.fitted_on[0]} tracks, of which {self.fitted_on[1]} are right;")
        lines.append(f"measured on {self.measured_on[0]} others, of which {self.measured_on[1]} are right:")
        for name, one in (("calibrated", self.calibrated), ("SAM2's own", self.own)):
            error = f"calibration error {one.expected_calibration_error:.3f}, Brier score {one.brier:.3f}"
            lines.append(f"{name}: right before wrong {one.auc:.3f}, {error}")
            lines += [f"  said {said:.3f}  were {was:.3f}  ({count})" for said, was, count in one.bins]
        return "\n".join(lines)


def calibrated(fitted: Sequence[ClipScore], measured: Sequence[ClipScore], right_iou: float) -> Calibrated:
    """Raises `BadInput` where there are no wrong tracks, or no right ones, on either."""
    try:
        known, known_right = _tracks(fitted, right_iou)
        calibration = fit([track.evidence for track in known], known_right, right_iou)
        others, others_right = _tracks(measured, right_iou)
        own = reliability([track.evidence.seen for track in others], others_right)
        said = reliability([calibration.probability(track.evidence) for track in others], others_right)
    except ValueError as error:
        raise BadInput(f"{error}; take more clips") from error
    counts = [(len(right), sum(right)) for right in (known_right, others_right)]
    return Calibrated(calibration, counts[0], counts[1], said, own)


def _tracks(scores: Sequence[ClipScore], right_iou: float) -> tuple[list[TrackScore], list[bool]]:
    tracks = [track for score in scores for track in score.tracks]
    return tracks, [track.j >= right_iou for track in tracks]
