"""`premask demo`: the whole product on this machine, shown on six sample videos with known truth.

The stack is started, a project made, the videos are put into the bucket like anybody's, and everything after that is
the product's own doing; the demo only watches the database, and compares what came out with the truth it rendered.
"""

import asyncio
import json
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table

from backend.domain.errors import BadInput, NotFound
from backend.settings import Settings
from integrations.local.session import Interrupted, run
from integrations.local.stack import Stack

if TYPE_CHECKING:
    from backend.bootstrap import Container
    from workers.shapeworld.demo import SampleVideo

app = typer.Typer()

T = TypeVar("T")

PROJECT = "Shapeworld demo"
PREFIX = "demo/"
_POLL_S = 0.25


@dataclass(slots=True)
class _Options:
    once: bool
    as_json: bool
    timeout_s: float


@app.command()
def demo(
    once: Annotated[
        bool, typer.Option("--once", help="Stop at the end: status 0 only if every run was published.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --once: print the result as one JSON object.")] = False,
    state_dir: Annotated[Path | None, typer.Option(help="Where data, logs and secrets are kept (.premask).")] = None,
    timeout_s: Annotated[float, typer.Option(help="Give up waiting for the runs after so many seconds.")] = 600.0,
) -> None:
    """Start everything and annotate six sample videos."""
    if as_json and not once:
        raise typer.BadParameter("--json needs --once: the result is printed when the demo ends")
    settings = Settings().local
    stack = Stack(state_dir or settings.state_dir, quiet=as_json, label_studio_venv=settings.label_studio_venv)
    options = _Options(once, as_json, timeout_s)
    # Rendered while the services start: the two have nothing to do with each other.
    with tempfile.TemporaryDirectory(prefix="premask-demo-") as folder, ThreadPoolExecutor(1) as executor:
        rendering = executor.submit(_render, Path(folder))
        try:
            raise SystemExit(asyncio.run(run(stack, lambda started: _show(started, rendering, options))))
        except Interrupted:
            raise SystemExit(0 if not once else 130) from None


def _render(folder: Path) -> list["SampleVideo"]:
    from workers.shapeworld import demo as samples

    return samples.render(folder)


async def _show(stack: Stack, rendering: "Future[list[SampleVideo]]", options: _Options) -> int:
    os.environ.update(stack.environment)
    # The services' lines go on in their log files; the terminal shows the runs now.
    stack.console.hush()
    seconds = dict(stack.seconds)
    report = await asyncio.to_thread(_annotate_samples, rendering, options, seconds)
    seconds["all"] = round(stack.seconds["total"] + sum(seconds[p] for p in ("render", "project", "annotate")), 2)
    everything_published = all(row["published"] for row in report["runs"])
    report["label_studio"]["url"] = stack.urls["label_studio"]
    report["seconds"] = seconds
    if options.as_json:
        print(json.dumps(report, ensure_ascii=False), flush=True)
    else:
        _print_report(report, stack)
    if options.once:
        return 0 if everything_published else 1
    await asyncio.Event().wait()
    return 0


def _annotate_samples(
    rendering: "Future[list[SampleVideo]]", options: _Options, seconds: dict[str, float]
) -> dict[str, Any]:
    """The demo's work beside a running stack. `seconds` gets its phases; "render" is what was still waited for."""
    from backend.bootstrap import bootstrap

    container = bootstrap(Settings())
    try:
        videos = _timed(seconds, "render", rendering.result)
        project_id = _timed(seconds, "project", lambda: _ensure_project(container, videos))
        return _timed(seconds, "annotate", lambda: _put_and_watch(container, videos, project_id, options))
    finally:
        container.close()


def _timed(seconds: dict[str, float], phase: str, work: Callable[[], T]) -> T:
    begin = time.monotonic()
    result = work()
    seconds[phase] = round(time.monotonic() - begin, 2)
    return result


def _ensure_project(container: "Container", videos: list["SampleVideo"]) -> int:
    """The demo project's id in Label Studio; made now, or found from an earlier demo in the same state folder."""
    from backend.db.repositories import projects as rows
    from backend.domain.runs import Mode
    from backend.services import projects

    with container.transaction() as session:
        existing = rows.find(session, PROJECT)
    if existing is None:
        prefixes: dict[tuple[str, str], list[str]] = {}
        for video in videos:
            prefixes.setdefault((video.instruction, video.mode), []).append(f"{PREFIX}{video.name}/")
        existing = projects.create_connected(
            container.transaction,
            container.labeling_tool,
            PROJECT,
            sources=[projects.Source(container.settings.storage.artifact_bucket, PREFIX)],
            instructions=[projects.InstructionSpec(t, Mode(m), tuple(p)) for (t, m), p in prefixes.items()],
            labels=(),
            spec=container.run_spec,
        )
    elif {(one.text, one.mode) for one in existing.instructions} != {(v.instruction, v.mode) for v in videos}:
        raise BadInput(
            f"the project {PROJECT!r} here asks the questions of another version's demo; remove the state folder "
            f"({container.settings.local.state_dir}), or name another with --state-dir"
        )
    elif container.labeling_tool is not None:
        existing = projects.connect(container.transaction, container.labeling_tool, PROJECT)
    if existing.label_studio_project_id is None:
        raise NotFound("the demo project has no project in Label Studio")
    return existing.label_studio_project_id


