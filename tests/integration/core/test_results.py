"""Recording: everything or nothing, under the fence, and the same back out."""

import time
from dataclasses import replace

import numpy as np
import pytest
from sqlalchemy import func, select, text

from backend.bootstrap import Container
from backend.db.tables import DetectionRow, KeyframeRow, MaskRow, Publication, TrackRow
from backend.domain.annotation import Box, Detection, Keyframe, Track
from backend.domain.errors import FenceLost, NotFound
from backend.domain.runs import Mode
from backend.domain.tracks import BoxKeyframe
from backend.services import publish, results, runs
from backend.settings import LabelStudioSettings
from tests.factories import core

pytestmark = pytest.mark.stack

NO_TOOL = LabelStudioSettings()
TOOL = LabelStudioSettings(url="http://127.0.0.1:1")


def _record(
    container: Container, run_id: int, fence: int, labeling: LabelStudioSettings = NO_TOOL, **more: int
) -> None:
    with container.transaction() as session:
        results.record(session, run_id, fence, core.annotation(**more), core.IMAGE_KEYS, labeling)


def _counts(container: Container) -> list[int]:
    with container.sessions() as session:
        tables = (KeyframeRow, DetectionRow, TrackRow, MaskRow, Publication)
        return [session.scalar(select(func.count()).select_from(table)) or 0 for table in tables]


def test_what_is_recorded_comes_back(container: Container) -> None:
    core.make_project(container)
    run_id = core.ready_run(container)
    claim = core.claim(container, run_id)
    assert claim is not None
    _record(container, run_id, claim.fence)
    assert core.status_of(container, run_id)[0] == "succeeded"
    assert _counts(container) == [2, 4, 2, 598, 0]
    with container.transaction() as session:
        back = results.load_annotation(session, run_id)
    made = core.annotation()
    assert [track.masks for track in back.tracks] == [track.masks for track in made.tracks]
    assert [(track.index, track.label, track.score) for track in back.tracks] == [
        (track.index, track.label, track.score) for track in made.tracks
    ]
    assert [keyframe.detections for keyframe in back.keyframes] == [k.detections for k in made.keyframes]
    assert [keyframe.frame_index for keyframe in back.keyframes] == [120, 5]
    assert (back.reasoning, back.raw_output) == ("because \ufffd of it", "raw\ufffd")
    assert (back.status, back.timings_s, back.warnings) == (made.status, made.timings_s, made.warnings)
    np.testing.assert_array_equal(back.probe.pts, made.probe.pts)


def test_boxes_without_masks_come_back_and_are_shown_on_their_frame_alone(container: Container) -> None:
    """Mode `aid`: the first frame, boxes only."""
    core.make_project(container)
    with container.engine.begin() as connection:
        connection.execute(text("UPDATE instructions SET mode = 'aid'"))
    run_id = core.ready_run(container)
    claim = core.claim(container, run_id)
    assert claim is not None
    assert claim.mode is Mode.AID
    box = Box(1, 2, 9, 4)
    page = Keyframe(0, 0, 0.0, 0.0, 0.5, "the cup", (Detection(0, box, "cup", 0.9, 0),))
    made = replace(core.annotation(), keyframes=(page,), tracks=(Track(0, "cup", 0.9, {}, {0: box}),))
    with container.transaction() as session:
        results.record(session, run_id, claim.fence, made, {0: "artifacts/0.png"}, TOOL)
        publication = results.repository.ensure_publication(session, run_id, "label_studio:5")
        shown = publish.item_of(session, publication, container.settings.storage)
    [track] = shown.tracks
    assert (shown.mode, track.masks, track.box_keyframes) == (Mode.AID, {}, (BoxKeyframe(0, box, False),))
    with container.transaction() as session:
        [back] = results.load_annotation(session, run_id).tracks
    assert (dict(back.masks), dict(back.boxes), back.score) == ({}, {0: box}, 0.9)


