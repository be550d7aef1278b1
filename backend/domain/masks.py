"""Masks to COCO run-length encoding and back, by `pycocotools`."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco

from backend.domain.annotation import Box, Mask


def encode_mask(mask: NDArray[Any]) -> Mask:
    """(H, W) bool or uint8 → `Mask`."""
    height, width = mask.shape
    encoded = coco.encode(np.asfortranarray(mask, dtype=np.uint8))
    return from_counts(encoded["counts"].decode("ascii"), height, width)


def from_counts(counts: str, height: int, width: int) -> Mask:
    """The `Mask` of a compressed COCO string; its area and box are read off the runs, not off the pixels."""
    encoded = {"size": [height, width], "counts": counts.encode("ascii")}
    x, y, w, h = (float(v) for v in coco.toBbox(encoded))
    return Mask(height, width, counts, int(coco.area(encoded)), Box(x, y, x + w, y + h))


def as_coco(mask: Mask) -> dict[str, object]:
    """`{"size": [h, w], "counts": str}`, the JSON form `pycocotools` decodes."""
    return {"size": [mask.height, mask.width], "counts": mask.counts}


def decode_mask(mask: Mask) -> NDArray[Any]:
    """`Mask` → (H, W) bool."""
    decoded: NDArray[Any] = coco.decode(_runs(mask))
    return decoded.astype(bool)


def iou(left: Mask, right: Mask) -> float:
    """Intersection over union; 1 where both are empty (nothing was to be found, and nothing was)."""
    if not left.area and not right.area:
        return 1.0
    return float(coco.iou([_runs(left)], [_runs(right)], [0])[0][0])


def union(masks: list[Mask]) -> Mask:
    """The pixels that any of the masks holds. At least one mask; all of one size."""
    merged = coco.merge([_runs(mask) for mask in masks], intersect=False)
    return from_counts(merged["counts"].decode("ascii"), masks[0].height, masks[0].width)


def _runs(mask: Mask) -> dict[str, object]:
    return {"size": [mask.height, mask.width], "counts": mask.counts.encode("ascii")}
