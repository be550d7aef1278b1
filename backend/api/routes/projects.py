"""Projects."""

from fastapi import APIRouter

from backend.api.deps import TheContainer, TheSession
from backend.api.schemas.adoption import AdoptIn, PlanOut
from backend.api.schemas.projects import (
    InstructionIn,
    InstructionOut,
    OrderIn,
    ProjectChange,
    ProjectIn,
    ProjectOut,
    SourceIn,
    SourceOut,
    StatusOut,
)
from backend.db.repositories import projects as rows
from backend.domain.errors import Misconfigured
from backend.services import adoption, outages, projects

router = APIRouter(prefix="/projects", tags=["projects"])


@router.get("")
def list_projects(session: TheSession) -> list[ProjectOut]:
    return [ProjectOut.model_validate(row) for row in rows.all_projects(session)]


@router.get("/{name}")
def show_project(name: str, session: TheSession) -> ProjectOut:
    return ProjectOut.model_validate(rows.by_name(session, name))


@router.get("/{name}/status")
def show_status(name: str, session: TheSession) -> StatusOut:
    """How the labeling tool is doing for it."""
    return StatusOut.model_validate(outages.status(session, name))


@router.post("", status_code=201)
def make_project(body: ProjectIn, container: TheContainer) -> ProjectOut:
    """Also makes its project in the labeling tool, where one is configured."""
    project = projects.create_connected(
        container.transaction,
        container.labeling_tool,
        body.name,
        sources=[source.spec() for source in body.sources],
        instructions=[instruction.spec() for instruction in body.instructions],
        labels=body.labels,
        priority=body.priority,
        spec=container.run_spec,
        interactive=body.interactive,
    )
    return ProjectOut.model_validate(project)


@router.patch("/{name}")
def change_project(name: str, body: ProjectChange, container: TheContainer) -> ProjectOut:
    """Masks on demand are arranged with the labeling tool first, while no transaction is open."""
    if body.interactive is not None:
        projects.set_interactive(container.transaction, container.labeling_tool, name, body.interactive)
    with container.transaction() as session:
        changes = body.model_dump(exclude_none=True, exclude={"interactive"})
        return ProjectOut.model_validate(projects.set_up(session, name, **changes))


@router.put("/{name}/order")
def set_order(name: str, body: OrderIn, container: TheContainer) -> OrderIn:
    """Which tasks people see first, also in the labeling tool."""
    projects.set_order(container.transaction, container.labeling_tool, name, body.order)
    return body


@router.post("/{name}/adopt")
def adopt_project(name: str, body: AdoptIn, container: TheContainer) -> PlanOut:
    """Take over a project of the labeling tool that somebody else made. Unless `apply` is set, nothing is changed."""
    if container.labeling_tool is None:
        raise Misconfigured("no labeling tool is configured: set label_studio.url and label_studio.api_key")
    plan = adoption.adopt(
        container.transaction, container.labeling_tool, container.store, body.request(name), container.run_spec,
        apply=body.apply,
    )  # fmt: skip
    return PlanOut.of(plan)


@router.post("/{name}/instructions", status_code=201)
def add_instruction(name: str, body: InstructionIn, container: TheContainer, session: TheSession) -> InstructionOut:
    """Also asks it of the videos that are there already."""
    row = projects.add_instruction(session, name, body.spec(), container.run_spec)
    return InstructionOut.model_validate(row)


@router.post("/{name}/sources", status_code=201)
def add_source(name: str, body: SourceIn, container: TheContainer, session: TheSession) -> SourceOut:
    return SourceOut.model_validate(projects.add_source(session, name, body.spec(), container.run_spec))
