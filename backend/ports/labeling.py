"""The labeling tool: what goes into it, what people made of that, and what its failures are called."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from backend.domain.adoption import Change, Place
from backend.domain.corrections import Layer
from backend.domain.errors import BadInput
from backend.domain.ordering import TaskOrder
from backend.ports.publication import PublicationItem


class ReviewReader(Protocol):
    """What an annotation of the labeling tool says, read from what is kept of it; the tool isn't asked."""

    def layer(
        self, raw: Mapping[str, Any], size: tuple[int, int], frame_count: int, frame_of: Mapping[str, int]
    ) -> Layer:
        """`size`: (width, height) in pixels; `frame_of`: the frame of each mask, by region. Raises `BadInput`."""

    def track_index(self, run_id: int, region_id: str) -> int | None:
        """The run's track that the region was sent for; None if it was sent for none of that run."""


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
