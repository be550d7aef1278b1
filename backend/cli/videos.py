"""`premask videos`: what came in."""

from typing import Annotated

import typer

from backend.api.schemas.videos import RenditionOut, VideoOut
from backend.bootstrap import bootstrap
from backend.cli.output import AsJson, print_json, print_table, shortened
from backend.db.repositories import videos as rows
from backend.services import renditions

app = typer.Typer(no_args_is_help=True, help="The videos that came in.")


@app.command("list")
def list_videos(
    project: Annotated[str | None, typer.Option(help="Only those this project watches.")] = None,
    limit: Annotated[int, typer.Option(min=1)] = 50,
    as_json: AsJson = False,
) -> None:
    """Newest first."""
    with bootstrap().transaction() as session:
        videos = [VideoOut.model_validate(row) for row in rows.page(session, limit, None, project)]
    if as_json:
        print_json(videos)
        return
    print_table(
        ("id", "video", "state", "frames", "size", "seconds", "sound", "why not"),
        [
            (
                video.id,
                f"s3://{video.bucket}/{video.key}",
                video.probe_status,
                video.frame_count,
                f"{video.width}×{video.height}" if video.width else None,
                f"{video.duration_s:.1f}" if video.duration_s is not None else None,
                {True: "yes", False: "no", None: None}[video.has_audio],
                shortened(video.unreadable_reason),
            )
            for video in videos
        ],
    )


@app.command()
def show(video_id: int, as_json: AsJson = False) -> None:
    """Everything known of one video."""
    with bootstrap().transaction() as session:
        video = VideoOut.model_validate(rows.get(session, video_id))
    if as_json:
        print_json(video)
    else:
        said = None if video.rendition is None else described(video.rendition)
        print_table(("", ""), list((video.model_dump(mode="json") | {"rendition": said}).items()))


@app.command()
def render(video_id: int) -> None:
    """Have renditions made that could not be made, and windows published that waited for them."""
    with bootstrap().transaction() as session:
        rows.get(session, video_id)
        count = renditions.again(session, video_id)
    typer.echo(f"{count} asked for again" if count else "none has failed")


def described(rendition: RenditionOut) -> str:
    """In a line."""
    why = "; ".join(rendition.reasons or ("to be found out whether it is needed",))
    if rendition.state == "ready":
        assert rendition.fps_num is not None
        assert rendition.fps_den is not None
        return f"{rendition.fps_num / rendition.fps_den:g} frames a second, because {why} ({rendition.key})"
    if rendition.state == "failed":
        return f"none, the video itself is shown: {rendition.problem}"
    return "not needed" if rendition.state == "not_needed" else f"being made: {why}"
