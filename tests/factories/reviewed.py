"""A project whose videos were annotated, sent to Label Studio's project 5, and reviewed: the short way, without it.

Videos are real and lie in the real storage; what was sent and what came back are Label Studio's own JSON.
"""

import copy
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image
from sqlalchemy import select, update

from backend.bootstrap import Container
from backend.db.tables import Publication
from backend.domain.annotation import Annotation, Box, Detection, Keyframe, Track
from backend.domain.corrections import Layer
from backend.domain.masks import encode_mask
from backend.domain.runs import Mode, RunStatus
from backend.ports.labeling import Answer, AnsweredTask
from backend.ports.publication import PublicationItem
from backend.services import projects, results, reviews, videos
from backend.services.projects import InstructionSpec, Source
from backend.services.publish import item_of
from backend.settings import DatasetSettings, LabelStudioSettings, StorageSettings
from integrations.label_studio.answers import compared_layers
from integrations.label_studio.config import labeling_config, read_config
from integrations.label_studio.coordinates import frame_rate
from integrations.label_studio.prediction import prediction
from integrations.label_studio.task_data import PAGE_FRAMES_FIELD
from integrations.media.probe import probe_video
from tests.conftest import S3
from tests.factories import core
from tests.factories.labeling_desk import BEGIN, UnusedTool

WIDTH, HEIGHT, FRAMES, PAGES = 64, 48, 12, (3, 8)
LABELING = LabelStudioSettings(url="http://label.example")
Edit = Callable[[list[dict[str, Any]]], list[dict[str, Any]]]


def storage(s3: S3, prefix: str) -> StorageSettings:
    """Artifacts of one test, beside the videos of one test."""
    return StorageSettings(
        endpoint_url=s3.endpoint_url, access_key_id=s3.access_key_id, secret_access_key=s3.secret_access_key,
        artifact_bucket=s3.bucket, artifact_prefix=f"{prefix}artifacts/",
    )  # fmt: skip


def make_container(database_url: str, s3: S3, prefix: str, holdout_share: float = 0.0) -> Container:
    settings = core.settings(
        database_url, storage=storage(s3, prefix), label_studio=LABELING,
        datasets=DatasetSettings(holdout_share=holdout_share),
    )  # fmt: skip
    return Container(settings)


def write_scene(path: Path, seed: int, *, crf: int = 18, width: int = WIDTH, height: int = HEIGHT) -> Path:
    """A clip of soft shapes that move, other ones for each seed; the same seed at another size shows the same."""
    random = np.random.default_rng(seed)
    shapes = [Image.fromarray(random.integers(0, 255, (6, 8, 3), np.uint8)) for _ in range(2)]
    ends = [np.asarray(shape.resize((width, height), Image.Resampling.BICUBIC), np.float32) for shape in shapes]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"crf": str(crf), "threads": "1"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for index in range(FRAMES):
            share = index / (FRAMES - 1)
            picture = (ends[0] * (1 - share) + ends[1] * share).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


def thing_at(frame: int) -> Box:
    """Where the run sees its thing: it goes right, two pixels a frame."""
    return Box(4 + 2 * frame, 10, 20 + 2 * frame, 26)


def annotation(probe: Any) -> Annotation:
    """A thing on frames 1 to 10, on the keyframes 3 and 8."""
    masks = {}
    for frame in range(1, FRAMES - 1):
        pixels, box = np.zeros((HEIGHT, WIDTH), bool), thing_at(frame)
        pixels[int(box.y1) : int(box.y2), int(box.x1) : int(box.x2)] = True
        masks[frame] = encode_mask(pixels)
    keyframes = tuple(
        Keyframe(frame, place, frame / 10, 0.0, 1.0, "the cup", (Detection(0, thing_at(frame), "cup", 0.9, 0),))
        for place, frame in enumerate(PAGES)
    )
    return Annotation(
        probe=probe, status=RunStatus.SUCCEEDED, outcome_code=None, reasoning="", raw_output="", keyframes=keyframes,
        tracks=(Track(0, "cup", 0.9, masks),), timings_s={}, warnings=(), model={"profile": "test"},
    )  # fmt: skip


@dataclass
class Desk(UnusedTool):
    """The labeling tool with one task, whose annotations are Label Studio's JSON."""

    task: AnsweredTask

    def answered(self, project_id: int, task_id: int) -> AnsweredTask | None:  # noqa: ARG002 (the port's)
        return self.task

    def layers(self, task: AnsweredTask, answer: Answer, item: PublicationItem) -> tuple[Layer, Layer]:
        return compared_layers(task, answer, item)


