"""Adopting a project of the labeling tool that somebody else made: first a plan, then only what was agreed to.

The plan changes nothing, on either side. Applied, the project's tasks are known to us, so that a result goes into the
task that shows its video; what people did there before is not read unless that was agreed to. Repeating it is harmless,
and the way to take in tasks that were added, or to agree to more.
"""

import hashlib
import logging
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy.orm import Session

from backend.db.repositories import adoption as repository
from backend.db.repositories import projects as project_rows
from backend.db.repositories import runs as run_rows
from backend.db.tables import Project, Publication, Run
from backend.domain.adoption import Adopted, Change, Place, PlaceTask, agreed_in, assigned_labels
from backend.domain.errors import BadInput, Conflict, ObjectGone
from backend.ports.labeling import LabelingTool
from backend.ports.storage import ObjectStore
from backend.services import projects, results
from backend.services.ingest import RunSpec
from backend.services.projects import InstructionSpec, Source, Transaction

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for. `labels`: by instruction; `by_content`: tasks are also found by the bytes of their video."""

    name: str
    label_studio_project_id: int
    sources: tuple[Source, ...] = ()
    instructions: tuple[InstructionSpec, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    changes: frozenset[Change] = frozenset()
    by_content: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """What is there, and what adopting it does. `labels`: by instruction; `used`: tasks whose video is watched, or one
    of ours; `agreed`: changes that were agreed to, now or before; `applied`: whether it was done."""

    name: str
    place: Place
    labels: Mapping[str, str]
    used: int
    agreed: frozenset[Change]
    digests: Mapping[int, str]
    applied: bool = False


def adopt(
    transaction: Transaction, tool: LabelingTool, store: ObjectStore, request: Request, spec: RunSpec, *, apply: bool
) -> Plan:
    """The plan, carried out if `apply`. Raises `Conflict` where either project is connected elsewhere, `BadInput` where
    nothing could be shown or an instruction has no label, `NotFound`, `ServiceUnavailable`."""
    with transaction() as session:
        project = _project(session, request)
        sources = [Source(row.bucket, row.prefix) for row in project.sources] if project else []
        asked = [row.text for row in project.instructions] if project else []
        known = {row.text: row.label for row in project.instructions} if project else {}
        before = agreed_in(None if project is None else project.adoption)
    sources = list(dict.fromkeys([*sources, *request.sources]))
    asked = list(dict.fromkeys([*asked, *(one.text for one in request.instructions)]))
    agreed = before | request.changes
    buckets = list(dict.fromkeys(source.bucket for source in sources))
    offered = list(dict.fromkeys([*request.labels.values()]))
    place = tool.survey(request.label_studio_project_id, buckets, offered)
    labels = assigned_labels(asked, request.labels, known, _labels(place, agreed, offered))
    digests = _digests(tool, store, place.tasks, sources) if request.by_content else {}
    with transaction() as session:
        ours = repository.known_digests(session, digests.values())
    used = sum(_watched(task.video_uri, sources) or digests.get(task.task_id) in ours for task in place.tasks)
    plan = Plan(request.name, place, labels, used, agreed, digests, apply)
    if apply:
        _require_room(plan)
        tool.arrange(request.label_studio_project_id, buckets, offered, agreed & set(place.changes))
        with transaction() as session:
            _write(session, request, plan, before, spec)
    return plan


def adopted_of(run: Run, publication: Publication) -> Adopted | None:
    """How the publication's item goes into its place; None where the place is our own."""
    project = run.instruction.project
    if project.adoption is None or publication.target != _target(project):
        return None
    return Adopted(publication.task_id, run.instruction.label, agreed_in(project.adoption))


def task_for(session: Session, run: Run) -> int | None:
    """The task of theirs that shows the run's video, kept for it from now on."""
    return repository.claim_task(session, run.instruction.project_id, run.video, run.instruction_id)


def _target(project: Project) -> str | None:
    number = project.label_studio_project_id
    return None if number is None else results.target_of(number)


