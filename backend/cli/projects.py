"""`premask projects`: what is watched, and what is asked of it."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

import typer

from backend.api.schemas.projects import ProjectOut, StatusOut
from backend.bootstrap import bootstrap
from backend.cli.adopt import SOURCE_HELP, adopt, parse_source
from backend.cli.output import AsJson, print_json, print_table, shortened
from backend.db.repositories import projects as rows
from backend.domain.errors import Misconfigured
from backend.domain.ordering import TaskOrder
from backend.domain.runs import Mode
from backend.services import outages, projects
from backend.services.projects import InstructionSpec

app = typer.Typer(no_args_is_help=True, help="What is watched, and which instructions it is asked.")

Name = Annotated[str, typer.Argument(help="The project's name.")]


@app.command()
def create(
    name: Name,
    source: Annotated[list[str], typer.Option(help=SOURCE_HELP)],
    instruction: Annotated[list[str] | None, typer.Option(help="May be given more than once.")] = None,
    mode: Annotated[
        Mode,
        typer.Option(
            help="Of the instructions: by what is seen (vos), or also heard (avs); boxes on frame 0, by sound (aid)."
        ),
    ] = Mode.VOS,
    label: Annotated[
        list[str] | None, typer.Option(help="Offered in Label Studio; may be given more than once.")
    ] = None,
    priority: Annotated[
        int, typer.Option(min=-1000, max=1000, help="What projects of a higher one ask is answered before all else.")
    ] = 0,
    interactive: Annotated[
        bool, typer.Option("--interactive", help="Labelers get masks for what they click on keyframe pages.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make a project, and its project in Label Studio where that is configured."""
    container = bootstrap()
    project = projects.create_connected(
        container.transaction,
        container.labeling_tool,
        name,
        sources=[parse_source(text) for text in source],
        instructions=[InstructionSpec(text, mode) for text in instruction or ()],
        labels=label or (),
        spec=container.run_spec,
        priority=priority,
        interactive=interactive,
    )
    _print([ProjectOut.model_validate(project)], as_json, one=True)


@app.command("list")
def list_projects(as_json: AsJson = False) -> None:
    """All projects by name."""
    with bootstrap().transaction() as session:
        found = [ProjectOut.model_validate(row) for row in rows.all_projects(session)]
    _print(found, as_json, one=False)


@app.command()
def show(name: Name, as_json: AsJson = False) -> None:
    """One project with its sources and instructions."""
    with bootstrap().transaction() as session:
        project = ProjectOut.model_validate(rows.by_name(session, name))
    _print([project], as_json, one=True)


@app.command()
def status(as_json: AsJson = False) -> None:
    """How Label Studio is doing for each project: what is wrong since when, when it is asked again, what waits."""
    with bootstrap().transaction() as session:
        found = [StatusOut.model_validate(one) for one in outages.statuses(session)]
    if as_json:
        print_json(found)
        return
    columns = ("project", "Label Studio", "state", "since", "asked again", "waiting", "published", "failed", "lag", "")
    print_table(
        columns,
        [
            (
                one.project, one.label_studio_project_id, one.state, _moment(one.since), _moment(one.next_try_at),
                one.pending, one.published, one.failed, _lag(one), one.detail or "",
            )
            for one in found
        ],
    )  # fmt: skip


def _lag(one: StatusOut) -> str | None:
    """How long reviews took to be here."""
    if one.review_lag_median_s is None or one.review_lag_p95_s is None:
        return None
    return f"{one.review_lag_median_s:.1f} s (95%: {one.review_lag_p95_s:.1f})"


def _moment(value: datetime | None) -> str | None:
    return None if value is None else f"{value:%Y-%m-%d %H:%M:%S}"


@app.command("set")
def set_up(
    name: Name,
    show_corrected: Annotated[
        bool | None,
        typer.Option(
            "--show-corrected/--no-show-corrected",
            help="Send what corrections make of a result as a fresh prediction; annotations are never touched.",
        ),
    ] = None,
    control_share: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="The share of new tasks that get no pre-annotation, for comparison."),
    ] = None,
    order: Annotated[
        TaskOrder | None,
        typer.Option(help="Which tasks people see first: those with the lowest score, the oldest, or the newest."),
    ] = None,
    interactive: Annotated[
        bool | None,
        typer.Option("--interactive/--no-interactive", help="Labelers get masks for what they click."),
    ] = None,
    window_s: Annotated[
        float | None,
        typer.Option(min=0, help="Show longer videos in windows of at most so many seconds, a task each; 0: in one."),
    ] = None,
    priority: Annotated[
        int | None,
        typer.Option(min=-1000, max=1000, help="What projects of a higher one ask is answered before all else."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Change a project's settings; what is not named stays."""
    chosen = {
        "show_corrected": show_corrected, "control_share": control_share, "window_s": window_s, "priority": priority,
    }  # fmt: skip
    container = bootstrap()
    if interactive is not None:
        projects.set_interactive(container.transaction, container.labeling_tool, name, interactive)
    with container.transaction() as session:
        projects.set_up(session, name, **{name: value for name, value in chosen.items() if value is not None})
    if order is not None:
        projects.set_order(container.transaction, container.labeling_tool, name, order)
    show(name, as_json)


@app.command("add-instruction")
def add_instruction(
    name: Name,
    text: str,
    mode: Mode = Mode.VOS,
    key_prefix: Annotated[list[str] | None, typer.Option(help="Ask it only of videos under this prefix.")] = None,
    backfill: Annotated[bool, typer.Option(help="Ask it of the videos that are there already, too.")] = True,
    as_json: AsJson = False,
) -> None:
    """Ask one more thing of the project's videos."""
    container = bootstrap()
    spec = InstructionSpec(text, mode, tuple(key_prefix or ()))
    with container.transaction() as session:
        projects.add_instruction(session, name, spec, container.run_spec, backfill_videos=backfill)
    show(name, as_json)


@app.command("add-source")
def add_source(name: Name, source: Annotated[str, typer.Argument(help=SOURCE_HELP)], as_json: AsJson = False) -> None:
    """Watch one more place."""
    container = bootstrap()
    with container.transaction() as session:
        projects.add_source(session, name, parse_source(source), container.run_spec)
    if container.labeling_tool is not None:
        # Label Studio presigns per bucket: a new one must be made known to it.
        projects.connect(container.transaction, container.labeling_tool, name)
    show(name, as_json)


@app.command()
def connect(name: Name, as_json: AsJson = False) -> None:
    """Make or repair the project's place in Label Studio, and publish what is finished and not there yet."""
    container = bootstrap()
    if container.labeling_tool is None:
        raise Misconfigured("no labeling tool is configured: set label_studio.url and label_studio.api_key")
    projects.connect(container.transaction, container.labeling_tool, name)
    show(name, as_json)


app.command("adopt")(adopt)


def _print(found: Sequence[ProjectOut], as_json: bool, *, one: bool) -> None:
    if as_json:
        print_json(found[0] if one else found)
        return
    print_table(
        ("name", "watches", "instructions", "Label Studio"),
        [
            (
                project.name,
                "\n".join(f"s3://{source.bucket}/{source.prefix}" for source in project.sources),
                "\n".join(f"{row.mode}: {shortened(row.text)}" for row in project.instructions),
                project.label_studio_project_id,
            )
            for project in found
        ],
    )
