"""What a click is worth to the small segmenter, which has learned boxes: as a point, through boxes around it, and
beside a true box.

`python -m benchmarks.clicks`: one click inside each thing on pictures of the synthetic world; then a second one where
the first mask is most wrong, if that is a twelfth of the thing at least. Prints mean IoU by level, and last one JSON
line; the ratio is that of a click through boxes over that of the true box, of all levels the smallest.
"""

import json
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from backend.domain.masks import decode_mask, encode_mask
from backend.domain.prompts import Click, ThingPrompt
from backend.profiles import load_profile
from tests.factories.clickable import middle_of
from workers.pipeline.pages import Page, PageSegmenter
from workers.pipeline.segmenter import Segmenter
from workers.shapeworld.world.levels import EASY, HARD, MEDIUM, Level
from workers.shapeworld.world.make import make_scene
from workers.shapeworld.world.queries import Kind
from workers.shapeworld.world.render import frames_at

TARGET = 0.95
SEEDS, SIDE_PX, _SEEN_PX = 12, 384, 200
_WRONG_SHARE = 1 / 12
Bitmap = NDArray[np.bool_]


def _things(segmenter: PageSegmenter, level: Level) -> Iterator[tuple[Page, Bitmap]]:
    kinds = list(Kind)
    for seed in range(SEEDS):
        scene = make_scene(seed, kinds[seed % 6], level).scene
        frame = next(frames_at(scene, [scene.duration_s / 2], SIDE_PX))
        page = segmenter.look(frame.image)
        for number in range(1, int(frame.labels.max()) + 1):
            if (thing := frame.labels == number).sum() >= _SEEN_PX:
                yield page, thing


def _drawn(segmenter: PageSegmenter, page: Page, prompt: ThingPrompt) -> Bitmap:
    [found] = segmenter.draw(page, [prompt])
    return np.zeros(page.size[::-1], bool) if found is None else decode_mask(found.mask)


def _iou(found: Bitmap, truth: Bitmap) -> float:
    return float((found & truth).sum() / (found | truth).sum())


def _second(found: Bitmap, truth: Bitmap) -> Click | None:
    """Where most is missing, or too much; None where little is."""
    missing, extra = truth & ~found, found & ~truth
    wrong = max(missing, extra, key=lambda one: int(one.sum()))
    return middle_of(wrong, positive=wrong is missing) if wrong.sum() >= _WRONG_SHARE * truth.sum() else None


def _measure(boxes: PageSegmenter, points: PageSegmenter, level: Level) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for page, thing in _things(boxes, level):
        click = middle_of(thing)
        first = _drawn(boxes, page, ThingPrompt((click,)))
        more = _second(first, thing)
        both = first if more is None else _drawn(boxes, page, ThingPrompt((click, more)))
        box = ThingPrompt((), encode_mask(thing).box_xyxy_px)
        masks = {
            "true box": _drawn(boxes, page, box), "click as a point": _drawn(points, page, ThingPrompt((click,))),
            "click through boxes": first, "with a second click": both,
        }  # fmt: skip
        for name, mask in masks.items():
            found.setdefault(name, []).append(_iou(mask, thing))
    means = {name: round(float(np.mean(values)), 3) for name, values in found.items()}
    return {"n": len(found["true box"]), **means}


def main() -> None:
    segmenter = Segmenter(load_profile("shapeworld").segmenter, "cpu")
    asked = PageSegmenter(segmenter, "boxes"), PageSegmenter(segmenter, "points")
    detail = {level.name: _measure(*asked, level) for level in (EASY, MEDIUM, HARD)}
    for name, figures in detail.items():
        print(f"{name}: {figures}")
    ratio = round(min(figures["click through boxes"] / figures["true box"] for figures in detail.values()), 3)
    print(
        json.dumps({"benchmark": "clicks", "ratio": ratio, "target": TARGET, "ok": ratio >= TARGET, "detail": detail})
    )


if __name__ == "__main__":
    main()