def _project(session: Session, request: Request) -> Project | None:
    """The project of ours, if it is there. Raises `Conflict`, `BadInput`."""
    number, project = request.label_studio_project_id, project_rows.find(session, request.name)
    holder = repository.project_at(session, number)
    if holder is not None and holder.name != request.name:
        raise Conflict(f"Label Studio's project {number} is the place of {holder.name!r}", code="place_taken")
    if project is None:
        if not request.sources:
            raise BadInput(f"there is no project {request.name!r}; with --source it is made", code="no_source")
        return None
    if project.label_studio_project_id not in (None, number) or (holder is not None and project.adoption is None):
        raise Conflict(
            f"{request.name!r} has Label Studio's project {project.label_studio_project_id} already",
            code="already_connected",
        )
    return project


def _labels(place: Place, agreed: frozenset[Change], offered: Sequence[str]) -> Sequence[str]:
    """What things can be called: their labels, and where boxes come with a change that is agreed to, what is offered.

    Nothing where neither is known yet: then nothing can be checked."""
    if place.box_labels or Change.CONFIG not in agreed:
        return place.box_labels
    return offered


def _require_room(plan: Plan) -> None:
    """Raises `BadInput` where no box could be shown."""
    completes = Change.CONFIG in plan.agreed and Change.CONFIG in plan.place.changes
    if not plan.place.box_labels and not completes:
        raise BadInput(
            f"Label Studio's project {plan.place.project_id} can't show boxes: {'; '.join(plan.place.missing)}"
            + ("; --config adds what is missing" if Change.CONFIG in plan.place.changes else ""),
            code="no_place",
        )


def _watched(uri: str | None, sources: Sequence[Source]) -> bool:
    return uri is not None and any(uri.startswith(f"s3://{source.bucket}/{source.prefix}") for source in sources)


def _digests(
    tool: LabelingTool, store: ObjectStore, tasks: Sequence[PlaceTask], sources: Sequence[Source]
) -> dict[int, str]:
    """SHA-256 of the videos, by task, of tasks whose address says nothing to us: of objects in S3, and of files that
    the tool keeps. Other addresses are not called: who writes a task's data is not known."""
    found = {}
    for task in tasks:
        if task.video_uri is None or _watched(task.video_uri, sources):
            continue
        bucket, _, key = task.video_uri.removeprefix("s3://").partition("/")
        if task.video_uri.startswith("s3://"):
            digest = _object_sha256(store, bucket, key)
        else:
            digest = tool.sha256_of(task.video_uri)
        if digest is not None:
            found[task.task_id] = digest
    return found


def _object_sha256(store: ObjectStore, bucket: str, key: str) -> str | None:
    """None where it can't be read."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "video"
        try:
            store.download(store.head(bucket, key), path)
        except ObjectGone as error:
            log.warning("s3://%s/%s can't be read: %s", bucket, key, error)
            return None
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def _write(session: Session, request: Request, plan: Plan, before: frozenset[Change], spec: RunSpec) -> None:
    number, place = request.label_studio_project_id, plan.place
    project = project_rows.find(session, request.name)
    reads = Change.READ_ANNOTATIONS in plan.agreed
    newest = max((number for task in place.tasks for number in task.annotation_ids), default=0)
    until = newest if project is None or project.adoption is None else project.adoption.get("annotations_until")
    adoption = {"changes": sorted(plan.agreed), "annotations_until": None if reads else until}
    if project is None:
        project = projects.create_project(
            session, request.name, sources=request.sources, instructions=request.instructions, spec=spec,
            label_studio_project_id=number,
        )  # fmt: skip
    else:
        for source in request.sources:
            projects.add_source(session, request.name, source, spec)
        for instruction in request.instructions:
            projects.add_instruction(session, request.name, instruction, spec)
    first = project.adoption is None
    if first:
        project.task_order = None
    project.label_studio_project_id, project.adoption = number, adoption
    for row in project.instructions:
        row.label = plan.labels.get(row.text, row.label)
    repository.keep_tasks(session, project.id, place.tasks, plan.digests)
    target = results.target_of(number)
    if reads and Change.READ_ANNOTATIONS not in before:
        repository.read_anew(session, target)
    elif first and not reads:
        repository.note_read(session, target, place.tasks)
    session.flush()
    # What could not be shown before may be now.
    failed = repository.failed_runs(session, target)
    for run in [*run_rows.finished_without_publication(session, project.id, target), *failed]:
        results.open_publication(session, run)
