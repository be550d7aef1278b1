"""The data manager's first view of our projects: what is asked and how sure the answer is, not our bookkeeping."""

from typing import Any

from backend.domain.ordering import TaskOrder
from integrations.label_studio.failures import translated

#: Fields of the task's data that are for the labeling page or for us.
_HIDDEN_DATA = ("guide", "fps", "keyframes", "premask_key", "keyframe_frame_indices")
#: What Label Studio itself hides from the list, but for the prediction's score; it takes a view by its whole word.
_HIDDEN_ITS_OWN = (
    "inner_id", "annotations_results", "annotations_ids", "predictions_model_versions", "predictions_results",
    "file_upload", "storage_filename", "created_at", "updated_at", "updated_by", "avg_lead_time", "draft_exists",
)  # fmt: skip
#: Beside an open task the list is narrow: number, whether it is done, and what is asked.
_HIDDEN_WHEN_NARROW = (
    "completed_at", "cancelled_annotations", "total_predictions", "annotators", "predictions_score", "data.video",
)  # fmt: skip


#: How Label Studio picks the next task. By uncertainty: the lowest score of the predictions that the project shows;
#: tasks that have none, such as controls, come last. Else in the order of the list it is asked from.
SAMPLING = {
    TaskOrder.UNCERTAIN: "Uncertainty sampling",
    TaskOrder.OLDEST: "Sequential sampling",
    TaskOrder.NEWEST: "Sequential sampling",
}
_ORDERINGS = {
    TaskOrder.UNCERTAIN: "tasks:predictions_score",
    TaskOrder.OLDEST: "tasks:id",
    TaskOrder.NEWEST: "-tasks:id",
}
#: By these a view is known to be ours.
_TITLES = {order: f"{order.value.capitalize()} first" for order in TaskOrder}


def ensure_view(client: Any, project_id: int, order: TaskOrder) -> None:
    """Make the project's first view; those that are there are the team's own and stay as they are."""
    if not _views(client, project_id):
        _make(client, project_id, order)


def order_tasks(client: Any, project_id: int, order: TaskOrder) -> None:
    """Have the next task picked in that order, and our view of the list in it, too; it is made where there is none."""
    with translated(f"choosing the order of its project {project_id}"):
        client.projects.update(project_id, sampling=SAMPLING[order])
    views = _views(client, project_id)
    ours = [view for view in views if (view.data or {}).get("title") in _TITLES.values()]
    if not ours:
        _make(client, project_id, order)
        return
    data = {**ours[0].data, "title": _TITLES[order], "ordering": [_ORDERINGS[order]]}
    if data != ours[0].data:
        with translated(f"ordering a view of its project {project_id}"):
            client.views.update(str(ours[0].id), data=data)


def _views(client: Any, project_id: int) -> list[Any]:
    with translated(f"looking at the views of its project {project_id}"):
        return list(client.views.list(project=project_id))


def _make(client: Any, project_id: int, order: TaskOrder) -> None:
    explore = [*(f"tasks:{name}" for name in _HIDDEN_ITS_OWN), *(f"tasks:data.{name}" for name in _HIDDEN_DATA)]
    data = {
        "title": _TITLES[order],
        "type": "list",
        "target": "tasks",
        "filters": {"conjunction": "and", "items": []},
        "ordering": [_ORDERINGS[order]],
        "hiddenColumns": {
            "explore": explore,
            "labeling": [*explore, *(f"tasks:{name}" for name in _HIDDEN_WHEN_NARROW)],
        },
        "columnsWidth": {"tasks:data.instruction": 320, "tasks:data.answer": 240},
    }
    with translated(f"making a view of its project {project_id}"):
        client.views.create(project=project_id, data=data)
