"""Label Studio's labeling page in a headless Chromium: opening, jumping, and measuring what is seen in pixels.

Waiting is for a state of the page, never for a time; what is measured comes from screenshots, not from the page's
model.
"""

import io
import math
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import FloatRect, Locator, Page, sync_playwright

from backend.domain.annotation import Box
from tests.conftest import LabelStudioServer

PATIENCE_S = 60.0
_FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
#: The first label's colour in the configuration, which the outline of its boxes has.
OUTLINE_RGB = (228, 87, 46)


@contextmanager
def browser_page(server: LabelStudioServer) -> Iterator[Page]:
    """A page of 1440 × 900, logged in."""
    chromium = shutil.which("chromium")
    assert chromium is not None, "these tests need Debian's chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=_FLAGS)
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.set_default_timeout(PATIENCE_S * 1000)
        page.goto(f"{server.url}/user/login/")
        page.fill("input[name=email]", server.email)
        page.fill("input[name=password]", server.password)
        page.click("button[type=submit]")
        page.wait_for_url(lambda url: "/login" not in url)
        yield page
        browser.close()


@dataclass(frozen=True)
class LabelingPage:
    """An opened task."""

    page: Page

    @classmethod
    def opened(cls, page: Page, url: str) -> "LabelingPage":
        """Go there; the video can be played, and the first region of those the outliner lists is there."""
        page.goto(url)
        page.wait_for_function("document.querySelector('video')?.readyState >= 2")
        page.locator(".premask-masks canvas").first.wait_for(state="visible")
        return cls(page)

    @property
    def video(self) -> Locator:
        return self.page.locator(".lsf-video-canvas__view")

    def regions(self) -> list[str]:
        """The labels of the regions that the outliner lists."""
        return self.page.locator(".lsf-outliner-item__title").all_inner_texts()

    def guide(self) -> str:
        return self.page.locator(".premask-text").inner_text()

    def jump_to(self, label_studio_frame: int) -> None:
        """As a labeler does: a click on the frame's number, the new number, Enter."""
        self.page.locator(".lsf-frames-control").click()
        self.page.locator(".lsf-frames-control input").fill(str(label_studio_frame))
        self.page.keyboard.press("Enter")
        self.page.wait_for_function(
            "n => document.querySelector('.lsf-frames-control').innerText.split(/\\s/)[0] === String(n)"
            " && !document.querySelector('video').seeking",
            arg=label_studio_frame,
        )

    def select_region(self, number: int) -> None:
        """A click on the region's line in the outliner, from 0."""
        self.page.locator(".lsf-outliner-item__title").nth(number).click()
        self.page.wait_for_function("window.Htx.annotationStore.selected.regionStore.selection.size === 1")

    def drag(self, at: tuple[float, float], by: tuple[float, float]) -> None:
        """The mouse held down from a point of the window, in CSS pixels: moves a box, paints where a brush is."""
        self.page.mouse.move(*at)
        self.page.mouse.down()
        self.page.mouse.move(at[0] + by[0] / 2, at[1] + by[1] / 2, steps=4)
        self.page.mouse.move(at[0] + by[0], at[1] + by[1], steps=4)
        self.page.mouse.up()

    def submit(self) -> int:
        """The status that Label Studio answers with."""
        with self.page.expect_response(lambda r: "/annotations" in r.url and r.request.method == "POST") as submitted:
            self.page.get_by_role("button", name="Submit").click()
        return int(submitted.value.status)

    def turn_to_mask_page(self, number: int) -> Locator:
        """Show the keyframe page of that number (from 1); its picture."""
        masks = self.page.locator(".premask-masks")
        indicator = masks.locator(".lsf-pagination__page-indicator")
        while (shown := int(indicator.inner_text().split()[0])) != number:
            side = "right" if shown < number else "left"
            masks.locator(f".lsf-pagination__btn_arrow-{side}:not(.lsf-pagination__btn_arrow-{side}-double)").click()
            self.page.wait_for_function(
                "was => document.querySelector('.premask-masks .lsf-pagination__page-indicator')"
                ".innerText.split(/\\s/)[0] !== String(was)",
                arg=shown,
            )
        masks.evaluate("element => element.scrollIntoView({block: 'start'})")
        return masks.locator(".konvajs-content canvas").first

    def video_place(self, width: int, height: int) -> tuple[float, float, float]:
        """Where a video of `width` × `height` pixels is shown: pixels of the window for each of its own, left, top."""
        view = self.video.bounding_box()
        assert view is not None
        scale = view["height"] / height
        return scale, view["x"] + (view["width"] - scale * width) / 2, view["y"]

    def video_pixels(self, width: int, height: int) -> np.ndarray:
        """(h, w, 3) of what is seen of the video, whose frames are `width` × `height`; without the bars beside it."""
        pixels = self.pixels_of(self.video)
        shown = pixels.shape[0] * width / height
        assert shown <= pixels.shape[1], "the video fills the height of its view"
        left = round((pixels.shape[1] - shown) / 2)
        return pixels[:, left : left + round(shown)]

    def pixels_of(self, element: Locator) -> np.ndarray:
        """(h, w, 3) of what is seen of the element, at one pixel a CSS pixel."""
        box = element.bounding_box()
        assert box is not None
        # Whole pixels of its own: part of one shows what lies beside it.
        left, top = math.ceil(box["x"]), math.ceil(box["y"])
        right, bottom = math.floor(box["x"] + box["width"]), math.floor(box["y"] + box["height"])
        clip: FloatRect = {"x": left, "y": top, "width": right - left, "height": bottom - top}
        return np.asarray(Image.open(io.BytesIO(self.page.screenshot(clip=clip))).convert("RGB")).astype(int)

    def save(self, path: Path) -> None:
        self.page.screenshot(path=path)


def stroke_box(pixels: np.ndarray) -> Box | None:
    """The box that the middle of a drawn outline follows; None where no outline is seen."""
    near = np.abs(pixels - np.array(OUTLINE_RGB)).max(axis=-1) < 40
    rows, columns = np.flatnonzero(near.sum(axis=1) > 8), np.flatnonzero(near.sum(axis=0) > 8)
    if not len(rows) or not len(columns):
        return None
    return Box(columns[0] + 1, rows[0] + 1, columns[-1], rows[-1])


def bright_box(pixels: np.ndarray) -> Box | None:
    """The box of what is much brighter than the dark frame, tinted or not; None where nothing is."""
    return _box(pixels.sum(axis=-1) > 350)


def white_box(pixels: np.ndarray) -> Box | None:
    """The box of what is as bright as the square itself, that is, not covered by a mask."""
    return _box(pixels.min(axis=-1) > 225)


def _box(marked: np.ndarray) -> Box | None:
    # A line of noise at the edge of a canvas is not an object.
    rows, columns = np.flatnonzero(marked.sum(axis=1) > 8), np.flatnonzero(marked.sum(axis=0) > 8)
    if not len(rows) or not len(columns):
        return None
    return Box(columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)


def until(look: Callable[[], bool], what: str, timeout_s: float = PATIENCE_S) -> None:
    """Ask until it is so; fails with `what` if it never is."""
    deadline = time.monotonic() + timeout_s
    while not look():
        assert time.monotonic() < deadline, f"{what}: not within {timeout_s} s"
        time.sleep(0.05)


def until_right(look: Callable[[], str], timeout_s: float = PATIENCE_S) -> None:
    """Ask until nothing is wrong; fails with what still is."""
    deadline = time.monotonic() + timeout_s
    while wrong := look():
        assert time.monotonic() < deadline, f"{wrong}, after {timeout_s} s"
        time.sleep(0.05)
