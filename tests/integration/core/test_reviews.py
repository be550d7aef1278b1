"""Reviews of a run: what people gave back, compared with what was published; and how the command shows it."""

import json
from dataclasses import replace

import pytest
from sqlalchemy import update
from typer.testing import CliRunner

from backend.bootstrap import Container
from backend.cli import reviews as command
from backend.db.tables import Publication
from backend.domain.annotation import Box
from backend.domain.corrections import BoxTrack, Change, Layer
from backend.domain.errors import NotFound
from backend.domain.tracks import BoxKeyframe
from backend.ports import PublicationItem, PublishedTask, Returned
from backend.services import reviews
from backend.settings import LabelStudioSettings, StorageSettings
from tests.factories import core

pytestmark = pytest.mark.stack

STORAGE = StorageSettings(artifact_bucket="pictures")
LABELING = LabelStudioSettings(url="http://label.example")
TRACK = BoxTrack("run-track0", "target", (BoxKeyframe(3, Box(0, 0, 10, 10), True),))
SENT = Layer(300, (TRACK,))
MOVED = replace(SENT, tracks=(replace(TRACK, keyframes=(BoxKeyframe(3, Box(5, 0, 15, 10), True),)),))
ANSWERS = (
    Returned(11, "1", 8.25, False, SENT),
    Returned(12, "2", 30.0, False, MOVED),
    Returned(13, "1", None, True, Layer(300)),
    Returned(14, None, 1.0, False, None, "region 'x' can't be read"),
)


class Desk:
    """Stands where Label Studio stands."""

    def __init__(self) -> None:
        self.asked: list[tuple[PublishedTask, int]] = []

    def ensure_project(self, name: str, labels: list[str], buckets: list[str]) -> int:
        raise NotImplementedError

    def task_url(self, project_id: int, task_id: int) -> str:
        raise NotImplementedError

    def publish(self, project_id: int, item: PublicationItem) -> PublishedTask:
        raise NotImplementedError

    def returned(self, published: PublishedTask, item: PublicationItem) -> tuple[Layer, tuple[Returned, ...]]:
        self.asked.append((published, item.run_id))
        return SENT, ANSWERS


@pytest.fixture
def run_id(container: Container) -> int:
    """A recorded run whose publication to Label Studio's project 5 was made."""
    run_id = core.recorded_run(container, LABELING)
    with container.transaction() as session:
        session.execute(update(Publication).values(state="published", task_id=70, prediction_id=700))
    return run_id


def test_each_answer_is_compared_with_what_was_sent(container: Container, run_id: int) -> None:
    desk = Desk()
    found = reviews.of_run(container.sessions, desk, run_id, STORAGE)
    assert desk.asked == [(PublishedTask(5, 70, 700), run_id)]
    accepted, edited, skipped, unreadable = found
    assert accepted.corrections is not None
    assert accepted.corrections.accepted
    assert edited.corrections is not None
    [track] = edited.corrections.tracks
    assert (track.change, track.touched_frames) == (Change.EDITED, (3,))
    assert track.moved_frames == tuple(range(3, 300))
    assert skipped.corrections is unreadable.corrections is None


def test_a_run_that_was_never_published_has_no_reviews(container: Container, run_id: int) -> None:
    with container.transaction() as session:
        session.execute(update(Publication).values(state="pending"))
    with pytest.raises(NotFound, match="not published"):
        reviews.of_run(container.sessions, Desk(), run_id, STORAGE)
    with pytest.raises(NotFound):
        reviews.of_run(container.sessions, Desk(), run_id + 1, STORAGE)


def test_the_command_shows_every_answer(container: Container, run_id: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(container), "labeling_tool", Desk())
    monkeypatch.setattr(command, "bootstrap", lambda: container)
    shown = CliRunner().invoke(command.app, ["show", str(run_id)], catch_exceptions=False).stdout
    for words in ("1 untouched", "1 edited", "skipped", "can't be read", "0.333", "region 'x' can't be read"):
        assert words in shown
    rows = json.loads(CliRunner().invoke(command.app, ["show", str(run_id), "--json"], catch_exceptions=False).stdout)
    assert [row["annotation_id"] for row in rows] == [11, 12, 13, 14]
    assert rows[0]["corrections"]["accepted"] is True
    assert rows[1]["corrections"]["tracks"][0]["touched_frames"] == [3]
    assert rows[2]["skipped"] is True
    assert rows[3]["problem"] == "region 'x' can't be read"
