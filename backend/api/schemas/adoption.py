"""Adopting a project of the labeling tool."""

from pydantic import BaseModel, Field

from backend.api.schemas.projects import InstructionIn, SourceIn
from backend.domain.adoption import Change
from backend.services.adoption import Plan, Request

_OURS = {
    Change.NEW_TASKS: "new tasks for videos that no task there shows",
    Change.READ_ANNOTATIONS: "reviews of the annotations that are there",
}


class AdoptIn(BaseModel):
    """`sources` and `instructions` as for a new project; one that is there gets those it hasn't."""

    label_studio_project_id: int = Field(gt=0)
    sources: list[SourceIn] = []
    instructions: list[InstructionIn] = []
    labels: dict[str, str] = Field({}, description="what the things of an instruction are called there")
    changes: list[Change] = Field([], description="what is agreed to; nothing else is changed")
    by_content: bool = Field(
        False, description="also find tasks by the bytes of their videos, which takes reading them"
    )
    apply: bool = Field(False, description="do it; without, only the plan is made")

    def request(self, name: str) -> Request:
        return Request(
            name, self.label_studio_project_id, tuple(one.spec() for one in self.sources),
            tuple(one.spec() for one in self.instructions), self.labels, frozenset(self.changes), self.by_content,
        )  # fmt: skip


class ChangeOut(BaseModel):
    """`needed`: there is something to do; `agreed`: it was agreed to, now or before."""

    change: Change
    what: str
    needed: bool
    agreed: bool


class PlanOut(BaseModel):
    """`maps`: what is shown by which of its tags; `missing`: what can't be shown; `unfilled`: fields of its tasks that
    new ones could not have; `tasks_used`: of its `tasks`, those that show a video of ours; `annotations` stay."""

    name: str
    label_studio_project_id: int
    title: str
    maps: list[str]
    missing: list[str]
    unfilled: list[str]
    labels: dict[str, str]
    tasks: int
    tasks_used: int
    annotations: int
    changes: list[ChangeOut]
    applied: bool

    @classmethod
    def of(cls, plan: Plan) -> "PlanOut":
        place = plan.place
        changes = [
            ChangeOut(
                change=one, what=place.changes.get(one) or _OURS.get(one) or "is in place",
                needed=one in place.changes or one in _OURS, agreed=one in plan.agreed,
            )
            for one in Change
        ]  # fmt: skip
        return cls(
            name=plan.name, label_studio_project_id=place.project_id, title=place.title, maps=list(place.maps),
            missing=list(place.missing), unfilled=list(place.unfilled), labels=dict(plan.labels),
            tasks=len(place.tasks), tasks_used=plan.used,
            annotations=sum(len(task.annotation_ids) for task in place.tasks), changes=changes, applied=plan.applied,
        )  # fmt: skip
