"""Many publications at once into the real Label Studio: one prediction a task and run, whatever happens on the way."""

import re
from collections.abc import Iterator, Sequence

import httpx
import pytest
from sqlalchemy import func, select, update

from backend.bootstrap import Container
from backend.db.tables import Publication, Review, Run
from backend.domain.errors import BadInput, ServiceUnavailable
from backend.ports.publication import PublicationItem
from backend.services import bulk, publish, reviews
from backend.services.outages import GuardedTool
from backend.settings import LabelStudioSettings, StorageSettings
from integrations.label_studio import bulk as adapter
from integrations.label_studio.tool import LabelStudioTool
from tests.conftest import LabelStudioServer
from tests.factories import core, pending_runs

pytestmark = [pytest.mark.stack, pytest.mark.label_studio]

RUNS = 7


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter, "MAX_TASKS", 2)
    monkeypatch.setattr(bulk, "BATCH", 5)


@pytest.fixture
def container(database_url: str, settings: LabelStudioSettings, storage: StorageSettings) -> Iterator[Container]:
    made = Container(core.settings(database_url, label_studio=settings, storage=storage))
    yield made
    made.close()


class Counting(LabelStudioTool):
    """Counts what goes at once and alone; `breaks` says after which batch the answer is lost, `before` it the call."""

    at_once = 0
    alone = 0
    breaks: str | None = None

    def publish_new(self, project_id: int, items: Sequence[PublicationItem]) -> list[int | BadInput]:
        self.at_once += len(items)
        if self.breaks == "before":
            raise ServiceUnavailable("no answer")
        found = super().publish_new(project_id, items)
        if self.breaks == "after":
            raise ServiceUnavailable("no answer")
        return found

    def publish(self, project_id: int, item: PublicationItem) -> publish.PublishedTask:
        self.alone += 1
        return super().publish(project_id, item)


@pytest.fixture
def tool(settings: LabelStudioSettings, storage: StorageSettings) -> Counting:
    return Counting(settings, storage)


def at_once(container: Container, tool: Counting, number: int) -> int:
    settings = container.settings
    return bulk.publish_waiting(container.sessions, tool, number, settings.storage, settings.label_studio, worth_it=1)


def one_by_one(container: Container, tool: Counting) -> None:
    settings = container.settings
    with container.transaction() as session:
        waiting = session.scalars(select(Publication.run_id).where(Publication.state == "pending")).all()
    for run_id in waiting:
        publish.publish_run(container.sessions, tool, run_id, settings.storage, settings.label_studio)


def states(container: Container) -> dict[str, int]:
    with container.transaction() as session:
        return dict(session.execute(select(Publication.state, func.count()).group_by(Publication.state)).all())


def test_what_waits_goes_at_once_and_a_review_finds_its_prediction(
    container: Container, tool: Counting, label_studio: LabelStudioServer
) -> None:
    number = pending_runs.make(container, RUNS)
    assert at_once(container, tool, number) == RUNS
    one_by_one(container, tool)
    assert (tool.at_once, tool.alone) == (RUNS, 0)
    assert states(container) == {"published": RUNS}
    tasks = pending_runs.predictions(label_studio, number)
    with container.transaction() as session:
        known = session.scalars(select(Publication.task_id).order_by(Publication.task_id)).all()
        assert list(known) == tasks
        # Asked for once more, all of it: each finds what is there.
        session.execute(update(Publication).values(state="pending"))
    assert at_once(container, tool, number) == 0
    one_by_one(container, tool)
    assert pending_runs.predictions(label_studio, number) == tasks
    with container.transaction() as session:
        session.execute(update(Publication).values(prediction_id=None))
    headers = {"Authorization": f"Token {label_studio.token}"}
    with httpx.Client(base_url=label_studio.url, headers=headers, timeout=60) as api:
        [prediction] = api.get("/api/predictions/", params={"task": tasks[3]}).json()
        assert prediction["model_version"] == "premask"
        body = {"result": prediction["result"], "parent_prediction": prediction["id"]}
        assert api.post(f"/api/tasks/{tasks[3]}/annotations/", json=body).status_code == 201
    reviews.collect(container.sessions, tool, number, tasks[3], container.settings.storage)
    with container.transaction() as session:
        review = session.scalars(select(Review)).one()
        publication = session.get_one(Publication, review.publication_id)
        assert (publication.task_id, publication.prediction_id) == (tasks[3], prediction["id"])
        assert review.versions[0].accepted is True
        named = re.match(r"run(\d+)-", prediction["result"][0]["id"])
        assert named is not None
        assert int(named[1]) == publication.run_id


@pytest.mark.parametrize("breaks", ["before", "after"])
def test_a_lost_answer_doubles_nothing_and_loses_nothing(
    container: Container, tool: Counting, label_studio: LabelStudioServer, breaks: str
) -> None:
    number = pending_runs.make(container, RUNS)
    tool.breaks = breaks
    with pytest.raises(ServiceUnavailable):
        at_once(container, tool, number)
    tool.breaks = None
    assert at_once(container, tool, number) == RUNS - 5
    assert states(container) == {"published": RUNS - 5, "pending": 5}
    one_by_one(container, tool)
    assert tool.alone == 5
    assert states(container) == {"published": RUNS}
    tasks = pending_runs.predictions(label_studio, number)
    assert len(tasks) == len(set(tasks)) == RUNS


def test_a_tool_that_is_known_to_be_out_spoils_nothing(container: Container, tool: Counting) -> None:
    """What was not sent still goes at once afterwards."""
    number = pending_runs.make(container, 3)
    tool.breaks = "before"
    guarded = GuardedTool(container.sessions, tool, 20.0)
    with pytest.raises(ServiceUnavailable):
        guarded.publish_new(number, [])
    settings = container.settings
    for _ in range(2):
        with pytest.raises(ServiceUnavailable, match="asked again at"):
            bulk.publish_waiting(
                container.sessions, guarded, number, settings.storage, settings.label_studio, worth_it=1
            )
    tool.breaks = None
    assert at_once(container, tool, number) == 3


def test_what_is_of_no_use_to_anybody_is_told_alone_and_what_was_tried_is_looked_for(
    container: Container, tool: Counting, label_studio: LabelStudioServer
) -> None:
    number = pending_runs.make(container, 3)
    with container.transaction() as session:
        session.execute(update(Run).where(Run.id == 1).values(status="no_target", outcome_code="absent"))
        session.execute(update(Publication).where(Publication.run_id == 2).values(tried_at=func.now()))
    assert at_once(container, tool, number) == 1
    one_by_one(container, tool)
    assert (tool.at_once, tool.alone) == (1, 2)
    assert len(set(pending_runs.predictions(label_studio, number))) == 3
