"""Clicks for a model that has only learned boxes: what fits a box around the click, and a box around that again.

Boxes of several sizes are put around a click; what the model draws in each gives the next box, until the two agree. Of
all that was drawn the mask is taken that most clicks are right about, and among those the one that the model is surest
of and whose own box fits its prompt best. Places are in pixels of the model's square, S a side.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from backend.domain.annotation import Box
from backend.domain.prompts import Click

Corners = tuple[float, float, float, float]
#: Half the sides of the first boxes, as shares of S: from the smallest things to half of the picture.
_HALF_SHARES = (0.03, 0.05, 0.08, 0.12, 0.17, 0.23)
_ROUNDS = 3


@dataclass(frozen=True)
class Drawn:
    """Mask logits (1, 1, h, w), positive where the thing is; the model's own estimate of the mask's IoU."""

    logits: torch.Tensor
    predicted_iou: float

    def pixels(self, side: int) -> NDArray[np.bool_]:
        """(side, side)."""
        square: NDArray[np.bool_] = (
            F.interpolate(self.logits, (side, side), mode="bilinear", align_corners=False)[0, 0] > 0
        ).numpy()
        return square


Ask = Callable[[Sequence[Corners]], list[Drawn]]


@dataclass(frozen=True)
class _Try:
    """What was drawn for a box, and what the clicks say of it."""

    drawn: Drawn
    prompt: Corners
    clicks: Sequence[Click]
    side: int

    @cached_property
    def pixels(self) -> NDArray[np.bool_]:
        return self.drawn.pixels(self.side)

    @cached_property
    def box(self) -> Corners | None:
        rows, columns = np.flatnonzero(self.pixels.any(1)), np.flatnonzero(self.pixels.any(0))
        if not rows.size:
            return None
        return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)

    @property
    def right(self) -> int:
        return sum(_inside(self.pixels, click) == click.positive for click in self.clicks)

    @property
    def rank(self) -> tuple[int, float]:
        agreement = 0.0 if self.box is None else Box(*self.box).iou(Box(*self.prompt))
        return self.right, self.drawn.predicted_iou * agreement


def from_clicks(clicks: Sequence[Click], ask: Ask, side: int) -> Drawn | None:
    """What the clicks are on, without what they say is not it; None if nothing is found at any of them."""
    first = _thing_at([click for click in clicks if click.positive], clicks, ask, side)
    return None if first is None else refined(first, clicks, ask, side)


def refined(drawn: Drawn, clicks: Sequence[Click], ask: Ask, side: int) -> Drawn:
    """`drawn`, with what is found at positive clicks that it leaves out, and without what is found at negative ones in
    it; where a click finds nothing that the others allow, it stays as it is."""
    for click in sorted(clicks, key=lambda one: not one.positive):
        if _inside(drawn.pixels(side), click) == click.positive:
            continue
        # Seen from a negative click, it is the positive ones that are beside the thing.
        others = [other for other in clicks if other.positive != click.positive]
        here = [Click(click.x_px, click.y_px), *(Click(other.x_px, other.y_px, False) for other in others)]
        found = _thing_at(here[:1], here, ask, side)
        if found is None or _Try(found, (0, 0, 0, 0), here, side).right < len(here):
            continue
        logits = (
            torch.maximum(drawn.logits, found.logits) if click.positive else torch.minimum(drawn.logits, -found.logits)
        )
        drawn = Drawn(logits, min(drawn.predicted_iou, found.predicted_iou))
    return drawn


def _thing_at(places: Sequence[Click], clicks: Sequence[Click], ask: Ask, side: int) -> Drawn | None:
    """The best of what fits boxes around the places, and around all of them; None if it is at none of them."""
    boxes = list(chain.from_iterable(_around([place], side) for place in places))
    if len(places) > 1:
        boxes += _around(places, side)
    best: _Try | None = None
    for _ in range(_ROUNDS):
        tries = [_Try(drawn, box, clicks, side) for drawn, box in zip(ask(boxes), boxes, strict=True)]
        tries = [one for one in tries if any(_inside(one.pixels, place) for place in places)]
        best = max([*tries, *([best] if best else [])], key=lambda one: one.rank, default=None)
        boxes = list(dict.fromkeys(one.box for one in tries if one.box is not None))
        if not boxes:
            break
    return None if best is None else best.drawn


def _around(places: Sequence[Click], side: int) -> list[Corners]:
    x1, x2 = min(place.x_px for place in places), max(place.x_px for place in places)
    y1, y2 = min(place.y_px for place in places), max(place.y_px for place in places)
    halves = [share * side for share in _HALF_SHARES]
    return [(max(0, x1 - h), max(0, y1 - h), min(side, x2 + h), min(side, y2 + h)) for h in halves]


def _inside(pixels: NDArray[np.bool_], click: Click) -> bool:
    last = len(pixels) - 1
    return bool(pixels[min(last, int(click.y_px)), min(last, int(click.x_px))])
