"""Publishing a run: once however often it is asked for, with nothing open meanwhile, and with failures written down."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import func, select, text, update

from backend.bootstrap import Container
from backend.db.tables import Publication
from backend.domain.errors import BadInput, Misconfigured, NotFound, ServiceUnavailable
from backend.domain.runs import Mode, RunStatus
from backend.domain.tracks import interpolate
from backend.ports.labeling import PublishedTask
from backend.ports.publication import PublicationItem
from backend.services.publish import publish_run
from backend.settings import LabelStudioSettings, StorageSettings
from tests.factories import core
from tests.factories.labeling_desk import UnusedTool
from tests.factories.waiting import wait_for

pytestmark = pytest.mark.stack

STORAGE = StorageSettings(artifact_bucket="pictures")
LABELING = LabelStudioSettings(url="http://label.example", max_attempts=3, timeout_s=5)


class RecordingTool(UnusedTool):
    """Stands where Label Studio stands; what it makes of an item, and whether it answers, is the test's to say."""

    def __init__(self, behave: Callable[[PublicationItem], PublishedTask] | None = None) -> None:
        self.items: list[PublicationItem] = []
        self.project_ids: list[int] = []
        self._behave = behave or (lambda item: PublishedTask(5, 70, 700 + item.run_id))

    def publish(self, project_id: int, item: PublicationItem) -> PublishedTask:
        self.items.append(item)
        self.project_ids.append(project_id)
        return self._behave(item)


def raising(error: Exception) -> Callable[[PublicationItem], PublishedTask]:
    def behave(_: PublicationItem) -> PublishedTask:
        raise error

    return behave


@pytest.fixture
def run_id(container: Container) -> int:
    """A recorded run with a pending publication to Label Studio's project 5."""
    return core.recorded_run(container, LABELING)


def publish(container: Container, tool: RecordingTool, run_id: int) -> None:
    publish_run(container.sessions, tool, run_id, STORAGE, LABELING)


def publication(container: Container) -> Publication:
    with container.sessions() as session:
        return session.scalars(select(Publication)).one()


def test_the_tool_gets_what_it_shows_and_the_answer_is_recorded(container: Container, run_id: int) -> None:
    tool = RecordingTool()
    publish(container, tool, run_id)
    (item,) = tool.items
    assert tool.project_ids == [5]
    assert (item.run_id, item.instruction, item.mode, item.status) == (run_id, "the cup", Mode.VOS, RunStatus.SUCCEEDED)
    assert item.video_uri == "s3://premask/in/a.mp4"
    assert [(page.frame_index, page.image_uri) for page in item.pages] == [
        (120, "s3://pictures/artifacts/120.png"),
        (5, "s3://pictures/artifacts/5.png"),
    ]
    assert [set(track.masks) for track in item.tracks] == [{120, 5}, {120, 5}]
    assert item.tracks[1].masks[5].counts == "rle1:5"
    masks = core.annotation().tracks[0].masks
    dense = interpolate(item.tracks[0].box_keyframes, item.probe.frame_count)
    assert dense.keys() == masks.keys()
    assert min(dense[frame].iou(mask.box_xyxy_px) for frame, mask in masks.items()) >= 0.9
    row = publication(container)
    assert (row.state, row.task_id, row.prediction_id, row.last_error) == ("published", 70, 700 + run_id, None)
    assert row.published_at is not None


def test_a_second_delivery_does_nothing(container: Container, run_id: int) -> None:
    tool = RecordingTool()
    publish(container, tool, run_id)
    publish(container, tool, run_id)
    assert len(tool.items) == 1


def test_no_transaction_is_open_while_the_tool_works(container: Container, run_id: int) -> None:
    open_transactions = []

    def look(_: PublicationItem) -> PublishedTask:
        with container.engine.connect() as connection:
            open_transactions.append(
                connection.execute(
                    text(
                        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                        " AND pid <> pg_backend_pid() AND xact_start IS NOT NULL"
                    )
                ).scalar_one()
            )
        return PublishedTask(5, 1, 1)

    publish(container, RecordingTool(look), run_id)
    assert open_transactions == [0]


