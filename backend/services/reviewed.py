"""Reviewed items: of each video and instruction the newest review that people gave, as an item of a data set.

What they left untouched and submitted is as true as what they corrected. Skipped tasks, deleted annotations and those
that can't be compared with a pre-annotation of ours say nothing.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from sqlalchemy.orm import Session

from backend.db.repositories import corrected as layers
from backend.db.repositories import datasets as repository
from backend.db.repositories import results
from backend.db.repositories.datasets import ReviewedRow
from backend.db.tables import MaskCorrectionRow, Review, ReviewVersion, Run, TrackCorrectionRow
from backend.domain.annotation import Mask, VideoProbe
from backend.domain.corrections import Change, Corrections, MaskCorrection, TrackCorrection
from backend.domain.datasets import DatasetItem, Provenance, Split
from backend.domain.errors import BadInput
from backend.domain.runs import Mode
from backend.domain.truth import Truth, truth_of
from backend.ports.labeling import ReviewReader
from backend.services.selection import FreezeQuery
from backend.services.videos import probe_of


@dataclass(frozen=True, slots=True)
class Candidate:
    """An item whose side and media are still to be said, and the rows it came from."""

    item: DatasetItem
    review_version_id: int
    run_id: int
    video_id: int


def candidates(
    session: Session, reader: ReviewReader, query: FreezeQuery
) -> tuple[list[Candidate], Counter[str]]:  # fmt: skip
    """One for each question that people answered, and how many reviews were left out for which reason."""
    out: Counter[str] = Counter()
    found = []
    for row in _newest(repository.reviewed(session, query.projects, query.reviewed_until), out):
        try:
            found.append(_candidate(*repository.whole_version(session, row.version_id), session, reader))
        except BadInput:
            out["unreadable"] += 1
        # Raw results and masks are large: one review at a time.
        session.expunge_all()
    return found, out


def _newest(rows: Iterable[ReviewedRow], out: Counter[str]) -> Iterator[ReviewedRow]:
    """Of each question the review that changed last, by the labeling tool's clock."""
    answers: dict[tuple[str, str, str], ReviewedRow] = {}
    for row in sorted(rows, key=lambda one: (one.changed_at, one.target, one.annotation_id)):
        if row.skipped or not row.compared:
            out["skipped" if row.skipped else "not comparable"] += 1
            continue
        if row.windowed:
            out["of a window"] += 1
            continue
        question = (row.sha256, row.mode, row.instruction)
        out["superseded"] += question in answers
        answers[question] = row
    yield from answers.values()


def _candidate(
    version: ReviewVersion, review: Review, run: Run, session: Session, reader: ReviewReader
) -> Candidate:  # fmt: skip
    video, probe = run.video, probe_of(run.video)
    assert video.sha256 is not None
    truth = _truth(version, run, session, reader)
    item = DatasetItem(
        media_sha256=video.sha256, media_key="", media_size_bytes=video.size_bytes,
        instruction=run.instruction.text, mode=Mode(run.instruction.mode),
        frame_count=probe.frame_count, width=probe.width, height=probe.height, rotation_deg=probe.rotation_deg,
        duration_s=probe.duration_s, has_audio=probe.has_audio, codec=probe.codec, time_base_num=probe.time_base_num,
        time_base_den=probe.time_base_den, pts=tuple(probe.pts.tolist()), objects=truth.objects,
        box_frames=truth.box_frames, mask_frames=truth.mask_frames, propagated_frames=truth.propagated_frames,
        split=Split.TRAIN, fresh=True,
        provenance=Provenance(
            origin="review", source_uri=f"s3://{video.bucket}/{video.key}", source_version=video.version,
            project=run.instruction.project.name, model_digest=run.model_version.digest, target=review.target,
            annotation_id=review.annotation_id, annotator=review.annotator, review_digest=version.digest,
            changed_at=version.changed_at.isoformat(),
        ),
    )  # fmt: skip
    return Candidate(item, version.id, run.id, video.id)


def _truth(version: ReviewVersion, run: Run, session: Session, reader: ReviewReader) -> Truth:
    probe = probe_of(run.video)
    size = (probe.width, probe.height)
    corrections = Corrections(
        tuple(_track_correction(row) for row in version.tracks), tuple(_mask_correction(row) for row in version.masks)
    )
    frame_of = {row.region_id: row.frame_index for row in version.masks}
    returned = reader.layer(version.raw, size, probe.frame_count, frame_of)
    dense = _shown_masks(session, version, run, probe)
    pages = [row.frame_index for row in run.keyframes]
    return truth_of(returned, corrections, pages, size, partial(reader.track_index, run.id), dense)


def _shown_masks(
    session: Session, version: ReviewVersion, run: Run, probe: VideoProbe
) -> Mapping[int, Mapping[int, Mask]]:
    """By index the tracks that people were shown: the run's own, or those of a corrected layer sent in their place."""
    layer_id = layers.origin_of(session, version.id)[2].layer_id
    if layer_id is None:
        return {row.index: results.masks_of(session, row.id, probe.height, probe.width) for row in run.tracks}
    tracks = layers.get(session, layer_id).tracks
    whole = {row.index: layers.masks_of(session, row.id, probe.height, probe.width) for row in tracks}
    return {index: {i: mask for i, (mask, _) in masks.items()} for index, masks in whole.items()}


def _track_correction(row: TrackCorrectionRow) -> TrackCorrection:
    return TrackCorrection(
        row.region_id, Change(row.change), row.label_before, row.label_after, tuple(row.touched_frames),
        tuple(row.moved_frames), tuple(row.resized_frames), tuple(row.shown_frames), tuple(row.hidden_frames), row.iou,
    )  # fmt: skip


def _mask_correction(row: MaskCorrectionRow) -> MaskCorrection:
    return MaskCorrection(
        row.region_id, Change(row.change), row.frame_index, row.label_before, row.label_after, row.pixels_added,
        row.pixels_removed, row.iou,
    )  # fmt: skip
