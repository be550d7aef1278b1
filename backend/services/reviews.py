"""Reviews: what people made of the pre-annotations, read from the labeling tool, kept whole, and compared.

A task is read whole and written down under a lock, so that it doesn't matter how often, in which order and by whom it
is read: a version of an annotation is kept once, a reading older than the last one is dropped. Corrections are derived
by comparing with what our database says was sent, never by what the tool says of its regions.
"""

import hashlib
import json
import logging
from collections.abc import Sequence

from sqlalchemy import func
from sqlalchemy.orm import Session

from backend.db.repositories import adoption as adoption_rows
from backend.db.repositories import bulk as bulk_rows
from backend.db.repositories import reviews as repository
from backend.db.repositories import runs as run_rows
from backend.db.session import SessionFactory, session_scope
from backend.db.tables import Publication, Review, ReviewVersion
from backend.domain.corrections import Corrections, compare
from backend.domain.errors import BadInput
from backend.domain.text import storable, storable_json
from backend.ports.labeling import Answer, AnsweredTask, LabelingTool
from backend.services import corrected
from backend.services.publish import item_of
from backend.services.results import target_of
from backend.settings import StorageSettings

log = logging.getLogger(__name__)


def collect(
    factory: SessionFactory, tool: LabelingTool, project_id: int, task_id: int, storage: StorageSettings
) -> int:
    """Read a task of the labeling tool's project and keep what is new; how many versions of annotations were.

    Raises `ServiceUnavailable`, `Misconfigured`.
    """
    task = tool.answered(project_id, task_id)
    with session_scope(factory) as session:
        if task is None:
            _note_gone(session, target_of(project_id), task_id)
            return 0
        return _record(session, tool, task, storage)


def of_run(session: Session, run_id: int) -> Sequence[Review]:
    """The run's reviews as they were last read, with all versions. Raises `NotFound` for an unknown run."""
    run_rows.get(session, run_id)
    return repository.of_run(session, run_id)


def _note_gone(session: Session, target: str, task_id: int) -> None:
    row = repository.lock_task(session, target, task_id)
    row.gone_at = row.gone_at or func.clock_timestamp()
    row.read_at = func.clock_timestamp()
    if gone := repository.mark_deleted(session, target, task_id, ()):
        log.info("task %d of %s is gone, and %d reviews with it", task_id, target, gone)


def _record(session: Session, tool: LabelingTool, task: AnsweredTask, storage: StorageSettings) -> int:
    target = target_of(task.project_id)
    row = repository.lock_task(session, target, task.task_id)
    if row.changed_at is not None and task.changed_at < row.changed_at:
        return 0
    row.changed_at, row.read_at, row.gone_at = task.changed_at, func.clock_timestamp(), None
    for publication in bulk_rows.without_prediction(session, target, task.task_id):
        # Made many at once, when the tool doesn't tell their predictions.
        publication.prediction_id = task.predictions.get((publication.run_id, publication.layer_id))
    session.flush()
    # Of an adopted project what was there before is left alone, unless it was asked for.
    until = adoption_rows.annotations_until(session, task.project_id)
    answers = [answer for answer in task.answers if answer.annotation_id > until]
    new = sum(_record_answer(session, tool, task, answer, storage) for answer in answers)
    repository.mark_deleted(session, target, task.task_id, [answer.annotation_id for answer in task.answers])
    return new


def _record_answer(
    session: Session, tool: LabelingTool, task: AnsweredTask, answer: Answer, storage: StorageSettings
) -> bool:
    """Keep the answer as a new version, unless the last one says the same."""
    target = target_of(task.project_id)
    publication = None
    if answer.prediction_id is not None:
        publication = repository.publication_of(session, target, answer.prediction_id)
    else:
        publication = repository.control_of(session, target, task.task_id)
    review = repository.ensure_review(
        session, target, task.task_id, answer.annotation_id, annotator=answer.annotator,
        publication_id=None if publication is None else publication.id,
    )  # fmt: skip
    digest = _digest(answer)
    last = repository.latest_version(session, review.id)
    if last is not None and last.digest == digest:
        return False
    made, problem = _corrections(session, tool, task, answer, publication, storage)
    version = ReviewVersion(
        review_id=review.id, number=1 if last is None else last.number + 1, digest=digest, changed_at=answer.changed_at,
        lead_time_s=answer.lead_time_s, skipped=answer.skipped, raw=storable_json(answer.raw),
        accepted=None if made is None else made.accepted, problem=None if problem is None else storable(problem),
        context=None if made is None else storable_json({"data": dict(task.data), "config": task.config}),
    )  # fmt: skip
    session.add(version)
    session.flush()
    if made is not None:
        repository.add_corrections(session, version, made)
    if made is not None and not made.accepted:
        assert publication is not None
        corrected.open_layer(session, version.id, publication.run_id)
    return True


def _corrections(
    session: Session, tool: LabelingTool, task: AnsweredTask, answer: Answer, publication: Publication | None,
    storage: StorageSettings,
) -> tuple[Corrections | None, str | None]:  # fmt: skip
    """What was changed, or why that can't be said; neither where there is nothing to compare: skipped, or drawn from
    none of our predictions."""
    if publication is None or publication.control or answer.skipped:
        return None, None
    try:
        return compare(*tool.layers(task, answer, item_of(session, publication, storage))), None
    except BadInput as error:
        return None, str(error)


def _digest(answer: Answer) -> str:
    """Of what a person decides: the regions, and whether the task was skipped."""
    said = {"result": answer.raw.get("result"), "skipped": answer.skipped}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