def test_two_workers_at_once_publish_once(container: Container, run_id: int) -> None:
    inside, go_on = threading.Event(), threading.Event()

    def slowly(_: PublicationItem) -> PublishedTask:
        inside.set()
        assert go_on.wait(30)
        return PublishedTask(5, 1, 1)

    tool = RecordingTool(slowly)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(publish, container, tool, run_id)
        assert inside.wait(30)
        second = pool.submit(publish, container, tool, run_id)
        wait_for(lambda: waiting_for_a_lock(container) == 1, "the second worker waits")
        go_on.set()
        first.result(30)
        second.result(30)
    assert len(tool.items) == 1


def waiting_for_a_lock(container: Container) -> int:
    with container.engine.connect() as connection:
        return int(
            connection.execute(
                text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
            ).scalar_one()
        )


def test_the_lock_is_given_back_whatever_happens(container: Container, run_id: int) -> None:
    with pytest.raises(ZeroDivisionError):
        publish(container, RecordingTool(raising(ZeroDivisionError())), run_id)
    with container.engine.connect() as connection:
        held = connection.execute(text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")).scalar_one()
        assert held == 0
        assert connection.execute(text("SHOW lock_timeout")).scalar_one() == "0"


@pytest.mark.parametrize("error", [ServiceUnavailable("it is away"), Misconfigured("it is away: check the key")])
def test_a_tool_that_is_away_costs_no_attempt(container: Container, run_id: int, error: Exception) -> None:
    for _ in range(LABELING.max_attempts + 1):
        with pytest.raises(ServiceUnavailable, match="it is away"):
            publish(container, RecordingTool(raising(error)), run_id)
    row = publication(container)
    assert (row.state, row.attempts) == ("pending", 0)
    assert row.last_error is not None
    assert "it is away" in row.last_error
    publish(container, RecordingTool(), run_id)
    assert publication(container).state == "published"
    assert publication(container).last_error is None


def test_a_tool_that_breaks_at_it_every_time_fails_it(container: Container, run_id: int) -> None:
    tool = RecordingTool(raising(ServiceUnavailable("answered 500", code="labeling_tool_error")))
    for _ in range(LABELING.max_attempts - 1):
        with pytest.raises(ServiceUnavailable):
            publish(container, tool, run_id)
    assert publication(container).state == "pending"
    publish(container, tool, run_id)
    row = publication(container)
    assert (row.state, row.attempts, row.last_error) == ("failed", 3, "answered 500")
    publish(container, tool, run_id)
    assert len(tool.items) == LABELING.max_attempts


def test_what_can_never_be_published_fails_at_once(container: Container, run_id: int) -> None:
    publish(container, RecordingTool(raising(BadInput("frame 61 of 60\0"))), run_id)
    row = publication(container)
    assert row.state == "failed"
    assert row.last_error is not None
    assert row.last_error.startswith("frame 61 of 60")


def test_attempts_that_killed_their_worker_come_to_an_end(container: Container, run_id: int) -> None:
    class Killed(BaseException):
        """As when the process dies here."""

    def die(_: PublicationItem) -> PublishedTask:
        raise Killed

    tool = RecordingTool(die)
    for _ in range(LABELING.max_attempts):
        with pytest.raises(Killed):
            publish(container, tool, run_id)
    publish(container, tool, run_id)
    assert len(tool.items) == LABELING.max_attempts
    assert publication(container).state == "failed"


def test_what_the_tool_warns_of_stands_at_the_run_once(container: Container, run_id: int) -> None:
    tool = RecordingTool(lambda _: PublishedTask(5, 1, 1, warnings=("shown inexactly",)))
    publish(container, tool, run_id)
    with container.transaction() as session:
        session.execute(update(Publication).values(state="pending"))
    publish(container, tool, run_id)
    with container.transaction() as session:
        from backend.db.repositories import runs as run_rows

        assert run_rows.get(session, run_id).warnings == ["one", "shown inexactly"]


def test_a_target_nobody_knows_fails_with_its_name(container: Container, run_id: int) -> None:
    with container.transaction() as session:
        session.execute(update(Publication).values(target="cvat:5"))
    publish(container, RecordingTool(), run_id)
    row = publication(container)
    assert row.state == "failed"
    assert row.last_error is not None
    assert "cvat:5" in row.last_error


def test_an_unknown_run_is_not_found(container: Container) -> None:
    with pytest.raises(NotFound):
        publish(container, RecordingTool(), 4711)
    with container.sessions() as session:
        assert session.scalar(select(func.count()).select_from(Publication)) == 0
