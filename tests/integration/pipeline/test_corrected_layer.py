"""Corrections worked into a result by the real models, over the real database and storage."""

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr
from sqlalchemy import func, select, text, update
from typer.testing import CliRunner

from backend.api.app import create_app
from backend.bootstrap import Container
from backend.cli import reviews as command
from backend.db.repositories import corrected as rows
from backend.db.tables import CorrectedLayer, MaskRow, Publication, RenditionRow, Run, TrackCorrectionRow, TrackRow
from backend.domain.annotation import Annotation, Mask
from backend.domain.corrected import Source
from backend.domain.errors import FenceLost
from backend.domain.masks import iou
from backend.domain.runs import Mode
from backend.domain.tracks import interpolate
from backend.domain.windows import Window
from backend.services import corrected, results
from backend.services.publish import box_keyframes_of
from backend.settings import StorageSettings
from tests.conftest import S3
from tests.factories import core, review_desk
from tests.factories.review_desk import LABELING, Desk, correct, layers, paint
from tests.factories.world import Sample
from workers.pipeline.omni import OmniPipeline
from workers.shapeworld.world.queries import Kind

pytestmark = [pytest.mark.stack, pytest.mark.slow]


@pytest.fixture(scope="module")
def sample(make_sample: Callable[..., Sample]) -> Sample:
    return make_sample(Kind.PLURAL, 3, seed=2001, frame_rate=8)


@pytest.fixture(scope="module")
def annotation(pipeline: OmniPipeline, sample: Sample) -> Annotation:
    found = pipeline.annotate(sample.path, sample.instruction, Mode(sample.mode))
    assert len(found.tracks) == 3
    return found


@pytest.fixture
def container(database_url: str, s3: S3) -> Iterator[Container]:
    storage = StorageSettings(
        endpoint_url=s3.endpoint_url, region=s3.region, access_key_id=SecretStr(s3.access_key_id),
        secret_access_key=SecretStr(s3.secret_access_key), artifact_bucket=s3.bucket,
    )  # fmt: skip
    made = Container(core.settings(database_url, storage=storage, label_studio=LABELING))
    yield made
    made.close()


@dataclass
class Case:
    """A published run and its review desk. `work` brings a layer to its end; `of` reads its tracks' masks."""

    container: Container
    desk: Desk
    run_id: int
    sent: review_desk.Result
    work: Callable[[int], None]

    def of(self, layer_id: int) -> dict[int, dict[int, tuple[Mask, Source]]]:
        with self.container.transaction() as session:
            layer = rows.get(session, layer_id)
            return {track.index: rows.masks_of(session, track.id, 384, 384) for track in layer.tracks}

    def run_masks(self) -> dict[int, dict[int, Mask]]:
        with self.container.transaction() as session:
            return {index: results.track_masks(session, self.run_id, index) for index in range(3)}

    def rows_of_run(self) -> list[Any]:
        with self.container.transaction() as session:
            tables = (select(MaskRow.__table__), select(TrackRow.__table__), select(Run.__table__))
            return [sorted(map(str, session.execute(query))) for query in tables]


@pytest.fixture
def case(
    container: Container, pipeline: OmniPipeline, sample: Sample, annotation: Annotation, prefix: str,
    monkeypatch: pytest.MonkeyPatch,
) -> Case:  # fmt: skip
    run_id = review_desk.published_run(container, sample.path, annotation, prefix)
    desk = Desk(container.settings.storage)
    monkeypatch.setattr(type(container), "labeling_tool", desk)

    def work(layer_id: int) -> None:
        correct(container, pipeline, layer_id, monkeypatch)

    return Case(container, desk, run_id, desk.sent(container, 1), work)


def move(region: dict[str, Any], frame_index: int) -> None:
    """Set a keyframe on that frame, where the track's box is a little lower and wider."""
    sequence = region["value"]["sequence"]
    before = max((k for k in sequence if k["frame"] <= frame_index + 1), key=lambda k: k["frame"])
    sequence[:] = [k for k in sequence if k["frame"] != frame_index + 1]
    sequence.append({**before, "frame": frame_index + 1, "y": before["y"] + 1, "width": before["width"] + 1})


