"""What a labeler sees, in a real browser on a real Label Studio: the boxes lie on the thing, frame by frame."""

import functools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import uuid4

import httpx
import numpy as np
import pytest
from playwright.sync_api import Locator, Page
from pydantic import SecretStr

from backend.domain.annotation import Box
from backend.domain.corrections import Change, compare
from backend.domain.masks import decode_mask
from backend.domain.tracks import BoxKeyframe, interpolate
from backend.ports.labeling import PublishedTask
from backend.ports.publication import PublicationItem
from backend.settings import LabelStudioSettings, StorageSettings
from integrations.label_studio.coordinates import label_studio_frame
from integrations.label_studio.prediction import box_keyframes_of, mask_of
from integrations.label_studio.tool import LabelStudioTool
from tests.conftest import S3, LabelStudioServer
from tests.factories import moving_square
from tests.factories.labeling_page import (
    LabelingPage,
    bright_box,
    browser_page,
    stroke_box,
    until,
    until_right,
    white_box,
)

pytestmark = [pytest.mark.stack, pytest.mark.label_studio, pytest.mark.browser, pytest.mark.slow]

#: On the screen: half the outline and the scaling of the picture.
TOLERANCE_PX = 3
#: An outline is two pixels wide and drawn on whole pixels.
INTERPOLATION_PX = 1.5


@dataclass(frozen=True)
class Published:
    tool: LabelStudioTool
    item: PublicationItem
    task: PublishedTask
    empty: PublishedTask

    @property
    def url(self) -> str:
        return self.tool.task_url(self.task.project_id, self.task.task_id)


@pytest.fixture(scope="module")
def published(s3: S3, label_studio: LabelStudioServer, tmp_path_factory: pytest.TempPathFactory) -> Published:
    """The clip and its keyframes in the bucket, its run in Label Studio; and a run that found nothing."""
    prefix = f"labeling-page-{uuid4().hex[:8]}/"
    clip = tmp_path_factory.mktemp("clip") / "square.mp4"
    moving_square.write_clip(clip)
    client = s3.server.client()
    client.put_object(Bucket=s3.bucket, Key=f"{prefix}square.mp4", Body=clip.read_bytes(), ContentType="video/mp4")
    for frame in moving_square.KEYFRAMES:
        body = moving_square.png(frame)
        client.put_object(Bucket=s3.bucket, Key=f"{prefix}{frame}.png", Body=body, ContentType="image/png")
    tool = LabelStudioTool(
        LabelStudioSettings(url=label_studio.url, api_key=SecretStr(label_studio.token)),
        StorageSettings(
            endpoint_url=s3.endpoint_url,
            access_key_id=SecretStr(s3.access_key_id),
            secret_access_key=SecretStr(s3.secret_access_key),
            artifact_bucket=s3.bucket,
        ),
    )
    project_id = tool.ensure_project(f"labeling page {uuid4().hex[:8]}", ["square"], [s3.bucket])
    uris = {frame: f"s3://{s3.bucket}/{prefix}{frame}.png" for frame in moving_square.KEYFRAMES}
    item = moving_square.item(f"s3://{s3.bucket}/{prefix}square.mp4", uris)
    nothing = moving_square.without_target(
        moving_square.item(f"s3://{s3.bucket}/{prefix}square.mp4", uris, run_id=8, instruction_id=3)
    )
    return Published(tool, item, tool.publish(project_id, item), tool.publish(project_id, nothing))


@pytest.fixture(scope="module")
def browser(label_studio: LabelStudioServer) -> Iterator[Page]:
    with browser_page(label_studio) as page:
        yield page


@pytest.fixture
def opened(browser: Page, published: Published, tmp_path: Path) -> Iterator[LabelingPage]:
    page = LabelingPage.opened(browser, published.url)
    until(lambda: len(page.regions()) == 4, "the regions are listed")
    yield page
    page.save(tmp_path / "labeling-page.png")


def seen(opened: LabelingPage) -> np.ndarray:
    return opened.video_pixels(moving_square.WIDTH, moving_square.HEIGHT)


def scaled(box: Box, pixels: np.ndarray) -> Box:
    """Where a box of the source lies in a picture of the whole frame."""
    scale = pixels.shape[1] / moving_square.WIDTH
    return Box(box.x1 * scale, box.y1 * scale, box.x2 * scale, box.y2 * scale)


def distance(a: Box | None, b: Box | None) -> float:
    """How far the farthest edge is off, in pixels of the screen."""
    if a is None or b is None:
        return float("inf")
    return max(abs(a.x1 - b.x1), abs(a.y1 - b.y1), abs(a.x2 - b.x2), abs(a.y2 - b.y2))


def test_opening_a_task_makes_an_editable_annotation_of_the_prediction(opened: LabelingPage) -> None:
    assert opened.regions() == ["target"] * 4
    selected = "(() => { const a = window.Htx.annotationStore.selected; return [a.type, a.isReadOnly()] })()"
    assert opened.page.evaluate(selected) == ["annotation", False]
    assert opened.page.get_by_role("button", name="Submit").is_enabled()


