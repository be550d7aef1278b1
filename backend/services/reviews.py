"""Reviews: what people made of a run's pre-annotation, read from the labeling tool and compared with what was sent."""

from dataclasses import dataclass

from backend.db.repositories import runs as run_rows
from backend.db.session import SessionFactory, session_scope
from backend.domain.corrections import Corrections, compare
from backend.domain.errors import NotFound
from backend.ports import LabelingTool, PublishedTask, Returned
from backend.services.publish import project_id_of, publication_item
from backend.settings import StorageSettings


@dataclass(frozen=True, slots=True)
class Review:
    """One person's answer to one task. `corrections` is None where the answer can't be read, or the task was
    skipped."""

    task_id: int
    returned: Returned
    corrections: Corrections | None


def of_run(factory: SessionFactory, labeling_tool: LabelingTool, run_id: int, storage: StorageSettings) -> list[Review]:
    """All reviews of the run, oldest first. Raises `NotFound` for an unknown run and one that isn't published."""
    with session_scope(factory) as session:
        run = run_rows.get_whole(session, run_id)
        published = [
            PublishedTask(project_id_of(p), p.task_id, p.prediction_id)
            for p in run.publications
            if p.state == "published" and p.task_id is not None and p.prediction_id is not None
        ]
        if not published:
            raise NotFound(f"run {run_id} is not published, so nobody can have reviewed it")
        item = publication_item(session, run, storage)
    reviews = []
    for task in published:
        sent, answers = labeling_tool.returned(task, item)
        for answer in answers:
            made = None if answer.skipped or answer.layer is None else compare(sent, answer.layer)
            reviews.append(Review(task.task_id, answer, made))
    return reviews
