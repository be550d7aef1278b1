"""Projects: what they watch, what they ask, and catching up on videos that were there before.

Every change excludes ingest while it goes on, so that a video that arrives meanwhile is seen by one of the two.
"""

import hashlib
import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from sqlalchemy.orm import Session

from backend.db.repositories import outages as outage_rows
from backend.db.repositories import projects as project_rows
from backend.db.repositories import runs as run_rows
from backend.db.repositories import videos as video_rows
from backend.db.tables import Instruction, Project, ProjectSource
from backend.domain.adoption import agreed_in
from backend.domain.errors import BadInput, Conflict, Misconfigured
from backend.domain.ordering import TaskOrder
from backend.domain.runs import Mode
from backend.domain.text import is_storable
from backend.ports.labeling import LabelingTool
from backend.services import outbox, results, runs
from backend.services.ingest import RunSpec, make_runs

log = logging.getLogger(__name__)

Transaction = Callable[[], AbstractContextManager[Session]]

MAX_INSTRUCTION_CHARS = 100_000
MAX_NAME_CHARS = 200


@dataclass(frozen=True, slots=True)
class Source:
    bucket: str
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class InstructionSpec:
    """`key_prefixes`: applies only to videos whose key begins with one of these; empty: to all of the project's."""

    text: str
    mode: Mode = Mode.VOS
    key_prefixes: tuple[str, ...] = ()


def create_project(
    session: Session,
    name: str,
    *,
    sources: Sequence[Source],
    instructions: Sequence[InstructionSpec],
    spec: RunSpec,
    priority: int = 0,
    label_studio_project_id: int | None = None,
    interactive: bool = False,
) -> Project:
    """A new project; videos that lie under its sources already get their runs. Raises `Conflict`, `BadInput`."""
    if not 1 <= len(name.strip()) <= MAX_NAME_CHARS or not is_storable(name):
        raise BadInput(f"a project's name has 1 to {MAX_NAME_CHARS} characters", code="bad_name")
    project_rows.lock_watch(session)
    _require_free(session, name)
    project = Project(
        name=name, priority=priority, label_studio_project_id=label_studio_project_id, model_version=None,
        interactive=interactive,
    )  # fmt: skip
    session.add(project)
    for source in dict.fromkeys(sources):
        _append_source(project, source)
    for instruction in {(i.mode, i.text): i for i in instructions}.values():
        _append_instruction(project, instruction)
    session.flush()
    backfill(session, project, spec)
    return project


def create_connected(
    transaction: Transaction,
    tool: LabelingTool | None,
    name: str,
    *,
    sources: Sequence[Source],
    instructions: Sequence[InstructionSpec],
    labels: Sequence[str],
    spec: RunSpec,
    priority: int = 0,
    interactive: bool = False,
) -> Project:
    """`create_project`, with its place in the labeling tool made first, while no transaction is open.

    What the tool was asked for is found again if this is repeated after a failure. Raises `ServiceUnavailable`, too,
    and `Misconfigured` where masks on demand (`interactive`) can't be had.
    """
    with transaction() as session:
        _require_free(session, name)
    tool_id = None
    if tool is not None:
        tool_id = tool.ensure_project(name, list(labels), list(dict.fromkeys(source.bucket for source in sources)))
    if interactive:
        _ensure_interactive(tool, tool_id, True)
    with transaction() as session:
        return create_project(
            session, name, sources=sources, instructions=instructions, spec=spec, priority=priority,
            label_studio_project_id=tool_id, interactive=interactive,
        )  # fmt: skip


def connect(transaction: Transaction, tool: LabelingTool, name: str, labels: Sequence[str] = ()) -> Project:
    """Give a project its place in the labeling tool, or repair it; finished runs that are not there yet are published.

    Needed when the tool was configured after the project was made, or a source in another bucket was added.
    """
    with transaction() as session:
        project = project_rows.by_name(session, name)
        buckets, order = list(dict.fromkeys(source.bucket for source in project.sources)), project.task_order
        interactive = project.interactive
        adopted = None if project.adoption is None else project.label_studio_project_id
    if adopted is not None:
        # Somebody else made it: what was agreed to is kept up, nothing else.
        agreed = agreed_in(project.adoption) & set(tool.survey(adopted, buckets, labels).changes)
        tool.arrange(adopted, buckets, labels, agreed)
        tool_id = adopted
    else:
        tool_id = tool.ensure_project(name, list(labels), buckets, TaskOrder(order or TaskOrder.UNCERTAIN))
    if interactive:
        tool.ensure_interactive(tool_id, True)
    with transaction() as session:
        project = project_rows.by_name(session, name)
        before, project.label_studio_project_id = project.label_studio_project_id, tool_id
        session.flush()
        if before not in (None, tool_id):
            reason = f"its project {before} is gone; published to {tool_id} instead"
            outage_rows.close_publications(session, results.target_of(before), reason)
        for run in run_rows.finished_without_publication(session, project.id, results.target_of(tool_id)):
            results.open_publication(session, run)
        return project