def _put_and_watch(
    container: "Container", videos: list["SampleVideo"], project_id: int, options: _Options
) -> dict[str, Any]:
    bucket = container.settings.storage.artifact_bucket
    keys = {f"{PREFIX}{video.name}/{video.path.name}": video for video in videos}
    for key, video in keys.items():
        container.store.upload(bucket, key, video.path, "video/mp4")
    deadline = time.monotonic() + options.timeout_s
    console = _console(quiet=options.as_json)
    told: dict[str, str] = {}
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while True:
            rows = _rows(container, bucket, keys)
            if console.is_terminal:
                live.update(_progress_table(rows), refresh=True)
            else:
                _tell_changes(console, rows, told)
            if all(row["done"] for row in rows):
                break
            if time.monotonic() > deadline:
                console.print(f"not everything was published within {options.timeout_s:g} s", style="red")
                break
            time.sleep(_POLL_S)
    return {
        "runs": [_result(container, row, keys[row["key"]]) for row in rows],
        "label_studio": {"project_id": project_id},
        "model": _models(container),
    }


def _rows(container: "Container", bucket: str, keys: dict[str, "SampleVideo"]) -> list[dict[str, Any]]:
    """Where each sample stands; one that has no run yet is waiting for its event."""
    from backend.db.repositories import runs as run_rows
    from backend.domain.runs import FINISHED, PUBLISHABLE, RunStatus

    with container.transaction() as session:
        runs = {run.video.key: run for run in run_rows.of_objects(session, bucket, keys)}
    rows = []
    for key, video in keys.items():
        run = runs.get(key)
        states = {p.state for p in run.publications} if run else set()
        status = RunStatus(run.status) if run else None
        finished, published = status in FINISHED, states == {"published"}
        done = finished and (published or "failed" in states or status not in PUBLISHABLE)
        rows.append(
            {
                "key": key,
                "name": video.name,
                "run_id": run.id if run else None,
                "status": status or "waiting",
                "stage": f"{run.stage} {run.stage_progress:.0%}" if run and run.stage and not finished else "",
                "published": published,
                "done": done,
            }
        )
    return rows


def _models(container: "Container") -> dict[str, Any]:
    profile = container.profile
    weights = {
        "System 1": profile.system1.weights,
        "System 2": profile.system2.weights or profile.system1.weights,
        "SAM2": profile.segmenter.weights,
    }
    return {"profile": profile.name, "trained_on": {role: w.trained_on for role, w in weights.items()}}


def _progress_table(rows: list[dict[str, Any]]) -> Table:
    table = Table("video", "status", "stage", "in Label Studio", title="runs")
    for row in rows:
        table.add_row(row["name"], row["status"], row["stage"], "yes" if row["published"] else "")
    return table


def _tell_changes(console: Console, rows: list[dict[str, Any]], told: dict[str, str]) -> None:
    """A line for each run that moved on, for logs and pipes where no table can be redrawn."""
    for row in rows:
        where = "in Label Studio" if row["published"] else row["stage"].split(" ")[0] or row["status"]
        if told.get(row["name"]) != where:
            console.print(f"{row['name']}: {where}")
            told[row["name"]] = where


def _result(container: "Container", row: dict[str, Any], video: "SampleVideo") -> dict[str, Any]:
    """What came out, with J against the truth. Only here is the truth looked at."""
    from backend.services import results
    from workers.evaluation.metrics import region_j

    result: dict[str, Any] = {
        "video": video.name,
        "instruction": video.instruction,
        "mode": video.mode,
        "status": row["status"],
        "published": row["published"],
        "keyframes": 0,
        "tracks": 0,
        "objects_in_scene": video.objects_in_scene,
        "j": None,
        "seconds": {},
    }
    if row["status"] in ("succeeded", "no_target"):
        with container.transaction() as session:
            annotation = results.load_annotation(session, row["run_id"])
        j = region_j([track.masks for track in annotation.tracks], video.truth, video.frame_count)
        result |= {
            "keyframes": len(annotation.keyframes),
            "tracks": len(annotation.tracks),
            "j": round(j, 4),
            "seconds": {stage: round(spent, 3) for stage, spent in annotation.timings_s.items()},
        }
    return result


#: Stages with a column of their own in the table; the others are in "all".
_SHOWN_STAGES = {"decode": "decode", "system1": "System 1", "system2": "System 2", "segment": "SAM2"}


def _console(quiet: bool = False) -> Console:
    """As wide as the terminal; where there is none, wide enough for the table."""
    console = Console(quiet=quiet, highlight=False)
    return console if console.is_terminal else Console(quiet=quiet, highlight=False, width=150)


def _print_report(report: dict[str, Any], stack: Stack) -> None:
    console = _console()
    table = Table("video", "instruction", "keyframes", "tracks", "J")
    for column in (*_SHOWN_STAGES.values(), "all, s"):
        table.add_column(column, justify="right")
    table.add_column("in Label Studio")
    for row in report["runs"]:
        spent = row["seconds"]
        stages = [f"{spent[stage]:.2f}" if stage in spent else "–" for stage in _SHOWN_STAGES]
        j = "–" if row["j"] is None else f"{row['j']:.3f}"
        shown = "yes" if row["published"] else f"no ({row['status']})"
        counts = (str(row["keyframes"]), str(row["tracks"]), j)
        table.add_row(row["video"], row["instruction"], *counts, *stages, f"{sum(spent.values()):.2f}", shown)
    console.print(table)
    console.print("J: mean IoU with the true masks over all frames. What the models were trained on:")
    for role, trained_on in report["model"]["trained_on"].items():
        console.print(f"  {role:<10} {trained_on}")
    phases = ", ".join(f"{phase} {spent:.1f}" for phase, spent in report["seconds"].items())
    project = f"{stack.urls['label_studio']}/projects/{report['label_studio']['project_id']}/data"
    console.print(f"Seconds: {phases}")
    console.print(f"Label Studio  {project}", soft_wrap=True)
    console.print(f"  log in with {stack.login['username']} / {stack.login['password']}")
    console.print(f"API           {stack.urls['api']}/docs")
    console.print(f"Logs          {stack.state.logs}")
    console.print("Ctrl-C stops everything.")
