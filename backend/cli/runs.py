"""`premask runs`: list, show, retry, cancel, and watch them move."""

import time
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table

from backend.api.schemas.runs import PublicationOut, RunDetail, RunOut
from backend.bootstrap import Container, bootstrap
from backend.cli.output import AsJson, print_json, print_table, shortened, table
from backend.cli.videos import described
from backend.db.repositories import runs as rows
from backend.domain.runs import FINISHED, RunStatus
from backend.services import runs

app = typer.Typer(no_args_is_help=True, help="List, show, retry, cancel and watch runs.")

RunId = Annotated[int, typer.Argument(help="The run's id.")]
Project = Annotated[str | None, typer.Option(help="Only this project's.")]
COLUMNS = ("id", "project", "video", "instruction", "status", "progress", "why")
_BAR = 10


@app.command("list")
def list_runs(
    status: Annotated[list[RunStatus] | None, typer.Option(help="May be given more than once.")] = None,
    project: Project = None,
    video: Annotated[int | None, typer.Option(help="Only of the video with this id.")] = None,
    limit: Annotated[int, typer.Option(min=1)] = 50,
    as_json: AsJson = False,
) -> None:
    """Newest first."""
    found = _find(bootstrap(), limit, project, status or (), video)
    if as_json:
        print_json(found)
    else:
        print_table(COLUMNS, [_row(run) for run in found])


@app.command()
def show(run_id: RunId, as_json: AsJson = False) -> None:
    """One run with its keyframes, tracks and publications."""
    with bootstrap().transaction() as session:
        run = RunDetail.of(rows.get_whole(session, run_id))
    if as_json:
        print_json(run)
        return
    print_table(COLUMNS, [_row(run)])
    if run.frames_total is not None:
        typer.echo(f"\nFrames: {run.frames_done} of {run.frames_total} carried and committed")
    typer.echo(f"\nReasoning: {run.reasoning or '–'}\n")
    print_table(
        ("frame", "second", "detections", "description"),
        [(k.frame_index, f"{k.time_s:.2f}", len(k.detections), shortened(k.description)) for k in run.keyframes],
    )
    print_table(("track", "label", "box keyframes"), [(t.index, t.label, len(t.box_keyframes)) for t in run.tracks])
    print_table(
        ("published to", "frames", "state", "task", "last error"),
        [(p.target, _frames(p), p.state, p.task_id, shortened(p.last_error)) for p in run.publications],
    )
    if run.rendition is not None and run.rendition.state != "not_needed":
        typer.echo(f"Rendition: {described(run.rendition)}")
    if run.timings_s:
        typer.echo("Seconds: " + ", ".join(f"{stage} {seconds:.2f}" for stage, seconds in run.timings_s.items()))
    for warning in run.warnings:
        typer.echo(f"Warning: {warning}")


def _frames(publication: PublicationOut) -> str:
    first, count = publication.window_first_frame, publication.window_frame_count
    return "all" if first is None or count is None else f"{first}–{first + count - 1}"


@app.command()
def retry(run_id: RunId, as_json: AsJson = False) -> None:
    """Queue a run again that failed, was quarantined or cancelled."""
    with bootstrap().transaction() as session:
        runs.retry(session, run_id)
        run = RunOut.of(rows.get(session, run_id))
    _tell(run, as_json)


@app.command()
def cancel(run_id: RunId, as_json: AsJson = False) -> None:
    """Cancel a run that is queued or running."""
    with bootstrap().transaction() as session:
        runs.cancel(session, run_id)
        run = RunOut.of(rows.get(session, run_id))
    _tell(run, as_json)


@app.command()
def watch(
    project: Project = None,
    limit: Annotated[int, typer.Option(min=1, help="The newest so many.")] = 30,
    until_done: Annotated[bool, typer.Option(help="End when none is queued or running.")] = False,
    every_s: Annotated[float, typer.Option(min=0.1)] = 0.5,
) -> None:
    """Show the runs move, until Ctrl-C."""
    container = bootstrap()
    with Live(console=Console(), auto_refresh=False) as live:
        try:
            while True:
                found = _find(container, limit, project)
                live.update(_live_table(found), refresh=True)
                if until_done and all(run.status in FINISHED for run in found):
                    return
                time.sleep(every_s)
        except KeyboardInterrupt:
            return


def _find(
    container: Container,
    limit: int,
    project: str | None,
    statuses: Sequence[RunStatus] = (),
    video_id: int | None = None,
) -> list[RunOut]:
    with container.transaction() as session:
        found = rows.page(session, limit, None, statuses=statuses, project=project, video_id=video_id)
        return [RunOut.of(row) for row in found]


def _live_table(found: Sequence[RunOut]) -> Table:
    return table(COLUMNS, [_row(run) for run in found])


def _row(run: RunOut) -> tuple[object, ...]:
    return (
        run.id,
        run.project,
        run.video_key,
        shortened(run.instruction, 40),
        f"{run.status}, shadow" if run.shadow else run.status,
        _progress(run),
        shortened(run.outcome_reason or run.outcome_code),
    )


def _progress(run: RunOut) -> str:
    if run.status != RunStatus.RUNNING or run.stage is None:
        return ""
    full = round(_BAR * run.stage_progress)
    return f"{run.stage:<8} {'█' * full}{'░' * (_BAR - full)}"


def _tell(run: RunOut, as_json: bool) -> None:
    if as_json:
        print_json(run)
    else:
        typer.echo(f"Run {run.id} is {run.status}.")
