"""Lets the torchvision wheel of PyPI be imported beside a CPU-only torch of the same release.

That wheel's C++ extension is linked to CUDA and can't be loaded without it; torchvision then runs without its C++
operators, but its import still registers meta kernels for `nms` and `qnms` and fails when they are undefined. Defining
these two first, in plain torch, is all it needs. Nothing is done on CUDA builds of torch.
"""

import sys
from typing import Any

import torch

#: torch.library has no annotations.
_library: Any = None


def _nms(boxes_xyxy: torch.Tensor, scores: torch.Tensor, iou_threshold: float) -> torch.Tensor:
    """Greedy non-maximum suppression: indices kept, best score first."""
    areas = (boxes_xyxy[:, 2] - boxes_xyxy[:, 0]) * (boxes_xyxy[:, 3] - boxes_xyxy[:, 1])
    order = scores.argsort(descending=True, stable=True)
    kept = []
    while order.numel():
        best, rest = order[0], order[1:]
        kept.append(best)
        top_left = torch.maximum(boxes_xyxy[best, :2], boxes_xyxy[rest, :2])
        bottom_right = torch.minimum(boxes_xyxy[best, 2:], boxes_xyxy[rest, 2:])
        intersection = (bottom_right - top_left).clamp(min=0).prod(1)
        order = rest[intersection / (areas[best] + areas[rest] - intersection) <= iou_threshold]
    return torch.stack(kept) if kept else boxes_xyxy.new_zeros(0, dtype=torch.long)


def install() -> None:
    """Define the two operators if this torch has no CUDA and torchvision was not imported yet. Safe to call again."""
    global _library
    if _library is not None or torch.version.cuda is not None or "torchvision" in sys.modules:
        return
    library: Any = torch.library
    _library = library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        _library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _library.impl(name, _nms, "CPU")
