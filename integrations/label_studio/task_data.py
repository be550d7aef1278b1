"""The data of a labeling task: the key that finds it again, the media, and the text beside the video.

Text comes from people and models, so it is escaped for HTML, and so that Label Studio takes no part of it for the
address of an object in the storage.
"""

import base64
import html
import io
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from PIL import Image, ImageDraw

from backend.domain.renditions import constant_rate
from backend.domain.runs import RunStatus
from backend.domain.windows import Window
from backend.ports.publication import PublicationItem, PublicationPage
from integrations.label_studio.coordinates import FrameRate, label_studio_frame

#: The fields of a task by which we find our way back.
KEY_FIELD = "premask_key"
PAGE_FRAMES_FIELD = "keyframe_frame_indices"
VFR_WARNING = (
    "The video has no constant frame rate and is shown itself, not a rendition of it: Label Studio shows boxes on "
    "frames next to theirs. The stored results are exact."
)
RENDITION_NOTE = (
    "The video has no constant frame rate. Every frame of it is shown once, {fps:g} of them a second, so some parts are"
    " faster or slower than they were; the seconds above are the video's own."
)
_MODES = {"vos": "by what is seen", "avs": "by what is seen and heard", "aid": "by the first frame and the sound"}


def task_key(item: PublicationItem) -> str:
    """One task for each video (or window of it) and instruction; predictions of later models are added to it."""
    part = "" if item.window is None else f"/frames:{item.window.first_frame}-{item.window.stop}"
    return f"video:{item.video_id}/instruction:{item.instruction_id}{part}"


def merged_pages(item: PublicationItem, existing: Mapping[str, Any] | None) -> tuple[list[int], list[str]]:
    """Frame indices and image URIs of the task's pages: those it has, in their order, then what this run adds.

    Regions name their page by its position, so a page that is there never moves.
    """
    frames = list(existing.get(PAGE_FRAMES_FIELD, [])) if existing else []
    uris = list(existing.get("keyframes", []))[: len(frames)] if existing else []
    for page in item.pages:
        if page.frame_index not in frames:
            frames.append(page.frame_index)
            uris.append(page.image_uri)
    return frames, uris


def task_data(item: PublicationItem, rate: FrameRate, existing: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The whole `data` of the task; `existing` is the data it has already."""
    frames, uris = merged_pages(item, existing)
    return {
        **(existing or {}),
        KEY_FIELD: task_key(item),
        "video": item.video_uri if item.rendition is None else item.rendition.uri,
        "instruction": _plain(item.instruction) if item.window is None else _of_part(item, item.window),
        "answer": "" if item.control else _plain(", ".join(track.label for track in item.tracks)) or "nothing found",
        "fps": rate.fps,
        # Label Studio's page stays empty, without an error, if there is no picture at all.
        "keyframes": uris or [no_keyframes_picture()],
        PAGE_FRAMES_FIELD: frames,
        "guide": guide_html(item, rate, frames),
        **({} if item.window is None else {"window": _minutes(item, item.window)}),
    }


@cache
def no_keyframes_picture() -> str:
    """A small picture, as a data URL, for a task without keyframes."""
    picture = Image.new("RGB", (640, 90), (245, 245, 245))
    ImageDraw.Draw(picture).text((20, 32), "There are no keyframes to show.", fill=(90, 90, 90), font_size=22)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def guide_html(item: PublicationItem, rate: FrameRate, page_frames: Sequence[int]) -> str:
    """What the labeler reads beside the video: instruction, answer, descriptions by page, reasoning."""
    parts = [_section("Instruction", f"<b>{_text(item.instruction)}</b><br/><small>{_MODES[item.mode]}</small>")]
    if item.window is not None:
        whole = (
            f"{_minutes(item, item.window)} of {_minute(item.probe.duration_s)} minutes. Seconds below are the whole's."
        )
        parts.append(_section("Part of a longer video", _text(whole)))
    if item.control:
        # What the model said would be in the way of what a person says by themselves.
        return f"<div style='{_BODY}'>{''.join(parts)}</div>"
    if item.status == RunStatus.NO_TARGET:
        why = f" <small>({_text(item.outcome_code)})</small>" if item.outcome_code else ""
        parts.append(_section("Answer", f"The model found nothing that fits the instruction.{why}"))
    else:
        parts.append(_section("Answer", _tracks(item) if item.tracks else "Nothing of it is seen in this part."))
    if item.pages:
        first = item.shown.first_frame
        rows = "".join(_page_row(page, page_frames.index(page.frame_index) + 1, first) for page in item.pages)
        parts.append(_section("Looked for, page by page", f"<ol style='{_LIST}'>{rows}</ol>"))
    if item.reasoning:
        parts.append(_section("Reasoning", _text(item.reasoning).replace("\n", "<br/>")))
    if not rate.constant:
        parts.append(_section("Careful", _text(VFR_WARNING)))
    elif item.rendition is not None and constant_rate(item.probe.clock) is None:
        parts.append(_section("Time", _text(RENDITION_NOTE.format(fps=rate.fps))))
    parts.append(f"<p style='{_SMALL}'>{_text(item.model_version)}</p>")
    return f"<div style='{_BODY}'>{''.join(parts)}</div>"


_BODY = "font-size:14px;line-height:1.45;overflow-wrap:anywhere"
_TITLE = "font-size:11px;letter-spacing:.06em;text-transform:uppercase;opacity:.65;margin:0 0 2px;break-after:avoid"
_LIST = "list-style:none;margin:0;padding:0"
_SMALL = "font-size:11px;opacity:.65;margin:0"


def _of_part(item: PublicationItem, window: Window) -> str:
    """In the list of tasks the parts of a video are told apart by it."""
    return f"{_plain(item.instruction)} ({_minutes(item, window)})"


def _minutes(item: PublicationItem, window: Window) -> str:
    """From when to when a window is, by the video's own time."""
    clock = item.probe.clock
    ends_s = clock.time_s(window.stop) if window.stop < len(clock.pts) else clock.duration_s
    return f"{_minute(clock.time_s(window.first_frame))} to {_minute(ends_s)}"


def _minute(time_s: float) -> str:
    return f"{int(time_s) // 60}:{int(time_s) % 60:02d}"


def _section(title: str, body: str) -> str:
    return f"<p style='{_TITLE}'>{title}</p><div style='margin:0 0 12px'>{body}</div>"


def _tracks(item: PublicationItem) -> str:
    rows = []
    for track in item.tracks:
        score = f" <small>score {track.score:.2f}</small>" if track.score is not None else ""
        rows.append(f"<li>{_text(track.label)}{score}</li>")
    return f"<ul style='{_LIST}'>{''.join(rows)}</ul>"


def _page_row(page: PublicationPage, number: int, first_frame: int) -> str:
    where = f"page {number} · {page.time_s:.2f} s · frame {label_studio_frame(page.frame_index, first_frame)}"
    return f"<li style='margin:0 0 6px'><small>{where}</small><br/>{_text(page.description)}</li>"


def _plain(text: str, length: int = 200) -> str:
    """For a cell of the list of tasks, which shows text as it is."""
    short = " ".join(text.replace("://", ":/ /").split())
    return short if len(short) <= length else short[: length - 1] + "…"


def _text(text: str) -> str:
    return html.escape(text).replace("://", ":&#47;&#47;")
