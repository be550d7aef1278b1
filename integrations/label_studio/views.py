"""The data manager's first view of our projects: what is asked and how sure the answer is, not our bookkeeping."""

from typing import Any

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


def ensure_view(client: Any, project_id: int) -> None:
    """Make the project's first view; one that is there is the team's own and stays as it is."""
    with translated(f"looking at the views of its project {project_id}"):
        if client.views.list(project=project_id):
            return
    explore = [*(f"tasks:{name}" for name in _HIDDEN_ITS_OWN), *(f"tasks:data.{name}" for name in _HIDDEN_DATA)]
    data = {
        "title": "Default",
        "type": "list",
        "target": "tasks",
        "filters": {"conjunction": "and", "items": []},
        "ordering": ["tasks:id"],
        "hiddenColumns": {
            "explore": explore,
            "labeling": [*explore, *(f"tasks:{name}" for name in _HIDDEN_WHEN_NARROW)],
        },
        "columnsWidth": {"tasks:data.instruction": 320, "tasks:data.answer": 240},
    }
    with translated(f"making a view of its project {project_id}"):
        client.views.create(project=project_id, data=data)
