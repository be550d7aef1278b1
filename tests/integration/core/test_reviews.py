"""Reviews: read from the labeling tool in any order and any number of times, each version is kept and compared once."""

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select, update
from typer.testing import CliRunner

from backend.api.app import create_app
from backend.bootstrap import Container
from backend.cli import projects as project_command
from backend.cli import reviews as command
from backend.db.repositories import ledger
from backend.db.repositories.ledger import By
from backend.db.tables import OutboxMessage, Publication, Review, ReviewFeed, ReviewTask, ReviewVersion
from backend.domain.annotation import Box
from backend.domain.corrections import BoxTrack, Layer
from backend.domain.errors import NotFound, ServiceUnavailable
from backend.domain.tracks import BoxKeyframe
from backend.services import review_feed, reviews
from backend.settings import LabelStudioSettings, StorageSettings
from tests.factories import core
from tests.factories.labeling_desk import LabelingDesk

pytestmark = pytest.mark.stack

STORAGE = StorageSettings(artifact_bucket="pictures")
LABELING = LabelStudioSettings(url="http://label.example")
TRACK = BoxTrack("run-track0", "target", (BoxKeyframe(3, Box(0, 0, 10, 10), True),))
SENT = Layer(300, (TRACK,))


def moved(by_px: float) -> Layer:
    return replace(SENT, tracks=(replace(TRACK, keyframes=(BoxKeyframe(3, Box(by_px, 0, 10 + by_px, 10), True),)),))


@pytest.fixture
def run_id(container: Container) -> int:
    """A recorded run whose publication to Label Studio's project 5 was made."""
    run_id = core.recorded_run(container, LABELING)
    with container.transaction() as session:
        session.execute(update(Publication).values(state="published", task_id=70, prediction_id=700))
    return run_id


def collect(container: Container, desk: LabelingDesk, task_id: int = 70) -> int:
    return reviews.collect(container.sessions, desk, 5, task_id, STORAGE)


def poll(container: Container, desk: LabelingDesk) -> review_feed.Found:
    return review_feed.poll(container.sessions, desk, 5, STORAGE)


def kept(container: Container) -> dict[int, list[str]]:
    """By annotation: what each kept version says; with "deleted" last where it is gone."""
    with container.transaction() as session:
        found: dict[int, list[str]] = {}
        for review in session.scalars(select(Review).order_by(Review.annotation_id)):
            said = [str(version.raw["result"][0]["says"]) for version in review.versions]
            found[review.annotation_id] = said + ["deleted"] * (review.deleted_at is not None)
        return found


def test_each_answer_is_kept_whole_and_compared_with_what_was_sent(container: Container, run_id: int) -> None:
    desk = LabelingDesk(SENT)
    desk.save(70, 11, SENT, odd="a\x00b\ud800")
    desk.save(70, 12, moved(5))
    desk.save(70, 13, Layer(300), skipped=True)
    desk.save(70, 14, None)
    desk.save(70, 15, moved(5), prediction_id=None)
    desk.save(70, 16, moved(5), prediction_id=999)
    assert collect(container, desk) == 6
    with container.transaction() as session:
        found = reviews.of_run(session, run_id)
        accepted, edited, skipped, unreadable = (review.versions[0] for review in found)
        assert [review.annotation_id for review in found] == [11, 12, 13, 14]
        assert (accepted.accepted, accepted.lead_time_s, accepted.raw["odd"]) == (True, 8.25, "a\ufffdb\ufffd")
        assert edited.accepted is False
        [track] = edited.tracks
        assert (track.change, track.touched_frames) == ("edited", [3])
        assert track.moved_frames == list(range(3, 300))
        assert track.iou == pytest.approx(1 / 3)
        assert (skipped.skipped, skipped.accepted, skipped.problem) == (True, None, None)
        assert (unreadable.accepted, unreadable.problem) == (None, "region 'x' can't be read")
        assert session.scalar(select(func.count()).select_from(Review)) == 6
    with container.transaction() as session, pytest.raises(NotFound):
        reviews.of_run(session, run_id + 1)


