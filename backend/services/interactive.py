"""Masks on demand: the picture that a labeler looks at, the segmenter of its project, and what that draws.

The page is found in a short transaction, and no session is open while the mask is drawn.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from sqlalchemy.orm import Session

from backend.db.repositories import models as model_rows
from backend.db.repositories import pages as repository
from backend.domain.errors import NotFound
from backend.domain.prompts import ThingPrompt
from backend.ports.pipeline import MaskService, SuggestedMask
from backend.profiles import ModelProfile
from backend.services import promotions
from backend.services.results import target_of

Transaction = Callable[[], AbstractContextManager[Session]]


@dataclass(frozen=True, slots=True)
class TaskPage:
    """A keyframe page of a task: its picture in the artifact bucket, its (width, height) in pixels, and the digest of
    the model version that answers for its project."""

    image_key: str
    size: tuple[int, int]
    model_digest: str


def page_of(
    session: Session, label_studio_project_id: int, task_id: int, frame_index: int, profile: ModelProfile
) -> TaskPage:
    """`profile`: the settings' own. Raises `NotFound` for a task that we didn't make, and a page that is none of its
    pictures (any more)."""
    target = target_of(label_studio_project_id)
    found = repository.picture(session, target, task_id, frame_index)
    if found is None:
        if not repository.is_ours(session, target, task_id):
            raise NotFound(f"task {task_id} of Label Studio's project {label_studio_project_id} is none of ours")
        raise NotFound(
            f"task {task_id} has no keyframe picture of frame {frame_index}: its run was made anew, or its data was "
            "changed",
            code="stale_page",
        )
    version = model_rows.get(session, promotions.version_for(session, found.project, profile))
    return TaskPage(found.image_key, found.size, version.digest)


def draw(
    service: MaskService, bucket: str, page: TaskPage, prompts: Sequence[ThingPrompt]
) -> list[SuggestedMask | None]:
    """As `MaskService.draw`; nothing is asked where there is nothing to draw."""
    return service.draw(bucket, page.image_key, page.size, page.model_digest, prompts) if prompts else []