def shave(pixels: np.ndarray) -> None:
    """Half of the mask is erased, and a stroke added beside it."""
    ys, _ = np.nonzero(pixels)
    pixels[: int(ys.mean())] = False
    pixels[200:204, 100:140] = True


def test_what_people_touched_is_exact_and_what_they_left_is_bit_identical(
    case: Case, annotation: Annotation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stroke and an erasure on one page, a box moved on one frame of the same track; the other tracks are left."""
    before, result = case.rows_of_run(), deepcopy(case.sent)
    page = next(r for r in result if r["id"].startswith(f"run{case.run_id}-track0-frame"))
    page_frame = int(page["id"].rpartition("frame")[2])
    drawn = paint(page, shave)
    frame = next(f for f in sorted(annotation.tracks[0].masks) if abs(f - page_frame) > 6)
    move(result[0], frame)
    case.desk.save(case.container, 11, result)
    assert ("reviews.correct", {"layer_id": 1}) in core.unsent(case.container)
    case.work(1)
    [layer] = layers(case.container)
    assert (layer.state, layer.problem, layer.attempt) == ("ready", None, 1)
    assert layer.model_version_id is not None
    assert set(layer.timings_s) == {"fetch", "segment"}
    found, kept = case.of(1), case.run_masks()
    for index in (1, 2):
        assert found[index] == {f: (mask, Source.KEPT) for f, mask in kept[index].items()}
    assert found[0][page_frame] == (drawn, Source.DRAWN)
    sources = {source: {f for f, (_, s) in found[0].items() if s is source} for source in Source}
    assert all(found[0][f] == (kept[0][f], Source.KEPT) for f in sources[Source.KEPT])
    assert frame in sources[Source.CARRIED]
    assert len(sources[Source.CARRIED]) > 4
    # The next frame is nearer to what was drawn than it was before.
    near = page_frame + 1 if page_frame + 1 in found[0] else page_frame - 1
    assert iou(found[0][near][0], drawn) > iou(kept[0][near], drawn)
    with case.container.transaction() as session:
        track, other, _ = rows.get(session, 1).tracks
        assert (track.drawn_frames, track.boxed_frames, track.change) == ([page_frame], [frame], "edited")
        [moved] = [row for row in track.box_keyframes if row[0] == frame]
        x, y, width, height = (case_box(result[0], frame)[name] * 3.84 for name in ("x", "y", "width", "height"))
        assert moved[1:5] == pytest.approx([x, y, x + width, y + height])
        assert other.change == "untouched"
        run_track = session.scalars(select(TrackRow).where(TrackRow.index == 1)).one()
        assert (other.box_keyframes, other.kept_track_id) == (run_track.box_keyframes, run_track.id)
    assert case.rows_of_run() == before
    monkeypatch.setattr(command, "bootstrap", lambda: case.container)
    shown = CliRunner().invoke(command.app, ["show", str(case.run_id)], catch_exceptions=False).stdout
    assert "corrected layer 1: ready, 1 track edited, 2 untouched" in shown
    api = TestClient(create_app(case.container))
    [review] = api.get(f"/api/v1/runs/{case.run_id}/reviews").json()
    told = review["versions"][0]["layer"]
    assert (told["id"], told["state"], told["model_version"]) == (1, "ready", case.container.profile.digest)
    assert [one["change"] for one in told["tracks"]] == ["edited", "untouched", "untouched"]
    assert sum(end - begin for begin, end in told["tracks"][0]["changed"]) == len(sources[Source.CARRIED]) + 1
    masks = api.get("/api/v1/layers/1/masks", params={"track": 0}).json()["masks"]
    assert masks[str(page_frame)] == {"size": [384, 384], "counts": drawn.counts, "source": "drawn"}
    assert len(masks) == len(found[0])


def case_box(region: dict[str, Any], frame_index: int) -> dict[str, float]:
    [keyframe] = [k for k in region["value"]["sequence"] if k["frame"] == frame_index + 1]
    return dict(keyframe)


def test_a_message_that_comes_again_changes_nothing_and_an_older_version_is_not_computed(case: Case) -> None:
    result = deepcopy(case.sent)
    paint(result[1], shave)
    case.desk.save(case.container, 11, result)
    del result[0]
    case.desk.save(case.container, 11, result)
    for layer_id in (1, 2, 2, 1):
        case.work(layer_id)
    assert [(layer.state, layer.attempt) for layer in layers(case.container)] == [("superseded", 0), ("ready", 1)]
    with case.container.transaction() as session:
        changes = [track.change for track in rows.get(session, 2).tracks]
    # What was painted into a track that is gone stands for itself.
    assert changes == ["removed", "untouched", "untouched", "added"]
    assert case.of(2)[0] == {}


def test_what_changes_no_mask_needs_no_model(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    result = [region for region in deepcopy(case.sent) if "-track1" not in region["id"]]
    case.desk.save(case.container, 11, result)
    monkeypatch.setattr(OmniPipeline, "carry", None)
    case.work(1)
    [layer] = layers(case.container)
    assert (layer.state, layer.model_version_id) == ("ready", None)
    kept = {index: {f: (m, Source.KEPT) for f, m in masks.items()} for index, masks in case.run_masks().items()}
    assert case.of(1) == {**kept, 1: {}}


def test_an_accepted_annotation_makes_no_layer(case: Case) -> None:
    case.desk.save(case.container, 11, case.sent)
    assert layers(case.container) == []


def test_only_the_last_worker_to_claim_a_layer_writes_it(case: Case) -> None:
    result = deepcopy(case.sent)
    paint(result[1], shave)
    case.desk.save(case.container, 11, result)
    container, worker = case.container, case.container.settings.worker
    with container.transaction() as session:
        early = corrected.claim(session, 1, "w1", worker)
        job = corrected.read(session, case.desk, 1, container.settings.storage)
        assert corrected.claim(session, 1, "w2", worker) is None
        session.execute(update(CorrectedLayer).values(lease_expires_at=text("now() - interval '1 s'")))
    assert early is not None
    with container.transaction() as session:
        assert corrected.reap(session, worker, set()) == 1
    case.work(1)
    with container.transaction() as session, pytest.raises(FenceLost):
        corrected.extend_lease(session, early, worker)
    carried = {plan.region_id: [{} for _ in plan.carries] for plan in job.plans}
    with pytest.raises(FenceLost), container.transaction() as session:
        corrected.record(session, early, job, carried, {}, container.profile, LABELING)
    assert [layer.attempt for layer in layers(container)] == [2]
    assert sum(source is Source.CARRIED for _, source in case.of(1)[0].values()) > 4


def test_attempts_end(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("a driver")

    result = deepcopy(case.sent)
    paint(result[1], shave)
    case.desk.save(case.container, 11, result)
    monkeypatch.setattr(OmniPipeline, "carry", broken)
    for _ in range(case.container.settings.worker.max_attempts):
        with pytest.raises(ZeroDivisionError):
            case.work(1)
    case.work(1)
    [layer] = layers(case.container)
    assert layer.state == "failed"
    assert "ZeroDivisionError: a driver" in str(layer.problem)


def test_a_project_that_asks_for_it_gets_a_fresh_prediction_which_is_reviewed_in_turn(case: Case) -> None:
    container = case.container
    with container.transaction() as session:
        session.execute(text("UPDATE projects SET show_corrected = true"))
    result = deepcopy(case.sent)
    page_frame = int(result[1]["id"].rpartition("frame")[2])
    drawn = paint(result[1], shave)
    case.desk.save(container, 11, result)
    case.work(1)
    with container.transaction() as session:
        fresh = session.scalars(select(Publication).where(Publication.layer_id == 1)).one()
        assert fresh.state == "pending"
        fresh.state, fresh.task_id, fresh.prediction_id = "published", review_desk.TASK, 701
    again = case.desk.sent(container, fresh.id)
    assert [region["id"] for region in again] == [region["id"] for region in case.sent]
    assert again[1]["value"] == result[1]["value"]
    case.desk.save(container, 12, again, prediction_id=701)
    assert len(layers(container)) == 1
    # Of another page: what was drawn before stays truth.
    other = next(r for r in again if "track1-frame" in r["id"])
    other_frame, other_drawn = int(other["id"].rpartition("frame")[2]), paint(other, shave)
    case.desk.save(container, 12, again, prediction_id=701)
    case.work(2)
    first, second = case.of(1), case.of(2)
    assert second[0] == first[0]
    assert first[0][page_frame] == (drawn, Source.DRAWN)
    assert second[1][other_frame] == (other_drawn, Source.DRAWN)
    with container.transaction() as session:
        edited = [(t.change, t.drawn_frames) for t in rows.get(session, 2).tracks]
        assert edited == [("untouched", [page_frame]), ("edited", [other_frame]), ("untouched", [])]
        assert session.scalar(select(func.count()).select_from(Publication)) == 3


def test_what_people_say_of_a_window_leaves_the_rest_of_the_video_as_it_was(case: Case, annotation: Annotation) -> None:
    """In a window of the second half a box is moved, a thing is removed and one is left."""
    count = annotation.probe.frame_count
    window = Window(count // 2, count - count // 2 - 3)
    with case.container.transaction() as session:
        here = {"window_first_frame": window.first_frame, "window_frame_count": window.frame_count}
        session.execute(update(Publication).values(**here))
        session.add(RenditionRow(video_id=1, state="ready", reasons=["a window"], key="a", sha256="0" * 64,
                                 size_bytes=1, fps_num=8, fps_den=1, **here))  # fmt: skip
    sent = case.desk.sent(case.container, 1)
    assert sum(region["type"] == "videorectangle" for region in sent) == 3
    assert all(int(r["id"].rpartition("frame")[2]) in window.frames for r in sent if "-frame" in r["id"])
    result = [region for region in deepcopy(sent) if not region["id"].startswith(f"run{case.run_id}-track1")]
    frame = window.first_frame + 5
    move(result[0], frame - window.first_frame)
    case.desk.save(case.container, 11, result)
    case.work(1)
    [layer] = layers(case.container)
    assert (layer.state, layer.problem) == ("ready", None)
    found, kept = case.of(1), case.run_masks()
    for index in range(3):
        outside = {f: (mask, Source.KEPT) for f, mask in kept[index].items() if f not in window.frames}
        assert outside
        assert {f: one for f, one in found[index].items() if f not in window.frames} == outside
    assert not set(found[1]) & set(window.frames), "gone there, and only there"
    assert found[2] == {f: (mask, Source.KEPT) for f, mask in kept[2].items()}
    assert found[0][frame][1] is Source.CARRIED
    with case.container.transaction() as session:
        moved, gone, left = rows.get(session, 1).tracks
        of_run = {row.index: row for row in session.scalars(select(TrackRow))}
        assert (moved.boxed_frames, moved.change, left.change) == ([frame], "edited", "untouched")
        for row in (moved, gone):
            now, before = (interpolate(box_keyframes_of(r.box_keyframes), count) for r in (row, of_run[row.index]))
            for f in set(range(count)) - set(window.frames):
                assert (f in now) == (f in before)
                assert f not in now or now[f].iou(before[f]) > 1 - 1e-9
            assert row is moved or not set(now) & set(window.frames)
        [correction] = session.scalars(select(TrackCorrectionRow).where(TrackCorrectionRow.change == "edited"))
        assert correction.touched_frames == [frame], "counted in the whole video"