@pytest.mark.usefixtures("run_id")
def test_an_annotation_saved_again_is_a_new_version_and_the_old_one_stays(container: Container) -> None:
    desk = LabelingDesk(SENT)
    for layer, new in ((SENT, 1), (moved(5), 1), (moved(5), 0), (SENT, 1)):
        desk.save(70, 11, layer)
        assert collect(container, desk) == new
        assert collect(container, desk) == 0
    assert kept(container) == {11: ["layer 0", "layer 1", "layer 0"]}


@pytest.mark.usefixtures("run_id")
def test_a_reading_that_is_older_than_the_last_one_changes_nothing(container: Container) -> None:
    """Two workers read a task; the one that read first writes last."""
    desk = LabelingDesk(SENT)
    desk.save(70, 11, SENT)
    early = desk.answered(5, 70)
    desk.save(70, 12, moved(5))
    desk.save(70, 11, moved(7))
    assert collect(container, desk) == 2
    late = replace(desk)
    late.answered = lambda *_: early  # type: ignore[method-assign]
    assert collect(container, late) == 0
    assert kept(container) == {11: ["layer 2"], 12: ["layer 1"]}


@pytest.mark.usefixtures("run_id")
def test_what_was_deleted_is_noted_and_its_versions_stay(container: Container) -> None:
    desk = LabelingDesk(SENT)
    desk.save(70, 11, SENT)
    desk.save(70, 12, moved(5))
    collect(container, desk)
    desk.delete(70, 11)
    poll(container, desk)
    assert kept(container) == {11: ["layer 0", "deleted"], 12: ["layer 1"]}
    desk.delete(70)
    with container.transaction() as session:
        session.execute(update(ReviewFeed).values(swept_at=None))
    assert poll(container, desk).gone == 1
    assert kept(container) == {11: ["layer 0", "deleted"], 12: ["layer 1", "deleted"]}


def test_a_pass_reads_only_what_changed_since_the_last(container: Container) -> None:
    desk = LabelingDesk(SENT)
    for task_id in range(70, 76):
        desk.save(task_id, task_id * 10, SENT, prediction_id=None)
    first = poll(container, desk)
    assert (first.tasks, first.versions) == (6, 6)
    assert poll(container, desk) == review_feed.Found()
    desk.reads.clear()
    desk.save(72, 720, moved(1), prediction_id=None)
    assert poll(container, desk).versions == 1
    assert desk.reads == [72]


def test_an_outage_is_written_down_and_the_next_pass_goes_on(container: Container) -> None:
    desk = LabelingDesk(SENT)
    desk.save(70, 11, SENT)
    desk.trouble = ServiceUnavailable("Label Studio: no answer")
    with pytest.raises(ServiceUnavailable):
        poll(container, desk)
    with container.transaction() as session:
        assert session.scalars(select(ReviewFeed.last_error)).one() == "Label Studio: no answer"
    desk.trouble = None
    assert poll(container, desk).versions == 1
    with container.transaction() as session:
        assert session.scalars(select(ReviewFeed.last_error)).one() is None


@pytest.mark.usefixtures("run_id")
@pytest.mark.parametrize("seed", range(5))
def test_every_version_arrives_once_whatever_becomes_of_the_hints(container: Container, seed: int) -> None:
    """Hints lost, doubled and late, passes between, an outage: in the end all that was seen at a reading is there once,
    and the last state of everything is."""
    rng, desk = random.Random(seed), LabelingDesk(SENT)
    hints: list[int] = []
    for step in range(60):
        task_id = rng.choice([70, 71, 72])
        known = list(desk.tasks.get(task_id, ()))
        if known and rng.random() < 0.15:
            desk.delete(task_id, rng.choice(known))
        else:
            desk.save(task_id, rng.choice([*known, task_id * 100 + step]), moved(rng.randrange(1, 4)))
        hints += [task_id] * rng.choice([0, 1, 1, 3])
        rng.shuffle(hints)
        desk.trouble = ServiceUnavailable("away") if rng.random() < 0.1 else None
        try:
            for _ in range(rng.randrange(3)):
                if hints:
                    collect(container, desk, hints.pop())
            if rng.random() < 0.2:
                poll(container, desk)
        except ServiceUnavailable:
            continue
    desk.trouble = None
    poll(container, desk)
    found = kept(container)
    for task in desk.tasks.values():
        for annotation_id, answer in task.items():
            assert found[annotation_id][-1] == answer.raw["result"][0]["says"]
    present = {annotation_id for task in desk.tasks.values() for annotation_id in task}
    assert {annotation_id for annotation_id, said in found.items() if said[-1] != "deleted"} == present
    for said in found.values():
        assert all(one != next_one for one, next_one in pairwise(said))
    assert poll(container, desk) == review_feed.Found()


