"""Masks to COCO run lengths at 1080p, against `pycocotools`: `python -m benchmarks.rle`.

Ours also finds area and box; the reference is `pycocotools.mask.encode` on the mask turned column by column, as it
asks for. The bytes must be the same. Prints medians of repeats, the two in turn, in CPU time (each takes one core, and
a busy machine interrupts the longer one more often), and last one JSON line; the ratio is that of the kind of mask
where it is smallest, noise aside, which no segmenter makes.
"""

import json
import statistics
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco

from backend.domain.masks import encode_mask

HEIGHT, WIDTH = 1080, 1920
REPEATS = 41
TARGET = 1.0


def _reference(bitmap: NDArray[np.bool_]) -> str:
    encoded: dict[str, Any] = coco.encode(np.asfortranarray(bitmap, dtype=np.uint8))
    counts: str = encoded["counts"].decode("ascii")
    return counts


def _ours(bitmap: NDArray[np.bool_]) -> str:
    return encode_mask(bitmap).counts


def _things(random: np.random.Generator, radius_px: int, count: int) -> NDArray[np.bool_]:
    """Round things with wavy edges, somewhere in the picture."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    bitmap = np.zeros((HEIGHT, WIDTH), bool)
    for _ in range(count):
        dy, dx = y - random.integers(HEIGHT), x - random.integers(WIDTH)
        angle = np.arctan2(dy, dx)
        bitmap |= np.hypot(dy, dx) < radius_px * (1 + 0.2 * np.sin(7 * angle) + 0.1 * np.sin(23 * angle))
    return bitmap


def main() -> None:
    random = np.random.default_rng(0)
    kinds = {
        "small thing": _things(random, 60, 1),
        "middle thing": _things(random, 200, 1),
        "large thing": _things(random, 500, 1),
        "in six pieces": _things(random, 120, 6),
        "whole picture": np.ones((HEIGHT, WIDTH), bool),
        "nothing": np.zeros((HEIGHT, WIDTH), bool),
        "noise": random.random((HEIGHT, WIDTH)) < 0.5,
    }
    detail = {}
    for name, bitmap in kinds.items():
        if _ours(bitmap) != _reference(bitmap):
            raise SystemExit(f"the bytes of {name!r} differ")
        spent: dict[str, list[float]] = {"pycocotools_ms": [], "ours_ms": []}
        for _ in range(REPEATS):
            for key, encode in (("pycocotools_ms", _reference), ("ours_ms", _ours)):
                begin = time.process_time()
                encode(bitmap)
                spent[key].append(1000 * (time.process_time() - begin))
        medians = {key: round(statistics.median(values), 3) for key, values in spent.items()}
        detail[name] = medians | {"ratio": round(medians["pycocotools_ms"] / medians["ours_ms"], 2)}
        print(f"{name}: {detail[name]}")
    ratio = min(figures["ratio"] for name, figures in detail.items() if name != "noise")
    print(json.dumps({"benchmark": "rle", "ratio": ratio, "target": TARGET, "ok": ratio >= TARGET, "detail": detail}))


if __name__ == "__main__":
    main()
