"""What a challenger finds beside the champion, compared: on the same videos and instructions, unpublished."""

from dataclasses import dataclass
from statistics import fmean

from sqlalchemy.orm import Session

from backend.db.repositories import results as result_rows
from backend.db.repositories import runs as run_rows
from backend.db.repositories import shadows as repository
from backend.domain import masks as rle
from backend.domain.annotation import Mask
from backend.domain.runs import RunStatus
from backend.services.videos import probe_of


@dataclass(frozen=True, slots=True)
class ShadowPair:
    """`agreement`: mean IoU of what both found, over the frames on which either found something; 1 where neither did.
    Seconds are from claim to end."""

    run_id: int
    shadow_run_id: int
    project: str
    champion_digest: str
    champion_found: bool
    challenger_found: bool
    champion_s: float
    challenger_s: float
    agreement: float


@dataclass(frozen=True, slots=True)
class ShadowFigures:
    """Means over the pairs are None where there are none."""

    challenger_digest: str
    pairs: tuple[ShadowPair, ...]

    @property
    def found(self) -> dict[str, int]:
        """How many of the pairs found something: by both, by one alone, by neither."""
        each = [(pair.champion_found, pair.challenger_found) for pair in self.pairs]
        return {
            "both": each.count((True, True)), "champion_alone": each.count((True, False)),
            "challenger_alone": each.count((False, True)), "neither": each.count((False, False)),
        }  # fmt: skip

    @property
    def agreement(self) -> float | None:
        return fmean(pair.agreement for pair in self.pairs) if self.pairs else None

    @property
    def latency_ratio(self) -> float | None:
        """The challenger's seconds over the champion's."""
        champion = sum(pair.champion_s for pair in self.pairs)
        return sum(pair.challenger_s for pair in self.pairs) / champion if champion > 0 else None


def compare(session: Session, profile_name: str, challenger_digest: str, limit: int = 50) -> ShadowFigures:
    """The challenger's newest results beside those of the champions of their time."""
    pairs = [
        ShadowPair(
            row.run_id, row.shadow_run_id, row.project, row.champion_digest,
            row.champion_status == RunStatus.SUCCEEDED, row.challenger_status == RunStatus.SUCCEEDED,
            row.champion_s, row.challenger_s, _agreement(session, row.run_id, row.shadow_run_id),
        )
        for row in repository.newest(session, profile_name, challenger_digest, limit)
    ]  # fmt: skip
    return ShadowFigures(challenger_digest, tuple(pairs))


def _agreement(session: Session, run_id: int, shadow_run_id: int) -> float:
    one, other = _union(session, run_id), _union(session, shadow_run_id)
    frames = one.keys() | other.keys()
    if not frames:
        return 1.0
    return sum(rle.iou(one[frame], other[frame]) for frame in one.keys() & other.keys()) / len(frames)


def _union(session: Session, run_id: int) -> dict[int, Mask]:
    """By frame the pixels that any of the run's tracks holds."""
    run = run_rows.get_whole(session, run_id)
    probe = probe_of(run.video)
    found: dict[int, list[Mask]] = {}
    for track in run.tracks:
        for frame, mask in result_rows.masks_of(session, track.id, probe.height, probe.width).items():
            found.setdefault(frame, []).append(mask)
    return {frame: rle.union(masks) for frame, masks in found.items()}
