"""The roles the services need filled from outside. Adapters in `integrations/` and `workers/` fill them."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from backend.domain.adoption import Adopted, Change, Place
from backend.domain.annotation import Annotation, Mask, VideoProbe
from backend.domain.corrected import Carry
from backend.domain.corrections import Layer
from backend.domain.datasets import TruthObject
from backend.domain.errors import BadInput
from backend.domain.ordering import TaskOrder
from backend.domain.prompts import ThingPrompt
from backend.domain.runs import Mode, RunStatus, Stage
from backend.domain.tracks import BoxKeyframe
from backend.domain.windows import Window


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


class FrameHasher(Protocol):
    def __call__(self, path: Path, probe: VideoProbe) -> NDArray[np.uint64]:
        """(frames,) perceptual hashes of frames spread over the video. Raises `UnreadableVideo`."""


@dataclass(frozen=True, slots=True)
class PublicExpression:
    """An instruction of a public set and the objects it means, frames counted in the clip."""

    text: str
    objects: tuple[TruthObject, ...]


@dataclass(frozen=True, slots=True)
class PublicClip:
    """A clip as a public set has it: a folder of pictures. `mask_frames`: those whose masks are known; `audio`: the
    file of its sound."""

    name: str
    pictures: tuple[Path, ...]
    mask_frames: tuple[int, ...]
    expressions: tuple[PublicExpression, ...]
    mode: Mode = Mode.VOS
    audio: Path | None = None


class PictureBinder(Protocol):
    def __call__(self, pictures: Sequence[Path], to: Path, fps: Fraction, audio: Path | None = None) -> None:
        """Write a video of those pictures and that sound, the same bytes for the same files. Raises `BadInput`."""


class ReviewReader(Protocol):
    """What an annotation of the labeling tool says, read from what is kept of it; the tool isn't asked."""

    def layer(
        self, raw: Mapping[str, Any], size: tuple[int, int], frame_count: int, frame_of: Mapping[str, int]
    ) -> Layer:
        """`size`: (width, height) in pixels; `frame_of`: the frame of each mask, by region. Raises `BadInput`."""

    def track_index(self, run_id: int, region_id: str) -> int | None:
        """The run's track that the region was sent for; None if it was sent for none of that run."""


class VideoProber(Protocol):
    def __call__(self, path: Path) -> VideoProbe:
        """Raises `UnreadableVideo` with a reason a person understands."""


#: Called when a stage begins and while it goes on: (stage, share of the stage done in 0..1).
StageListener = Callable[[Stage, float], None]


@dataclass(frozen=True, slots=True)
class CarriedMask:
    """What the propagation of one detection shows on a frame: SAM2's mask, and its own estimate of the mask's IoU.

    `detection`: position among those that are carried in that round.
    """

    detection: int
    frame_index: int
    mask: Mask
    predicted_iou: float


@dataclass(frozen=True, slots=True)
class Way:
    """How far one walk over frames has come, and what the tracker remembers there (bytes that only it can read).

    `steps`: frames that the walk takes in all.
    """

    steps: int
    done: int
    state: bytes


class Checkpoints(Protocol):
    """What a run has come to so far: the answers of System 1 and 2, then masks by detection and frame, in chunks.

    Detections are carried in rounds, each over several ways beside each other, from several threads. A chunk holds the
    masks of one way since its last one and where it stands; it is kept whole or not at all. All methods but the last
    two raise `FenceLost` where the run is no longer this worker's.
    """

    @property
    def chunk_frames(self) -> int:
        """After so many frames a way hands its masks over."""

    @property
    def resumable(self) -> bool:
        """Whether anybody may go on from here later; if not, the ways' states are not asked for."""

    def decision(self) -> bytes | None:
        """What was given to `decide` last."""

    def decide(self, decision: bytes) -> None: ...

    def begin(self, round_index: int, plan: str, ways: Sequence[int]) -> dict[int, Way]:
        """How far those of the round's ways have come that were begun, by number. `ways`: how many frames each takes.
        `plan` says what the round does: what was kept of another one, and what came after, is dropped."""

    def commit(self, round_index: int, number: int, way: Way, masks: Sequence[CarriedMask]) -> None:
        """Keep a chunk of that way."""

    def masks(self, round_index: int, detection: int, frames: range) -> Iterator[CarriedMask]:
        """What was kept of a detection on those frames, in their order."""

    def counted(self, round_index: int, detection: int) -> int:
        """On how many frames it is visible."""


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
        checkpoints: Checkpoints | None = None,
        keep: bool = False,
    ) -> Annotation:
        """`probe`: what probing found in this very file, if it is known; else it is probed. With `checkpoints` it goes
        on from where they end, to the same result; the tracks' masks are read from them. `keep`: the path is never
        another file's, and another instruction on it may follow; what they share is kept for it.

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


@dataclass(frozen=True, slots=True)
class SuggestedMask:
    """`predicted_iou`: the segmenter's own estimate, 0..1."""

    mask: Mask
    predicted_iou: float


