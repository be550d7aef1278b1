"""How fast the metrics are beside plain ones: `python -m benchmarks.metrics`.

Seconds of J and F of clips of 480 × 854, of Ref-AVS' J and F, and of the same by the tests' plain definitions (scipy's
dilation by a disk; a comparison for each threshold). Where OpenCV is installed, J and F in the form of
davis2017-evaluation, whose dilation is OpenCV's, stand beside them. Best of several; prints last one JSON line: the
ratio is the smaller of the two speed-ups over the plain ones.
"""

import json
import time
from collections.abc import Callable

import numpy as np

from tests.factories import plain_metrics as plain
from workers.evaluation import protocols
from workers.evaluation.metrics import frame_scores

FRAMES, HEIGHT, WIDTH = 24, 480, 854
REPEATS = 5
TARGET = 5.0


def _clip() -> tuple[np.ndarray, np.ndarray]:
    """Something round that grows and moves, and a prediction with a ragged edge, a hole and specks, beside it."""
    draw = np.random.default_rng(0)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    true, predicted = (np.zeros((FRAMES, HEIGHT, WIDTH), bool) for _ in range(2))
    for t in range(FRAMES):
        distance = np.hypot(x - 250 - 12 * t, y - 240)
        true[t] = distance < 90 + t
        predicted[t] = (distance < 88 + t + 6 * np.sin(x / 9)) & (np.hypot(x - 260 - 12 * t, y - 250) > 12)
        predicted[t] ^= (draw.random((HEIGHT, WIDTH)) < 0.0005) & (distance < 200)
    return predicted, true


def _best_s(work: Callable[[], object], repeats: int = REPEATS) -> float:
    seconds = []
    for _ in range(repeats):
        begin = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begin)
    return min(seconds)


def _plainly(predicted: np.ndarray, true: np.ndarray) -> tuple[float, float]:
    pairs = list(zip(predicted, true, strict=True))
    return float(np.mean([plain.iou(*pair) for pair in pairs])), float(np.mean([plain.boundary_f(*p) for p in pairs]))


def _with_opencv(predicted: np.ndarray, true: np.ndarray) -> float:
    import cv2

    cv2.setNumThreads(1)
    radius = int(np.ceil(0.008 * np.hypot(HEIGHT, WIDTH)))
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disk = (x**2 + y**2 <= radius**2).astype(np.uint8)

    def work() -> None:
        for p, t in zip(predicted, true, strict=True):
            plain.iou(p, t)
            ours, theirs = plain.boundary(p), plain.boundary(t)
            for one, other in ((ours, theirs), (theirs, ours)):
                (one & cv2.dilate(other.astype(np.uint8), disk).astype(bool)).sum()

    return _best_s(work)


def main() -> None:
    predicted, true = _clip()
    scores = frame_scores(predicted, true).mean()
    assert np.allclose((scores.j, scores.f), _plainly(predicted, true), atol=1e-6)
    detail = {
        "j_and_f_s": _best_s(lambda: frame_scores(predicted, true)),
        "j_and_f_plain_s": _best_s(lambda: _plainly(predicted, true), 2),
    }
    try:
        detail["j_and_f_opencv_s"] = _with_opencv(predicted, true)
    except ImportError:
        print("OpenCV is not installed: its dilation is not measured")
    guess = np.random.default_rng(1).random((4, HEIGHT, WIDTH)).astype(np.float32)
    detail["ref_avs_s"] = _best_s(lambda: protocols.ref_avs(guess, true[:4]))
    detail["ref_avs_plain_s"] = _best_s(lambda: (plain.ref_avs_j(guess, true[:4]), plain.ref_avs_f(guess, true[:4])), 1)
    speedups = {name: round(detail[f"{name}_plain_s"] / detail[f"{name}_s"], 1) for name in ("j_and_f", "ref_avs")}
    detail |= {f"{name}_speedup": value for name, value in speedups.items()}
    if "j_and_f_opencv_s" in detail:
        detail["j_and_f_speedup_over_opencv"] = round(detail["j_and_f_opencv_s"] / detail["j_and_f_s"], 1)
    for name, value in detail.items():
        print(f"{name}: {value:.4g}")
    ratio = min(speedups.values())
    rounded = {name: round(value, 4) for name, value in detail.items()}
    print(
        json.dumps({"benchmark": "metrics", "ratio": ratio, "target": TARGET, "ok": ratio >= TARGET, "detail": rounded})
    )


if __name__ == "__main__":
    main()