def payloads(container: Container) -> Sequence[tuple[str, dict[str, int]]]:
    with container.transaction() as session:
        query = select(OutboxMessage.task, OutboxMessage.payload).where(OutboxMessage.task.like("reviews.%"))
        return [(task, payload) for task, payload in session.execute(query.order_by(OutboxMessage.id))]


def test_the_webhook_asks_for_what_it_hints_at(database_url: str) -> None:
    labeling = LabelStudioSettings(webhook_token="s3cret")
    container = Container(core.settings(database_url, label_studio=labeling))
    client, path = TestClient(create_app(container)), "/api/v1/events/label-studio"
    secret = {"Authorization": "Bearer s3cret"}
    body = {"action": "ANNOTATION_CREATED", "project": {"id": 5, "token": "x"}, "task": {"id": 70}}
    assert client.post(path, json=body).status_code == 401
    assert client.post(path, json=body, headers={"Authorization": "Bearer other"}).status_code == 401
    assert client.post(path, json=body, headers=secret).json() == {"tasks": 1}
    several = {"action": "TASKS_DELETED", "project": {"id": 5}, "tasks": [{"id": 1}, {"id": 2}, {"id": 1}]}
    assert client.post(path, json=several, headers=secret).json() == {"tasks": 2}
    nothing = {"action": "ANNOTATIONS_DELETED", "project": {"id": 5}, "annotations": [{"id": 3}]}
    assert client.post(path, json=nothing, headers=secret).json() == {"tasks": 0}
    for odd in (b"", b"[]", b'{"project": 0}', b'{"project": {"id": true}}'):
        assert client.post(path, content=odd, headers=secret).status_code == 422
    assert payloads(container) == [
        ("reviews.collect", {"project_id": 5, "task_id": 70}),
        ("reviews.collect", {"project_id": 5, "task_id": 1}),
        ("reviews.collect", {"project_id": 5, "task_id": 2}),
        ("reviews.poll", {"project_id": 5}),
    ]
    container.close()


def test_without_a_token_the_webhook_is_off(container: Container) -> None:
    answer = TestClient(create_app(container)).post("/api/v1/events/label-studio", json={"project": {"id": 5}})
    assert answer.status_code == 401