def test_boxes_are_reduced_and_hold_the_floor(container: Container) -> None:
    core.make_project(container)
    run_id = core.ready_run(container)
    claim = core.claim(container, run_id)
    assert claim is not None
    _record(container, run_id, claim.fence, frame_count=39)
    with container.sessions() as session:
        rows = session.scalars(select(TrackRow).order_by(TrackRow.index)).all()
    for row in rows:
        assert [keyframe[0] for keyframe in row.box_keyframes] == [1, 38]
        assert Box(*row.box_keyframes[0][1:5]) == Box(1, row.index, 9, row.index + 2)


def test_thousands_of_masks_are_copied_quickly(container: Container) -> None:
    core.make_project(container)
    run_id = core.ready_run(container)
    claim = core.claim(container, run_id)
    assert claim is not None
    made = core.annotation(frame_count=5000, tracks=4)
    began = time.perf_counter()
    with container.transaction() as session:
        results.record(session, run_id, claim.fence, made, core.IMAGE_KEYS, NO_TOOL)
    seconds = time.perf_counter() - began
    assert _counts(container)[3] == 4 * 4999
    assert seconds < 10, f"{seconds:.1f} s for 19,996 masks"


def test_a_lost_fence_writes_nothing(container: Container) -> None:
    core.make_project(container)
    run_id = core.ready_run(container)
    claim = core.claim(container, run_id)
    assert claim is not None
    with container.engine.begin() as connection:
        connection.execute(text("UPDATE runs SET lease_expires_at = now() - interval '1 s'"))
    newer = core.claim(container, run_id, "newer")
    assert newer is not None
    with pytest.raises(FenceLost):
        _record(container, run_id, claim.fence, TOOL)
    assert _counts(container) == [0, 0, 0, 0, 0]
    _record(container, run_id, newer.fence)
    with pytest.raises(FenceLost):
        _record(container, run_id, newer.fence)
    assert _counts(container) == [2, 4, 2, 598, 0]


def test_a_failure_halfway_leaves_nothing(container: Container) -> None:
    """The masks go through COPY on the session's own connection, so they are undone with the rest."""
    core.make_project(container)
    run_id = core.ready_run(container)
    claim = core.claim(container, run_id)
    assert claim is not None
    session = container.sessions()
    results.record(session, run_id, claim.fence, core.annotation(), core.IMAGE_KEYS, NO_TOOL)
    session.invalidate()
    assert _counts(container) == [0, 0, 0, 0, 0]
    assert core.status_of(container, run_id)[0] == "running"


def test_the_publication_is_opened_with_the_result(container: Container) -> None:
    core.make_project(container, label_studio_project_id=7)
    run_id = core.ready_run(container)
    claim = core.claim(container, run_id)
    assert claim is not None
    before = len(core.unsent(container))
    _record(container, run_id, claim.fence, TOOL)
    with container.sessions() as session:
        publication = session.scalars(select(Publication)).one()
        assert (publication.run_id, publication.target, publication.state) == (run_id, "label_studio:7", "pending")
    assert core.unsent(container)[before:] == [("runs.publish", {"run_id": run_id})]
    for _ in range(3):
        with container.transaction() as session:
            results.postpone_publication(session, run_id)
    with container.sessions() as session:
        later = session.scalar(text("SELECT count(*) FROM outbox WHERE available_at > now() + interval '10 s'"))
    assert later == 1
    with container.transaction() as session:
        # As if it had been sent, and refused three times.
        session.execute(text("DELETE FROM outbox"))
        session.execute(text("UPDATE publications SET attempts = 3, dispatched_at = now()"))
        results.postpone_publication(session, run_id)
    with container.sessions() as session:
        wait = session.scalar(text("SELECT max(available_at) - now() FROM outbox WHERE sent_at IS NULL"))
    assert wait is not None
    assert 110 < wait.total_seconds() <= 121  # 15 s, doubled each time


def test_a_run_without_a_result_has_none_to_load(container: Container) -> None:
    core.make_project(container)
    run_id = core.ready_run(container)
    with pytest.raises(NotFound, match="queued"), container.transaction() as session:
        results.load_annotation(session, run_id)
    with pytest.raises(NotFound), container.transaction() as session:
        results.track_masks(session, run_id, 0)
    with pytest.raises(NotFound), container.transaction() as session:
        runs.retry(session, 12345)
