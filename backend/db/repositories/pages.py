"""Keyframe pages of tasks in the labeling tool: which picture they show."""

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from backend.db.tables import Instruction, KeyframeRow, Project, Publication, Run, Video


@dataclass(frozen=True, slots=True)
class PagePicture:
    """A keyframe's picture in the artifact bucket; `size`: (width, height) of its video as shown, in pixels."""

    image_key: str
    size: tuple[int, int]
    project: Project


def is_ours(session: Session, target: str, task_id: int) -> bool:
    """Whether something was published to that task."""
    query = select(Publication.id).where(Publication.target == target, Publication.task_id == task_id)
    return session.scalar(query.limit(1)) is not None


def picture(session: Session, target: str, task_id: int, frame_index: int) -> PagePicture | None:
    """Of the task's page of that frame; of several runs that show the frame, the newest one's."""
    query = (
        select(KeyframeRow.image_key, Video.width, Video.height, Project)
        .join(Run, KeyframeRow.run_id == Run.id)
        .join(Publication, Publication.run_id == Run.id)
        .join(Video, Run.video_id == Video.id)
        .join(Instruction, Run.instruction_id == Instruction.id)
        .join(Project, Instruction.project_id == Project.id)
        .where(Publication.target == target, Publication.task_id == task_id, KeyframeRow.frame_index == frame_index)
        .order_by(Run.id.desc())
        .limit(1)
    )
    found = session.execute(query).one_or_none()
    if found is None:
        return None
    image_key, width, height, project = found
    # Only readable videos have keyframes.
    assert width is not None
    assert height is not None
    return PagePicture(image_key, (width, height), project)
