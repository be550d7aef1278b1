"""`premask projects adopt`: a project of Label Studio that somebody else made is taken over, with nothing of it changed
that was not asked for."""

from typing import Annotated

import typer

from backend.api.schemas.adoption import PlanOut
from backend.bootstrap import bootstrap
from backend.cli.output import AsJson, print_json, print_table
from backend.domain.adoption import Change
from backend.domain.errors import BadInput, Misconfigured
from backend.domain.runs import Mode
from backend.services import adoption
from backend.services.adoption import Request
from backend.services.projects import InstructionSpec, Source

SOURCE_HELP = "A place to watch, as s3://bucket/prefix; may be given more than once."


def parse_source(text: str) -> Source:
    """`s3://bucket/prefix` or `bucket/prefix`. Raises `BadInput`."""
    bucket, _, prefix = text.removeprefix("s3://").partition("/")
    if not bucket:
        raise BadInput(f"{text!r} names no bucket; write s3://bucket/prefix")
    return Source(bucket, prefix)


def parse_label(text: str) -> tuple[str, str]:
    """`the instruction=its label`. Raises `BadInput`."""
    instruction, _, label = text.rpartition("=")
    if not instruction or not label:
        raise BadInput(f"{text!r} is no instruction=label", code="bad_label")
    return instruction, label


def adopt(
    name: Annotated[str, typer.Argument(help="The project's name; it is made if it isn't there.")],
    label_studio_project: Annotated[int, typer.Option(help="The number of Label Studio's project.")],
    source: Annotated[list[str] | None, typer.Option(help=SOURCE_HELP)] = None,
    instruction: Annotated[list[str] | None, typer.Option(help="May be given more than once.")] = None,
    mode: Annotated[
        Mode,
        typer.Option(
            help="Of the instructions: by what is seen (vos), or also heard (avs); boxes on frame 0, by sound (aid)."
        ),
    ] = Mode.VOS,
    label: Annotated[
        list[str] | None,
        typer.Option(help="What an instruction's things are called there, as instruction=label. May be given again."),
    ] = None,
    webhook: Annotated[bool, typer.Option("--webhook", help="Agree to our webhook.")] = False,
    storage: Annotated[bool, typer.Option("--storage", help="Agree to S3 storages for our buckets.")] = False,
    config: Annotated[bool, typer.Option("--config", help="Agree to missing tags being added.")] = False,
    show_predictions: Annotated[
        bool, typer.Option("--show-predictions", help="Agree to annotations beginning with our predictions.")
    ] = False,
    new_tasks: Annotated[
        bool, typer.Option("--new-tasks", help="Agree to new tasks for videos that no task there shows.")
    ] = False,
    read_annotations: Annotated[
        bool, typer.Option("--read-annotations", help="Read the annotations that are there, too.")
    ] = False,
    by_content: Annotated[
        bool, typer.Option("--by-content", help="Also find tasks by the bytes of their videos, which are read for it.")
    ] = False,
    apply: Annotated[bool, typer.Option("--apply", help="Do it. Without, only the plan is printed.")] = False,
    as_json: AsJson = False,
) -> None:
    """Take over a project of Label Studio that somebody else made: its tasks are used, predictions are added.

    Nothing else of it is changed but what is agreed to by a flag of its own. Repeat it to take in tasks that were added
    since, or to agree to more.
    """
    container = bootstrap()
    if container.labeling_tool is None:
        raise Misconfigured("no labeling tool is configured: set label_studio.url and label_studio.api_key")
    flags = {
        Change.WEBHOOK: webhook, Change.STORAGE: storage, Change.CONFIG: config,
        Change.SHOW_PREDICTIONS: show_predictions, Change.NEW_TASKS: new_tasks,
        Change.READ_ANNOTATIONS: read_annotations,
    }  # fmt: skip
    request = Request(
        name, label_studio_project, tuple(parse_source(text) for text in source or ()),
        tuple(InstructionSpec(text, mode) for text in instruction or ()),
        dict(parse_label(text) for text in label or ()),
        frozenset(change for change, agreed in flags.items() if agreed), by_content,
    )  # fmt: skip
    plan = PlanOut.of(
        adoption.adopt(
            container.transaction, container.labeling_tool, container.store, request, container.run_spec, apply=apply
        )
    )
    if as_json:
        print_json(plan)
    else:
        _print(plan)


def _print(plan: PlanOut) -> None:
    typer.echo(f"Label Studio's project {plan.label_studio_project_id}, {plan.title!r}")
    for line in plan.maps:
        typer.echo(f"  shown    {line}")
    for line in plan.missing:
        typer.echo(f"  missing  {line}")
    if plan.unfilled:
        typer.echo(f"  missing  new tasks would need {', '.join(plan.unfilled)}, which we have nothing for")
    for instruction, label in plan.labels.items():
        typer.echo(f"  label    {instruction!r} is {label!r}")
    typer.echo(
        f"  tasks    {plan.tasks}, of which {plan.tasks_used} show a video of ours and will get a prediction each; "
        f"their {plan.annotations} annotations stay"
    )
    rows = [(f"--{one.change}", _state(plan, one.needed, one.agreed), one.what) for one in plan.changes]
    print_table(("change", "", ""), rows)
    if not plan.applied:
        typer.echo("Nothing was changed; --apply does what is agreed to.")


def _state(plan: PlanOut, needed: bool, agreed: bool) -> str:
    if not needed:
        return "–"
    if not agreed:
        return "not agreed to"
    return "done" if plan.applied else "agreed to"
