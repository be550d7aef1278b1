"""A person corrects a pre-annotation in a real browser: exactly that arrives, is counted and worked into the result.

Three things are asked for; of one the box is moved on one frame, of another a page's mask is painted into, the third
is left alone. The workers, Label Studio and the small models are real.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from backend.domain.annotation import Box, Mask
from backend.domain.masks import decode_mask
from backend.domain.tracks import BoxKeyframe, interpolate
from integrations.label_studio.coordinates import label_studio_frame
from integrations.label_studio.prediction import box_keyframes_of, mask_of
from tests.conftest import LabelStudioServer
from tests.e2e.conftest import LiveStack
from tests.e2e.test_first_light import RUN_TIMEOUT_S, label_studio, make_project, predictions_of, published
from tests.e2e.test_reviews import TOLD_S, ready_layer, versions
from tests.factories.labeling_page import OUTLINE_RGB, LabelingPage, browser_page, until
from tests.factories.waiting import wait_for
from tests.factories.world import SIDE_PX, write_sample
from workers.shapeworld.world.queries import Kind

pytestmark = [pytest.mark.stack, pytest.mark.label_studio, pytest.mark.browser, pytest.mark.slow]

#: The three circles' tracks; the frame on which the first one's box is moved, and by what, in source pixels.
MOVED, PAINTED, LEFT = 0, 1, 2
FRAME, MOVED_BY_PX = 10, (18.0, 15.0)
#: On the screen a box lies where its outline is seen, within this.
TOLERANCE_PX = 3


@dataclass(frozen=True)
class Case:
    """A published run. `sent`: its prediction's regions by id; `masks`: the run's RLE by (track, frame)."""

    stack: LiveStack
    run_id: int
    task_id: int
    prediction_id: int
    frame_count: int
    sent: Mapping[str, dict[str, Any]]
    pages: tuple[int, ...]
    masks: Mapping[tuple[int, int], str]

    def region(self, track: int, frame: int | None = None) -> str:
        return f"run{self.run_id}-track{track}" + ("" if frame is None else f"-frame{frame}")

    def annotations(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = label_studio(self.stack, f"/api/tasks/{self.task_id}/annotations/")
        return found


def run_masks(stack: LiveStack, run_id: int) -> dict[tuple[int, int], str]:
    rows = stack.query(
        'SELECT t."index", m.frame_index, m.counts FROM masks m JOIN tracks t ON t.id = m.track_id WHERE t.run_id = %s',
        run_id,
    )
    return {(track, frame): counts for track, frame, counts in rows}


@pytest.fixture
def case(live_stack: LiveStack, tmp_path: Path) -> Case:
    sample = write_sample(tmp_path / "c.mp4", Kind.PLURAL, 3, seed=2001)
    project_id = make_project(live_stack, "correcting", sample.instruction, sample.mode)
    live_stack.premask("projects", "set", "correcting", "--show-corrected")
    live_stack.put(sample.path, "correcting/c.mp4")
    run_id = wait_for(published(live_stack, project_id), "the run is published", RUN_TIMEOUT_S)["id"]
    [prediction] = predictions_of(live_stack, run_id)
    [(task_id,)] = live_stack.query("SELECT task_id FROM publications WHERE run_id = %s", run_id)
    task = label_studio(live_stack, f"/api/tasks/{task_id}")
    pages = tuple(task["data"]["keyframe_frame_indices"])
    sent = {region["id"]: region for region in prediction["result"]}
    assert {track for track, _ in run_masks(live_stack, run_id)} == {MOVED, PAINTED, LEFT}
    assert FRAME not in pages
    masks = run_masks(live_stack, run_id)
    return Case(live_stack, run_id, task_id, prediction["id"], sample.frame_count, sent, pages, masks)


def boxes_of(region: Mapping[str, Any], frame_count: int) -> dict[int, Box]:
    return interpolate(box_keyframes_of(region, SIDE_PX, SIDE_PX), frame_count)


def move_box(page: LabelingPage, box: Box) -> None:
    """Drag the box, which is where it is in the source, by `MOVED_BY_PX`."""
    scale, left, top = page.video_place(SIDE_PX, SIDE_PX)
    middle = (left + scale * (box.x1 + box.x2) / 2, top + scale * (box.y1 + box.y2) / 2)
    page.drag(middle, (scale * MOVED_BY_PX[0], scale * MOVED_BY_PX[1]))


def outlined(page: LabelingPage, box: Box) -> bool:
    """Whether an outline is seen along all four sides of where a box of the source would be."""
    pixels = page.video_pixels(SIDE_PX, SIDE_PX)
    drawn = np.abs(pixels - np.array(OUTLINE_RGB)).max(axis=-1) < 40
    scale = pixels.shape[1] / SIDE_PX
    x1, y1, x2, y2 = (round(scale * edge) for edge in corners(box))
    rows = [drawn[y - TOLERANCE_PX : y + TOLERANCE_PX + 1, x1:x2].any(axis=0).mean() for y in (y1, y2)]
    columns = [drawn[y1:y2, x - TOLERANCE_PX : x + TOLERANCE_PX + 1].any(axis=1).mean() for x in (x1, x2)]
    return bool(min(*rows, *columns) > 0.8)


def paint(page: LabelingPage, number: int, begin: tuple[float, float], end: tuple[float, float]) -> None:
    """A stroke of the brush on a keyframe page, from and to a pixel of the source."""
    picture = page.turn_to_mask_page(number).bounding_box()
    assert picture is not None
    scale = picture["width"] / SIDE_PX
    at = (picture["x"] + scale * begin[0], picture["y"] + scale * begin[1])
    page.drag(at, (scale * (end[0] - begin[0]), scale * (end[1] - begin[1])))


def edit(case: Case, folder: Path) -> None:
    """Open the task, move the box, paint, submit."""
    stack, region = case.stack, case.sent[case.region(MOVED)]
    server = LabelStudioServer(stack.urls["label_studio"], "", stack.login["username"], stack.login["password"])
    [(project,)] = stack.query("SELECT label_studio_project_id FROM projects WHERE name = 'correcting'")
    with browser_page(server) as chromium:
        chromium.set_viewport_size({"width": 1440, "height": 1300})
        page = LabelingPage.opened(chromium, f"{server.url}/projects/{project}/data?task={case.task_id}")
        until(lambda: len(page.regions()) == len(case.sent), "all regions are listed")
        page.jump_to(label_studio_frame(FRAME))
        box = boxes_of(region, case.frame_count)[FRAME]
        until(lambda: outlined(page, box), "the box is seen where it was sent", 10)
        page.save(folder / "opened.png")
        move_box(page, box)
        wanted = shifted(box)
        until(lambda: outlined(page, wanted) and not outlined(page, box), "the box is seen where it was dragged", 10)
        page.save(folder / "moved.png")
        ids = list(case.sent)
        page.select_region(ids.index(case.region(PAINTED, case.pages[1])))
        begin, end = stroke(case)
        paint(page, 2, begin, end)
        page.save(folder / "painted.png")
        assert page.submit() == 201


def corners(box: Box) -> tuple[float, float, float, float]:
    return (box.x1, box.y1, box.x2, box.y2)


def shifted(box: Box) -> Box:
    (dx, dy) = MOVED_BY_PX
    return Box(box.x1 + dx, box.y1 + dy, box.x2 + dx, box.y2 + dy)


def stroke(case: Case) -> tuple[tuple[float, float], tuple[float, float]]:
    """From the middle of the painted thing to 40 pixels beyond its right edge."""
    box = bounds(pixels_of(case.masks[PAINTED, case.pages[1]]))
    y = (box.y1 + box.y2) / 2
    return ((box.x1 + box.x2) / 2, y), (box.x2 + 40.0, y)


def pixels_of(counts: str) -> np.ndarray:
    """(H, W) bool."""
    return decode_mask(Mask(SIDE_PX, SIDE_PX, counts, 1, Box(0, 0, 1, 1)))


def bounds(pixels: np.ndarray) -> Box:
    rows, columns = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
    return Box(columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)


def test_what_a_person_does_in_the_browser_is_what_arrives(case: Case, tmp_path: Path) -> None:
    edit(case, tmp_path)
    [annotation] = case.annotations()
    assert annotation["parent_prediction"] == case.prediction_id
    returned = {region["id"]: region for region in annotation["result"]}
    drawn, added = check_the_edits(case, returned)
    [version] = wait_for(lambda: versions(case.stack, case.run_id), "the correction is told", TOLD_S)
    check_the_ledger(case, version, annotation, added)
    layer = wait_for(lambda: ready_layer(case.stack, case.run_id), "the corrected layer is ready", RUN_TIMEOUT_S)
    check_the_layer(case, layer, boxes_of(returned[case.region(MOVED)], case.frame_count)[FRAME], drawn)
    check_the_fresh_prediction(case, layer, drawn)
    assert case.annotations() == [annotation]


def check_the_edits(case: Case, returned: Mapping[str, dict[str, Any]]) -> tuple[np.ndarray, int]:
    """In Label Studio's own words: one keyframe more, one stroke. The painted mask, and how many pixels were added."""
    assert list(returned) == list(case.sent)
    moved, painted = case.region(MOVED), case.region(PAINTED, case.pages[1])
    for region_id, region in case.sent.items():
        if region_id not in (moved, painted):
            assert {**region, **returned[region_id]}["value"] == returned[region_id]["value"]
    before, after = (boxes_of(regions[moved], case.frame_count) for regions in (case.sent, returned))
    wanted = shifted(before[FRAME])
    assert max(abs(a - b) for a, b in zip(corners(after[FRAME]), corners(wanted), strict=True)) <= TOLERANCE_PX
    drawn, was = decode_mask(mask_of(returned[painted])), pixels_of(case.masks[PAINTED, case.pages[1]])
    assert not (was & ~drawn).any(), "a brush takes nothing away"
    (x1, y), (x2, _) = stroke(case)
    assert drawn[int(y), int(x1) : int(x2)].all(), "what the brush went over is in the mask"
    rows, columns = np.nonzero(drawn & ~was)
    radius = max(abs(rows - y))
    assert 3 <= radius <= 30
    assert columns.min() >= x1
    assert columns.max() <= x2 + radius + 1
    return drawn, len(rows)


