"""In which order the real Label Studio shows tasks: in the list, and to who asks for the next one."""

from dataclasses import replace
from typing import Any

import pytest

from backend.bootstrap import Container
from backend.db.repositories import projects as project_rows
from backend.domain.ordering import TaskOrder
from backend.services import projects
from backend.settings import LabelStudioSettings, StorageSettings
from tests.contract.conftest import Desk
from tests.factories import core, moving_square

pytestmark = [pytest.mark.stack, pytest.mark.label_studio]

#: Of the tasks in the order they are made; in the third the model found nothing.
SCORES = (0.9, 0.2, None, 0.5)


def publish_all(desk: Desk) -> list[int]:
    """The tasks' ids."""
    made = []
    for number, score in enumerate(SCORES, 1):
        item = moving_square.item(f"s3://{core.BUCKET}/{number}.mp4", run_id=number, video_id=number)
        tracks = () if score is None else (replace(item.tracks[0], score=score),)
        made.append(desk.tool.publish(desk.project_id, replace(item, tracks=tracks)).task_id)
    return made


def views(desk: Desk) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = desk.get("/api/dm/views/", project=desk.project_id)
    return sorted(found, key=lambda view: view["id"])


def listed(desk: Desk, view: dict[str, Any]) -> list[int]:
    return [task["id"] for task in desk.get("/api/tasks", project=desk.project_id, view=view["id"])["tasks"]]


def next_task(desk: Desk, view: dict[str, Any]) -> int:
    """As the button above the list asks for it."""
    answer = desk.api.post(
        "/api/dm/actions", params={"id": "next_task", "project": desk.project_id, "view": view["id"]},
        json={"selectedItems": {"all": True, "excluded": []}, "ordering": view["data"]["ordering"]},
    )  # fmt: skip
    assert answer.status_code == 200, answer.text
    return int(answer.json()["id"])


@pytest.mark.parametrize(
    ("order", "expected"),
    [(TaskOrder.UNCERTAIN, (1, 3, 0, 2)), (TaskOrder.OLDEST, (0, 1, 2, 3)), (TaskOrder.NEWEST, (3, 2, 1, 0))],
)
def test_the_list_and_the_next_task_are_in_the_order_chosen(
    desk: Desk, order: TaskOrder, expected: tuple[int, ...]
) -> None:
    made = publish_all(desk)
    desk.tool.set_order(desk.project_id, order)
    [view] = views(desk)
    assert view["data"]["title"] == f"{order.value.capitalize()} first"
    assert listed(desk, view) == [made[n] for n in expected]
    assert next_task(desk, view) == made[expected[0]]


def test_a_new_project_shows_the_least_certain_first_and_scores_are_the_runs(desk: Desk) -> None:
    made = publish_all(desk)
    [view] = views(desk)
    assert listed(desk, view) == [made[n] for n in (1, 3, 0, 2)]
    assert [prediction["score"] for prediction in desk.predictions()] == list(SCORES)


def test_a_task_counts_by_the_prediction_that_is_shown(desk: Desk) -> None:
    """A later run is sure of what was the least certain task; its superseded prediction doesn't count any more."""
    made = publish_all(desk)
    item = moving_square.item(f"s3://{core.BUCKET}/2.mp4", run_id=22, video_id=2)
    desk.tool.publish(desk.project_id, replace(item, tracks=(replace(item.tracks[0], score=0.95),)))
    answered = []
    for _ in made:
        answered.append(int(desk.get(f"/api/projects/{desk.project_id}/next")["id"]))
        task = f"/api/tasks/{answered[-1]}/annotations/"
        assert desk.api.post(task, json={"result": []}).status_code == 201
    # Where one without a score comes, the server's database decides.
    answered.remove(made[2])
    assert answered == [made[n] for n in (3, 0, 1)]


def test_a_teams_own_view_is_left_alone(desk: Desk) -> None:
    [view] = views(desk)
    own = {**view["data"], "title": "ours", "ordering": ["-tasks:id"]}
    assert desk.api.patch(f"/api/dm/views/{view['id']}/", json={"data": own}).status_code == 200
    for order in (TaskOrder.OLDEST, TaskOrder.UNCERTAIN):
        desk.tool.set_order(desk.project_id, order)
        theirs, made = views(desk)
        assert theirs["data"]["title"] == "ours"
        assert theirs["data"]["ordering"] == ["-tasks:id"]
        assert made["data"]["title"] == f"{order.value.capitalize()} first"


def test_the_order_is_kept_with_the_project_and_a_place_made_later_has_it(
    database_url: str, settings: LabelStudioSettings, storage: StorageSettings, desk: Desk
) -> None:
    container = Container(core.settings(database_url, label_studio=settings, storage=storage))
    tool = container.labeling_tool
    assert tool is not None
    core.make_project(container, desk.name)
    projects.set_order(container.transaction, None, desk.name, TaskOrder.NEWEST)
    # It finds the place of that name; to see one made, that one is deleted first.
    assert desk.api.delete(f"/api/projects/{desk.project_id}/").status_code == 204
    made = projects.connect(container.transaction, tool, desk.name).label_studio_project_id
    assert made is not None
    assert desk.get(f"/api/projects/{made}/")["sampling"] == "Sequential sampling"
    [view] = desk.get("/api/dm/views/", project=made)
    assert view["data"]["ordering"] == ["-tasks:id"]
    projects.set_order(container.transaction, tool, desk.name, TaskOrder.UNCERTAIN)
    assert desk.get(f"/api/projects/{made}/")["sampling"] == "Uncertainty sampling"
    with container.transaction() as session:
        assert project_rows.by_name(session, desk.name).task_order == "uncertain"
    container.close()