def test_the_api_and_the_commands_show_every_version(
    container: Container, run_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = LabelingDesk(SENT)
    desk.save(70, 11, SENT)
    desk.save(70, 12, None)
    desk.save(70, 13, Layer(300), skipped=True)
    monkeypatch.setattr(type(container), "labeling_tool", desk)
    monkeypatch.setattr(command, "bootstrap", lambda: container)

    def run(*words: str) -> str:
        return CliRunner().invoke(command.app, list(words), catch_exceptions=False).stdout

    assert "1 tasks read, 3 new versions" in run("collect", "cups")
    desk.save(70, 11, moved(5))
    desk.delete(70, 13)
    assert "1 tasks read, 1 new versions" in run("collect", "cups")
    shown = run("show", str(run_id))
    for words in ("1 untouched", "1 edited", "0.333", "region 'x' can't be read", "skipped", "13 was deleted"):
        assert words in shown
    rows = json.loads(run("show", str(run_id), "--json"))
    assert rows == TestClient(create_app(container)).get(f"/api/v1/runs/{run_id}/reviews").json()
    assert [(row["annotation_id"], len(row["versions"])) for row in rows] == [(11, 2), (12, 1), (13, 1)]
    assert rows[0]["versions"][1]["tracks"][0]["touched_frames"] == [3]
    with container.transaction() as session:
        assert session.scalar(select(func.count()).select_from(ReviewTask)) == 1
        assert session.scalar(select(func.count()).select_from(ReviewVersion)) == 4


@pytest.mark.usefixtures("run_id")
def test_the_ledger_counts_each_review_as_it_is_now(container: Container, monkeypatch: pytest.MonkeyPatch) -> None:
    """Accepted, edited, edited and then accepted, skipped, unreadable, deleted, and one of no prediction of ours."""
    desk, extra = LabelingDesk(SENT), BoxTrack("new", "cup", (BoxKeyframe(0, Box(1, 1, 5, 5), True),))
    desk.save(70, 11, SENT)
    desk.save(70, 12, replace(moved(5), tracks=(*moved(5).tracks, extra)))
    desk.save(70, 13, moved(2))
    collect(container, desk)
    desk.save(70, 13, SENT)
    desk.save(70, 14, Layer(300), skipped=True)
    desk.save(70, 15, None)
    desk.save(70, 16, moved(5))
    desk.save(70, 17, SENT, prediction_id=None)
    collect(container, desk)
    desk.delete(70, 16)
    collect(container, desk)
    with container.transaction() as session:
        [line] = ledger.stats(session, By.PROJECT, None)
        assert line["group"] == "cups"
        assert (line["reviews"], line["skipped"], line["compared"]) == (5, 1, 3)
        assert line["accepted_share"] == pytest.approx(2 / 3)
        assert line["lead_time_median_s"] == 8.25
        assert line["frames_touched_mean"] == pytest.approx(2 / 3)  # the moved track's keyframe, and the new one's
        assert line["box_iou_mean"] == pytest.approx((1 + 1 / 3 + 1) / 3)
        assert line["mask_iou_mean"] is None
        assert (line["tracks"], line["tracks_edited"], line["tracks_added"], line["tracks_removed"]) == (4, 1, 1, 0)
        assert ledger.stats(session, By.PROJECT, "other") == []
        by_person = {found["group"]: found["reviews"] for found in ledger.stats(session, By.ANNOTATOR, "cups")}
        assert by_person == {"1": 5}
        for by in By:
            assert sum(found["reviews"] for found in ledger.stats(session, by, "cups")) == 5
    monkeypatch.setattr(command, "bootstrap", lambda: container)
    shown = CliRunner().invoke(command.app, ["stats", "--by", "project"], catch_exceptions=False).stdout
    for words in ("cups", "67% of 3", "0.778", "1/0/1 of 4"):
        assert words in shown
    told = TestClient(create_app(container)).get("/api/v1/reviews/stats", params={"by": "project"}).json()
    [printed] = json.loads(CliRunner().invoke(command.app, ["stats", "--by", "project", "--json"]).stdout)
    assert told == [printed]


def test_how_long_reviews_take_to_be_here_is_told(
    container: Container, run_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of those saved in the last day; one of long ago that is read for the first time is no lag."""
    assert run_id
    desk = LabelingDesk(SENT)
    for annotation_id in range(11, 16):
        desk.save(70, annotation_id, moved(annotation_id))
    collect(container, desk)
    monkeypatch.setattr(project_command, "bootstrap", lambda: container)

    def told() -> dict[str, object]:
        [found] = json.loads(CliRunner().invoke(project_command.app, ["status", "--json"]).stdout)
        return dict(found)

    assert told()["review_lag_median_s"] is None
    with container.transaction() as session:
        for number, version in enumerate(session.scalars(select(ReviewVersion).order_by(ReviewVersion.id)), start=1):
            version.changed_at = version.read_at - timedelta(seconds=10 * number)
    assert (told()["review_lag_median_s"], told()["review_lag_p95_s"]) == pytest.approx((30, 48))
    shown = CliRunner().invoke(project_command.app, ["status"], env={"COLUMNS": "250"}).stdout
    assert "30.0 s (95%: 48.0)" in shown
