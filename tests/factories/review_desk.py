"""A run of the real pipeline, published, and a desk where its review is written in Label Studio's own words.

The desk is the real adapter, asked only for what it reads without a server; what people said is the test's to say.
"""

import os
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import SecretStr
from sqlalchemy import select, update

from backend.bootstrap import Container
from backend.db.tables import CorrectedLayer, Publication
from backend.domain.annotation import Annotation, Mask
from backend.domain.masks import decode_mask, encode_mask
from backend.ports.labeling import Answer, AnsweredTask
from backend.ports.publication import PublicationItem
from backend.services import results, reviews, videos
from backend.services.publish import item_of
from backend.settings import LabelStudioSettings, StorageSettings
from integrations.label_studio import bitmask
from integrations.label_studio.config import labeling_config, read_config
from integrations.label_studio.coordinates import frame_rate
from integrations.label_studio.prediction import prediction
from integrations.label_studio.tool import LabelStudioTool
from tests.factories import core
from workers import models, process
from workers.tasks import corrected as task

LABELING = LabelStudioSettings(url="http://label.example", api_key=SecretStr("0" * 40))
TASK, PREDICTION = 70, 700
Result = list[dict[str, Any]]


@dataclass
class Desk(LabelStudioTool):
    """One task, and what was last said of each annotation of it."""

    storage: StorageSettings
    said: dict[int, Answer] = field(default_factory=dict)
    pages: list[int] = field(default_factory=list)
    ticks: int = 0

    def __post_init__(self) -> None:
        super().__init__(LABELING, self.storage)

    def sent(self, container: Container, publication_id: int) -> Result:
        """The regions of the publication's prediction; the task has its pages from now on."""
        with container.transaction() as session:
            item = item_of(session, session.get_one(Publication, publication_id), self.storage)
        self.pages = [page.frame_index for page in item.pages]
        return self._result(item)

    def _result(self, item: PublicationItem) -> Result:
        config = read_config(labeling_config([]))
        return list(prediction(item, config, frame_rate(item.probe), self.pages)["result"])

    def save(self, container: Container, annotation_id: int, result: Result, prediction_id: int = PREDICTION) -> None:
        """As a person saves an annotation, and it is read."""
        self.ticks += 1
        now = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.ticks)
        raw = {"id": annotation_id, "result": deepcopy(result)}
        self.said[annotation_id] = Answer(annotation_id, prediction_id, "1", now, 3.5, False, raw)
        reviews.collect(container.sessions, self, 5, TASK, self.storage)

    def answered(self, project_id: int, task_id: int) -> AnsweredTask | None:
        now = max(answer.changed_at for answer in self.said.values())
        data = {"keyframe_frame_indices": self.pages}
        return AnsweredTask(project_id, task_id, now, tuple(self.said.values()), data, labeling_config([]))


def published_run(container: Container, path: Path, annotation: Annotation, prefix: str, **project: Any) -> int:
    """The annotation as a recorded run of the clip, which lies in the storage, with its prediction in place."""
    version = container.store.upload(container.settings.storage.artifact_bucket, f"{prefix}a.mp4", path, "video/mp4")
    core.make_project(container, "cups", prefix=prefix, label_studio_project_id=5, **project)
    taken = core.take_in(container, version)
    assert taken.video_id is not None
    with container.transaction() as session:
        videos.record_probe(session, taken.video_id, annotation.probe, "0" * 64)
    [run_id] = taken.run_ids
    claimed = core.claim(container, run_id)
    assert claimed is not None
    images = {k.frame_index: f"artifacts/{k.frame_index}.png" for k in annotation.keyframes}
    with container.transaction() as session:
        results.record(session, run_id, claimed.fence, annotation, images, LABELING)
        session.execute(update(Publication).values(state="published", task_id=TASK, prediction_id=PREDICTION))
    return run_id


def correct(container: Container, pipeline: object, layer_id: int, monkeypatch: Any) -> None:
    """The worker's task, in this process, over that container and those models."""
    monkeypatch.setitem(process._containers, os.getpid(), container)
    monkeypatch.setattr(models, "pipeline_of", lambda *_: pipeline)
    task.correct.run(layer_id)


def layers(container: Container) -> list[CorrectedLayer]:
    with container.transaction() as session:
        return list(session.scalars(select(CorrectedLayer).order_by(CorrectedLayer.id)))


def paint(region: dict[str, Any], change: Callable[[np.ndarray], None]) -> Mask:
    """Change the pixels of a mask region in place; the mask that it is now."""
    pixels = decode_mask(bitmask.from_data_url(region["value"]["imageDataURL"]))
    change(pixels)
    mask = encode_mask(pixels)
    region["value"]["imageDataURL"] = bitmask.to_data_url(mask)
    return mask
