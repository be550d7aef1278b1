"""A container over a real storage with the io worker's tasks run in this process, and a labeling tool that keeps what
comes to it."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import select

from backend.api.schemas.videos import VideoOut
from backend.bootstrap import Container
from backend.db.repositories import videos as video_rows
from backend.db.tables import Run
from backend.domain.annotation import Annotation
from backend.ports.labeling import PublishedTask
from backend.ports.publication import PublicationItem
from backend.services import results
from backend.services.publish import publish_run
from backend.settings import LabelStudioSettings, StorageSettings, WorkerSettings
from tests.conftest import S3
from tests.factories import core
from tests.factories.labeling_desk import UnusedTool
from tests.factories.numbered_clips import Kind, write_kind
from workers import process
from workers.tasks import renditions as render_task
from workers.tasks import videos as probe_task

LABELING = LabelStudioSettings(url="http://label.example", rendition_max_side_px=640)


class Tool(UnusedTool):
    def __init__(self) -> None:
        self.items: list[PublicationItem] = []

    def publish(self, project_id: int, item: PublicationItem) -> PublishedTask:
        self.items.append(item)
        return PublishedTask(project_id, 70, 700 + item.run_id)


@dataclass
class Desk:
    """A container over a real storage, with the workers' tasks run here, and what came to the labeling tool."""

    container: Container
    prefix: str
    folder: Path
    tool: Tool

    @property
    def storage(self) -> StorageSettings:
        return self.container.settings.storage

    def put(self, name: str, kind: Kind) -> int:
        """A clip in the bucket, taken in and probed; its video."""
        path = write_kind(self.folder, kind)
        stored = self.container.store.upload(self.storage.artifact_bucket, f"{self.prefix}{name}", path, "video/mp4")
        taken = core.take_in(self.container, stored)
        assert taken.video_id is not None
        probe_task.probe.run(taken.video_id)
        return taken.video_id

    def annotate(self, video_id: int) -> int:
        """A recorded run of it, with one track on all frames and no keyframes; it waits to be published."""
        with self.container.transaction() as session:
            run_id = session.scalars(select(Run.id).where(Run.video_id == video_id)).one()
            probe = video_rows.get(session, video_id)
            assert probe.frame_count is not None
            made = core.annotation(probe.frame_count, tracks=1)
        claimed = core.claim(self.container, run_id)
        assert claimed is not None
        images: dict[int, str] = {}
        with self.container.transaction() as session:
            results.record(session, run_id, claimed.fence, _without_keyframes(made), images, LABELING)
        return run_id

    def publish(self, run_id: int) -> None:
        publish_run(self.container.sessions, self.tool, run_id, self.storage, LABELING)

    def render(self, video_id: int) -> None:
        render_task.render.run(video_id)

    def video(self, video_id: int) -> VideoOut:
        with self.container.transaction() as session:
            return VideoOut.model_validate(video_rows.get(session, video_id))

    def asked(self, task: str) -> list[dict[str, int]]:
        return [payload for name, payload in core.unsent(self.container) if name == task]


def _without_keyframes(made: Annotation) -> Annotation:
    made.keyframes = ()
    return made


def opened(database_url: str, s3: S3, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """For a fixture: a new one, closed in the end."""
    storage = StorageSettings(
        endpoint_url=s3.endpoint_url, access_key_id=s3.access_key_id, secret_access_key=s3.secret_access_key,
        artifact_bucket=s3.bucket, artifact_prefix=f"{prefix}artifacts/",
    )  # fmt: skip
    container = Container(
        core.settings(database_url, storage=storage, label_studio=LABELING, worker=WorkerSettings(max_attempts=2))
    )
    monkeypatch.setitem(process._containers, os.getpid(), container)
    core.make_project(container, prefix=prefix, label_studio_project_id=5)
    yield Desk(container, prefix, tmp_path, Tool())
    container.close()