def check_the_ledger(case: Case, version: Any, annotation: dict[str, Any], added: int) -> None:
    [(raw,)] = case.stack.query(
        "SELECT v.raw FROM review_versions v JOIN reviews r ON r.id = v.review_id WHERE r.annotation_id = %s",
        annotation["id"],
    )
    assert raw["result"] == annotation["result"], "the raw result is kept whole"
    tracks = {track["region_id"]: track for track in version["tracks"]}
    moved = tracks.pop(case.region(MOVED))
    assert (moved["change"], moved["touched_frames"]) == ("edited", [FRAME])
    frames = [k["frame"] - 1 for k in case.sent[case.region(MOVED)]["value"]["sequence"]]
    between = range(
        max(f for f in frames if f < FRAME) + 1, min([f for f in frames if f > FRAME], default=case.frame_count)
    )
    assert moved["moved_frames"] == list(between)
    assert moved["resized_frames"] == moved["shown_frames"] == moved["hidden_frames"] == []
    masks = {mask["region_id"]: mask for mask in version["masks"]}
    painted = masks.pop(case.region(PAINTED, case.pages[1]))
    assert (painted["change"], painted["frame_index"]) == ("edited", case.pages[1])
    assert (painted["pixels_added"], painted["pixels_removed"]) == (added, 0)
    assert {one["change"] for one in [*tracks.values(), *masks.values()]} == {"untouched"}
    [line] = case.stack.premask("reviews", "stats", "--by", "project", "--project", "correcting")
    assert (line["reviews"], line["accepted_share"], line["frames_touched_mean"]) == (1, 0.0, 1.0)
    assert [line[f"tracks{name}"] for name in ("", "_edited", "_added", "_removed")] == [3, 1, 0, 0]
    assert [line[f"masks{name}"] for name in ("", "_edited", "_added", "_removed")] == [1 + len(masks), 1, 0, 0]
    assert (line["pixels_added"], line["pixels_removed"]) == (added, 0)


