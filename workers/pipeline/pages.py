"""The segmenter on single pictures: what it makes of a picture is kept, and prompts on it are answered from that.

A box is put to it exactly as a run does on the frame that System 2 saw. Clicks are points to models that know points; a
model that has only learned boxes is asked by boxes around them (`clicks`).
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image

from backend.domain.masks import encode_mask
from backend.domain.prompts import Click, ThingPrompt
from backend.ports.pipeline import SuggestedMask
from workers.pipeline.clicks import Drawn, from_clicks, refined
from workers.pipeline.encoding import Features
from workers.pipeline.segmenter import BOX_CORNERS, Segmenter
from workers.pipeline.sizing import fill_holes

#: SAM's labels of points beside and on the thing.
_BESIDE, _ON = 0, 1


@dataclass(frozen=True, slots=True)
class Page:
    """A picture of (width, height) pixels as the segmenter sees it."""

    features: Features
    size: tuple[int, int]

    @property
    def size_bytes(self) -> int:
        maps, positions, _ = self.features
        return sum(one.nbytes for one in (*maps, *positions))


class PageSegmenter:
    def __init__(self, segmenter: Segmenter, clicks_as: Literal["points", "boxes"], fill_hole_area: int = 0) -> None:
        self._segmenter, self._clicks_as, self._fill_hole_area = segmenter, clicks_as, fill_hole_area

    def look(self, image: NDArray[np.uint8]) -> Page:
        """(H, W, 3) RGB, squeezed to the model's square as the pipeline squeezes frames, and encoded."""
        side = self._segmenter.size_px
        small = Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC)
        [features] = self._segmenter.encode(np.asarray(small)[None])
        return Page(features, (image.shape[1], image.shape[0]))

    def draw(self, page: Page, prompts: Sequence[ThingPrompt]) -> list[SuggestedMask | None]:
        """One mask a prompt, at the picture's own resolution; None where nothing is seen."""
        drawn = [self._drawn(page, prompt) for prompt in prompts]
        return [None if one is None else self._as_mask(one, page.size) for one in drawn]

    def _drawn(self, page: Page, prompt: ThingPrompt) -> Drawn | None:
        clicks = [self._squeezed(click, page.size) for click in prompt.clicks]
        box = prompt.box_xyxy_px
        corners = (
            [] if box is None else [self._place(box.x1, box.y1, page.size), self._place(box.x2, box.y2, page.size)]
        )
        if self._clicks_as == "points":
            places = [*corners, *((click.x_px, click.y_px) for click in clicks)]
            labels = [*BOX_CORNERS[: len(corners)], *(_ON if click.positive else _BESIDE for click in clicks)]
            return self._ask(page, [places], labels)[0]

        def ask(boxes: Sequence[tuple[float, float, float, float]]) -> list[Drawn]:
            return self._ask(page, [[(x1, y1), (x2, y2)] for x1, y1, x2, y2 in boxes], BOX_CORNERS)

        if corners:
            return refined(ask([(*corners[0], *corners[1])])[0], clicks, ask, self._segmenter.size_px)
        return from_clicks(clicks, ask, self._segmenter.size_px)

    def _place(self, x_px: float, y_px: float, size: tuple[int, int]) -> tuple[float, float]:
        return x_px * self._segmenter.size_px / size[0], y_px * self._segmenter.size_px / size[1]

    def _squeezed(self, click: Click, size: tuple[int, int]) -> Click:
        return Click(*self._place(click.x_px, click.y_px, size), click.positive)

    def _ask(self, page: Page, places: Sequence[Sequence[tuple[float, float]]], labels: Sequence[int]) -> list[Drawn]:
        """What the model draws for each row of points, which all have these labels; in pixels of its square."""
        rows, model = len(places), self._segmenter.model
        with torch.inference_mode(), self._segmenter.autocast():
            vision, positions, sizes = page.features
            device = self._segmenter.device
            points = {
                "point_coords": torch.tensor(places, dtype=torch.float32, device=device),
                "point_labels": torch.tensor([labels] * rows, dtype=torch.int32, device=device),
            }
            empty: dict[str, dict[int, object]] = {"cond_frame_outputs": {}, "non_cond_frame_outputs": {}}
            _, heads, _, _ = model._track_step(
                0, True, [f.expand(-1, rows, -1) for f in vision], [p.expand(-1, rows, -1) for p in positions], sizes,
                points, None, empty, 1, False, None,
            )  # fmt: skip
        logits, ious = heads[3].float().cpu(), heads[2].float().amax(-1).clamp(0, 1).tolist()
        return [Drawn(logits[row : row + 1], ious[row]) for row in range(rows)]

    def _as_mask(self, drawn: Drawn, size: tuple[int, int]) -> SuggestedMask | None:
        logits = fill_holes(drawn.logits, self._fill_hole_area) if self._fill_hole_area else drawn.logits
        width, height = size
        pixels = F.interpolate(logits, (height, width), mode="bilinear", align_corners=False)[0, 0] > 0
        mask = encode_mask(pixels.numpy())
        return SuggestedMask(mask, round(drawn.predicted_iou, 4)) if mask.area else None


class PageCache:
    """Pages by what they are of; those looked at longest ago go when they take more than `max_bytes`, but the last
    one."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._pages: OrderedDict[Hashable, Page] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], Page]) -> Page:
        if key not in self._pages:
            self._pages[key] = make()
        self._pages.move_to_end(key)
        while len(self._pages) > 1 and sum(page.size_bytes for page in self._pages.values()) > self._max_bytes:
            self._pages.popitem(last=False)
        return self._pages[key]

    def __len__(self) -> int:
        return len(self._pages)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._pages
