"""Tasks without a pre-annotation: nothing the model said is in the real Label Studio; reviews are counted apart."""

import httpx
import pytest
from sqlalchemy import select, update

from backend.bootstrap import Container
from backend.db.repositories import ledger
from backend.db.repositories import runs as run_rows
from backend.db.repositories.ledger import By
from backend.db.tables import Project, Publication, Review
from backend.services import publish, results, reviews
from backend.settings import LabelStudioSettings, StorageSettings
from tests.conftest import LabelStudioServer
from tests.factories import core, pending_runs

pytestmark = [pytest.mark.stack, pytest.mark.label_studio]


def test_a_control_task_shows_nothing_of_the_model_and_is_measured_apart(
    database_url: str, settings: LabelStudioSettings, storage: StorageSettings, label_studio: LabelStudioServer
) -> None:
    container = Container(core.settings(database_url, label_studio=settings, storage=storage))
    number = pending_runs.make(container, 2)
    with container.transaction() as session:
        session.execute(update(Project).values(control_share=1.0))
    with container.transaction() as session:
        results.open_publication(session, run_rows.get(session, 1))
    tool = container.labeling_tool
    assert tool is not None
    for run_id in (1, 2):
        publish.publish_run(container.sessions, tool, run_id, storage, settings)
    with container.transaction() as session:
        control, other = session.scalars(select(Publication).order_by(Publication.run_id)).all()
        assert (control.control, control.state, control.prediction_id) == (True, "published", None)
        assert other.prediction_id is not None
    assert control.task_id is not None
    headers = {"Authorization": f"Token {label_studio.token}"}
    with httpx.Client(base_url=label_studio.url, headers=headers, timeout=60) as api:
        task = api.get(f"/api/tasks/{control.task_id}/").json()
        assert task["predictions"] == []
        assert task["data"]["answer"] == ""
        guide = task["data"]["guide"]
        assert "the cup" in guide
        assert "because" not in guide
        assert "the cup at" not in guide
        body = {"result": [], "lead_time": 40.0}
        assert api.post(f"/api/tasks/{control.task_id}/annotations/", json=body).status_code == 201
    reviews.collect(container.sessions, tool, number, control.task_id, storage)
    with container.transaction() as session:
        review = session.scalars(select(Review)).one()
        assert review.publication_id == control.id
        assert review.versions[0].accepted is None
        [line] = ledger.stats(session, By.PROJECT, None)
        assert (line["reviews"], line["control"], line["control_lead_time_median_s"]) == (0, 1, 40.0)
        assert line["lead_time_median_s"] is None
    container.close()


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_the_share_is_kept_and_a_task_stays_what_it_is(share: float) -> None:
    chosen = {(video, 3) for video in range(2000) if results.is_control(share, video, 3)}
    assert abs(len(chosen) / 2000 - share) < 0.03
    more = {(video, 3) for video in range(2000) if results.is_control(min(1.0, share + 0.1), video, 3)}
    assert chosen <= more
