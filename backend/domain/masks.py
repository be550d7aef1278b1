"""Masks to COCO run-length encoding and back: the runs by numpy where that is faster, the rest by `pycocotools`."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco

from backend.domain.annotation import Box, Mask

#: Above so many edges, turning the picture is faster.
_FEW_EDGES = 65_536


def encode_mask(mask: NDArray[Any], origin: tuple[int, int] = (0, 0), size: tuple[int, int] | None = None) -> Mask:
    """(H, W) bool or uint8 → `Mask`, with the bytes that `pycocotools` makes.

    With `size`, (height, width), it is a part of a picture of that size in which nothing else is set; `origin`: (x, y)
    of its upper left corner there.

    The encoding runs down the columns, and turning a picture for it takes longer than all else. So the edges are found
    row by row, as the picture lies in memory, and then sorted, which pays as long as there are few.
    """
    bitmap = mask.astype(bool, copy=False)
    height, width = size or bitmap.shape
    x0, y0 = origin
    rows = np.flatnonzero(bitmap.any(axis=1))
    if not rows.size:
        return Mask(height, width, _compressed(np.array([height * width]), height, width), 0, Box(0.0, 0.0, 0.0, 0.0))
    y1, y2 = int(rows[0]), int(rows[-1]) + 1
    slab = bitmap[y1:y2]
    y1, y2 = y1 + y0, y2 + y0
    flips = slab[1:] != slab[:-1]
    if np.count_nonzero(flips) > _FEW_EDGES:
        columns = np.flatnonzero(slab.any(axis=0)) + x0
        box = Box(float(columns[0]), float(y1), float(columns[-1] + 1), float(y2))
        whole = np.zeros((height, width), np.uint8, order="F")
        whole[y1:y2, x0 : x0 + slab.shape[1]] = slab
        encoded = coco.encode(whole)
        return Mask(height, width, encoded["counts"].decode("ascii"), int(np.count_nonzero(slab)), box)
    edges = _edges(slab, flips, x0, y1, height)
    begins, ends = edges[::2], edges[1::2]
    box = Box(float(begins[0] // height), float(y1), float((ends[-1] - 1) // height + 1), float(y2))
    # Where one run ends as the next begins (below one column, above the next) there is no edge.
    met = np.flatnonzero(begins[1:] == ends[:-1])
    edges = np.delete(edges, np.r_[2 * met + 1, 2 * met + 2])
    counts = np.diff(edges, prepend=0, append=[height * width] if edges[-1] < height * width else [])
    return Mask(height, width, _compressed(counts, height, width), int(counts[1::2].sum()), box)


def _edges(slab: NDArray[np.bool_], flips: NDArray[np.bool_], x0: int, y1: int, height: int) -> NDArray[np.int64]:
    """Where runs begin and end, counted down the columns of a picture of `height` rows, ascending. `slab`: its rows
    from `y1` and columns from `x0` on, outside of which nothing is set; `flips`: where one of its rows differs from the
    row below."""
    places, width = np.flatnonzero(flips), slab.shape[1]
    inner = (places % width + x0) * height + places // width + y1 + 1
    above, below = (np.flatnonzero(slab[n]) + x0 for n in (0, -1))
    return np.sort(np.concatenate([inner, above * height + y1, below * height + y1 + len(slab)]))


def _compressed(counts: NDArray[np.int64], height: int, width: int) -> str:
    """The compressed string of run lengths, unset pixels first."""
    encoded = coco.frPyObjects({"size": [height, width], "counts": counts.tolist()}, height, width)
    compressed: str = encoded["counts"].decode("ascii")
    return compressed


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
