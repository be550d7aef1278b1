"""A labeling tool in memory that keeps what Label Studio keeps: tasks, annotations, and when a task last changed.

Its clock ticks with every change. Regions are said in the tests' own words: a layer beside each answer.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from backend.domain.adoption import Change, Place
from backend.domain.corrections import Layer
from backend.domain.errors import BadInput
from backend.domain.ordering import TaskOrder
from backend.ports.labeling import Answer, AnsweredTask, PublishedTask
from backend.ports.publication import PublicationItem

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


class UnusedTool:
    """A `LabelingTool` nobody is to ask; tests say what is asked by overriding it."""

    def ensure_project(
        self, name: str, labels: list[str], buckets: list[str], order: TaskOrder = TaskOrder.UNCERTAIN
    ) -> int:
        raise NotImplementedError

    def set_order(self, project_id: int, order: TaskOrder) -> None:
        raise NotImplementedError

    def survey(self, project_id: int, buckets: Sequence[str], labels: Sequence[str]) -> Place:
        raise NotImplementedError

    def arrange(
        self, project_id: int, buckets: Sequence[str], labels: Sequence[str], changes: Collection[Change]
    ) -> None:
        raise NotImplementedError

    def sha256_of(self, address: str) -> str | None:
        raise NotImplementedError

    def ensure_interactive(self, project_id: int, wanted: bool) -> None:
        raise NotImplementedError

    def interactive_trouble(self, project_id: int) -> str | None:
        raise NotImplementedError

    def publish(self, project_id: int, item: PublicationItem) -> PublishedTask:
        raise NotImplementedError

    def publish_new(self, project_id: int, items: Sequence[PublicationItem]) -> list[int | BadInput]:
        raise NotImplementedError

    def task_url(self, project_id: int, task_id: int) -> str:
        raise NotImplementedError

    def answered(self, project_id: int, task_id: int) -> AnsweredTask | None:
        raise NotImplementedError

    def layers(self, task: AnsweredTask, answer: Answer, item: PublicationItem) -> tuple[Layer, Layer]:
        raise NotImplementedError

    def changed_tasks(self, project_id: int, since: datetime | None) -> Iterator[tuple[int, datetime]]:
        raise NotImplementedError


@dataclass
class LabelingDesk(UnusedTool):
    sent: Layer
    project_id: int = 5
    tasks: dict[int, dict[int, Answer]] = field(default_factory=dict)
    changed: dict[int, datetime] = field(default_factory=dict)
    layers_of: dict[str, Layer] = field(default_factory=dict)
    reads: list[int] = field(default_factory=list)
    trouble: Exception | None = None
    ticks: int = 0

    def _now(self) -> datetime:
        self.ticks += 1
        return BEGIN + timedelta(seconds=self.ticks)

    def save(
        self, task_id: int, annotation_id: int, layer: Layer | None, *, prediction_id: int | None = 700,
        skipped: bool = False, **more: Any,
    ) -> Answer:  # fmt: skip
        """As a person saves an annotation: a new one, or the old one anew."""
        words = f"layer {len(self.layers_of)}" if layer is not None else "nonsense"
        if layer is not None:
            known = next((said for said, other in self.layers_of.items() if other == layer), words)
            self.layers_of[known] = layer
            words = known
        now = self._now()
        raw = {"id": annotation_id, "result": [{"says": words}], "was_cancelled": skipped, **more}
        answer = Answer(annotation_id, prediction_id, "1", now, 8.25, skipped, raw)
        self.tasks.setdefault(task_id, {})[annotation_id] = answer
        self.changed[task_id] = now
        return answer

    def delete(self, task_id: int, annotation_id: int | None = None) -> None:
        """The annotation, or the whole task."""
        if annotation_id is None:
            del self.tasks[task_id], self.changed[task_id]
        else:
            del self.tasks[task_id][annotation_id]
            self.changed[task_id] = self._now()

    def answered(self, project_id: int, task_id: int) -> AnsweredTask | None:
        self._check(project_id)
        self.reads.append(task_id)
        if task_id not in self.tasks:
            return None
        answers = tuple(replace(answer) for answer in self.tasks[task_id].values())
        return AnsweredTask(project_id, task_id, self.changed[task_id], answers, {}, "")

    def layers(self, task: AnsweredTask, answer: Answer, item: PublicationItem) -> tuple[Layer, Layer]:  # noqa: ARG002 (the port's)
        [region] = answer.raw["result"]
        if region["says"] not in self.layers_of:
            raise BadInput("region 'x' can't be read")
        return self.sent, self.layers_of[region["says"]]

    def changed_tasks(self, project_id: int, since: datetime | None) -> Iterator[tuple[int, datetime]]:
        self._check(project_id)
        listed = [(task_id, at) for task_id, at in self.changed.items() if since is None or at > since]
        yield from sorted(listed, key=lambda pair: pair[1])

    def _check(self, project_id: int) -> None:
        assert project_id == self.project_id
        if self.trouble is not None:
            raise self.trouble