def set_order(transaction: Transaction, tool: LabelingTool | None, name: str, order: TaskOrder) -> None:
    """Which tasks people are to see first, also in the labeling tool. Raises `NotFound`, `ServiceUnavailable`."""
    with transaction() as session:
        number = project_rows.by_name(session, name).label_studio_project_id
    if tool is not None and number is not None:
        tool.set_order(number, order)
    with transaction() as session:
        set_up(session, name, task_order=order.value)


def set_up(session: Session, name: str, **settings: bool | float | str) -> Project:
    """Change settings of a project (`show_corrected`, …); those not named stay. Raises `NotFound`."""
    project = project_rows.by_name(session, name)
    for setting, value in settings.items():
        setattr(project, setting, value)
    session.flush()
    return project


def set_interactive(transaction: Transaction, tool: LabelingTool | None, name: str, wanted: bool) -> Project:
    """Have the project's labelers given masks for what they click, or no more. Raises `NotFound`, `Misconfigured`,
    `ServiceUnavailable`."""
    with transaction() as session:
        project = project_rows.by_name(session, name)
        tool_id, adopted = project.label_studio_project_id, project.adoption is not None
    if wanted and adopted:
        raise BadInput(
            f"Label Studio's project {tool_id} is somebody else's, with pages and labels of its own: masks on demand "
            "are for projects that Premask made",
            code="adopted_project",
        )
    if wanted or tool_id is not None:
        _ensure_interactive(tool, tool_id, wanted)
    with transaction() as session:
        return set_up(session, name, interactive=wanted)


def _ensure_interactive(tool: LabelingTool | None, tool_id: int | None, wanted: bool) -> None:
    if tool is None or tool_id is None:
        raise Misconfigured(
            "masks on demand are for people in Label Studio, where the project has no place: set label_studio.url and "
            "label_studio.api_key, and `premask projects connect` it"
        )
    tool.ensure_interactive(tool_id, wanted)


def _require_free(session: Session, name: str) -> None:
    if project_rows.find(session, name) is not None:
        raise Conflict(f"there is a project {name!r} already", code="project_exists")


def add_source(session: Session, name: str, source: Source, spec: RunSpec) -> ProjectSource:
    """Watch one more place; videos known there get their runs, others the listing finds. Repeating it is fine."""
    project_rows.lock_watch(session)
    project = project_rows.by_name(session, name)
    for known in project.sources:
        if (known.bucket, known.prefix) == (source.bucket, source.prefix):
            return known
    row = _append_source(project, source)
    session.flush()
    backfill(session, project, spec)
    return row


def add_instruction(
    session: Session, name: str, instruction: InstructionSpec, spec: RunSpec, *, backfill_videos: bool = True
) -> Instruction:
    """Ask one more thing of the project's videos, with `backfill_videos` also of those there. Repeating it is fine."""
    project_rows.lock_watch(session)
    project = project_rows.by_name(session, name)
    known = project_rows.instruction_of(session, project.id, instruction.mode, _sha256(instruction.text))
    if known is not None:
        return known
    row = _append_instruction(project, instruction)
    session.flush()
    if backfill_videos:
        backfill(session, project, spec)
    return row


def backfill(session: Session, project: Project, spec: RunSpec) -> int:
    """Make the runs that are missing for the project's videos, and start or end them by what probing said; how many."""
    made = 0
    for video in video_rows.lock_watched_by(session, project.id):
        asked = project_rows.instructions_for(session, video.bucket, video.key, project.id)
        new = make_runs(session, video, asked, spec)
        made += len(new)
        for run_id in new:
            run = run_rows.lock(session, run_id)
            if video.probe_status == "ok":
                outbox.dispatch_run(session, run)
            elif video.probe_status == "unreadable":
                runs.fail_unreadable(session, run, video)
    if made:
        log.info("project %s: %d runs for videos that were there already", project.name, made)
    return made


def _append_source(project: Project, source: Source) -> ProjectSource:
    if not 3 <= len(source.bucket) <= 63 or not is_storable(source.bucket + source.prefix) or len(source.prefix) > 1024:
        raise BadInput(f"{source.bucket!r} with prefix {source.prefix!r} is no place in S3", code="bad_source")
    row = ProjectSource(bucket=source.bucket, prefix=source.prefix)
    project.sources.append(row)
    return row


def _append_instruction(project: Project, instruction: InstructionSpec) -> Instruction:
    text = instruction.text
    if not text.strip() or len(text) > MAX_INSTRUCTION_CHARS or not is_storable(text):
        raise BadInput(f"an instruction has 1 to {MAX_INSTRUCTION_CHARS} characters", code="bad_instruction")
    row = Instruction(
        text=text, text_sha256=_sha256(text), mode=instruction.mode, key_prefixes=list(instruction.key_prefixes)
    )
    project.instructions.append(row)
    return row


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
