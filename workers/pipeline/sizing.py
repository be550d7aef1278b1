"""Mask logits at the size of the video: interpolated only where something can be in the mask.

What `torch.nn.functional.interpolate(..., mode="bilinear", align_corners=False)` gives, of which most is background.
"""

from collections.abc import Sequence

import numpy as np
import torch
from scipy.ndimage import label

from backend.domain.annotation import Mask
from backend.domain.masks import encode_mask
from backend.ports.pipeline import CarriedMask, Estimate


@torch.inference_mode()
def masks_at(
    source_size: tuple[int, int], fill_hole_area: int, rows: Sequence[int], frame_index: int, low_res: torch.Tensor,
    ious: torch.Tensor, object_scores: torch.Tensor,
) -> list[CarriedMask]:  # fmt: skip
    """Where a row sees something on that frame: its mask at (width, height), of one row after the other.

    `low_res`: mask logits (rows, 1, h, w); `ious`: what the model takes them to be worth, (rows, 1); `object_scores`:
    log-odds that the thing is there, (rows, 1). In full precision whatever theirs: what is half a pixel off at the
    model's size is many at the video's.
    """
    width, height = source_size
    best, there = ious.float().amax(-1).clamp(0, 1).tolist(), object_scores.float()[:, 0].sigmoid().tolist()
    found = []
    for position, row in enumerate(rows):
        logits = low_res[position : position + 1].float()
        # Where nothing is in the mask, all of the picture would be searched for holes.
        if fill_hole_area and bool((logits > 0).any()):
            logits = fill_holes(logits, fill_hole_area)
        if (mask := mask_at(logits[0, 0], height, width)) is not None:
            found.append(CarriedMask(row, frame_index, mask, Estimate(best[position], there[position])))
    return found


def fill_holes(logits: torch.Tensor, area_max: int) -> torch.Tensor:
    """The mask logits (1, 1, h, w) with what is not in the mask and no larger than `area_max` of their pixels just in
    it, as Meta's predictor does on a CUDA device with its own kernel; pixels that touch at a corner are one hole."""
    holes, count = label(logits[0, 0].le(0).cpu().numpy(), structure=np.ones((3, 3)))
    small = np.bincount(holes.ravel(), minlength=count + 1) <= area_max
    small[0] = False
    return logits.where(~torch.from_numpy(small[holes]).to(logits.device), 0.1)


def mask_at(logits: torch.Tensor, height: int, width: int) -> Mask | None:
    """(h, w) logits → the mask of what is above 0 at that size; None where nothing is."""
    positive = logits > 0
    rows, columns = (_ends(positive.any(dim)) for dim in (1, 0))
    if rows is None or columns is None:
        return None
    y0, down = _weights(rows, logits.shape[0], height, logits)
    x0, across = _weights(columns, logits.shape[1], width, logits)
    sized = down @ logits @ across.T
    found = encode_mask((sized > 0).cpu().numpy(), (x0, y0), (height, width))
    return found if found.area else None


def _ends(some: torch.Tensor) -> tuple[int, int] | None:
    """The first and last place that is set."""
    places = torch.nonzero(some)
    return (int(places[0]), int(places[-1])) if len(places) else None


def _weights(ends: tuple[int, int], small: int, large: int, like: torch.Tensor) -> tuple[int, torch.Tensor]:
    """Of the places among `large` that lie between those two of `small`, or beside them: the first, and (n, small) what
    each takes of each of `small`."""
    scale = small / large
    first = max(0, int((ends[0] - 0.5) / scale - 1))
    last = min(large - 1, int((ends[1] + 1.5) / scale + 1))
    places = (torch.arange(first, last + 1, device=like.device, dtype=like.dtype) + 0.5) * scale - 0.5
    places = places.clamp(min=0)
    below = places.floor().long().clamp(max=small - 1)
    share = places - below
    weights = torch.zeros(len(places), small, device=like.device, dtype=like.dtype)
    weights.scatter_(1, below[:, None], (1 - share)[:, None])
    weights.scatter_add_(1, (below + 1).clamp(max=small - 1)[:, None], share[:, None])
    return first, weights
