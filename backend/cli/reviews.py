"""`premask reviews`: what people changed in the pre-annotations."""

import json
from collections import Counter
from dataclasses import asdict
from typing import Annotated, Any

import typer

from backend.bootstrap import bootstrap
from backend.cli.output import AsJson, print_table
from backend.domain.corrections import Change, Corrections
from backend.domain.errors import Misconfigured
from backend.services import reviews

app = typer.Typer(no_args_is_help=True, help="What people changed in the pre-annotations.")


@app.callback()
def group() -> None:
    """What people changed in the pre-annotations."""


@app.command()
def show(run_id: Annotated[int, typer.Argument(help="The run's id.")], as_json: AsJson = False) -> None:
    """Every review of a run: which tracks and masks were left, edited, added or removed."""
    container = bootstrap()
    if container.labeling_tool is None:
        raise Misconfigured("no labeling tool is configured, so there is nowhere to read reviews from")
    found = reviews.of_run(container.sessions, container.labeling_tool, run_id, container.settings.storage)
    if as_json:
        typer.echo(json.dumps([_as_json(review) for review in found], ensure_ascii=False, indent=2))
        return
    columns = ("task", "annotation", "by", "lead time, s", "tracks", "masks", "IoU of boxes", "frames touched")
    print_table(columns, [_row(review) for review in found])
    for review in found:
        if review.returned.problem:
            typer.echo(f"Annotation {review.returned.annotation_id}: {review.returned.problem}")


def _row(review: reviews.Review) -> tuple[object, ...]:
    answer, made = review.returned, review.corrections
    lead_time = None if answer.lead_time_s is None else round(answer.lead_time_s, 1)
    head = (review.task_id, answer.annotation_id, answer.annotator, lead_time)
    if made is None:
        return (*head, "skipped" if answer.skipped else "can't be read", "", "", "")
    ious = [track.iou for track in made.tracks]
    mean_iou = f"{sum(ious) / len(ious):.3f}" if ious else ""
    touched = sum(len(track.touched_frames) for track in made.tracks)
    return (
        *head,
        _counted([t.change for t in made.tracks]),
        _counted([m.change for m in made.masks]),
        mean_iou,
        touched,
    )


def _counted(changes: list[Change]) -> str:
    return ", ".join(f"{count} {change}" for change, count in Counter(changes).items())


def _as_json(review: reviews.Review) -> dict[str, Any]:
    answer = review.returned
    return {
        "task_id": review.task_id,
        "annotation_id": answer.annotation_id,
        "annotator": answer.annotator,
        "lead_time_s": answer.lead_time_s,
        "skipped": answer.skipped,
        "problem": answer.problem,
        "corrections": None if review.corrections is None else _corrections(review.corrections),
    }


def _corrections(made: Corrections) -> dict[str, Any]:
    return {"accepted": made.accepted} | asdict(made)