def test_the_box_lies_on_the_object_and_moves_with_it(opened: LabelingPage) -> None:
    """From the first visible frame to the last, before and after the turn. One frame off would be 12 pixels."""
    for frame in (moving_square.VISIBLE[0], 15, 30, 31, 44, moving_square.VISIBLE[-1]):
        opened.jump_to(label_studio_frame(frame))
        until_right(functools.partial(off_the_truth, opened, frame), 10)


def off_the_truth(opened: LabelingPage, frame: int) -> str:
    """What is wrong with the object and the outline that are seen; empty where both lie where the truth is."""
    pixels = seen(opened)
    expected = scaled(moving_square.truth(frame), pixels)
    drawn, outlined = bright_box(pixels), stroke_box(pixels)
    if max(distance(drawn, expected), distance(outlined, expected)) <= TOLERANCE_PX:
        return ""
    time_s = opened.page.evaluate("document.querySelector('video').currentTime")
    return f"frame {frame} belongs at {expected}; at {time_s} s the object is at {drawn}, the outline at {outlined}"


def test_between_keyframes_the_browser_shows_what_we_interpolate(browser: Page, published: Published) -> None:
    """Far keyframes, sizes that change, a thing that leaves and comes back, and stays after the last keyframe."""
    keyframes = (
        BoxKeyframe(2, Box(30, 200, 130, 260), True),
        BoxKeyframe(19, Box(400, 20, 440, 140), True),
        BoxKeyframe(26, Box(180, 90, 480, 330), False),
        BoxKeyframe(40, Box(10, 10, 90, 90), True),
        BoxKeyframe(51, Box(500, 250, 620, 340), True),
    )
    [track] = published.item.tracks
    drawn = replace(track, box_keyframes=keyframes, masks={})
    item = replace(published.item, run_id=11, instruction_id=6, tracks=(drawn,))
    task = published.tool.publish(published.task.project_id, item)
    page = LabelingPage.opened(browser, published.tool.task_url(task.project_id, task.task_id))
    ours = interpolate(keyframes, moving_square.FRAME_COUNT)
    for frame in (1, 2, 5, 11, 18, 22, 26, 27, 39, 40, 44, 50, 51, 58):
        page.jump_to(label_studio_frame(frame))

        def as_ours(frame: int = frame) -> bool:
            pixels = seen(page)
            shown = stroke_box(pixels)
            if frame not in ours:
                return shown is None
            return distance(shown, scaled(ours[frame], pixels)) <= INTERPOLATION_PX

        until(as_ours, f"frame {frame} is shown as we have it, {ours.get(frame)}", 10)


@pytest.mark.parametrize("frame", [moving_square.VISIBLE[0] - 1, moving_square.VISIBLE[-1] + 1])
def test_no_box_where_there_is_no_object(opened: LabelingPage, frame: int) -> None:
    opened.jump_to(label_studio_frame(20))
    until(lambda: stroke_box(seen(opened)) is not None, "a box is seen in the middle", 10)
    opened.jump_to(label_studio_frame(frame))
    until(
        lambda: stroke_box(seen(opened)) is None and bright_box(seen(opened)) is None,
        f"neither box nor object is seen at frame {frame}",
        10,
    )


def test_the_mask_covers_the_object_on_each_keyframe_page(opened: LabelingPage) -> None:
    for number, frame in enumerate(moving_square.KEYFRAMES, start=1):
        picture = opened.turn_to_mask_page(number)

        def covered(frame: int = frame, picture: Locator = picture) -> bool:
            pixels = opened.pixels_of(picture)
            expected = scaled(moving_square.truth(frame), pixels)
            # The tools at the right edge are drawn over the picture, and are white.
            pixels = pixels[:, : int(0.9 * pixels.shape[1])]
            return distance(bright_box(pixels), expected) <= TOLERANCE_PX and white_box(pixels) is None

        until(covered, f"the mask covers the object at frame {frame}", 15)


def test_instruction_answer_descriptions_and_reasoning_stand_beside_it(
    opened: LabelingPage, published: Published
) -> None:
    text = opened.guide()
    assert published.item.instruction in text
    assert published.item.tracks[0].label in text
    assert "turns downwards <and> leaves." in text
    for number, page in enumerate(published.item.pages, start=1):
        assert page.description in text
        assert f"page {number} " in text
    video, guide = opened.video.bounding_box(), opened.page.locator(".premask-text").bounding_box()
    assert video is not None
    assert guide is not None
    assert guide["y"] < 900, "the text begins within the window"


def test_nothing_of_the_page_covers_anything_else(opened: LabelingPage) -> None:
    """In the quick view, and in the wider label stream, where the text moves to the side."""
    for query in ("", "&labeling=1"):
        page = LabelingPage.opened(opened.page, opened.page.url.split("&")[0] + query)
        until(lambda page=page: len(page.regions()) == 4, "the label stream begins with the prediction's regions")
        boxes = [
            page.page.locator(selector).bounding_box()
            for selector in (".premask-video .lsf-timeline", ".premask-text", ".premask-masks")
        ]
        for i, a in enumerate(boxes):
            for b in boxes[i + 1 :]:
                assert a is not None
                assert b is not None
                apart = (
                    a["x"] + a["width"] <= b["x"] + 1
                    or b["x"] + b["width"] <= a["x"] + 1
                    or a["y"] + a["height"] <= b["y"] + 1
                    or b["y"] + b["height"] <= a["y"] + 1
                )
                assert apart, f"{query or 'quick view'}: {a} and {b}"
        beside = boxes[1] is not None and boxes[0] is not None and boxes[1]["x"] > boxes[0]["x"] + 300
        assert beside == bool(query)


