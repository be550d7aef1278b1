"""The benchmarks' metrics written down a second time, from their definitions: slow, plain, and sharing nothing with
`workers.evaluation`.

Every frame by itself, in whole pictures; a disk is a picture of a disk, and a threshold is a comparison.
"""

import math

import numpy as np
import torch
from scipy.ndimage import binary_dilation


def iou(predicted: np.ndarray, true: np.ndarray) -> float:
    either = np.logical_or(predicted, true).sum()
    return 1.0 if either == 0 else float(np.logical_and(predicted, true).sum() / either)


def boundary(mask: np.ndarray) -> np.ndarray:
    """Berkeley's boundary map: neighbours to the right, below, and both, as far as there are any."""
    height, width = mask.shape
    found = np.zeros((height, width), bool)
    for down, right in ((0, 1), (1, 0), (1, 1)):
        inner = mask[: height - down, : width - right]
        differs = np.zeros((height, width), bool)
        differs[: height - down, : width - right] = inner != mask[down:, right:]
        if down and not right:
            differs[-1] = False
        found |= differs
    # On the last row and column only the neighbour along the border counts, and at the corner there is none.
    found[-1, :] = False
    found[:, -1] = False
    found[-1, :-1] = mask[-1, :-1] != mask[-1, 1:]
    found[:-1, -1] = mask[:-1, -1] != mask[1:, -1]
    return found


def boundary_f(predicted: np.ndarray, true: np.ndarray) -> float:
    radius = math.ceil(0.008 * math.sqrt(true.shape[0] ** 2 + true.shape[1] ** 2))
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disk = x**2 + y**2 <= radius**2
    ours, theirs = boundary(predicted), boundary(true)
    if not ours.any() and not theirs.any():
        return 1.0
    if not ours.any() or not theirs.any():
        return 0.0
    precision = (ours & binary_dilation(theirs, disk)).sum() / ours.sum()
    recall = (theirs & binary_dilation(ours, disk)).sum() / theirs.sum()
    return 0.0 if precision + recall == 0 else float(2 * precision * recall / (precision + recall))


def statistics(values: list[float]) -> tuple[float, float, float]:
    """DAVIS' mean, recall and decay: quarters of the frames, whose ends are shared."""
    array = np.array(values)
    ends = [int(e) for e in np.round(np.linspace(1, len(values), 5) + 1e-10) - 1]
    quarters = [array[ends[i] : ends[i + 1] + 1] for i in range(4)]
    return float(array.mean()), float((array > 0.5).sum() / len(values)), float(quarters[0].mean() - quarters[3].mean())


def robustness(predicted: np.ndarray, true: np.ndarray, foreground: np.ndarray) -> list[float]:
    found = []
    for p, t, f in zip(predicted, true, foreground, strict=True):
        wrong = np.logical_and(p, np.logical_not(t)).sum()
        found.append(max(1 - wrong / (f.sum() + 1e-6), 0.0))
    return found


def ref_avs_j(probabilities: np.ndarray, true: np.ndarray) -> float:
    found = []
    for p, t in zip(probabilities > 0.5, true, strict=True):
        if t.any():
            found.append((p & t).sum() / ((p | t).sum() + 1e-7))
        else:
            found.append((~p & ~t).sum() / (t.size + 1e-7))
    return float(np.mean(found))


def ref_avs_f(probabilities: np.ndarray, true: np.ndarray) -> float:
    total, frames = torch.zeros(255, dtype=torch.float64), 0
    for p, t in zip(torch.from_numpy(probabilities).float(), torch.from_numpy(true), strict=True):
        if not t.any():
            continue
        frames += 1
        for number, threshold in enumerate(torch.linspace(0, 1 - 1e-10, 255)):
            taken = p >= threshold
            right = float((taken & t).sum())
            precision, recall = right / (float(taken.sum()) + 1e-20), right / float(t.sum())
            if precision + recall > 0:
                total[number] += 1.3 * precision * recall / (0.3 * precision + recall)
    return float((total / frames).max()) if frames else 0.0


def null_s(predicted: np.ndarray) -> float:
    return math.sqrt(predicted.sum() / predicted.size)
