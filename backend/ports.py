"""The roles the services need filled from outside. Adapters in `integrations/` and `workers/` fill them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from backend.domain.annotation import Annotation, Mask, VideoProbe
from backend.domain.corrected import Carry
from backend.domain.corrections import Layer
from backend.domain.errors import BadInput
from backend.domain.runs import Mode, RunStatus, Stage
from backend.domain.tracks import BoxKeyframe


@dataclass(frozen=True, slots=True)
class ObjectVersion:
    """One version of one object. `version` is the store's version id; the etag where the bucket keeps no versions."""

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
        self,
        video_path: Path,
        instruction: str,
        mode: Mode,
        *,
        seed: int = 0,
        probe: VideoProbe | None = None,
        on_stage: StageListener | None = None,
    ) -> Annotation:
        """`probe`: what probing found in this very file, if it is known; else it is probed.

        Raises `BadInput` for what can't be annotated; malformed model output is a result, not an exception.
        """

    def carry(
        self,
        video_path: Path,
        probe: VideoProbe,
        carries: Sequence[Carry],
        on_progress: Callable[[float], None] = lambda _: None,
    ) -> list[dict[int, Mask]]:
        """What the segmenter makes of each prompt on the frames it speaks for, by frame index; no entry where nothing
        is seen. Progress goes from 0 to 1. Raises `BadInput` where the file is not the video that was probed."""


class JobQueue(Protocol):
    def send(self, task: str, queue: str, payload: Mapping[str, Any]) -> None:
        """Hand one message to the broker. Raises `ServiceUnavailable` when it can't be reached."""

    def depth(self, queue: str) -> int:
        """Messages that wait in the queue, those in a worker's hands not counted. Raises `ServiceUnavailable`."""


@dataclass(frozen=True, slots=True)
class PublishedTask:
    """Where a pre-annotation ended up in the labeling tool, and what a person should know about how it is shown. No
    prediction: it was a control."""

    project_id: int
    task_id: int
    prediction_id: int | None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """One annotation of a task as the labeling tool has it now. `prediction_id`: of the prediction that it was made
    from; None: drawn from nothing. `annotator` is the tool's own id of them. `raw`: whole, as it came."""

    annotation_id: int
    prediction_id: int | None
    annotator: str | None
    changed_at: datetime
    lead_time_s: float | None
    skipped: bool
    raw: dict[str, Any]


@dataclass(frozen=True, slots=True)
class AnsweredTask:
    """A task with everything people made of it, read at one moment. `changed_at`: the tool's time of its last change;
    `data` and `config` are what the tool needs to read the answers; they are kept with each answer. `predictions`: ids
    of ours by run and corrected layer."""

    project_id: int
    task_id: int
    changed_at: datetime
    answers: tuple[Answer, ...]
    data: Mapping[str, Any]
    config: str
    predictions: Mapping[tuple[int, int | None], int] = field(default_factory=dict)


#: Codes of what a labeling tool raises: it is known to be out and was not asked; it wants to be asked less often; it
#: failed, perhaps at this one thing; it refused the key; its project was deleted; its project can't show what we send
#: (another's, or somebody changed its configuration).
LABELING_WAITS = "labeling_tool_waits"
LABELING_BUSY = "labeling_tool_busy"
LABELING_ERROR = "labeling_tool_error"
KEY_REFUSED = "labeling_key_refused"
PROJECT_GONE = "labeling_project_gone"
PROJECT_WRONG = "labeling_project_wrong"


class LabelingTool(Protocol):
    def ensure_project(self, name: str, labels: list[str], buckets: list[str]) -> int:
        """Create the tool's project of that name, or bring the one we made back to what it should be; its id.

        `buckets` are those the project's videos lie in; the tool is given access to them and to the artifact bucket.
        """

    def publish(self, project_id: int, item: "PublicationItem") -> PublishedTask:
        """Idempotent: a repeat finds the task and the prediction that are there.

        Raises `ServiceUnavailable` (try again later), `Misconfigured`, or `BadInput` (never publishable as it is).
        """

    def publish_new(self, project_id: int, items: Sequence["PublicationItem"]) -> list[int | BadInput]:
        """Many at once, whose tasks are not there and that nobody else publishes meanwhile; of each its new task's id,
        or why it can't be made (`BadInput`) this way.

        Not idempotent. Raises `ServiceUnavailable` or `Misconfigured`: then some may have been made.
        """

    def task_url(self, project_id: int, task_id: int) -> str: ...

    def answered(self, project_id: int, task_id: int) -> AnsweredTask | None:
        """The task as it is now; None if it is gone, or no task of that project.

        Raises `ServiceUnavailable`, `Misconfigured`.
        """

    def layers(self, task: AnsweredTask, answer: Answer, item: "PublicationItem") -> tuple[Layer, Layer]:
        """What was sent for the item, and what came back; nothing is asked of the tool.

        Raises `BadInput` where the answer can't be read, with the region and the reason.
        """

    def changed_tasks(self, project_id: int, since: datetime | None) -> Iterator[tuple[int, datetime]]:
        """Tasks that changed later than that, with when they did, by the tool's own clock, longest ago first; without
        `since` all. Raises `ServiceUnavailable`, `Misconfigured`, or `BadInput` where the project is gone."""


@dataclass(frozen=True, slots=True)
class PublicationPage:
    """A keyframe as the labeling tool shows it: a picture of its own, with its description."""

    frame_index: int
    time_s: float
    description: str
    image_uri: str  # s3://bucket/key


@dataclass(frozen=True, slots=True)
class PublicationTrack:
    """A track reduced to what is shown: few box keyframes over the clip, and masks on the frames of the pages only."""

    index: int
    label: str
    score: float | None
    box_keyframes: tuple[BoxKeyframe, ...]
    masks: dict[int, Mask]  # by frame index


@dataclass(frozen=True, slots=True)
class PublicationItem:
    """One run's result, or a corrected layer of it, as the labeling tool is to show it. `video_uri` is
    `s3://bucket/key`."""

    run_id: int
    video_id: int
    instruction_id: int
    instruction: str
    mode: Mode
    video_uri: str
    probe: VideoProbe
    status: RunStatus  # succeeded or no_target
    outcome_code: str | None
    reasoning: str
    pages: tuple[PublicationPage, ...]  # in the order they are shown
    tracks: tuple[PublicationTrack, ...]
    model_version: str
    layer_id: int | None = None
    #: Only the task is to be made, and nothing of what the model said is to be seen.
    control: bool = False
