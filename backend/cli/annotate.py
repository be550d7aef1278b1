"""`premask annotate`: the whole pipeline on one video, in this process, with no service behind it."""

import json
import logging
import sys
from pathlib import Path
from typing import Annotated

import typer

from backend.domain.annotation import Annotation
from backend.domain.contract import annotation_to_json
from backend.domain.errors import BadInput
from backend.domain.runs import Mode, Stage
from backend.profiles import load_profile
from backend.settings import get_settings
from integrations.media.probe import probe_video

app = typer.Typer()


@app.command()
def annotate(
    video: Annotated[Path, typer.Argument(help="A video file.")],
    instruction: Annotated[str, typer.Argument(help='What to find, as "the red circle".')],
    mode: Annotated[
        Mode,
        typer.Option(
            help="vos: by what is seen; avs: also by what is heard; aid: boxes on the first frame, by what is heard."
        ),
    ] = Mode.VOS,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
    overlay: Annotated[Path | None, typer.Option(help="Write the video with masks and boxes drawn on it.")] = None,
    profile: Annotated[str | None, typer.Option(help="Model profile: a name or a TOML file.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the run.")] = None,
) -> None:
    """Annotate one video; no services needed."""
    if not video.is_file():
        raise BadInput(f"there is no file {video}", code="unreadable_video")
    if overlay is not None and not overlay.parent.is_dir():
        raise BadInput(f"the folder of {overlay} does not exist")
    settings = get_settings()
    models = load_profile(profile or settings.model.profile)
    # What can't be annotated is said before seconds, or minutes, go into loading the models.
    models.check_instruction(instruction)
    probe = probe_video(video, settings.pipeline)
    # Notices of the libraries would stand in the way of the one object or line that is asked for.
    logging.disable(logging.WARNING)
    from workers.pipeline.omni import load_pipeline

    worker = settings.worker
    pipeline = load_pipeline(
        models, settings.pipeline, worker.torch_threads, worker.scratch_dir, worker.scratch_bytes,
        worker.feature_cache_bytes,
    )  # fmt: skip
    seed = settings.pipeline.seed if seed is None else seed
    listener = None if as_json else _show_stage
    result = pipeline.annotate(video, instruction, mode, seed=seed, probe=probe, on_stage=listener)
    if overlay is not None:
        from workers.pipeline.overlay import write_overlay

        write_overlay(video, result, overlay)
    if as_json:
        json.dump(annotation_to_json(result, str(video), instruction, mode), sys.stdout, ensure_ascii=False)
        print()
    else:
        _print_summary(result, overlay)


def _show_stage(stage: Stage, share: float) -> None:
    if sys.stderr.isatty():
        print(f"\r{stage.value:<8} {share:4.0%}", end="", file=sys.stderr, flush=True)


def _print_summary(result: Annotation, overlay: Path | None) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if sys.stderr.isatty():
        print("\r" + " " * 20 + "\r", end="", file=sys.stderr)
    outcome = f" ({result.outcome_code})" if result.outcome_code else ""
    seconds = ", ".join(f"{stage} {spent:.2f}" for stage, spent in result.timings_s.items())
    console.print(f"[bold]{result.status.value}[/bold]{outcome}  ·  {len(result.tracks)} tracks  ·  seconds: {seconds}")
    if result.reasoning:
        console.print(f"reasoning: {result.reasoning}", markup=False)
    table = Table("frame", "time s", "description", "boxes")
    for keyframe in result.keyframes:
        corners = [d.box_xyxy_px for d in keyframe.detections]
        boxes = "; ".join(f"{b.x1:.0f},{b.y1:.0f} to {b.x2:.0f},{b.y2:.0f}" for b in corners)
        table.add_row(str(keyframe.frame_index), f"{keyframe.time_s:.2f}", keyframe.description, boxes or "none")
    if result.keyframes:
        console.print(table)
    for warning in result.warnings:
        console.print(f"warning: {warning}", markup=False)
    if overlay is not None:
        console.print(f"overlay: {overlay}", markup=False)