def check_the_layer(case: Case, layer: Any, box: Box, drawn: np.ndarray) -> None:
    """What was drawn is there to the pixel, the frames it speaks for are carried anew, all others are the run's own."""
    tracks = {track["index"]: track for track in layer["tracks"]}
    assert {index: track["change"] for index, track in tracks.items()} == {
        MOVED: "edited", PAINTED: "edited", LEFT: "untouched",
    }  # fmt: skip
    assert (tracks[MOVED]["boxed_frames"], tracks[PAINTED]["drawn_frames"]) == ([FRAME], [case.pages[1]])
    spoken_for = {
        MOVED: frames_nearest(case, MOVED, FRAME), PAINTED: frames_nearest(case, PAINTED, case.pages[1]), LEFT: set(),
    }  # fmt: skip
    for index, frames in spoken_for.items():
        assert {f for begin, end in tracks[index]["changed"] for f in range(begin, end)} == frames
        masks = layer_masks(case, layer["id"], index)
        kept = {f: mask["counts"] for f, mask in masks.items() if f not in frames}
        assert kept == {f: counts for (track, f), counts in case.masks.items() if track == index and f not in frames}
        assert {mask["source"] for f, mask in masks.items() if f not in frames} == {"kept"}
        if index == PAINTED:
            assert masks[case.pages[1]]["source"] == "drawn"
            assert np.array_equal(pixels_of(masks[case.pages[1]]["counts"]), drawn)
        own = {f for f in frames if index == MOVED or f != case.pages[1]}
        assert {masks[f]["source"] for f in own & set(masks)} <= {"carried"}
        if index != LEFT:
            assert len(own & set(masks)) > len(own) / 2, "the thing is followed on the frames between"
    keyframe = next(k for k in tracks[MOVED]["box_keyframes"] if k[0] == FRAME)
    assert keyframe[1:5] == pytest.approx(corners(box), abs=0.01)
    found = bounds(pixels_of(layer_masks(case, layer["id"], MOVED)[FRAME]["counts"]))
    assert found.iou(box) > 0.5, "the mask on that frame is of what the new box holds"


