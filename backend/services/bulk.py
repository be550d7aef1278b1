"""Many publications at once, where many wait: tasks that are not there yet need not be looked for one by one.

A publication goes this way once at most, and only if neither it nor another of its video and instruction was ever
tried: then its task can't be there, and importing it blindly makes no second one. Whatever happens meanwhile, the next
attempt is the one that looks first (`services.publish`), so a crash or a lost answer doubles nothing.
"""

import logging

from sqlalchemy.orm import Session

from backend.db.repositories import adoption as adoption_rows
from backend.db.repositories import bulk as repository
from backend.db.session import SessionFactory, session_scope
from backend.db.tables import Publication
from backend.domain.errors import BadInput, PremaskError, ServiceUnavailable
from backend.domain.text import storable
from backend.ports.labeling import LABELING_WAITS, LabelingTool
from backend.ports.publication import PublicationItem
from backend.services import outbox
from backend.services.publish import item_of
from backend.services.results import target_of
from backend.settings import LabelStudioSettings, StorageSettings

log = logging.getLogger(__name__)

#: From so many waiting publications on it is worth it.
WORTH_IT = 20
BATCH = 250


def publish_waiting(
    factory: SessionFactory, tool: LabelingTool, project_id: int, storage: StorageSettings,
    labeling: LabelStudioSettings, worth_it: int = WORTH_IT,
) -> int:  # fmt: skip
    """Publish what waits for the project, batch by batch, as long as there is enough of it; how many were made.

    Raises `ServiceUnavailable`; what was taken and not made by then waits for an attempt of its own.
    """
    with session_scope(factory) as session:
        if adoption_rows.is_adopted(session, project_id):
            return 0  # Their tasks are there: they have to be looked for.
    made = 0
    while True:
        with session_scope(factory) as session:
            if repository.count_untried(session, target_of(project_id), worth_it) < worth_it:
                return made
        taken = _publish_batch(factory, tool, project_id, storage, labeling)
        if taken is None:
            return made
        made += taken


def _publish_batch(
    factory: SessionFactory, tool: LabelingTool, project_id: int, storage: StorageSettings,
    labeling: LabelStudioSettings,
) -> int | None:  # fmt: skip
    """How many were made; None: others have all of them in hand."""
    with session_scope(factory) as session:
        taken = repository.take_untried(session, target_of(project_id), BATCH)
        if not taken:
            return None
        repository.note_tried(session, [publication_id for publication_id, *_ in taken])
    with repository.exclusive(factory, [(video_id, instruction_id) for _, video_id, instruction_id in taken]):
        with session_scope(factory) as session:
            items = _items(session, [publication_id for publication_id, *_ in taken], storage)
        try:
            found = tool.publish_new(project_id, list(items.values()))
        except PremaskError as error:
            _put_off(factory, list(items), error, labeling)
            raise
        tasks = {key: task_id for key, task_id in zip(items, found, strict=True) if isinstance(task_id, int)}
        with session_scope(factory) as session:
            repository.set_published(session, tasks)
    # One by one they get the attempt that says what is wrong with them.
    with session_scope(factory) as session:
        for publication_id in set(items) - set(tasks):
            outbox.dispatch_publication(session, session.get_one(Publication, publication_id))
    log.info("%d of %d publications made at once", len(tasks), len(taken))
    return len(tasks)


def _items(session: Session, publication_ids: list[int], storage: StorageSettings) -> dict[int, PublicationItem]:
    """What is to be sent, by publication; one that can't be read is told by its own attempt."""
    found = {}
    for publication_id in publication_ids:
        try:
            found[publication_id] = item_of(session, session.get_one(Publication, publication_id), storage)
        except BadInput as error:
            log.warning("publication %d is left out: %s", publication_id, error)
    return found


def _put_off(
    factory: SessionFactory, publication_ids: list[int], error: PremaskError, labeling: LabelStudioSettings
) -> None:
    """Each gets an attempt of its own, not before the server has ended what it may still be doing."""
    after_s = error.retry_after_s if isinstance(error, ServiceUnavailable) else None
    with session_scope(factory) as session:
        for publication_id in publication_ids:
            publication = session.get_one(Publication, publication_id)
            publication.attempts -= 1
            if error.code == LABELING_WAITS:
                publication.tried_at = None  # Nothing was sent.
            publication.last_error = storable(str(error))
            outbox.dispatch_publication(session, publication, max(labeling.timeout_s, after_s or 0.0))