def test_a_run_that_found_nothing_says_so(browser: Page, published: Published) -> None:
    page = LabelingPage.opened(browser, published.tool.task_url(published.empty.project_id, published.empty.task_id))
    assert "The model found nothing that fits the instruction." in page.guide()
    assert "No such thing." in page.guide()
    assert page.regions() == []
    assert page.page.get_by_role("button", name="Submit").is_enabled()


def test_what_a_labeler_edits_is_found_and_nothing_else(browser: Page, published: Published, tmp_path: Path) -> None:
    """A box moved on one frame, a stroke on one page: everything untouched is as it was sent, to the bit."""
    frame, page_index, by_px = 15, 1, (48.0, 36.0)
    item = replace(published.item, run_id=9, instruction_id=4)
    task = published.tool.publish(published.task.project_id, item)
    page = LabelingPage.opened(browser, published.tool.task_url(task.project_id, task.task_id))
    until(lambda: len(page.regions()) == 4, "the regions are listed")
    page.jump_to(label_studio_frame(frame))
    pixels = seen(page)
    until(lambda: distance(stroke_box(seen(page)), scaled(moving_square.truth(frame), pixels)) <= TOLERANCE_PX, "a box")
    view, scale = page.video.bounding_box(), pixels.shape[1] / moving_square.WIDTH
    assert view is not None
    box = scaled(moving_square.truth(frame), pixels)
    left = view["x"] + (view["width"] - pixels.shape[1]) / 2
    page.drag((left + (box.x1 + box.x2) / 2, view["y"] + (box.y1 + box.y2) / 2), (by_px[0] * scale, by_px[1] * scale))
    page.select_region(1 + page_index)
    picture = page.turn_to_mask_page(1 + page_index).bounding_box()
    assert picture is not None
    page.drag((picture["x"] + 0.2 * picture["width"], picture["y"] + 0.8 * picture["height"]), (60, 10))
    page.save(tmp_path / "edited.png")
    assert page.submit() == 201

    answered = published.tool.answered(task.project_id, task.task_id)
    assert answered is not None
    [answer] = answered.answers
    sent, returned = published.tool.layers(answered, answer, item)
    made = compare(sent, returned)
    [track] = made.tracks
    assert (track.change, track.touched_frames) == (Change.EDITED, (frame,))
    around = [keyframe.frame_index for keyframe in item.tracks[0].box_keyframes]
    before, after = max(n for n in around if n < frame), min(n for n in around if n > frame)
    assert track.moved_frames == tuple(range(before + 1, after))
    assert track.resized_frames == track.shown_frames == track.hidden_frames == ()
    truth = moving_square.truth(frame)
    wanted = Box(truth.x1 + by_px[0], truth.y1 + by_px[1], truth.x2 + by_px[0], truth.y2 + by_px[1])
    assert distance(interpolate(returned.tracks[0].keyframes, sent.frame_count)[frame], wanted) <= TOLERANCE_PX
    painted, *others = sorted(made.masks, key=lambda mask: mask.frame_index != moving_square.KEYFRAMES[page_index])
    assert (painted.change, painted.frame_index) == (Change.EDITED, moving_square.KEYFRAMES[page_index])
    assert painted.pixels_added > 500
    assert painted.pixels_removed == 0
    assert [(mask.change, mask.pixels_added, mask.pixels_removed) for mask in others] == [(Change.UNTOUCHED, 0, 0)] * 2


def test_what_a_labeler_submits_unchanged_is_what_was_sent(
    opened: LabelingPage, published: Published, label_studio: LabelStudioServer
) -> None:
    """Runs last: the task has an annotation then."""
    assert opened.submit() == 201
    headers = {"Authorization": f"Token {label_studio.token}"}
    answer = httpx.get(f"{label_studio.url}/api/tasks/{published.task.task_id}/annotations/", headers=headers)
    (annotation,) = answer.json()
    assert annotation["parent_prediction"] == published.task.prediction_id
    regions = {region["id"]: region for region in annotation["result"]}
    track = published.item.tracks[0]
    back = interpolate(
        box_keyframes_of(regions["run7-track0"], moving_square.WIDTH, moving_square.HEIGHT), moving_square.FRAME_COUNT
    )
    sent = interpolate(track.box_keyframes, moving_square.FRAME_COUNT)
    assert back.keys() == sent.keys()
    assert all(back[frame].iou(sent[frame]) > 0.9999 for frame in sent)
    for frame in moving_square.KEYFRAMES:
        mask = mask_of(regions[f"run7-track0-frame{frame}"])
        assert np.array_equal(decode_mask(mask), moving_square.mask(frame))
