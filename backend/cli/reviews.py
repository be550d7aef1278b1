"""`premask reviews`: what people changed in the pre-annotations."""

from collections import Counter
from collections.abc import Sequence
from typing import Annotated

import typer

from backend.api.schemas.reviews import LayerOut, LedgerLine, ReviewOut, ReviewVersionOut
from backend.bootstrap import bootstrap
from backend.cli.output import AsJson, print_json, print_table
from backend.db.repositories import ledger
from backend.db.repositories import projects as project_rows
from backend.db.repositories.ledger import By
from backend.domain.errors import Conflict, Misconfigured
from backend.services import review_feed, reviews

app = typer.Typer(no_args_is_help=True, help="What people changed in the pre-annotations.")


@app.callback()
def group() -> None:
    """What people changed in the pre-annotations."""


@app.command()
def show(run_id: Annotated[int, typer.Argument(help="The run's id.")], as_json: AsJson = False) -> None:
    """Every review of a run, in every version: which tracks and masks were left, edited, added or removed."""
    container = bootstrap()
    with container.transaction() as session:
        found = [ReviewOut.of(row) for row in reviews.of_run(session, run_id)]
    if as_json:
        print_json(found)
        return
    columns = (
        "task", "annotation", "version", "by", "lead time, s", "tracks", "masks", "IoU of boxes", "frames touched",
    )  # fmt: skip
    print_table(columns, [_row(review, version) for review in found for version in review.versions])
    for review in found:
        if review.deleted_at is not None:
            typer.echo(f"Annotation {review.annotation_id} was deleted in the labeling tool.")
        if review.versions and review.versions[-1].problem:
            typer.echo(f"Annotation {review.annotation_id}: {review.versions[-1].problem}")
        for version in review.versions:
            if version.layer is not None:
                typer.echo(f"Annotation {review.annotation_id}, version {version.number}: {_told(version.layer)}")


@app.command()
def collect(project: Annotated[str, typer.Argument(help="The project's name.")]) -> None:
    """Ask the labeling tool now what people changed; workers do it every half minute."""
    container = bootstrap()
    if container.labeling_tool is None:
        raise Misconfigured("no labeling tool is configured, so there is nowhere to read reviews from")
    with container.transaction() as session:
        number = project_rows.by_name(session, project).label_studio_project_id
    if number is None:
        raise Conflict(f"project {project!r} has no place in the labeling tool; see `premask projects connect`")
    found = review_feed.poll(container.sessions, container.labeling_tool, number, container.settings.storage)
    typer.echo(f"{found.tasks} tasks read, {found.versions} new versions of annotations, {found.gone} tasks gone")


@app.command()
def stats(
    by: Annotated[By, typer.Option(help="What reviews are put together by.")] = By.MODEL,
    project: Annotated[str | None, typer.Option(help="Only this project's.")] = None,
    as_json: AsJson = False,
) -> None:
    """The assistance ledger: how much of the pre-annotations was accepted, and what it took to correct the rest.

    Each review counts as it is now. In SQL: the view `assistance_ledger`.
    """
    with bootstrap().transaction() as session:
        lines = [LedgerLine(**figures) for figures in ledger.stats(session, by, project)]
    if as_json:
        print_json(lines)
        return
    columns = (
        by.value, "reviews", "skipped", "accepted", "lead time, s", "without, s", "frames touched", "IoU of boxes",
        "IoU of masks",
        "tracks +/-/edited", "masks +/-/edited", "pixels +/-",
    )  # fmt: skip
    print_table(columns, [_line(line) for line in lines])


def _told(layer: LayerOut) -> str:
    """What is to be known of a corrected layer, in a line."""
    said = f"corrected layer {layer.id}: {layer.state}"
    if layer.problem is not None:
        return f"{said}: {layer.problem}"
    if layer.state != "ready":
        return said
    changes = Counter(track.change for track in layer.tracks)
    counted = ", ".join(f"{count} {change}" for change, count in changes.items())
    anew = sum(end - begin for track in layer.tracks for begin, end in track.changed)
    by = "" if layer.model_version is None else f" by the segmenter of {layer.model_version[:12]}"
    tracks = counted.replace(" ", " track " if next(iter(changes.values())) == 1 else " tracks ", 1)
    return f"{said}, {tracks}; masks changed on {anew} frames{by}"


def _line(line: LedgerLine) -> tuple[object, ...]:
    share = None if line.accepted_share is None else f"{line.accepted_share:.0%} of {line.compared}"
    without = _rounded(line.control_lead_time_median_s, 1)
    control = None if not line.control else f"{without} of {line.control}"
    return (
        line.group, line.reviews, line.skipped, share, _rounded(line.lead_time_median_s, 1), control,
        _rounded(line.frames_touched_mean, 1), _rounded(line.box_iou_mean, 3), _rounded(line.mask_iou_mean, 3),
        f"{line.tracks_added}/{line.tracks_removed}/{line.tracks_edited} of {line.tracks}",
        f"{line.masks_added}/{line.masks_removed}/{line.masks_edited} of {line.masks}",
        f"{line.pixels_added}/{line.pixels_removed}",
    )  # fmt: skip


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def _row(review: ReviewOut, version: ReviewVersionOut) -> tuple[object, ...]:
    lead_time = None if version.lead_time_s is None else round(version.lead_time_s, 1)
    head = (review.task_id, review.annotation_id, version.number, review.annotator, lead_time)
    if version.accepted is None:
        return (*head, "skipped" if version.skipped else "not compared", "", "", "")
    ious = [track.iou for track in version.tracks]
    mean_iou = f"{sum(ious) / len(ious):.3f}" if ious else ""
    touched = sum(len(track.touched_frames) for track in version.tracks)
    return (
        *head,
        _counted([track.change for track in version.tracks]),
        _counted([mask.change for mask in version.masks]),
        mean_iou,
        touched,
    )


def _counted(changes: Sequence[str]) -> str:
    return ", ".join(f"{count} {change}" for change, count in Counter(changes).items())
