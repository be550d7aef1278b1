"""The roles the services need filled from outside. Adapters in `integrations/` and `workers/` fill them."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from backend.domain.annotation import Annotation, VideoProbe
from backend.domain.runs import Mode, Stage


@dataclass(frozen=True, slots=True)
class ObjectVersion:
    """One version of one object. `version` is the store's version id, or the etag where the bucket keeps no versions."""

    bucket: str
    key: str
    version: str
    etag: str
    size_bytes: int


class ObjectStore(Protocol):
    def head(self, bucket: str, key: str) -> ObjectVersion:
        """Raises `ObjectGone` where there is none."""

    def list(self, bucket: str, prefix: str, start_after: str | None = None) -> Iterator[ObjectVersion]:
        """Objects in key order, after `start_after`."""

    def download(self, version: ObjectVersion, path: Path) -> None:
        """Write the object's bytes to `path`. Raises `ObjectGone` if this version is no longer there."""

    def put(self, bucket: str, key: str, body: bytes, content_type: str) -> ObjectVersion: ...

    def upload(self, bucket: str, key: str, path: Path, content_type: str) -> ObjectVersion: ...


class VideoProber(Protocol):
    def __call__(self, path: Path) -> VideoProbe:
        """Raises `UnreadableVideo` with a reason a person understands."""


#: Called when a stage begins and while it goes on: (stage, share of the stage done in 0..1).
StageListener = Callable[[Stage, float], None]


class AnnotationPipeline(Protocol):
    def annotate(
        self, video_path: Path, instruction: str, mode: Mode, *, seed: int = 0, on_stage: StageListener | None = None
    ) -> Annotation:
        """Raises `BadInput` for what can't be annotated; malformed model output is a result, not an exception."""


class JobQueue(Protocol):
    def send(self, task: str, queue: str, payload: Mapping[str, Any]) -> None:
        """Hand one message to the broker. Raises `ServiceUnavailable` when it can't be reached."""


@dataclass(frozen=True, slots=True)
class PublishedTask:
    """Where a pre-annotation ended up in the labeling tool."""

    project_id: int
    task_id: int
    prediction_id: int


class LabelingTool(Protocol):
    def ensure_project(self, name: str, labels: list[str]) -> int:
        """Create the tool's project of that name, or bring the one we made back to what it should be; its id."""

    def publish(self, project_id: int, item: "PublicationItem") -> PublishedTask:
        """Idempotent: a repeat finds the task and the prediction that are there. Raises `ServiceUnavailable`."""

    def task_url(self, project_id: int, task_id: int) -> str: ...


@dataclass(frozen=True, slots=True)
class PublicationItem:
    """One run's result as the labeling tool is to show it. `video_uri` and the images are `s3://bucket/key`."""

    run_id: int
    video_id: int
    instruction_id: int
    instruction: str
    mode: Mode
    video_uri: str
    keyframe_image_uris: dict[int, str]  # by frame index, in the order of the pages
    annotation: Annotation
    model_version: str