def frames_nearest(case: Case, track: int, frame: int) -> set[int]:
    """The frames that lie nearest to that one, among it and the pages that show the track; of two as near, the earlier
    has them."""
    anchors = {frame, *(page for page in case.pages if case.region(track, page) in case.sent)}
    return {f for f in range(case.frame_count) if min(anchors, key=lambda a: (abs(a - f), a)) == frame}


def layer_masks(case: Case, layer_id: int, track: int) -> dict[int, dict[str, Any]]:
    url = f"{case.stack.urls['api']}/api/v1/layers/{layer_id}/masks"
    answer = httpx.get(url, params={"track": track}, timeout=30).raise_for_status().json()
    return {int(frame): mask for frame, mask in answer["masks"].items()}


def check_the_fresh_prediction(case: Case, layer: Any, drawn: np.ndarray) -> None:
    """It shows the corrected layer, beside the one that was corrected."""

    def predictions() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = label_studio(case.stack, "/api/predictions/", task=case.task_id)
        return sorted(found, key=lambda one: one["id"])

    wait_for(lambda: len(predictions()) == 2, "the corrected layer arrives as a prediction", RUN_TIMEOUT_S)
    old, fresh = predictions()
    assert (old["id"], {region["id"]: region for region in old["result"]}) == (case.prediction_id, case.sent)
    shown = {region["id"]: region for region in fresh["result"]}
    assert np.array_equal(decode_mask(mask_of(shown[case.region(PAINTED, case.pages[1])])), drawn)
    for track in layer["tracks"]:
        keyframes = [BoxKeyframe(k[0], Box(*k[1:5]), k[5]) for k in track["box_keyframes"]]
        dense = boxes_of(shown[case.region(track["index"])], case.frame_count)
        expected = interpolate(keyframes, case.frame_count)
        assert dense.keys() == expected.keys()
        assert min(dense[f].iou(box) for f, box in expected.items()) > 0.9999
    untouched = [i for i in case.sent if i.startswith(case.region(LEFT))]
    assert {i: shown[i]["value"] for i in untouched} == {i: case.sent[i]["value"] for i in untouched}