@dataclass
class ReviewedProject:
    """`name`: the project's and the prefix of its videos."""

    container: Container
    prefix: str
    folder: Path
    name: str = "cups"
    answers: dict[int, dict[int, Answer]] = field(default_factory=dict)
    ticks: int = 0

    def create(self, *texts: str, heard: tuple[str, ...] = ()) -> "ReviewedProject":
        """The project, asking those things; `heard` in mode AVS."""
        specs = [InstructionSpec(text, Mode.VOS) for text in texts] + [InstructionSpec(t, Mode.AVS) for t in heard]
        bucket = self.container.settings.storage.artifact_bucket
        with self.container.transaction() as session:
            projects.create_project(
                session, self.name, sources=[Source(bucket, f"{self.prefix}{self.name}/")], instructions=specs,
                spec=self.container.run_spec, label_studio_project_id=5,
            )  # fmt: skip
        return self

    def video(self, name: str, path: Path) -> list[int]:
        """Put the video into the storage and have it annotated and published; its runs, one an instruction."""
        store, bucket = self.container.store, self.container.settings.storage.artifact_bucket
        version = store.upload(bucket, f"{self.prefix}{self.name}/{name}.mp4", path, "video/mp4")
        taken = core.take_in(self.container, version)
        assert taken.video_id is not None
        probe, digest = probe_video(path), hashlib.sha256(path.read_bytes()).hexdigest()
        with self.container.transaction() as session:
            videos.record_probe(session, taken.video_id, probe, digest)
        for run_id in taken.run_ids:
            self._annotate(run_id, probe)
        return list(taken.run_ids)

    def scene(self, seed: int) -> list[int]:
        """A video of its own look."""
        path = self.folder / f"scene-{seed}.mp4"
        return self.video(path.stem, path if path.exists() else write_scene(path, seed))

    def _annotate(self, run_id: int, probe: Any) -> None:
        claim = core.claim(self.container, run_id)
        assert claim is not None
        with self.container.transaction() as session:
            keys = {frame: f"artifacts/{frame}.png" for frame in PAGES}
            results.record(session, run_id, claim.fence, annotation(probe), keys, LABELING)
        with self.container.transaction() as session:
            published = {"state": "published", "task_id": run_id, "prediction_id": 1000 + run_id}
            session.execute(update(Publication).where(Publication.run_id == run_id).values(**published))

    def sent(self, run_id: int) -> list[dict[str, Any]]:
        """The result of the run's prediction."""
        with self.container.transaction() as session:
            shown = session.scalars(select(Publication).filter_by(run_id=run_id, layer_id=None)).one()
            item = item_of(session, shown, self.container.settings.storage)
        config = read_config(labeling_config([]))
        result: list[dict[str, Any]] = prediction(item, config, frame_rate(item.probe), list(PAGES))["result"]
        return copy.deepcopy(result)

    def review(
        self, run_id: int, edit: Edit | None = None, *, annotator: str = "1", skipped: bool = False,
        annotation_id: int | None = None, at: datetime | None = None,
    ) -> None:  # fmt: skip
        """As a person submits the run's task: as it was sent, or edited. `at` is the labeling tool's time of it."""
        self.ticks += 1
        number = run_id * 100 if annotation_id is None else annotation_id
        result = self.sent(run_id) if edit is None else edit(self.sent(run_id))
        raw = {"id": number, "result": result, "was_cancelled": skipped}
        moment = at or BEGIN.replace(day=2, hour=self.ticks // 60, minute=self.ticks % 60)
        answer = Answer(number, 1000 + run_id, annotator, moment, 5.0, skipped, raw)
        self.answers.setdefault(run_id, {})[number] = answer
        self.collect(run_id)

    def delete(self, run_id: int, annotation_id: int | None = None) -> None:
        """As a person deletes the annotation."""
        del self.answers[run_id][run_id * 100 if annotation_id is None else annotation_id]
        self.collect(run_id)

    def collect(self, run_id: int) -> None:
        self.ticks += 1
        changed = BEGIN.replace(day=3, hour=self.ticks // 60, minute=self.ticks % 60)
        data = {PAGE_FRAMES_FIELD: list(PAGES)}
        answers = tuple(self.answers.get(run_id, {}).values())
        task = AnsweredTask(5, run_id, changed, answers, data, labeling_config([]))
        reviews.collect(self.container.sessions, Desk(task), 5, run_id, self.container.settings.storage)


def moved(by_px: float) -> Edit:
    """Every box of the track that much to the right, and the masks painted there too."""

    def edit(result: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for region in result:
            for entry in region["value"].get("sequence", ()):
                entry["x"] += 100 * by_px / WIDTH
        return result

    return edit


def without_track(result: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Everything taken away."""
    del result[:]
    return result
