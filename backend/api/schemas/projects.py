"""Projects."""

from datetime import datetime

from pydantic import BaseModel, Field, field_validator

from backend.api.schemas.common import Row
from backend.db.tables import ModelVersion
from backend.domain.ordering import TaskOrder
from backend.domain.runs import Mode
from backend.services.projects import MAX_INSTRUCTION_CHARS, MAX_NAME_CHARS, InstructionSpec, Source


class SourceIn(BaseModel):
    bucket: str = Field(min_length=3, max_length=63)
    prefix: str = Field("", max_length=1024)

    def spec(self) -> Source:
        return Source(self.bucket, self.prefix)


class InstructionIn(BaseModel):
    text: str = Field(min_length=1, max_length=MAX_INSTRUCTION_CHARS)
    mode: Mode = Mode.VOS
    key_prefixes: list[str] = Field([], description="applies only to videos under one of these; empty: to all")

    def spec(self) -> InstructionSpec:
        return InstructionSpec(self.text, self.mode, tuple(self.key_prefixes))


class ProjectIn(BaseModel):
    name: str = Field(min_length=1, max_length=MAX_NAME_CHARS)
    sources: list[SourceIn] = []
    instructions: list[InstructionIn] = []
    labels: list[str] = Field([], description="the labels offered in the labeling tool; empty: `object`")
    priority: int = Field(0, ge=-1000, le=1000, description="what projects of a higher one ask goes before all else")
    interactive: bool = Field(False, description="labelers get masks for what they click on keyframe pages")


class ProjectChange(BaseModel):
    """What is left out stays as it is."""

    show_corrected: bool | None = Field(
        None, description="send what corrections make of a result as a fresh prediction"
    )
    priority: int | None = Field(None, ge=-1000, le=1000)
    control_share: float | None = Field(None, ge=0, le=1, description="share of new tasks without a pre-annotation")
    interactive: bool | None = Field(None, description="labelers get masks for what they click on keyframe pages")
    window_s: float | None = Field(
        None, ge=0, description="longer videos are shown in windows of at most so many seconds, a task each; 0: in one"
    )


class OrderIn(BaseModel):
    order: TaskOrder = Field(description="which tasks people see first; uncertain: those with the lowest score")


class StatusOut(Row):
    """`state`: ok, not_connected, away, busy, failing, key_refused, project_gone or project_wrong; `detail` says more.
    Nothing is asked before `next_try_at`; `pending` publications wait, and none is lost. Reviews of the last day were
    here `review_lag_*_s` seconds after they were saved in the labeling tool."""

    project: str
    label_studio_project_id: int | None
    state: str
    since: datetime | None
    detail: str | None
    next_try_at: datetime | None
    asked_at: datetime | None
    pending: int
    published: int
    failed: int
    review_lag_median_s: float | None
    review_lag_p95_s: float | None


class SourceOut(Row):
    id: int
    bucket: str
    prefix: str


class InstructionOut(Row):
    id: int
    text: str
    mode: Mode
    key_prefixes: list[str]
    created_at: datetime


class ProjectOut(Row):
    id: int
    name: str
    priority: int
    label_studio_project_id: int | None
    model_version: str | None = Field(None, description="the digest it is pinned to; none: it follows the champion")
    show_corrected: bool
    control_share: float
    task_order: TaskOrder | None = Field(description="which tasks people see first; none: as it was when adopted")
    adopted: bool = Field(validation_alias="adoption", description="its place in the labeling tool is somebody else's")
    interactive: bool
    window_s: float = Field(description="longer videos are shown in windows of at most so many seconds; 0: in one")
    created_at: datetime
    sources: list[SourceOut]
    instructions: list[InstructionOut]

    @field_validator("adopted", mode="before")
    @classmethod
    def _is_adopted(cls, value: object) -> bool:
        return value is not None

    @field_validator("model_version", mode="before")
    @classmethod
    def _digest(cls, value: object) -> object:
        return value.digest if isinstance(value, ModelVersion) else value
