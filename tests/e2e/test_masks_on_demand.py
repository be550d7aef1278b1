"""A labeler asks for masks in a real browser: a click and a box on keyframe pages, accepted, submitted, and worked in.

The whole stack runs as `premask up` starts it: Label Studio asks our API, and that the process that draws.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Page

from backend.domain.annotation import Box, Mask
from backend.domain.masks import decode_mask
from integrations.label_studio.prediction import mask_of
from tests.conftest import LabelStudioServer
from tests.e2e.conftest import LiveStack
from tests.e2e.test_first_light import RUN_TIMEOUT_S, label_studio, predictions_of, published
from tests.e2e.test_reviews import TOLD_S, ready_layer, versions
from tests.factories.clickable import middle_of
from tests.factories.labeling_page import LabelingPage, browser_page, until
from tests.factories.waiting import wait_for
from tests.factories.world import SIDE_PX, Sample, write_sample
from workers.shapeworld.world.queries import Kind

pytestmark = [pytest.mark.stack, pytest.mark.label_studio, pytest.mark.browser, pytest.mark.slow]

NAME = "on-demand"


@dataclass(frozen=True)
class Case:
    """A published run. `sent`: its prediction's regions by id; `pages`: the frames that its pages show."""

    stack: LiveStack
    sample: Sample
    run_id: int
    task_id: int
    url: str
    sent: Mapping[str, dict[str, Any]]
    pages: tuple[int, ...]

    def seen(self, thing: int, page: int) -> np.ndarray:
        """(H, W) bool: where the thing is on that page, in truth."""
        return decode_mask(self.sample.truth.masks[thing][self.pages[page]])


@pytest.fixture
def case(live_stack: LiveStack, tmp_path: Path) -> Case:
    sample = write_sample(tmp_path / "c.mp4", Kind.ATTRIBUTE, 2, seed=2001)
    made = live_stack.premask(
        "projects", "create", NAME, "--source", f"s3://{live_stack.bucket}/{NAME}/",
        "--instruction", sample.instruction, "--interactive",
    )  # fmt: skip
    assert made["interactive"]
    wait_for(lambda: _masks_on_demand(live_stack) == "ok", "the process that draws has loaded its model", TOLD_S)
    live_stack.put(sample.path, f"{NAME}/c.mp4")
    run_id = wait_for(published(live_stack, made["id"]), "the run is published", RUN_TIMEOUT_S)["id"]
    [prediction] = predictions_of(live_stack, run_id)
    [(task_id,)] = live_stack.query("SELECT task_id FROM publications WHERE run_id = %s", run_id)
    pages = tuple(label_studio(live_stack, f"/api/tasks/{task_id}")["data"]["keyframe_frame_indices"])
    sent = {region["id"]: region for region in prediction["result"]}
    place = f"{live_stack.urls['label_studio']}/projects/{made['label_studio_project_id']}/data?task={task_id}"
    return Case(live_stack, sample, run_id, task_id, place, sent, pages)


def _masks_on_demand(stack: LiveStack) -> str:
    findings = {one["check"]: one for one in stack.premask("doctor")["findings"]}
    return str(findings["masks-on-demand"]["status"])


@pytest.fixture
def browser(live_stack: LiveStack) -> Iterator[Page]:
    login = live_stack.login
    server = LabelStudioServer(live_stack.urls["label_studio"], "", login["username"], login["password"])
    with browser_page(server) as page:
        page.set_viewport_size({"width": 1440, "height": 1300})
        yield page


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


def suggestions(page: LabelingPage) -> int:
    return int(page.page.evaluate("window.Htx.annotationStore.selected.suggestions.size"))


def place_on(page: LabelingPage, number: int, x_px: float, y_px: float) -> tuple[float, float]:
    """Where a pixel of the source lies in the window, on the keyframe page of that number."""
    picture = page.turn_to_mask_page(number).bounding_box()
    assert picture is not None
    scale = picture["width"] / SIDE_PX
    return picture["x"] + scale * x_px, picture["y"] + scale * y_px


def ask_by_click(page: LabelingPage, case: Case, number: int, thing: int) -> None:
    click = middle_of(case.seen(thing, number - 1))
    page.page.mouse.click(*place_on(page, number, click.x_px, click.y_px))
    until(lambda: suggestions(page) == 1, "a mask is suggested")