class MaskService(Protocol):
    """Draws masks on single pictures, in a process that has the models and is not busy with runs."""

    def draw(
        self, bucket: str, key: str, size: tuple[int, int], model_digest: str, prompts: Sequence[ThingPrompt]
    ) -> list[SuggestedMask | None]:
        """One mask a prompt, None where nothing is seen. `size`: (width, height) of the stored picture in pixels;
        `model_digest`: of the model version whose segmenter is asked.

        Raises `ServiceUnavailable` where it is away, late or busy, `ObjectGone` where the picture is; `Misconfigured`.
        """

    def check(self) -> None:
        """Raises `ServiceUnavailable` or `Misconfigured` unless it is ready."""


class JobQueue(Protocol):
    def send(self, task: str, queue: str, payload: Mapping[str, Any]) -> None:
        """Hand one message to the broker. Raises `ServiceUnavailable` when it can't be reached."""

    def depth(self, queue: str) -> int:
        """Messages that wait in the queue, those in a worker's hands not counted. Raises `ServiceUnavailable`."""


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that people asked to be told. `body`: the same for programs, JSON's types."""

    title: str
    text: str
    body: Mapping[str, Any]


class Notifier(Protocol):
    def send(self, address: str, notice: Notice) -> None:
        """`address`: `https://…`, `http://…` or `mailto:…`. Raises `ServiceUnavailable` where it may succeed later,
        `BadInput` where it won't, `Misconfigured` where no mail can be sent from here."""


@dataclass(frozen=True, slots=True)
class RegisteredVersion:
    """A model version as a registry shows it. `source_uri`: where its weights or its profile lie; `tags`: whatever else
    a person may look for."""

    name: str
    digest: str
    source_uri: str
    description: str
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Curves:
    """What a training wrote down: by name, (step, value) in order; and what it was run with."""

    run_name: str
    parameters: Mapping[str, str]
    values: Mapping[str, Sequence[tuple[int, float]]]


class ModelRegistry(Protocol):
    """Where people look for models and their curves. It mirrors our database, which decides; so it may be behind."""

    def register(self, version: RegisteredVersion, curves: Curves | None = None) -> None:
        """Idempotent by digest. Raises `ServiceUnavailable`."""

    def set_aliases(self, name: str, digests: Mapping[str, str | None]) -> None:
        """Give each alias to the registered version of that digest, None: to none. Raises `ServiceUnavailable`, and
        `NotFound` for a version that was never registered."""

    def aliases(self, name: str) -> dict[str, str]:
        """The digest that each alias leads to. Raises `ServiceUnavailable`."""


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
    def ensure_project(
        self, name: str, labels: list[str], buckets: list[str], order: TaskOrder = TaskOrder.UNCERTAIN
    ) -> int:
        """Create the tool's project of that name, or bring the one we made back to what it should be; its id. A new one
        shows tasks in that `order`.

        `buckets` are those the project's videos lie in; the tool is given access to them and to the artifact bucket.
        """

    def set_order(self, project_id: int, order: TaskOrder) -> None:
        """Have people see tasks in that order: who asks for the next one, and in a view of ours of the list."""

    def survey(self, project_id: int, buckets: Sequence[str], labels: Sequence[str]) -> Place:
        """A project that somebody else made, as it is; nothing is changed. `buckets`: those that our videos lie in;
        `labels`: what would be offered where there are none.

        Raises `ServiceUnavailable`, `Misconfigured`, or `BadInput` for one that is gone or can't be read.
        """

    def arrange(
        self, project_id: int, buckets: Sequence[str], labels: Sequence[str], changes: Collection[Change]
    ) -> None:
        """Make those changes to a project that somebody else made, and no other. Idempotent."""

    def sha256_of(self, address: str) -> str | None:
        """Of a file that the tool itself keeps, by its address in a task; None for any other, and for one that is
        gone."""

    def ensure_interactive(self, project_id: int, wanted: bool) -> None:
        """Have masks suggested to the project's labelers when they ask for one, or no more. Idempotent; repairs.

        Raises `Misconfigured` where our API can't be reached from the tool, or its settings are missing.
        """

    def interactive_trouble(self, project_id: int) -> str | None:
        """What keeps the project's labelers from getting suggestions; None: nothing. Raises as `publish`."""

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
class ShownRendition:
    """What is shown in place of a video: its frame n is the video's frame n, at a constant rate."""

    uri: str  # s3://bucket/key
    fps: Fraction


@dataclass(frozen=True, slots=True)
class PublicationItem:
    """One run's result, or a corrected layer of it, as the labeling tool is to show it. `video_uri` is
    `s3://bucket/key`. Frames are those of the whole video, also where only a window of it is shown."""

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
    #: None: the video itself is shown.
    rendition: ShownRendition | None = None
    #: Set where the tool's project is somebody else's.
    adopted: Adopted | None = None
    #: The part of the video that is shown (its `rendition` shows no more); None: the whole.
    window: Window | None = None

    @property
    def shown(self) -> Window:
        """The frames that are shown."""
        return self.window or Window(0, self.probe.frame_count)