def ask_by_box(page: LabelingPage, case: Case, number: int, thing: int, margin_px: float) -> Box:
    """From beyond the upper left corner to the middle of the thing's lower edge: a box that is not quite right."""
    rows, columns = np.nonzero(case.seen(thing, number - 1))
    box = Box(columns.min() - margin_px, rows.min() - margin_px, columns.max() + margin_px, rows.max() + margin_px)
    begin, end = place_on(page, number, box.x1, box.y1), place_on(page, number, box.x2, box.y2)
    page.drag(begin, (end[0] - begin[0], end[1] - begin[1]))
    until(lambda: suggestions(page) == 1, "a mask is suggested")
    return box


def choose_tool(page: LabelingPage, name: str) -> None:
    """One of the smart tools, which lie behind one button."""
    toolbar = page.page.locator(".premask-masks .lsf-toolbar")
    toolbar.locator(".lsf-tool_smart").first.hover()
    toolbar.locator(f".lsf-tool_smart[aria-label={name}]").last.click()


def accept(page: LabelingPage, count: int) -> None:
    page.page.locator("[data-testid=bottombar-accept-suggestions-button]").click()
    until(lambda: len(page.regions()) == count and suggestions(page) == 0, f"{count} regions, and no click or box left")


def test_a_click_and_a_box_give_masks_that_are_kept(case: Case, browser: Page, tmp_path: Path) -> None:
    [target] = case.sample.example.question.targets
    other, count = 1 - target, len(case.sent)
    page = LabelingPage.opened(browser, case.url)
    until(lambda: len(page.regions()) == count, "the regions are listed")
    browser.locator("[data-testid=bottombar-auto-annotation-toggle]").click(force=True)
    # What nobody asked for: one click on the other thing of the first page.
    browser.locator(".premask-masks .lsf-tool_smart").first.click()
    ask_by_click(page, case, 1, other)
    page.save(tmp_path / "suggested.png")
    accept(page, count + 1)
    # The target's mask on the second page anew: it goes, and what a box around it gives takes its place.
    replaced = f"run{case.run_id}-track0-frame{case.pages[1]}"
    page.select_region(list(case.sent).index(replaced))
    browser.keyboard.press("Backspace")
    until(lambda: len(page.regions()) == count, "the mask is gone")
    choose_tool(page, "rectangle-tool")
    ask_by_box(page, case, 2, target, margin_px=9)
    page.save(tmp_path / "boxed.png")
    accept(page, count + 1)
    page.save(tmp_path / "accepted.png")
    assert page.submit() == 201

    [annotation] = label_studio(case.stack, f"/api/tasks/{case.task_id}/annotations/")
    returned = {region["id"]: region for region in annotation["result"]}
    assert {region["type"] for region in returned.values()} == {"videorectangle", "bitmasklabels"}
    kept = set(case.sent) - {replaced}
    untouched = [region_id for region_id in kept if case.sent[region_id]["type"] == "bitmasklabels"]
    assert all(returned[region_id]["value"] == case.sent[region_id]["value"] for region_id in untouched)
    by_page = {region["item_index"]: region for region_id, region in returned.items() if region_id not in case.sent}
    clicked, boxed = (decode_mask(mask_of(by_page[index])) for index in (0, 1))
    assert overlap(clicked, case.seen(other, 0)) > 0.85
    assert overlap(boxed, case.seen(target, 1)) > 0.8

    [version] = wait_for(lambda: versions(case.stack, case.run_id), "the correction is told", TOLD_S)
    changes = {mask["region_id"]: (mask["change"], mask["frame_index"]) for mask in version["masks"]}
    assert changes.pop(replaced) == ("edited", case.pages[1])
    assert changes.pop(by_page[0]["id"]) == ("added", case.pages[0])
    assert {change for change, _ in changes.values()} <= {"untouched"}
    layer = wait_for(lambda: ready_layer(case.stack, case.run_id), "the corrected layer is ready", RUN_TIMEOUT_S)
    tracks = {track["change"]: track for track in layer["tracks"]}
    assert tracks["edited"]["drawn_frames"] == [case.pages[1]]
    # The track of what nobody asked for goes over the whole video, carried from the one mask.
    assert tracks["added"]["drawn_frames"] == [case.pages[0]]
    rows = case.stack.query(
        "SELECT frame_index, counts FROM corrected_layer_masks WHERE layer_id = %s AND track_index = %s",
        layer["id"], tracks["added"]["index"],
    )  # fmt: skip
    carried = {frame: decode_mask(Mask(SIDE_PX, SIDE_PX, counts, 1, Box(0, 0, 1, 1))) for frame, counts in rows}
    assert np.array_equal(carried[case.pages[0]], clicked)
    truth = case.sample.truth.masks[other]
    assert float(np.mean([overlap(mask, decode_mask(truth[frame])) for frame, mask in carried.items()])) > 0.7
